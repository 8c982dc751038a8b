"""Batched augmentation on the device. What to do to each image is drawn beforehand, from a keyed generator, on the
CPU."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor


class Draws(NamedTuple):
    """One augmentation an image: the corner of its crop in the padded image, whether it is flipped, and eight numbers
    in [0, 1) for the further operations. Whether there are flips and operations at all is told by the shapes, so that
    nobody has to wait for the device to know."""

    rows: Int64[Tensor, " n"]
    columns: Int64[Tensor, " n"]
    flips: Bool[Tensor, "n one"] | Bool[Tensor, "n 0"]
    numbers: Float[Tensor, "n eight"] | Float[Tensor, "n 0"]

    def __getitem__(self, index):
        return Draws(*(t[index] for t in tuple(self)))

    def to(self, device: torch.device | str) -> Draws:
        """The same on another device."""
        return Draws(*(t.to(device) for t in tuple(self)))


def draw(n: int, shift: int, flip: bool, source: torch.Generator, ops: tuple[str, ...] = ()) -> Draws:
    """Augmentations for n images: shifts of up to `shift` pixels each way, uniformly; flips with probability 1/2 where
    `flip`; `ops` as `apply` has them."""
    side = 2 * shift + 1
    rows, columns = torch.randint(side, (2, n), generator=source)
    coins = torch.randint(2, (n,), generator=source)
    numbers = torch.rand(n, 8 if ops else 0, generator=source)
    return Draws(rows, columns, coins.bool()[:, None][:, : int(flip)], numbers)


def same(draws: Draws, n: int) -> Draws:
    """The first of `draws`, for n images alike (siamese: real and distilled images of a step see the same)."""
    return Draws(*(t[:1].expand(n, *t.shape[1:]) for t in tuple(draws)))


def apply(
    images: Float[Tensor, "n c h w"], draws: Draws, shift: int, ops: tuple[str, ...] = ()
) -> Float[Tensor, "n c h w"]:
    """Shift (zeros come in: mean colour, as images are normalised) and flip; then the further operations of
    differentiable siamese augmentation (Zhao & Bilen 2021, arXiv 2102.08259), all those in `ops`. Differentiable in the
    images.

    color: brightness by up to 0.5, saturation times 0 to 2, contrast times 0.5 to 1.5 (before the shift); scale: each
    side times 1/1.2 to 1.2; rotate: up to 15 degrees each way; cutout: a square of half the side is set to 0. Ranges
    are theirs; `images` are normalised.
    """
    n, c, h, w = images.shape
    if "color" in ops:
        images = _coloured(images, draws.numbers[:, :3])
    if shift:
        windows = F.pad(images, (shift,) * 4).unfold(2, h, 1).unfold(3, w, 1)  # a view: n c side side h w
        images = windows[torch.arange(n, device=images.device), :, draws.rows, draws.columns]
    if draws.flips.shape[1]:
        images = torch.where(draws.flips[..., None, None], images.flip(3), images)
    if "scale" in ops or "rotate" in ops:
        images = _warped(images, draws.numbers[:, 3:6], ops)
    if "cutout" in ops:
        images = images * _outside(draws.numbers[:, 6:8], h, w, h // 2, w // 2).to(images)
    return images


def _coloured(images: Float[Tensor, "n c h w"], numbers: Float[Tensor, "n 3"]) -> Float[Tensor, "n c h w"]:
    brightness, saturation, contrast = numbers.to(images)[:, :, None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * 2 * saturation
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (0.5 + contrast)


def _warped(
    images: Float[Tensor, "n c h w"], numbers: Float[Tensor, "n 3"], ops: tuple[str, ...]
) -> Float[Tensor, "n c h w"]:
    """Scaled, then turned, about the centre; bilinear, with zeros from outside."""
    sides = 1 / 1.2 + numbers[:, :2] * (1.2 - 1 / 1.2) if "scale" in ops else torch.ones_like(numbers[:, :2])
    angle = (numbers[:, 2] - 0.5) * 2 * math.radians(15) if "rotate" in ops else torch.zeros_like(numbers[:, 2])
    (x, y), cos, sin = sides.unbind(1), angle.cos(), angle.sin()
    zero = torch.zeros_like(cos)
    theta = torch.stack([torch.stack([x * cos, -x * sin, zero], 1), torch.stack([y * sin, y * cos, zero], 1)], 1).to(
        images
    )
    where = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, where, align_corners=False)


def _outside(corner: Float[Tensor, "n 2"], h: int, w: int, high: int, wide: int) -> Float[Tensor, "n 1 h w"]:
    """1 outside a box of `high` x `wide` pixels an image, 0 in it. corner: in [0, 1), where among all places that hold
    it is."""
    top = (corner[:, 0] * (h - high + 1)).floor()[:, None, None, None]
    left = (corner[:, 1] * (w - wide + 1)).floor()[:, None, None, None]
    row, column = torch.arange(h, device=corner.device)[:, None], torch.arange(w, device=corner.device)
    inside = (row >= top) & (row < top + high) & (column >= left) & (column < left + wide)
    return (~inside).float()


def cutmix(
    images: Float[Tensor, "n c h w"], source: torch.Generator
) -> tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"], float]:
    """Images with a box of another image of the batch in each (Yun et al. 2019, arXiv 1905.04899, beta 1), whose box
    each has, and the share of the area that the box takes: the loss is (1 - share) that of the own label + share that
    of the other's.

    One box for all: its area is uniform, its centre anywhere; the share is what of it lies inside. The images given are
    left as they are.
    """
    n, _, h, w = images.shape
    order = torch.randperm(n, generator=source).to(images.device)
    area, y, x = torch.rand(3, generator=source).tolist()
    half = area**0.5 / 2
    top, bottom, left, right = (
        round(max(0, at) * side) for at, side in ((y - half, h), (y + half, h), (x - half, w), (x + half, w))
    )
    box = torch.zeros(h, w, dtype=torch.bool, device=images.device)
    box[top:bottom, left:right] = True
    return torch.where(box, images[order], images), order, float(box.double().mean())
