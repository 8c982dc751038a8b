"""Batched augmentation on the device. What to do to each image is drawn beforehand, from a keyed generator, on the CPU."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor


class Draws(NamedTuple):
    """One augmentation an image: the corner of its crop in the padded image, and whether it is flipped."""

    rows: Int64[Tensor, " n"]
    columns: Int64[Tensor, " n"]
    flips: Bool[Tensor, " n"]

    def __getitem__(self, index):
        return Draws(*(t[index] for t in tuple(self)))

    def to(self, device: torch.device) -> Draws:
        """The same on another device."""
        return Draws(*(t.to(device) for t in tuple(self)))


def draw(n: int, shift: int, flip: bool, source: torch.Generator) -> Draws:
    """Augmentations for n images: shifts of up to `shift` pixels each way, uniformly; flips with probability 1/2 where `flip`."""
    side = 2 * shift + 1
    rows, columns = torch.randint(side, (2, n), generator=source)
    coins = torch.randint(2, (n,), generator=source)
    return Draws(rows, columns, coins.bool() & flip)


def same(draws: Draws, n: int) -> Draws:
    """The first of `draws`, for n images alike (siamese: real and distilled images of a step see the same)."""
    return Draws(*(t[:1].expand(n) for t in tuple(draws)))


def apply(images: Float[Tensor, "n c h w"], draws: Draws, shift: int) -> Float[Tensor, "n c h w"]:
    """Shift (zeros come in: mean colour, as images are normalised) and flip. Differentiable in the images."""
    n, c, h, w = images.shape
    if shift:
        windows = F.pad(images, (shift,) * 4).unfold(2, h, 1).unfold(3, w, 1)  # a view: n c side side h w
        images = windows[torch.arange(n, device=images.device), :, draws.rows, draws.columns]
    if draws.flips.any():
        images = torch.where(draws.flips[:, None, None, None], images.flip(3), images)
    return images
