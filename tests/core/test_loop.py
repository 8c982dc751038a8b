"""What all distillations have in common, method by method."""

import functools

import pytest
import torch

from lotto import augment, data
from lotto.checkpoint import Checkpoint
from lotto.config import ConfigError
from lotto.distill import loop
from lotto.distill.distributions import Distributions, match_distributions
from lotto.distill.gradients import match_gradients
from lotto.distill.pool import members
from lotto.distill.recipes import Distill, Gradient, Trajectory
from lotto.distill.synset import SynSet
from lotto.distill.trajectories import match_trajectories

DIST = Distill(ipc=2, steps=6, width=4, batch=8)


POOL = DIST.but(pool=3, life=2, ce=0.5, factor=2, ops=("color", "cutout"))


GRAD = Gradient(ipc=2, steps=6, width=4, batch=8, pool=2, life=2, factor=2, ops=("scale", "rotate"))


TRAJ = Trajectory(
    ipc=2, steps=6, width=4, experts=1, epochs=2, span=1, student_steps=2, batch=8, factor=2, ops=("color",)
)


@pytest.fixture(scope="module")
def real(digits):
    return digits(100)


@pytest.fixture(scope="module")
def followed(real, ways):
    return ways(real, TRAJ)


def make(recipe, real, followed, **more):
    if isinstance(recipe, Trajectory):
        return match_trajectories(real, followed, recipe, **more)
    return (match_gradients if isinstance(recipe, Gradient) else match_distributions)(real, recipe, **more)


EVERY = pytest.mark.parametrize("recipe", [DIST, POOL, GRAD, TRAJ], ids=["dist", "pool", "grad", "traj"])


@EVERY
@pytest.mark.parametrize("after", [1, 2, 4])  # within a net's life, and at its end
def test_killed_and_resumed_is_the_same_to_the_bit(real, followed, tmp_path, killed, recipe, after):
    through, losses = make(recipe, real, followed)
    killed(functools.partial(make, recipe, real, followed), tmp_path, after)
    resumed, again = make(recipe, real, followed, checkpoint=Checkpoint(tmp_path))
    assert torch.equal(through.images, resumed.images)
    assert through.recipe == resumed.recipe
    assert losses == again
    assert len(losses) == 6


@EVERY
def test_only_training_images_are_looked_at(real, followed, recipe):
    held_out, test = (data.Split(s.images * float("nan"), s.labels) for s in (real.held_out, real.test))
    blind = data.RealData(real.train, held_out, test, real.classes, real.mean, real.std)
    assert torch.equal(make(recipe, blind, followed)[0].images, make(recipe, real, followed)[0].images)


@EVERY
def test_starts_from_real_images_and_every_pixel_set_is_whole(real, followed, recipe):
    start = make(recipe.but(steps=0), real, followed)[0]
    pixels = real.pixels(real.train.images).clamp(0, 1)
    small = torch.nn.functional.interpolate(pixels, size=(8 // recipe.factor,) * 2, mode="nearest")
    known = {(label, tuple(x.flatten().tolist())) for label, x in zip(real.train.labels.tolist(), small, strict=True)}
    side = 8 // recipe.factor
    for image, label in zip(start.images, start.labels.tolist(), strict=True):
        for i in range(recipe.factor):
            for j in range(recipe.factor):
                part = image[:, i * side : (i + 1) * side, j * side : (j + 1) * side]
                assert (label, tuple(part.flatten().tolist())) in known
    end = make(recipe, real, followed)[0]
    assert 0 <= float(end.images.min()) <= float(end.images.max()) <= 1
    assert (end.images != start.images).flatten(1).any(1).all()
    assert end.factor == recipe.factor
    assert end.recipe["ops"] == list(recipe.ops)


@EVERY
def test_a_rate_that_diverges_is_told(real, followed, recipe, monkeypatch):
    broken = data.RealData(  # normalised by almost nothing: features and gradients leave the numbers
        data.Split(real.train.images * 1e38, real.train.labels),
        real.held_out,
        real.test,
        real.classes,
        real.mean,
        real.std * 1e-38,
    )
    with pytest.raises(
        ConfigError, match=r"the distillation diverged at step \d+ \(lr = .*\); give a smaller distill_lr"
    ):
        make(recipe, broken, followed)


@pytest.mark.parametrize(
    "recipe", [DIST, POOL, GRAD], ids=["dist", "pool", "grad"]
)  # a student's batches are of all classes
def test_classes_with_fewer_images_than_a_batch_do_not_stall(followed, recipe):
    labels = torch.tensor([0] * 30 + [1] * 9)
    own = data.own(torch.rand(39, 1, 8, 8), labels, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    made = make(recipe.but(batch=20), own, followed)[0]
    assert made.labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(data.DataError, match="ask for at most"):
        make(recipe.but(ipc=40), own, followed)


def test_the_cross_entropy_counts_as_far_as_the_net_knows_anything(real):
    recipe = DIST.but(pool=1, life=100, net_steps=0, ce=0.5)
    method, plain = Distributions(real, recipe, 0), Distributions(real, recipe.but(ce=0.0), 0)
    pixels = loop.start(real, recipe, 0).requires_grad_()
    assert float(method.match(0, pixels)[0].detach()) == float(
        plain.match(0, pixels)[0].detach()
    )  # it knows nothing yet
    method.pool.at(0).right = torch.tensor(0.8)
    with torch.no_grad():
        draw = augment.draw(1, recipe.shift, recipe.flip, reseeded(recipe, real))
        seen = augment.apply(real.normalise(pixels), augment.same(draw, len(pixels)), recipe.shift)
        extra = torch.nn.functional.cross_entropy(method.pool.at(0).model(seen), method.labels)
    found = float(method.match(0, pixels)[0].detach()) - float(plain.match(0, pixels)[0].detach())
    assert found == pytest.approx(0.5 * 0.8 * float(extra), rel=1e-4)


def reseeded(recipe, real):
    """The generator of step 0, as it stands when the augmentation is drawn."""
    draw = loop.generator(0, "distill", 1, 0)
    for m in members(real.train.labels, 10):
        torch.randperm(len(m), generator=draw)
    return draw


def test_what_comes_in_from_outside_is_the_mean_colour(real):
    """Decode, normalise, augment, in this order: a set of mean colour is the same after any shift, as it is zero when
    it is shifted."""
    grey = real.mean.cpu()[None, :, None, None].expand(2, 1, 8, 8).contiguous()
    small = SynSet(grey, torch.tensor([0, 1]), ("a", "b"), real.mean.cpu(), real.std.cpu(), {}, 2)
    images = small.split().images
    moved = augment.apply(images, augment.draw(len(images), 3, True, torch.Generator().manual_seed(0)), 3)
    assert torch.allclose(images, torch.zeros_like(images), atol=1e-6)
    assert torch.allclose(moved, images, atol=1e-6)


def test_pixels_survive_as_bytes(real):
    made = match_distributions(real, DIST)[0]
    as_bytes = (made.images * 255).round().to(torch.uint8)
    assert (as_bytes.float() / 255 - made.images).abs().max() <= 0.5 / 255 + 1e-6
