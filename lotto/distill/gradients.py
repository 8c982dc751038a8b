"""Gradient matching: images that teach a net in training what the real ones teach it (Zhao et al. 2021, arXiv
2006.05929; as in Kim et al. 2022, arXiv 2205.14959, with several small images in one stored image and nets that are
trained on real data meanwhile)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lotto import augment
from lotto.checkpoint import Checkpoint
from lotto.config import ConfigError
from lotto.data import RealData
from lotto.distill.loop import Told, run
from lotto.distill.pool import Pool, members
from lotto.distill.recipes import Gradient
from lotto.distill.synset import SynSet, decode
from lotto.modules import has_batch_norm
from lotto.streams import generator


def match_gradients(
    real: RealData, recipe: Gradient, seed: int = 0, checkpoint: Checkpoint | None = None, told: Told | None = None
) -> tuple[SynSet, list[float]]:
    """`recipe.ipc` stored images a class whose gradients are those of the class's real images, and the loss of each
    step; resumable, errors as `loop.run` has them."""
    return run(Gradients(real, recipe, seed), real, recipe, seed, checkpoint, told)


class Gradients:
    """Every step sums over classes, and moves all pixels by plain SGD at twice the rate: what one step a class with
    momentum 0.5 comes to, whose momentum is spent when its class comes round again. Then the net takes `net_steps`
    steps on real images; after `life` turns it is replaced by a fresh one. Both sides of a class see one augmentation.
    """

    name, momentum = "grad", 0.0

    def __init__(self, real: RealData, recipe: Gradient, seed: int):
        self.real, self.recipe, self.seed = real, recipe, seed
        self.members = members(real.train.labels, len(real.classes))
        self.rate = 2 * recipe.lr * recipe.ipc / 10
        self.pool = Pool(recipe, real, seed)

    def match(self, step: int, pixels: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, ""], Float[Tensor, "n c h w"]]:
        """Loss, summed over classes, and its gradient in the pixels: class by class, so that one class's graph is held
        at a time."""
        real, recipe, images = self.real, self.recipe, self.real.train.images
        draw = generator(self.seed, "distill", 1, step)
        one = augment.draw(1, recipe.shift, recipe.flip, draw, recipe.ops).to(images.device)
        model, total, gradient = (
            self.pool.at(step).model,
            torch.zeros((), device=images.device),
            torch.zeros_like(pixels),
        )
        for c, own in enumerate(self.members):
            picked = own[torch.randperm(len(own), generator=draw)[: recipe.batch].to(images.device)]
            small = decode(pixels[c * recipe.ipc : (c + 1) * recipe.ipc], recipe.factor)
            seen = [
                augment.apply(x, augment.same(one, len(x)), recipe.shift, recipe.ops)
                for x in (images[picked], real.normalise(small))
            ]
            loss = distance(model, *seen, c)
            gradient += torch.autograd.grad(loss, pixels)[0]
            total += loss.detach()
        return total, gradient

    def learn(self, step: int) -> None:
        """The net whose turn it was trains a little."""
        self.pool.at(step).learn(step)

    def state(self) -> dict[str, Tensor]:
        """The nets."""
        return self.pool.state()

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take up what `state` gave."""
        self.pool.restore(tensors)


def distance(model: nn.Module, real: Float[Tensor, "n c h w"], small: Float[Tensor, "m c h w"], label: int) -> Tensor:
    """Squared distance of the loss's gradients in the convolutions' weights, between a class's real and its distilled
    images.

    The real side is a constant; the other keeps its graph, so that the distance has a gradient in the pixels.
    ConfigError for a net with batch norm, whose statistics of one class tell classes apart by their scale.
    """
    if has_batch_norm(model):
        raise ConfigError(
            "gradient matching needs a net without batch norm: statistics of one class alone are those of no "
            "training batch"
        )
    kernels = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]

    def gradient(x: Tensor, graph: bool) -> tuple[Tensor, ...]:
        loss = F.cross_entropy(model(x), torch.full((len(x),), label, device=x.device))
        return torch.autograd.grad(loss, kernels, create_graph=graph)

    goal = gradient(real.detach(), False)
    return sum(((a - b) ** 2).sum() for a, b in zip(goal, gradient(small, True), strict=True))
