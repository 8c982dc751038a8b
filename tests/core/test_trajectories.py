import pytest
import torch
import torch.nn.functional as F

from lotto.config import ConfigError
from lotto.distill import trajectories
from lotto.distill.recipes import Trajectory
from lotto.distill.trajectories import match_trajectories

SMALL = Trajectory(ipc=2, steps=5, width=4, experts=2, epochs=3, span=1, student_steps=3, batch=8)


@pytest.fixture(scope="module")
def real(digits):
    return digits(100)


def smooth():
    """A small problem in double: weights of a two-layer net, as one row, and its loss on images, other images at each
    step."""
    torch.manual_seed(0)
    shapes = [(3, 12), (3,), (2, 3)]
    labels = torch.tensor([0, 1, 1, 0, 1])

    def loss(weights, x, turn):
        w, b, v = (p.view(s) for p, s in zip(weights.split([36, 3, 6]), shapes, strict=True))
        picked = [(0, 1, 2), (3, 4, 0), (2, 3, 1)][turn % 3]
        return F.cross_entropy(torch.tanh(x.flatten(1)[list(picked)] @ w.T + b) @ v.T, labels[list(picked)])

    begin, goal = torch.randn(2, 45, dtype=torch.float64)
    return loss, begin, goal, torch.rand(5, 3, 2, 2, dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_gradient_at_one_steps_memory_is_that_of_the_unrolled_steps(steps):
    loss, begin, goal, pixels = smooth()
    value, gradient, slope = trajectories.followed(loss, begin, goal, pixels.clone().requires_grad_(), 0.7, steps)
    x, lr, at = (
        pixels.clone().requires_grad_(),
        torch.tensor(0.7, dtype=torch.float64, requires_grad=True),
        begin.clone().requires_grad_(),
    )
    for i in range(steps):
        at = at - lr * torch.autograd.grad(loss(at, x, i), at, create_graph=True)[0]
    whole = ((at - goal) ** 2).sum() / ((begin - goal) ** 2).sum()
    into, through = torch.autograd.grad(whole, (x, lr))
    assert float(value) == pytest.approx(float(whole.detach()), rel=1e-12)
    assert torch.allclose(gradient, into, rtol=1e-10, atol=1e-14)
    assert slope == pytest.approx(float(through), rel=1e-10)
    # a sum of the steps' own parts, later weights taken for constants, would be something else
    assert steps == 1 or not torch.allclose(parts(loss, begin, goal, pixels, 0.7, steps), into, rtol=1e-3)


def parts(loss, begin, goal, pixels, lr, steps):
    at, total = begin, torch.zeros_like(pixels)
    saved = []
    for i in range(steps):
        x, here = pixels.clone().requires_grad_(), at.clone().requires_grad_()
        (g,) = torch.autograd.grad(loss(here, x, i), here, create_graph=True)
        saved.append((g, x))
        at = (at - lr * g).detach()
    a = 2 * (at - goal) / ((begin - goal) ** 2).sum()
    for g, x in saved:
        total -= lr * torch.autograd.grad((g * a).sum(), x)[0]
    return total


def test_pixel_gradient_against_finite_differences():
    loss, begin, goal, pixels = smooth()
    _, gradient, slope = trajectories.followed(loss, begin, goal, pixels.clone().requires_grad_(), 0.3, 4)
    h = 1e-6

    def value(x, lr=0.3):
        return float(trajectories.followed(loss, begin, goal, x.clone().requires_grad_(), lr, 4)[0])

    for index in [(0, 0, 0, 0), (3, 2, 1, 0), (4, 1, 1, 1)]:
        step = torch.zeros_like(pixels)
        step[index] = h
        assert float(gradient[index]) == pytest.approx(
            (value(pixels + step) - value(pixels - step)) / (2 * h), rel=1e-5, abs=1e-9
        )
    assert slope == pytest.approx((value(pixels, 0.3 + h) - value(pixels, 0.3 - h)) / (2 * h), rel=1e-5)


def test_an_expert_that_stands_still_is_told():
    loss, begin, _, pixels = smooth()
    with pytest.raises(ConfigError, match="stood still"):
        trajectories.followed(loss, begin, begin.clone(), pixels.requires_grad_(), 0.3, 2)


def test_the_loss_falls_and_pixels_stay_in_range(real, ways):
    followed = ways(real, SMALL)
    made, losses = match_trajectories(real, followed, SMALL.but(steps=60, lr=3.0, ipc=1))
    assert sum(losses[-10:]) < 0.97 * sum(losses[:10])
    assert 0 <= float(made.images.min()) <= float(made.images.max()) <= 1
    assert made.recipe["method"] == "traj"
    assert made.recipe["learned_lr"] > 0
    assert made.recipe["learned_lr"] != SMALL.student_lr
    start = match_trajectories(real, followed, SMALL.but(steps=0, ipc=1))[0]
    assert (made.images != start.images).flatten(1).any(1).all()


def test_batches_go_through_all_images_before_any_comes_twice():
    turns = trajectories._taking_turns(10, 4, 5, torch.Generator().manual_seed(0))
    assert [len(t) for t in turns] == [4] * 5
    for a, b in ((0, 1), (2, 3)):
        assert len({*turns[a].tolist(), *turns[b].tolist()}) == 8


def test_experts_of_another_net_are_told(real):
    with pytest.raises(
        ConfigError,
        match=r"expert 0 has weights of shape \(4, 7\); \(4, \d+\) is needed: 3 epochs of a ConvNet of width 4",
    ):
        match_trajectories(real, [torch.zeros(4, 7)], SMALL)


@pytest.mark.gpu
def test_on_the_gpu_as_on_the_cpu(monkeypatch, ways, digits):
    followed, found = ways(digits(100), SMALL), []
    for device in ("cpu", "cuda"):
        monkeypatch.setenv("LOTTO_DEVICE", device)
        found.append(match_trajectories(digits(100), followed, SMALL.but(steps=2))[0].images)
    assert torch.allclose(*found, atol=1e-3)
