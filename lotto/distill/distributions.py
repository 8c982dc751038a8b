"""Distribution matching: images whose mean features, in many nets, are those of their class (arXiv 2110.04181)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from lotto import augment
from lotto.checkpoint import Checkpoint
from lotto.data import RealData
from lotto.distill.loop import Told, run
from lotto.distill.pool import Pool, members, random_net
from lotto.distill.recipes import Distill
from lotto.distill.synset import SynSet, decode, spread
from lotto.streams import generator


def match_distributions(
    real: RealData, recipe: Distill, seed: int = 0, checkpoint: Checkpoint | None = None, told: Told | None = None
) -> tuple[SynSet, list[float]]:
    """`recipe.ipc` images a class whose features match the class's, and the loss of each step; resumable, errors as
    `loop.run` has them."""
    return run(Distributions(real, recipe, seed), real, recipe, seed, checkpoint, told)


class Distributions:
    """Zhao & Bilen 2023, equation 4: the squared distance between the mean features of a class's real and distilled
    images, summed over classes, in a fresh random ConvNet each step, both seen through the same augmentation.

    With a pool (Zhao et al. 2023, arXiv 2307.09742), in nets partly trained on real images; and then plus `ce` times
    the cross-entropy of the distilled images, times the share of real images that the net got right: a net that knows
    nothing says nothing of classes.
    """

    name, momentum = "dist", 0.5

    def __init__(self, real: RealData, recipe: Distill, seed: int):
        self.real, self.recipe, self.seed = real, recipe, seed
        self.members = members(real.train.labels, len(real.classes))
        self.labels = spread(recipe.ipc, len(real.classes)).repeat(recipe.factor**2).to(real.train.images.device)
        self.rate = recipe.lr * recipe.ipc  # the class mean spreads a gradient over ipc images
        self.pool = Pool(recipe, real, seed) if recipe.pool else None

    def match(self, step: int, pixels: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, ""], Float[Tensor, "n c h w"]]:
        """Loss and its gradient in the pixels."""
        real, recipe, images = self.real, self.recipe, self.real.train.images
        draw = generator(self.seed, "distill", 1, step)
        learner = self.pool.at(step) if self.pool else None
        net = learner.model if learner else random_net(recipe, real, self.seed, step).requires_grad_(False)
        picked = torch.cat(
            [m[torch.randperm(len(m), generator=draw)[: recipe.batch].to(images.device)] for m in self.members]
        )
        one = augment.draw(1, recipe.shift, recipe.flip, draw, recipe.ops).to(images.device)

        def features(x: Tensor) -> Tensor:
            return net.features(augment.apply(x, augment.same(one, len(x)), recipe.shift, recipe.ops))

        with torch.no_grad():  # only the distilled images are moved, so only they need a graph
            goal = class_means(features(images[picked]), real.train.labels[picked], len(real.classes))
        seen = features(real.normalise(decode(pixels, recipe.factor)))
        loss = distance(goal, seen, self.labels)
        if recipe.ce:
            loss = loss + recipe.ce * learner.right * F.cross_entropy(net.head(seen), self.labels)
        return loss, torch.autograd.grad(loss, pixels)[0]

    def learn(self, step: int) -> None:
        """The net whose turn it was, if there is a pool, trains a little."""
        if self.pool:
            self.pool.at(step).learn(step)

    def state(self) -> dict[str, Tensor]:
        """The pool."""
        return self.pool.state() if self.pool else {}

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take up what `state` gave."""
        if self.pool:
            self.pool.restore(tensors)


def distance(goal: Float[Tensor, "classes d"], features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"]) -> Tensor:
    """Sum over classes of the squared distance between `goal` and the class's mean features."""
    return ((goal - class_means(features, labels, len(goal))) ** 2).sum()


def class_means(
    features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], classes: int
) -> Float[Tensor, "classes d"]:
    """Mean features of each class."""
    onehot = torch.nn.functional.one_hot(labels, classes).to(features.dtype)
    return onehot.T @ features / onehot.sum(0)[:, None]
