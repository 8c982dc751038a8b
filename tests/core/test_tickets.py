import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lotto import masks, modules, nets, tickets
from lotto.config import ConfigError, Recipe


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


RECIPE = Recipe(steps=6, lr=0.2, batch=16)


def test_find_on_ones_own_module_and_images(net, images):
    model = net()
    before, levels = modules.copy_state(model), list(tickets.find(model, *images, RECIPE, rounds=3, fraction=0.36))
    n = masks.size(levels[0].mask)
    live = [masks.count(level.mask) for level in levels]
    for i, have in enumerate([n, *live[:-1]]):
        assert live[i] == have - round(0.36 * have)
    for a, b in zip(levels, levels[1:], strict=False):
        assert masks.count(masks.intersection(a.mask, b.mask)) == masks.count(b.mask)
    assert equal(modules.copy_state(model), before)
    for name, t in levels[-1].state.items():  # rewound bit for bit: biases, norms and statistics too
        assert torch.equal(
            t, torch.where(levels[-1].mask[name], before[name], 0) if name in levels[-1].mask else before[name]
        )


def test_level_one_of_a_short_search_is_that_of_a_long_one(net, images):
    short, long = (next(iter(tickets.find(net(), *images, RECIPE, rounds=r))) for r in (1, 3))
    assert equal(short.mask, long.mask)


def test_rewinding_weights_only_keeps_norms_and_biases_of_the_inner_loop(net):
    start, end, mask = (
        modules.copy_state(net(0)),
        {n: t + 1 for n, t in modules.copy_state(net(0)).items()},
        masks.ones(net(0)),
    )
    everything, weights = tickets.rewind(start, end, mask), tickets.rewind(start, end, mask, "weights")
    assert equal(everything, start)
    assert all(torch.equal(t, start[n] if n in mask else end[n]) for n, t in weights.items())
    everything["head.bias"].add_(1)
    assert not torch.equal(everything["head.bias"], start["head.bias"])  # no storage is shared with the rewind point


def test_find_says_when_the_inner_loop_diverged(images):
    model = nets.build(nets.Net(name="resnet18", width=2, norm="none"), (1, 8, 8), 4, 0)
    with pytest.raises(ValueError, match="diverged .lr = 1000000.*smaller"):
        list(tickets.find(model, *images, Recipe(steps=40, lr=1e6, batch=16), rounds=1))


@pytest.mark.parametrize(
    ("rounds", "fraction", "said"),
    [
        (1, 1.5, r"fraction = 1.5: give a share in \(0, 1\)"),
        (1, 0.0, "fraction = 0.0: give a share"),
        (0, 0.2, "rounds = 0: give at least 1"),
    ],
)
def test_find_refuses_at_the_call_what_prunes_nothing(net, images, rounds, fraction, said):
    with pytest.raises(ConfigError, match=said):
        tickets.find(net(), *images, RECIPE, rounds, fraction)  # no level is asked for


KEPT = {"w": torch.tensor([True, True, True, False])}


START = {
    "w": torch.tensor([1.0, -2.0, 3.0, -4.0]),
    "bias": torch.tensor([0.5]),
    "mean": torch.tensor([7.0]),
    "seen": torch.tensor(0),
}


END = {
    "w": torch.tensor([-0.1, -9.0, 0.2, 5.0]),
    "bias": torch.tensor([0.6]),
    "mean": torch.tensor([8.0]),
    "seen": torch.tensor(6),
}


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
    assert found["w"].tolist() == weights
    assert list(found) == list(START)
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
        assert not state["w"][~live].any()
        assert torch.equal(state["w"].abs(), torch.where(live, start["w"].abs(), 0))
        assert torch.equal(
            torch.signbit(state["w"][live]), torch.signbit((end if "signs" in what else start)["w"][live])
        )
        assert torch.equal(state["norm"], (end if "weights" in what else start)["norm"])
    assert all(equal(tickets.rewind(start, start, mask, what), found["all"]) for what in found)


def test_find_warns_of_weights_out_of_reach():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.Conv2d(2, 2, 3, 1, 1), nn.Flatten(), nn.Linear(2, 2))
    images = torch.randn(8, 1, 2, 2), torch.arange(8) % 2
    with pytest.warns(
        UserWarning,
        match=r"42 of 58 prunable weights \(72.4 %\) can never get a gradient, in 0.weight \(10\), 1.weight \(32\)",
    ):
        assert len(list(tickets.find(model, *images, Recipe(steps=2, batch=4), rounds=1))) == 1
