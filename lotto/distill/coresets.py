"""Coresets: real images chosen to stand for the rest. They cost one small training, and are what a distilled set must beat."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lotto.data import DataError, RealData
from lotto.distill.synset import SynSet, encode


def herding(features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], ipc: int) -> Int64[Tensor, " m"]:
    """Indices of `ipc` examples a class whose mean feature is nearest to the class's, chosen one after the other (Welling 2009)."""

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
    """Indices of `ipc` examples a class that leave no other far away: the one nearest to the class's mean, then always the farthest
    (Gonzalez 1985; for coresets Sener & Savarese 2018, arXiv 1708.00489)."""

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
            raise DataError(f"{ipc} images a class asked, but class {c} has {len(members)} training images; ask for at most {len(members)}")
        picked.append(members[choose(features[members])])
    return torch.cat(picked)


def patches(real: RealData, el2n: Float[Tensor, " images"], ipc: int, factor: int = 2, seed: int = 0) -> SynSet:
    """`ipc` stored images a class, each of factor x factor of the class's easiest training images, made smaller and set together (after
    Sun et al. 2024, arXiv 2312.03526, whole images for their crops): the control of equal stored size for multi-formation.

    el2n: how hard each training image is (`sets.difficulty`); the lowest are taken.
    """
    need = ipc * factor**2
    order = _each_class(-el2n[:, None], real.train.labels, need, lambda x: torch.sort(x[:, 0], descending=True, stable=True).indices[:need])
    pixels = real.pixels(real.train.images[order.to(real.train.images.device)]).clamp(0, 1).cpu()
    classes = len(real.classes)
    parts = pixels.view(classes, factor**2, ipc, *real.shape).transpose(0, 1).reshape(-1, *real.shape)  # part by part, as decoded
    labels = torch.arange(classes).repeat_interleave(ipc)
    recipe = {"method": "patches", "ipc": ipc, "factor": factor, "seed": seed}
    return SynSet(encode(parts, factor), labels, real.classes, real.mean.cpu(), real.std.cpu(), recipe, factor)
