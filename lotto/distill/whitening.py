"""ZCA whitening, as the trajectory-matching codes (MTT, DATM) apply it to all images before they distil, train or
test."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

EPS = 0.1
"""Added to each variance before its root is taken: that of the published code (kornia's ZCA with eps = 0.1)."""


class Principal(NamedTuple):
    """Principal components of images with pixels in [0, 1], flattened to d = c h w values each."""

    mean: Float[Tensor, " d"]
    variances: Float[Tensor, " d"]
    """In descending order, in squared pixels."""
    axes: Float[Tensor, "d d"]
    """A column an axis, of length 1."""


class Whitening(NamedTuple):
    """Decorrelated pixels that still look like images: x -> (x - mean) @ matrix, for x in [0, 1] flattened to d = c h w
    values."""

    mean: Float[Tensor, " d"]
    matrix: Float[Tensor, "d d"]


def principal(pixels: Float[Tensor, "n c h w"]) -> Principal:
    """Principal components of at least two images with pixels in [0, 1]; in float64, and on the images' device.

    An eigenproblem of size d: 3,072 for a CIFAR image, some ten seconds on a CPU.
    """
    parts = pixels.flatten(1).split(4096)  # a data set in float64 at once would take several GB
    mean = sum(p.double().sum(0) for p in parts) / len(pixels)
    covariance = sum((p.double() - mean).T @ (p.double() - mean) for p in parts) / (len(pixels) - 1)
    variances, axes = torch.linalg.eigh(covariance)
    return Principal(mean, variances.flip(0).clamp_min(0), axes.flip(1))


def zca(of: Principal, eps: float = EPS) -> Whitening:
    """The whitening A (V + eps)^-1/2 A' of images with axes A and variances V, in float32."""
    return Whitening(of.mean.float(), (of.axes / (of.variances + eps).sqrt() @ of.axes.T).float())


def whitening(pixels: Float[Tensor, "n c h w"], eps: float = EPS) -> Whitening:
    """The ZCA whitening fitted on at least two images with pixels in [0, 1]: training images, never test images."""
    return zca(principal(pixels), eps)


def whiten(pixels: Float[Tensor, "n c h w"], by: Whitening) -> Float[Tensor, "n c h w"]:
    """Pixels in [0, 1] as a net sees them that is trained on a whitened set; in float32."""
    mean, matrix = by.mean.to(pixels.device), by.matrix.to(pixels.device)
    return torch.cat([(p.flatten(1).float() - mean) @ matrix for p in pixels.split(4096)]).view(pixels.shape)


def unwhiten(images: Float[Tensor, "n c h w"], by: Whitening) -> Float[Tensor, "n c h w"]:
    """The way back to pixels. Whitened images that were optimised leave [0, 1] there: good for pictures, not for
    training."""
    flat = torch.linalg.solve(by.matrix.double().to(images.device), images.flatten(1).double(), left=False)
    return (flat + by.mean.to(flat)).view(images.shape).to(images)


def nearer(
    images: Float[Tensor, "n c h w"],
    of: Principal,
    mean: Float[Tensor, " c"],
    std: Float[Tensor, " c"],
    eps: float = EPS,
) -> Literal["normalised", "whitened"] | None:
    """Whether a set's images are more like normalised real images (by channel: mean, std) or like whitened ones; None:
    cannot be told.

    Ranges and deviations of single pixels do not tell: whitened natural images lie well within what a normalised pixel
    can be (on CIFAR-10 all of them). The leading principal axes, those of 90 % of the real variance, do: along them
    normalised images keep the variances of pixels, over two orders of magnitude, and whitened ones have about 1 each,
    by construction. So the second moments of the set are set against those of real images in either space, as log
    ratios: first by their deviation, since a set may have any contrast; where that says nothing (real images without
    leading axes, much noise in the set), by their root mean square. One reading must be 1.5 times as near as the other.
    """
    top = int((of.variances.cumsum(0) < 0.9 * of.variances.sum()).sum()) + 1
    variances, axes = of.variances[:top].clamp_min(1e-12), of.axes[:, :top]
    pixels = (images * std[:, None, None] + mean[:, None, None]).flatten(1).double() - of.mean
    normalised, whitened = (
        ((x @ axes).square().mean(0).clamp_min(1e-12) / expected).log()
        for x, expected in ((pixels, variances), (images.flatten(1).double(), variances / (variances + eps)))
    )
    for far in (lambda ratio: float(ratio.std(correction=0)), lambda ratio: float(ratio.square().mean().sqrt())):
        a, b = far(normalised), far(whitened)
        if max(a, b) > 1.5 * min(a, b):
            return "normalised" if a < b else "whitened"
    return None
