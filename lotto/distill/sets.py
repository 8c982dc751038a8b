"""The sets an inner loop may train on: distilled images, equally many real ones, noise; as cached products."""

from __future__ import annotations

import torch

from lotto import data
from lotto.config import Config, Data, Images
from lotto.data import RealData, Split
from lotto.distill.matching import match_distributions
from lotto.distill.synset import SynSet, spread
from lotto.parallel import device
from lotto.store import Checkpoint, Product, cached
from lotto.streams import generator


class SetOf(Config):
    """A small set and the real data it stands for."""

    data: Data
    images: Images


def subset(real: RealData, ipc: int, seed: int = 0) -> SynSet:
    """`ipc` real training images of each class, drawn at random: the control of equal size."""
    index = data.per_class(real.train.labels.cpu(), ipc, generator(seed, "subset")).to(real.train.images.device)
    return SynSet(
        real.pixels(real.train.images[index]).clamp(0, 1).cpu(),
        real.train.labels[index].cpu(),
        real.classes,
        real.mean.cpu(),
        real.std.cpu(),
        {"method": "subset", "ipc": ipc, "seed": seed},
    )


def noise(real: RealData, ipc: int, seed: int = 0) -> SynSet:
    """`ipc` images a class of Gaussian noise with the training images' mean and deviation, clipped to [0, 1]: only labels to learn."""
    n = ipc * len(real.classes)
    draw = torch.randn(n, *real.shape, generator=generator(seed, "noise"))
    pixels = (draw * real.std.cpu()[:, None, None] + real.mean.cpu()[:, None, None]).clamp(0, 1)
    return SynSet(
        pixels, spread(ipc, len(real.classes)), real.classes, real.mean.cpu(), real.std.cpu(), {"method": "noise", "ipc": ipc, "seed": seed}
    )


@cached(version=2)
def distilled(what: SetOf, checkpoint: Checkpoint) -> Product:
    """The distilled set as a product: tensors of the SynSet, metrics with the loss."""
    real = data.load(what.data)
    made, losses = match_distributions(real, what.images.distill, what.images.seed, checkpoint)
    return Product(
        {
            "losses": [round(x, 6) for x in losses],
            "classes": list(made.classes),
            "recipe": made.recipe,
            "real_passes": what.images.distill.steps * what.images.distill.batch * len(made.classes),
        },
        {"images": made.images, "labels": made.labels, "mean": made.mean, "std": made.std},
    )


def small_set(what: SetOf) -> SynSet:
    """The small set that `what` describes (not for kind `real`)."""
    if what.images.kind == "distilled":
        product = distilled(what)
        t = product.tensors
        return SynSet(t["images"], t["labels"], tuple(product.metrics["classes"]), t["mean"], t["std"], product.metrics["recipe"])
    make = {"subset": subset, "noise": noise}[what.images.kind]
    return make(data.load(what.data), what.images.ipc, what.images.seed)


def inner_images(source: Data, images: Images) -> Split:
    """Normalised training images of an inner loop, on the device."""
    if images.kind == "real":
        return data.load(source).train
    small = small_set(SetOf(data=source, images=images)).split()
    return Split(small.images.to(device()), small.labels.to(device()))
