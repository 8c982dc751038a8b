import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

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
    small = distill.inner_images(study.dataset, study.images("distilled", 0))
    for arm, images, what in (
        ("imp", real.train, "weights"),
        ("imp-all", real.train, "all"),
        ("distilled-gentle-all", small, "all"),
        ("distilled", small, "weights"),
        ("distilled-signs", small, "signs"),
        ("distilled-weights-signs", small, "weights and signs"),
    ):
        recipe = study.inner(ARMS[arm])
        expect = list(tickets.find(model, images.images, images.labels, recipe, 2, study.fraction, rewinding=what))
        for at in (1, 2):
            found = tickets.start_of(study.ticket(arm, at, 0))
            assert equal(found.mask, {n: m.cpu() for n, m in expect[at - 1].mask.items()})
            assert equal(found.state, {n: t.cpu() for n, t in expect[at - 1].state.items()})


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
    other = tickets.rewind_point(study.setup(tickets.OTHER)).tensors
    assert all(torch.equal(new.state[n], torch.where(m, other[n], 0)) for n, m in new.mask.items())


def test_norms_kept_are_those_of_the_inner_loop(tiny):
    study = tiny()
    ticket = study.ticket("distilled", 1, 0)
    end = tickets.trained(tickets.inner_loop(ticket)).tensors
    state = tickets.start_of(ticket).state
    assert torch.equal(state["stem.1.weight"], end["stem.1.weight"]) and torch.equal(
        state["stem.1.running_mean"], end["stem.1.running_mean"]
    )
    first = tickets.rewind_point(ticket.setup).tensors
    assert torch.equal(tickets.start_of(study.ticket("distilled-all", 1, 0)).state["stem.1.weight"], first["stem.1.weight"])


KEPT = {"w": torch.tensor([True, True, True, False])}
START = {"w": torch.tensor([1.0, -2.0, 3.0, -4.0]), "bias": torch.tensor([0.5]), "mean": torch.tensor([7.0]), "seen": torch.tensor(0)}
END = {"w": torch.tensor([-0.1, -9.0, 0.2, 5.0]), "bias": torch.tensor([0.6]), "mean": torch.tensor([8.0]), "seen": torch.tensor(6)}


@pytest.mark.parametrize(
    ("what", "weights", "rest"),
    [
        ("all", [1, -2, 3, 0], START),
        ("weights", [1, -2, 3, 0], END),
        ("signs", [-1, -2, 3, 0], START),  # magnitudes of the start, signs of the end
        ("weights and signs", [-1, -2, 3, 0], END),
    ],
)
def test_rewinding_by_hand(what, weights, rest):
    found = tickets.rewind(START, END, KEPT, what)
    assert found["w"].tolist() == weights and list(found) == list(START)
    assert all(torch.equal(found[n], rest[n]) for n in ("bias", "mean", "seen"))
    assert all(found[n].data_ptr() not in (START[n].data_ptr(), END[n].data_ptr()) for n in found)


numbers = st.lists(st.floats(-4, 4, width=32), min_size=6, max_size=6)


@given(numbers, numbers, st.lists(st.booleans(), min_size=6, max_size=6))
def test_what_every_rewinding_keeps(a, b, kept):
    start, end, mask = ({"w": torch.tensor(v), "norm": torch.tensor(v)} for v in (a, b, a))
    mask = {"w": torch.tensor(kept)}
    found = {what: tickets.rewind(start, end, mask, what) for what in ("all", "weights", "signs", "weights and signs")}
    live = mask["w"]
    for what, state in found.items():
        assert not state["w"][~live].any() and torch.equal(state["w"].abs(), torch.where(live, start["w"].abs(), 0))
        assert torch.equal(torch.signbit(state["w"][live]), torch.signbit((end if "signs" in what else start)["w"][live]))
        assert torch.equal(state["norm"], (end if "weights" in what else start)["norm"])
    assert all(equal(tickets.rewind(start, start, mask, what), found["all"]) for what in found)


@pytest.mark.parametrize("at", [1, 2])
def test_controls_keep_of_the_inner_loop_what_the_ticket_keeps(tiny, at):
    study = tiny()
    ticket, shuffled, other = (tickets.start_of(study.ticket(m, at, 0)) for m in ("distilled", "random-layerwise", "reinit"))
    rest = [n for n in ticket.state if n not in ticket.mask]
    first = tickets.rewind_point(study.setup(0)).tensors
    assert any(not torch.equal(ticket.state[n], first[n]) for n in rest)
    for control in (shuffled, other):
        assert all(torch.equal(control.state[n], ticket.state[n]) for n in rest)
        assert {n: int(m.sum()) for n, m in control.mask.items()} == {n: int(m.sum()) for n, m in ticket.mask.items()}
    assert not equal(shuffled.mask, ticket.mask) and equal(other.mask, ticket.mask)
    assert all(torch.equal(t, torch.where(shuffled.mask[n], first[n], 0)) for n, t in shuffled.state.items() if n in shuffled.mask)


def test_round_one_is_the_same_however_a_search_rewinds(tiny):
    study = tiny()
    one, two = (study.ticket(m, 1, 0) for m in ("imp", "imp-all"))
    assert tickets.inner_loop(one) == tickets.inner_loop(two) and one.parent == two.parent == study.ticket("dense", 0, 0)
    assert equal(tickets.level(one).tensors, tickets.level(two).tensors)
    assert not equal(tickets.level(study.ticket("imp", 2, 0)).tensors, tickets.level(study.ticket("imp-all", 2, 0)).tensors)


def test_a_rewound_net_goes_on_at_step_k_and_its_steps_are_told(tiny):
    study = tiny(methods=["dense-rewound", "imp-rewound", "distilled-rewound"])
    for method, at in (("dense-rewound", 0), ("imp-rewound", 1)):
        run = study.training(method, at, 0, 1)
        assert (run.recipe.first, run.recipe.steps) == (study.rewind, study.steps) == (3, 12)
        assert tickets.trained(run).metrics["passes"] == 9 * 64
    assert tickets.trained(tickets.inner_loop(study.ticket("imp-rewound", 1, 0))).metrics["passes"] == 9 * 64
    assert tickets.trained(tickets.inner_loop(study.ticket("distilled-rewound", 1, 0))).metrics["passes"] == 6 * 20
    assert study.training("imp", 1, 0, 1).recipe.first == 0
    costs = tickets.costs(study).set_index(["method", "level"])
    assert costs.loc["imp-rewound", 2].passes == 2 * 9 * 64


@pytest.mark.parametrize(
    ("first", "seeds", "fine"), [(95, 5, True), (96, 5, False), (0, 101, False), (109, 1, False), (103, 3, False), (110, 3, True)]
)
def test_initialisations_of_the_reference_run_are_kept_for_it(tiny, first, seeds, fine):
    study = tiny(first_seed=first, seeds=seeds)
    if fine:
        return tickets.check(study)
    with pytest.raises(
        ConfigError, match=f"first_seed = {first} with seeds = {seeds}: initialisations 100 to 109 are the reference run's.*110"
    ):
        tickets.check(study)


NARROWING = """
from torch import nn
def net(channels, classes, image_size):
    halves = [layer for i in range(3) for layer in (nn.Conv2d(2 if i else channels, 2, 3, 2, 1), nn.ReLU())]
    return nn.Sequential(*halves, nn.Conv2d(2, 2, 3, 1, 1), nn.Flatten(), nn.Linear(2, classes))
"""


def test_a_net_with_weights_out_of_reach_is_refused(tiny, tmp_path, monkeypatch):
    (tmp_path / "narrowing.py").write_text(NARROWING)
    monkeypatch.syspath_prepend(tmp_path)
    # 8, 4, 2, 1 pixels a side: the third kernel has 4 of 9 taps in the image, the fourth 1; in all 18 + 3 x 36 + 20 weights
    said = r"net = 'narrowing:net' at 8 pixels: 52 of 146 prunable weights \(35.6 %\) can never get a gradient, "
    said += r"in 4.weight \(20\), 6.weight \(32\)"
    with pytest.raises(ConfigError, match=said + ".*take larger images, or a net that halves them less often"):
        tickets.check(tiny(net="narrowing:net"))
    sys.modules.pop("narrowing", None)


def test_find_warns_of_weights_out_of_reach():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.Conv2d(2, 2, 3, 1, 1), nn.Flatten(), nn.Linear(2, 2))
    images = torch.randn(8, 1, 2, 2), torch.arange(8) % 2
    with pytest.warns(
        UserWarning, match=r"42 of 58 prunable weights \(72.4 %\) can never get a gradient, in 0.weight \(10\), 1.weight \(32\)"
    ):
        assert len(list(tickets.find(model, *images, Recipe(steps=2, batch=4), rounds=1))) == 1
