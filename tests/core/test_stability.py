import inspect

import pytest
import torch
from torch import nn

from lotto import modules, stability, train
from lotto.config import Recipe
from lotto.data import Split

TEN = stability.alphas(11)


def test_barrier_by_hand():
    def well(w):
        return (w * w - 1) ** 2

    two = [well(-1 + 2 * a) for a in TEN]
    assert stability.barrier(two, TEN) == stability.barrier(two, TEN, "chord") == 1  # from -1 to 1 over the hill at 0
    far = [well(-1 + 4 * a) for a in TEN]
    assert stability.barrier(far, TEN) == 32
    assert stability.barrier(far, TEN, "chord") == pytest.approx(0, abs=1e-9)  # to w = 3: ends 0 and 64


def test_a_convex_loss_has_no_chord_barrier_and_half_the_difference_as_mean_barrier():
    values = [(3 * a - 1) ** 2 for a in TEN]  # 1 at one end, 4 at the other
    assert stability.barrier(values, TEN, "chord") == 0
    assert stability.barrier(values, TEN) == pytest.approx(1.5)


def test_barrier_is_never_negative_and_does_not_mind_the_direction():
    values = [0.4, 0.1, 0.3, 0.2]
    at = [0, 0.25, 0.75, 1]
    assert stability.barrier([0.5, 0.1, 0.5], [0, 0.5, 1]) == 0
    assert stability.barrier(values, at) == stability.barrier(values[::-1], [1 - a for a in at[::-1]])


@pytest.mark.parametrize(
    ("values", "at", "said"),
    [
        ([1, 2], [0, 0.5], "rise strictly from 0 to 1"),
        ([1, 2, 3], [0, 0, 1], "rise strictly"),
        ([1, 2], [0, 0.5, 1], "2 values at 3 alphas"),
        ([1], [0], "at least two"),
        ([1, float("nan"), 2], [0, 0.5, 1], "value at alpha 0.5 is nan; .* finite"),
        ([1, 2, float("inf")], [0, 0.5, 1], "value at alpha 1 is inf"),
        ([None, 2, 1], [0, 0.5, 1], "value at alpha 0 is None"),  # as `evaluate` gives it
    ],
)
def test_barrier_bad_input(values, at, said):
    with pytest.raises(ValueError, match=said):
        inspect.unwrap(stability.barrier)(values, at)


def test_a_path_needs_both_ends():
    assert stability.alphas(2) == [0, 1]
    with pytest.raises(ValueError, match="points = 1: give at least 2"):
        stability.alphas(1)


def test_interpolation_is_exact_at_the_ends_acts_on_copies_and_keeps_integers(net):
    a, b = modules.copy_state(net(0)), modules.copy_state(net(1))
    before = {n: t.clone() for n, t in a.items()}
    assert all(torch.equal(t, a[n]) for n, t in stability.interpolate(a, b, 0).items())
    assert all(torch.equal(t, b[n]) for n, t in stability.interpolate(a, b, 1).items())
    middle = stability.interpolate(a, b, 0.5)
    assert torch.allclose(middle["head.weight"], (a["head.weight"] + b["head.weight"]) / 2, atol=1e-7)
    assert middle["stem.1.num_batches_tracked"].dtype == torch.int64
    assert all(torch.equal(a[n], before[n]) for n in a)


def test_pruned_weights_stay_zero_on_the_path():
    a, b = {"w": torch.tensor([0.0, 1.0])}, {"w": torch.tensor([0.0, 3.0])}
    assert stability.interpolate(a, b, 0.3)["w"][0] == 0


@pytest.fixture
def ends(net, images):
    split = Split(*images)
    children = [train.train(net(), *images, Recipe(steps=15, lr=0.3, batch=16), child=c).state for c in (1, 2)]
    return net(), children, split


def test_the_ends_are_the_childrens_own_results(ends):
    model, (a, b), split = ends
    curves = stability.path(model, a, b, split, split, points=3)
    for at, state in ((0, a), (-1, b)):
        model.load_state_dict(state)
        own = train.evaluate(model.to(memory_format=torch.channels_last), split)
        assert curves["interpolated"]["test_error"][at] == own["error"]
        assert curves["interpolated"]["test_loss"][at] == own["loss"]


def test_the_recalibrated_curve_recalibrates_its_ends(ends):
    model, (a, b), split = ends
    curves = stability.path(model, a, b, split, split, points=3)
    model.load_state_dict(b)
    modules.recalibrate(model, split.images)
    assert curves["recalibrated"]["train_loss"][-1] == pytest.approx(train.evaluate(model, split)["loss"], rel=1e-4)
    assert curves["recalibrated"]["train_loss"] != curves["interpolated"]["train_loss"]


def test_equal_noise_has_barrier_exactly_zero(ends):
    model, (a, b), split = ends
    curves = stability.path(model, a, a, split, split)
    assert (
        stability.barrier(curves["recalibrated"]["test_error"], TEN)
        == 0
        == stability.barrier(curves["recalibrated"]["test_loss"], TEN)
    )
    assert stability.barrier(stability.path(model, a, b, split, split)["recalibrated"]["train_loss"], TEN) > 0


def test_nothing_is_changed_by_a_walk(ends):
    model, (a, b), split = ends
    before = modules.copy_state(model), {n: t.clone() for n, t in a.items()}
    stability.path(model.train(), a, b, split, split, points=3)
    assert all(torch.equal(t, before[0][n]) for n, t in model.state_dict().items())
    assert model.training
    assert all(torch.equal(t, before[1][n]) for n, t in a.items())


def test_a_net_without_batch_norm_has_equal_curves(net, images):
    model = net(norm="group")
    children = [train.train(model, *images, Recipe(steps=5, lr=0.1, batch=16), child=c).state for c in (1, 2)]
    curves = stability.path(model, *children, Split(*images), Split(*images), points=3)
    assert curves["interpolated"] == curves["recalibrated"]


def test_a_net_with_tensors_of_five_dimensions_has_a_path(images):
    model = nn.Sequential(nn.Unflatten(1, (1, 1)), nn.Conv3d(1, 2, 1), nn.Flatten(), nn.Linear(128, 4))
    state, split = modules.copy_state(model), Split(*images)
    curves = stability.path(model, state, state, split, split, points=2)
    assert curves["interpolated"]["train_loss"] == [train.evaluate(model, split)["loss"]] * 2


def test_a_permuted_copy_has_a_barrier():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    images = torch.randn(60, 1, 2, 2)
    labels = (images.flatten(1) @ torch.randn(4, 3)).argmax(1)
    state = train.train(model, images, labels, Recipe(steps=200, lr=0.3, batch=30, shift=0)).state
    order = torch.tensor([1, 2, 3, 4, 5, 6, 7, 0])
    twin = {
        "1.weight": state["1.weight"][order],
        "1.bias": state["1.bias"][order],
        "3.weight": state["3.weight"][:, order],
        "3.bias": state["3.bias"],
    }
    curves = stability.path(model, state, twin, Split(images, labels), Split(images, labels))["interpolated"]
    assert curves["train_loss"][0] == pytest.approx(curves["train_loss"][-1], rel=1e-4)  # the same function ...
    assert stability.barrier(curves["train_loss"], TEN) > 0.1  # ... in another place


def test_a_value_that_is_not_deterministic_is_refused():
    draws = iter(range(9))
    with pytest.raises(RuntimeError, match="dropout, a shuffled or augmented loader, train mode"):
        stability.path_values(lambda s: next(draws), {"w": torch.zeros(1)}, {"w": torch.ones(1)}, [0, 1])


@pytest.mark.gpu
def test_on_the_gpu(net, images):
    there = Split(*(t.cuda() for t in images))
    children = [
        train.train(net(), there.images, there.labels, Recipe(steps=15, lr=0.3, batch=16), child=c).state
        for c in (1, 1)
    ]
    curves = stability.path(net().cuda(), *children, there, there)
    assert stability.barrier(curves["recalibrated"]["test_error"], TEN) == 0
