import copy
import tempfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from lotto import masks, modules, nets, reach, scores
from lotto.config import Net

tensors = st.lists(
    st.lists(st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0]), min_size=1, max_size=6), min_size=1, max_size=3
)


def params_of(rows):
    return {f"w{i}": torch.tensor(r) for i, r in enumerate(rows)}


def dense(params):
    return {n: torch.ones_like(t, dtype=torch.bool) for n, t in params.items()}


def test_exactly_the_asked_number_goes_and_ties_fall_by_index():
    w = {"a": torch.tensor([1.0, 1.0, 2.0]), "b": torch.tensor([1.0, 5.0])}
    pruned = masks.prune(dense(w), w, 0.4)  # round(0.4 * 5) = 2 of the three ones: the first two
    assert {n: m.tolist() for n, m in pruned.items()} == {"a": [False, False, True], "b": [True, True]}


def test_ten_weights_at_twenty_percent():
    w = {"w": torch.arange(1.0, 11.0)}
    assert masks.prune(dense(w), w, 0.2)["w"].long().tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1]


@given(tensors, st.floats(0.05, 0.95))
def test_pruning_properties(rows, fraction):
    w = params_of(rows)
    score = scores.magnitude(w, dense(w))
    first = masks.prune(dense(w), score, fraction)
    second = masks.prune(first, score, fraction)
    n = masks.size(first)
    assert masks.count(first) == n - round(fraction * n)
    assert masks.count(second) == masks.count(first) - round(fraction * masks.count(first))
    assert all(not (second[k] & ~first[k]).any() and not (first[k] & ~torch.ones_like(first[k])).any() for k in w)
    dropped = [float(s) for k in w for s, a in zip(score[k], first[k], strict=True) if not a]
    kept = [float(s) for k in w for s, a in zip(score[k], first[k], strict=True) if a]
    assert not dropped or not kept or max(dropped) <= min(kept)


def test_n_rounds_give_the_power_within_one_weight():
    w = {"w": torch.randn(5000, generator=torch.Generator().manual_seed(0))}
    m = dense(w)
    for r in range(1, 11):
        m = masks.prune(m, scores.magnitude(w, m), 0.2)
        assert abs(masks.count(m) - 5000 * 0.8**r) <= r  # half a weight of rounding a round


def test_a_pruned_weight_does_not_come_back_with_a_high_score():
    w = {"w": torch.tensor([9.0, 1.0, 2.0, 3.0])}
    m = {"w": torch.tensor([False, True, True, True])}
    assert not masks.prune(m, w, 0.34)["w"][0]


def test_nan_scores_of_live_weights_are_refused_and_of_pruned_ones_ignored():
    w, m = {"w": torch.tensor([float("nan"), 1.0, 2.0])}, {"w": torch.tensor([False, True, True])}
    assert masks.count(masks.prune(m, w, 0.5)) == 1
    with pytest.raises(ValueError, match="NaN"):
        masks.prune(dense(w), w, 0.5)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_fraction_out_of_range(fraction):
    w = {"w": torch.ones(3)}
    with pytest.raises(ValueError, match="fraction"):
        masks.prune(dense(w), w, fraction)


def test_apply_by_where_so_infinity_does_not_leak():
    w = {"w": torch.tensor([float("inf"), float("nan"), -2.0]), "bias": torch.ones(2)}
    out = masks.apply(w, {"w": torch.tensor([False, False, True])})
    assert out["w"].tolist() == [0, 0, -2]
    assert out["bias"] is w["bias"]
    assert not torch.signbit(out["w"][0])
    assert torch.isinf(w["w"][0])  # the input is as it was


def test_works_above_the_size_that_quantile_refuses():
    w = {"w": torch.arange(2**24 + 3, dtype=torch.float32)}
    assert masks.count(masks.prune(dense(w), w, 0.5)) == 2**24 + 3 - round((2**24 + 3) / 2)


def test_prunable_is_convolutions_and_linear_weights_only(net):
    model = net()
    names = masks.prunable(model)
    assert names[0] == "stem.0.weight"
    assert names[-1] == "head.weight"
    assert len(names) == 21
    assert not any("norm" in n or n.endswith("bias") for n in names)
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    assert masks.prunable(tied) == ["0.weight"]


def test_a_mask_for_another_net_is_refused_with_all_differences(net):
    model = dict(net().named_parameters())
    with pytest.raises(masks.MaskError, match=r"another net \(nope: not a parameter.*stem.0.weight: mask \(1,\)"):
        masks.check({"nope": torch.ones(1, dtype=torch.bool), "stem.0.weight": torch.ones(1, dtype=torch.bool)}, model)
    with pytest.raises(masks.MaskError, match="float32, bool is needed"):
        masks.check({"head.bias": torch.ones(4)}, model)


@given(st.integers(0, 10**6))
def test_set_operations(seed):
    draw = torch.Generator().manual_seed(seed)
    a, b = ({"w": torch.rand(9, generator=draw) < 0.5} for _ in range(2))
    assert masks.count(masks.union(a, b)) + masks.count(masks.intersection(a, b)) == masks.count(a) + masks.count(b)
    assert 0 <= masks.overlap(a, b) <= 1
    assert masks.overlap(a, a) == 1
    assert masks.overlap(a, b) == masks.overlap(b, a)


def test_layer_matched_random_keeps_counts_moves_places_and_nests():
    draw = torch.Generator().manual_seed(0)
    big = {"a": torch.rand(1000, generator=draw) < 0.5, "b": torch.rand(2000, generator=draw) < 0.1}
    small = {n: m & (torch.rand(m.shape, generator=draw) < 0.5) for n, m in big.items()}
    score = scores.random(big, 0, "shuffle")
    at_big, at_small = masks.match_layers(big, score), masks.match_layers(small, score)
    for n in big:
        assert at_big[n].sum() == big[n].sum()
        assert not (at_small[n] & ~at_big[n]).any()
        shared = float((at_big[n] & big[n]).sum() / big[n].sum())
        assert abs(shared - float(big[n].float().mean())) < 0.1  # overlap by chance: the density


def test_collapse_and_death_are_told_apart(net, images):
    model = net()
    empty = masks.ones(model)
    empty["stages.0.0.conv1.weight"][:] = False  # the shortcut leads around it
    assert masks.collapsed(empty) == ["stages.0.0.conv1.weight"]
    model.load_state_dict(masks.apply(model.state_dict(), empty))
    assert not reach.dead(model, images[0])
    model = net()
    with torch.no_grad():
        model.stem[0].weight.zero_()
    assert reach.dead(model, images[0])
    assert model.training  # the mode is given back


@given(tensors)
def test_save_and_load(rows):
    mask = {n: t > 0 for n, t in params_of(rows).items()}
    with tempfile.TemporaryDirectory() as folder:
        masks.save(mask, f"{folder}/mask.safetensors")
        back = masks.load(f"{folder}/mask.safetensors")
    assert list(back) == list(mask)
    assert all(torch.equal(back[n], mask[n]) for n in mask)


def test_a_file_holds_a_bit_a_weight(tmp_path):
    mask = {"w": torch.arange(8003) % 3 == 0}
    masks.save(mask, tmp_path / "mask.safetensors")
    kept = load_file(tmp_path / "mask.safetensors")["w"]
    assert kept.dtype == torch.uint8 and len(kept) == 1001
    assert kept[0] == 0b10010010, "the first weight is the highest bit"


def test_a_file_of_bool_tensors_is_read_too(tmp_path):
    save_file({"w": torch.tensor([[True, False]])}, tmp_path / "mask.safetensors")
    assert masks.load(tmp_path / "mask.safetensors")["w"].tolist() == [[True, False]]


@pytest.mark.parametrize("w", [torch.ones(2), torch.ones(2, dtype=torch.uint8), b"", b"no safetensors at all"])
def test_a_file_that_is_no_mask_is_refused(tmp_path, w):
    if isinstance(w, bytes):
        (tmp_path / "x.safetensors").write_bytes(w)
    else:
        save_file({"w": w}, tmp_path / "x.safetensors", {"shapes": '{"w": [3, 3, 3]}'})
    with pytest.raises(masks.MaskError, match="is no mask file"):
        masks.load(tmp_path / "x.safetensors")


@pytest.mark.gpu
def test_same_mask_on_the_gpu():
    draw = torch.Generator().manual_seed(0)
    w = {"w": torch.randint(0, 50, (100_000,), generator=draw).float()}  # full of ties
    there = {n: t.cuda() for n, t in w.items()}
    assert torch.equal(masks.prune(dense(w), w, 0.3)["w"], masks.prune(dense(there), there, 0.3)["w"].cpu())


@pytest.mark.parametrize("norm", [True, False])
def test_a_unit_that_is_off_for_all_images_does_not_make_a_net_dead(norm):
    """A step of training opens it: under the batch's statistics, or as its weight moves."""
    between = nn.BatchNorm2d(1) if norm else nn.Conv2d(1, 1, 1)
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), between, nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        if norm:
            between.running_mean.fill_(10.0)  # of other weights
        else:
            between.weight.fill_(-1.0)
            between.bias.fill_(-10.0)
        model[0].weight.fill_(1.0)
    images = torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    before = copy.deepcopy(model.state_dict())
    assert (model.eval()(images) == model(images[:1])).all() and not reach.dead(model, images)
    model[0].weight.data.zero_()
    assert reach.dead(model, images)
    model.load_state_dict(before)
    model[4].weight.data.zero_()
    assert reach.dead(model, images) and not model.training
    assert all((t == before[n]).all() for n, t in model.state_dict().items() if n != "4.weight")


def test_a_sparse_vgg_is_not_taken_for_dead():
    # after its many layers the images' difference is a billionth of the scores
    vgg = nets.build(Net(name="vgg16", width=8), (1, 8, 8), 10, 0)
    weights = dict(vgg.named_parameters())
    mask = masks.prune(masks.ones(vgg), scores.magnitude(weights, masks.ones(vgg)), 0.83)
    vgg.load_state_dict(masks.apply(vgg.state_dict(), mask))
    assert not reach.dead(vgg, torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("side", [8, 16, 28, 32])
@pytest.mark.parametrize("name", ["resnet18", "resnet20", "resnet10", "vgg16", "convnet"])
def test_every_weight_of_every_net_can_be_reached(name, side, norm):
    model = nets.build(Net(name=name, width=4, norm=norm), (1, side, side), 10, 0)
    assert reach.unreachable(model, (1, side, side)) == {}


def narrowing():
    return nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.Conv2d(2, 2, 3, 1, 1), nn.Flatten(), nn.Linear(2, 2))


def test_unreachable_weights_by_hand():
    # the first kernel's 9 taps see 4 pixels of 2 x 2, the second's see the one pixel that is left: 5 of 9 and 8 of 9
    # see padding only
    assert reach.unreachable(narrowing(), (1, 2, 2)) == {"0.weight": 2 * 5, "1.weight": 2 * 2 * 8}
    wider = nn.Sequential(*narrowing()[:3], nn.Linear(8, 2))
    assert reach.unreachable(wider, (1, 4, 4)) == {}


def test_reaching_looks_through_what_merely_begins_at_zero(net):
    model = net()
    with torch.no_grad():
        for block in model.modules():
            if isinstance(block, nets.Block):
                block.norm2.weight.zero_()  # a residual branch that begins shut
        model.head.weight.zero_()
    before = modules.copy_state(model)
    assert reach.unreachable(model, (1, 8, 8)) == {}
    assert model.training
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_an_unused_layer_is_out_of_reach():
    class Forgotten(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.forgotten = nn.Linear(4, 3), nn.Linear(4, 5)

        def forward(self, x):
            return self.used(x.flatten(1))

    assert reach.unreachable(Forgotten(), (1, 2, 2)) == {"forgotten.weight": 20}


@pytest.mark.parametrize("relu", [nn.ReLU(), nn.ReLU(inplace=True)])
def test_units_that_are_off_for_all_images_alike_are_within_reach(relu):
    # without norms, most units of a deep net are on, or off, whatever the image
    layers = [layer for _ in range(12) for layer in (nn.Conv2d(3, 3, 3, 1, 1), relu)]
    assert (
        reach.unreachable(nn.Sequential(nn.Conv2d(1, 3, 3, 1, 1), *layers, nn.Flatten(), nn.Linear(48, 2)), (1, 4, 4))
        == {}
    )


def test_chance_by_hand():
    a = {"x": torch.tensor([True, True, False, False]), "y": torch.tensor([True, True])}
    b = {"x": torch.tensor([True, False, False, False]), "y": torch.tensor([True, False])}
    # shared by chance: 4 * 1/2 * 1/4 + 2 * 1 * 1/2 = 1.5 of 4 + 2 - 1.5
    assert masks.chance(a, b) == pytest.approx(1.5 / 4.5)
    assert masks.chance({"x": torch.zeros(3).bool()}, {"x": torch.zeros(3).bool()}) == 1.0


@given(st.integers(0, 1000), st.floats(0.05, 0.9))
def test_a_shuffled_mask_keeps_its_layer_counts_and_has_chance_overlap(seed, density):
    draw = torch.Generator().manual_seed(seed)
    mask = {n: torch.rand(size, generator=draw) < density for n, size in (("a", 20_000), ("b", 30_000))}
    shuffled = masks.match_layers(mask, scores.random(mask, seed, "shuffle"))
    assert {n: int(m.sum()) for n, m in mask.items()} == {n: int(m.sum()) for n, m in shuffled.items()}
    assert masks.overlap(mask, shuffled) == pytest.approx(masks.chance(mask, shuffled), abs=0.02)


@given(st.integers(0, 1000), st.sampled_from([(5, 4), (6, 3, 2, 2), (1, 7)]))
def test_a_mask_shuffled_in_filters_keeps_their_counts(seed, size):
    draw = torch.Generator().manual_seed(seed)
    mask = {"w": torch.rand(size, generator=draw) < 0.3}
    shuffled = masks.match_filters(mask, scores.random(mask, seed, "shuffle"))
    assert shuffled["w"].dtype == torch.bool and shuffled["w"].shape == size
    assert torch.equal(mask["w"].flatten(1).sum(1), shuffled["w"].flatten(1).sum(1))


def test_matched_in_filters_by_hand():
    mask = {"w": torch.tensor([[True, True, False], [False, False, False]])}
    score = {"w": torch.tensor([[0.1, 0.9, 0.5], [3.0, 2.0, 1.0]])}
    assert masks.match_filters(mask, score)["w"].tolist() == [[False, True, True], [False, False, False]]
    assert masks.match_filters({"w": mask["w"][0]}, {"w": score["w"][0]})["w"].tolist() == [True, True, False]
    # filters count apart: over the layer, the second would have all
    assert masks.match_layers(mask, score)["w"].tolist() == [[False, False, False], [True, True, False]]


def test_dead_channels_by_hand():
    weight = torch.zeros(3, 2, 1, 1).bool()
    weight[0, 1] = True
    assert masks.channels({"conv": weight, "head": torch.tensor([[True, False]])}) == (2, 4)
    assert masks.channels({"bias": torch.tensor([True, False, False])}) == (2, 3)


def test_distance_is_that_of_the_live_weights():
    start, end = {"w": torch.tensor([3.0, 4.0, 5.0])}, {"w": torch.tensor([3.0, 9.0, 500.0])}
    assert masks.travelled(start, end, {"w": torch.tensor([True, True, False])}) == pytest.approx(1.0)


def test_a_loaded_mask_has_the_order_of_its_net(tmp_path):
    """Random scores, ties and shares follow it, and a safetensors file has another one."""
    mask = masks.ones(nets.build(Net(name="resnet18", width=2), (1, 8, 8), 4, 0))
    masks.save(mask, tmp_path / "mask.safetensors")
    back = masks.load(tmp_path / "mask.safetensors")
    assert list(back) == list(mask) != sorted(mask)
    assert all(torch.equal(s, scores.random(mask, 0)[n]) for n, s in scores.random(back, 0).items())


def test_a_mask_of_the_cpu_fits_a_net_of_another_device():
    there = masks.apply({"w": torch.ones(2, device="meta")}, {"w": torch.tensor([True, False])})
    assert there["w"].device.type == "meta"
