import pytest
import torch

from lotto import data, nets
from lotto.config import ConfigError, Net
from lotto.distill import gradients
from lotto.distill.gradients import match_gradients
from lotto.distill.recipes import Gradient

SMALL = Gradient(ipc=2, steps=6, width=8, life=4, batch=8)


@pytest.fixture(scope="module")
def real(digits):
    return digits(300)


def smooth():
    """A net in double whose loss has third derivatives."""
    torch.manual_seed(0)
    layers = [
        torch.nn.Conv2d(1, 3, 3),
        torch.nn.Tanh(),
        torch.nn.Conv2d(3, 2, 2),
        torch.nn.Softplus(),
        torch.nn.Flatten(),
    ]
    return torch.nn.Sequential(*layers, torch.nn.Linear(8, 3)).double()


def test_pixel_gradient_against_finite_differences():
    net, images = smooth(), torch.rand(4, 1, 5, 5, dtype=torch.float64)
    small = torch.rand(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: gradients.distance(net, images, s, 1), small)


def test_the_distance_is_that_of_the_convolutions_gradients():
    net, images = smooth(), torch.rand(4, 1, 5, 5, dtype=torch.float64)
    other = images + 0.1
    total = 0.0
    for layer in (net[0], net[2]):
        sides = [
            torch.autograd.grad(torch.nn.functional.cross_entropy(net(x), torch.ones(4).long()), layer.weight)[0]
            for x in (images, other)
        ]
        total += float(((sides[0] - sides[1]) ** 2).sum())
    assert float(gradients.distance(net, images, other, 1).detach()) == pytest.approx(total)
    assert float(gradients.distance(net, images, images, 1).detach()) == 0
    assert all(p.grad is None for p in net.parameters())


def test_the_loss_falls_and_pixels_stay_in_range(real):
    made, losses = match_gradients(real, SMALL.but(steps=40, lr=0.05, life=20))
    assert sum(losses[15:20]) < 0.8 * sum(losses[:5])
    assert made.labels.tolist() == [c for c in range(10) for _ in range(2)]
    assert 0 <= float(made.images.min()) <= float(made.images.max()) <= 1


def test_all_classes_in_one_step_are_the_classes_one_by_one(real):
    """A class's pixels see their own class only, so one step for all is ten steps of one."""
    whole, one = match_gradients(real, SMALL.but(steps=1))[0], match_gradients(real, SMALL.but(steps=0))[0]
    moved = (whole.images - one.images).abs().flatten(1).sum(1)
    assert (moved > 0).all()
    few = data.RealData(  # without the images of classes 5 to 9 the others move as before
        data.Split(torch.where(real.train.labels.view(-1, 1, 1, 1) < 5, real.train.images, 0), real.train.labels),
        real.held_out,
        real.test,
        real.classes,
        real.mean,
        real.std,
    )
    other = match_gradients(few, SMALL.but(steps=1))[0]
    assert torch.allclose(other.images[:10], whole.images[:10], atol=1e-6)
    assert not torch.allclose(other.images[10:], whole.images[10:])


def test_several_images_in_one(real):
    made = match_gradients(real, SMALL.but(steps=2, factor=2))[0]
    assert made.factor == 2
    assert len(made.images) == 20
    assert len(made.split()) == 80
    start = match_gradients(real, SMALL.but(steps=0, factor=2))[0]
    pixels = real.pixels(real.train.images).clamp(0, 1)
    shrunk = {tuple(x.flatten().tolist()) for x in torch.nn.functional.interpolate(pixels, size=(4, 4), mode="nearest")}
    assert all(tuple(x[:, :4, 4:].flatten().tolist()) in shrunk for x in start.images)


def test_batch_norm_is_refused(real):
    net = nets.build(Net(name="convnet", width=4, depth=2, norm="batch"), (1, 8, 8), 10, 0)
    with pytest.raises(ConfigError, match="gradient matching needs a net without batch norm"):
        gradients.distance(net, real.train.images[:4], real.train.images[4:8], 0)


@pytest.mark.gpu
def test_on_the_gpu_as_on_the_cpu(monkeypatch, digits):
    found = []
    for device in ("cpu", "cuda"):
        monkeypatch.setenv("LOTTO_DEVICE", device)
        found.append(match_gradients(digits(200), SMALL.but(steps=3))[0].images)
    assert torch.allclose(*found, atol=1e-3)
