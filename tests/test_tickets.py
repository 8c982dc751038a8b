import pytest
import torch

from lotto import data, distill, masks, nets, parallel, tickets
from lotto.config import ConfigError, Recipe
from lotto.data import DataError
from lotto.lab.arms import ARMS


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


RECIPE = Recipe(steps=6, lr=0.2, batch=16)


def test_find_on_ones_own_module_and_images(net, images):
    model = net()
    before, levels = nets.copy_state(model), list(tickets.find(model, *images, RECIPE, rounds=3, fraction=0.36))
    n = masks.size(levels[0].mask)
    live = [masks.count(level.mask) for level in levels]
    for i, have in enumerate([n, *live[:-1]]):
        assert live[i] == have - round(0.36 * have)
    for a, b in zip(levels, levels[1:], strict=False):
        assert masks.count(masks.intersection(a.mask, b.mask)) == masks.count(b.mask)
    assert equal(nets.copy_state(model), before)
    for name, t in levels[-1].state.items():  # rewound bit for bit: biases, norms and statistics too
        assert torch.equal(t, torch.where(levels[-1].mask[name], before[name], 0) if name in levels[-1].mask else before[name])


def test_level_one_of_a_short_search_is_that_of_a_long_one(net, images):
    short, long = (next(iter(tickets.find(net(), *images, RECIPE, rounds=r))) for r in (1, 3))
    assert equal(short.mask, long.mask)


def test_rewinding_weights_only_keeps_norms_and_biases_of_the_inner_loop(net):
    start, end, mask = nets.copy_state(net(0)), {n: t + 1 for n, t in nets.copy_state(net(0)).items()}, masks.ones(net(0))
    everything, weights = tickets.rewind(start, end, mask), tickets.rewind(start, end, mask, "weights")
    assert equal(everything, start)
    assert all(torch.equal(t, start[n] if n in mask else end[n]) for n, t in weights.items())
    everything["head.bias"].add_(1)
    assert not torch.equal(everything["head.bias"], start["head.bias"])  # no storage is shared with the rewind point


def test_find_says_when_the_inner_loop_diverged(images):
    model = nets.build(nets.Net(name="resnet18", width=2, norm="none"), (1, 8, 8), 4, 0)
    with pytest.raises(ValueError, match="diverged .lr = 1000000.*smaller"):
        list(tickets.find(model, *images, Recipe(steps=40, lr=1e6, batch=16), rounds=1))


@pytest.mark.parametrize("method", [m for m in ARMS if not ARMS[m].dense])
def test_every_method_gives_levels_of_the_exact_size(tiny, method, tmp_path):
    distill.subset(data.load(tiny().dataset), 2).save(tmp_path / "own.safetensors")
    study = tiny(methods=[method], own_set=str(tmp_path / "own.safetensors"))
    tickets.search(study)
    n = live = masks.size(tickets.level(study.ticket(method, 0, 0)).tensors)
    for at in (1, 2):
        live -= round(study.fraction * live)
        product = tickets.level(study.ticket(method, at, 0))
        assert product.metrics["live"] == live == masks.count(product.tensors) and product.metrics["prunable"] == n
        if at == 2:
            assert masks.count(masks.intersection(product.tensors, tickets.level(study.ticket(method, 1, 0)).tensors)) == live


def test_the_study_finds_what_find_finds(tiny):
    """The cached levels are the plain algorithm's, bit for bit."""
    study = tiny()
    real = data.load(study.dataset)
    model = tickets.network(study.setup(0))
    expect = list(tickets.find(model, real.train.images, real.train.labels, study.outer, 2, study.fraction))
    for at in (1, 2):
        assert equal(tickets.level(study.ticket("imp", at, 0)).tensors, {n: m.cpu() for n, m in expect[at - 1].mask.items()})
    small = distill.inner_images(study.dataset, study.images("distilled", 0))
    expect = list(tickets.find(model, small.images, small.labels, study.gentle, 2, study.fraction))
    assert equal(tickets.level(study.ticket("distilled", 2, 0)).tensors, {n: m.cpu() for n, m in expect[1].mask.items()})


def test_the_rewind_point_is_a_step_of_the_dense_training_on_real_data(tiny):
    study = tiny()
    real = data.load(study.dataset).train
    point = tickets.rewind_point(study.setup(0, study.rewind)).tensors
    expect = tickets.train(tickets.network(study.setup(0)), real.images, real.labels, study.outer, stop=study.rewind).state
    assert equal(point, {n: t.cpu() for n, t in expect.items()})
    assert equal(tickets.rewind_point(study.setup(0)).tensors, nets.copy_state(tickets.network(study.setup(0)).cpu()))


def test_level_zero_is_plain_training(tiny):
    study = tiny()
    real = data.load(study.dataset).train
    plain = tickets.train(tickets.network(study.setup(0)), real.images, real.labels, study.outer, child=1).state
    assert equal(tickets.trained(study.training("dense", 0, 0, 1)).tensors, {n: t.cpu() for n, t in plain.items()})


def test_searches_share_their_prefixes(tiny):
    study = tiny()
    assert tickets.level(study.ticket("hybrid", 1, 0)).path == tickets.level(study.ticket("distilled", 1, 0)).path


def test_children_never_repeat_the_noise_of_the_search(tiny):
    study = tiny()
    children = {study.training("imp", 1, 0, c).child for c in (1, 2)}
    assert 0 not in children and len(children) == 2


def test_a_search_that_diverges_is_marked_and_the_others_go_on(tiny):
    study = tiny(methods=["imp", "random"], norm="none", lr=100, weight_decay=0.99, steps=60)
    tickets.search(study)
    assert tickets.level(study.ticket("imp", 2, 0)).metrics["state"] == "diverged"
    assert tickets.level(study.ticket("random", 2, 0)).metrics["state"] == "alive"
    lost = tickets.trained(study.training("imp", 2, 0, 1))
    assert lost.metrics["state"] == "diverged" and not lost.tensors


def test_a_dead_ticket_is_marked_before_any_training(tiny):
    study = tiny(methods=["random"], fraction=0.9, levels=[1, 2, 3])
    product = tickets.level(study.ticket("random", 3, 0))
    assert product.metrics["state"] == "dead" and product.metrics["collapsed"]
    assert tickets.trained(study.training("random", 3, 0, 1)).metrics["passes"] == 0


def test_costs_by_hand(tiny):
    study = tiny(methods=["imp", "distilled", "random"])
    whole = tickets.costs(study)
    table = whole[whole.level == 2].set_index("method")
    assert table.loc["imp"].passes == 2 * 12 * 64 and table.loc["imp"].stored == 100
    assert table.loc["distilled"].stored == 20 and table.loc["distilled"].passes == 2 * 6 * 20
    assert table.loc["distilled"]["with distillation"] == 2 * 6 * 20 + 3 * 32 * 10
    assert table.loc["distilled"]["x fewer passes"] == round(2 * 12 * 64 / 240, 2) and table.loc["random"].passes == 0
    half = whole[whole.level == 1].set_index("method")
    assert half.loc["imp"].passes == 12 * 64 and half.loc["distilled"]["with distillation"] == 6 * 20 + 3 * 32 * 10
    assert (table["core-seconds"] >= half["core-seconds"]).all() and table.loc["random"]["core-seconds"] == 0


def test_check_refuses_before_anything_is_computed(tiny, monkeypatch):
    with pytest.raises(DataError, match="ipc = 50: the smallest class has .* training images"):
        tickets.check(tiny(ipc=50))
    with pytest.raises(ConfigError, match="depth = 4"):
        tickets.check(tiny(distill_depth=4))
    with pytest.raises(ConfigError, match="cannot be imported"):
        tickets.check(tiny(net="nowhere:net"))
    monkeypatch.setenv("LOTTO_DATA", "/nonexistent")
    with pytest.raises(DataError, match="data_batch_1 is missing"):
        tickets.check(tiny(data="cifar10"))


@pytest.mark.gpu
def test_a_small_study_on_the_gpu(tiny, monkeypatch, own_store):
    monkeypatch.setenv("LOTTO_DEVICE", "cuda")
    study = tiny(methods=["imp", "distilled", "random"])
    tickets.search(study)
    product = tickets.trained(study.training("distilled", 2, 0, 1))
    assert product.metrics["state"] in ("trained", "failed") and product.info["device"] != "cpu" and parallel.jobs() == 1


def test_a_search_goes_on_through_dead_tickets_and_says_so(tiny):
    study = tiny(methods=["dense", "distilled"], levels=[1, 2, 3, 4, 5], fraction=0.9)
    found = [tickets.level(study.ticket("distilled", at, 0)).metrics for at in study.levels]
    live = found[0]["prunable"]
    for level in found:
        live -= round(0.9 * live)
        assert level["live"] == live
    states = [level["state"] for level in found]
    assert "dead" in states[:-1] and set(states[states.index("dead") :]) == {"dead"}


def test_new_weights_under_the_same_mask(tiny):
    study = tiny()
    old, new = (tickets.start_of(study.ticket(m, 2, 0)) for m in ("distilled", "reinit"))
    assert all(torch.equal(old.mask[n], new.mask[n]) for n in old.mask)
    n = next(iter(old.mask))
    kept = old.mask[n]
    assert not torch.equal(old.state[n][kept], new.state[n][kept]) and not new.state[n][~kept].any()
    other = tickets.rewind_point(study.setup(tickets.REINIT)).tensors
    assert torch.equal(new.state[n], torch.where(kept, other[n], 0))


def test_norms_kept_are_those_of_the_inner_loop(tiny):
    study = tiny()
    ticket = study.ticket("distilled-weights", 1, 0)
    end = tickets.trained(tickets.inner_loop(ticket)).tensors
    state = tickets.start_of(ticket).state
    assert torch.equal(state["stem.1.weight"], end["stem.1.weight"]) and torch.equal(
        state["stem.1.running_mean"], end["stem.1.running_mean"]
    )
    first = tickets.rewind_point(ticket.setup).tensors
    assert torch.equal(tickets.start_of(study.ticket("distilled", 1, 0)).state["stem.1.weight"], first["stem.1.weight"])
