import pytest
import torch

from lotto.distill import distributions
from lotto.distill.distributions import match_distributions
from lotto.distill.recipes import Distill


@pytest.fixture(scope="module")
def real(digits):
    return digits(200)


SMALL = Distill(ipc=2, steps=6, width=8)


def test_the_loss_falls_and_pixels_stay_in_range(real):
    made, losses = match_distributions(real, SMALL.but(steps=60))
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert made.labels.tolist() == [c for c in range(10) for _ in range(2)]
    assert 0 <= float(made.images.min()) <= float(made.images.max()) <= 1


def test_distance_by_hand():
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0], [1.0, 1.0], [0.0, 2.0]])
    labels = torch.tensor([0, 0, 1, 0, 1])  # three real images, two distilled ones
    # class 0: mean (2, 0) against (1, 1): 2; class 1: (0, 5) against (0, 2): 9
    goal = distributions.class_means(features[:3], labels[:3], 2)
    assert goal.tolist() == [[2, 0], [0, 5]]
    assert float(distributions.distance(goal, features[3:], labels[3:])) == 11


def test_pixel_gradient_against_finite_differences():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.Softplus(), torch.nn.Flatten()).double()
    images = torch.rand(4, 1, 5, 5, dtype=torch.float64)
    syn = torch.rand(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    goal = distributions.class_means(net(images).detach(), torch.tensor([0, 0, 1, 1]), 2)
    assert torch.autograd.gradcheck(lambda s: distributions.distance(goal, net(s), torch.tensor([0, 1])), syn)


def test_seeds_and_repeats(real):
    a, b, c = (match_distributions(real, SMALL, seed)[0].images for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.gpu
def test_on_the_gpu_as_on_the_cpu(monkeypatch, digits):
    found = []
    for device in ("cpu", "cuda"):
        monkeypatch.setenv("LOTTO_DEVICE", device)
        found.append(match_distributions(digits(200), SMALL)[0].images)
    assert torch.allclose(*found, atol=1e-3)
