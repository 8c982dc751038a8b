"""Sets that are not distilled: real images at random, or chosen to stand for the rest, and the controls without
meaning.

They cost one small training at most, and are what a distilled set must beat.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lotto.data import DataError, RealData, per_class
from lotto.distill.synset import SynSet, encode, spread
from lotto.streams import generator


def subset(real: RealData, ipc: int, seed: int = 0) -> SynSet:
    """`ipc` real training images of each class, drawn at random: the control of equal size."""
    index = per_class(real.train.labels.cpu(), ipc, generator(seed, "subset")).to(real.train.images.device)
    return chosen(real, index, {"method": "subset", "ipc": ipc, "seed": seed})


def easiest(real: RealData, ipc: int, el2n: Float[Tensor, " images"], seed: int = 0) -> SynSet:
    """The `ipc` training images of each class with the lowest EL2N scores: small and easy data, not distilled."""
    index = _each_class(el2n[:, None], real.train.labels, ipc, lambda x: torch.sort(x[:, 0], stable=True).indices[:ipc])
    return chosen(real, index.to(real.train.images.device), {"method": "easy", "ipc": ipc, "seed": seed})


def chosen(real: RealData, index: Int64[Tensor, " n"], recipe: dict) -> SynSet:
    images, labels = real.pixels(real.train.images[index]).clamp(0, 1).cpu(), real.train.labels[index].cpu()
    return SynSet(images, labels, real.classes, real.mean.cpu(), real.std.cpu(), recipe)


def permuted(small: SynSet, seed: int = 0) -> SynSet:
    """The same images under the same labels, at random: what is left is images without their meaning."""
    order = torch.randperm(len(small.labels), generator=generator(seed, "shuffle"))
    return dataclasses.replace(small, labels=small.labels[order], recipe={**small.recipe, "labels": "permuted"})


def noise(real: RealData, ipc: int, seed: int = 0) -> SynSet:
    """`ipc` images a class of Gaussian noise with the training images' mean and deviation, clipped to [0, 1]: only
    labels to learn."""
    n = ipc * len(real.classes)
    draw = torch.randn(n, *real.shape, generator=generator(seed, "noise"))
    pixels = (draw * real.std.cpu()[:, None, None] + real.mean.cpu()[:, None, None]).clamp(0, 1)
    return SynSet(
        pixels,
        spread(ipc, len(real.classes)),
        real.classes,
        real.mean.cpu(),
        real.std.cpu(),
        {"method": "noise", "ipc": ipc, "seed": seed},
    )


def herding(features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], ipc: int) -> Int64[Tensor, " m"]:
    """Indices of `ipc` examples a class whose mean feature is nearest to the class's, chosen one after the other
    (Welling 2009)."""

    def choose(x: Tensor) -> list[int]:
        chosen, total = [], torch.zeros_like(x[0])
        for k in range(1, ipc + 1):
            gap = ((total + x) / k - x.mean(0)).norm(dim=1)
            gap[chosen] = torch.inf
            chosen.append(int(gap.argmin()))
            total = total + x[chosen[-1]]
        return chosen

    return _each_class(features, labels, ipc, choose)


def kcenter(features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], ipc: int) -> Int64[Tensor, " m"]:
    """Indices of `ipc` examples a class that leave no other far away: the one nearest to the class's mean, then always
    the farthest (Gonzalez 1985; for coresets Sener & Savarese 2018, arXiv 1708.00489)."""

    def choose(x: Tensor) -> list[int]:
        chosen = [int((x - x.mean(0)).norm(dim=1).argmin())]
        far = (x - x[chosen[0]]).norm(dim=1)
        while len(chosen) < ipc:
            chosen.append(int(far.argmax()))
            far = torch.minimum(far, (x - x[chosen[-1]]).norm(dim=1))
            far[chosen] = -1.0
        return chosen

    return _each_class(features, labels, ipc, choose)


def _each_class(features: Tensor, labels: Tensor, ipc: int, choose) -> Tensor:
    features, labels = features.cpu().double(), labels.cpu()
    picked = []
    for c in range(int(labels.max()) + 1):
        members = (labels == c).nonzero().squeeze(1)
        if len(members) < ipc:
            raise DataError(
                f"{ipc} images a class asked, but class {c} has {len(members)} training images; ask for at most "
                f"{len(members)}"
            )
        picked.append(members[choose(features[members])])
    return torch.cat(picked)


def patches(real: RealData, el2n: Float[Tensor, " images"], ipc: int, factor: int = 2, seed: int = 0) -> SynSet:
    """`ipc` stored images a class, each of factor x factor of the class's easiest training images, made smaller and set
    together (after Sun et al. 2024, arXiv 2312.03526, whole images for their crops): the control of equal stored size
    for multi-formation.

    el2n: how hard each training image is (`sets.difficulty`); the lowest are taken.
    """
    need = ipc * factor**2
    order = _each_class(
        -el2n[:, None],
        real.train.labels,
        need,
        lambda x: torch.sort(x[:, 0], descending=True, stable=True).indices[:need],
    )
    pixels = real.pixels(real.train.images[order.to(real.train.images.device)]).clamp(0, 1).cpu()
    classes = len(real.classes)
    parts = (
        pixels.view(classes, factor**2, ipc, *real.shape).transpose(0, 1).reshape(-1, *real.shape)
    )  # part by part, as decoded
    labels = torch.arange(classes).repeat_interleave(ipc)
    recipe = {"method": "patches", "ipc": ipc, "factor": factor, "seed": seed}
    return SynSet(encode(parts, factor), labels, real.classes, real.mean.cpu(), real.std.cpu(), recipe, factor)
