"""SynSet: a few images that stand in for many, with all that is needed to use them rightly."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lotto.data import DataError, Split, check_images

PARTS = ("images", "labels", "mean", "std")


@dataclass(frozen=True)
class SynSet:
    """Images in [0, 1] (not normalised, not whitened), labels, the normalisation they were made for, and how they were made.

    labels: class numbers, or a probability a class (soft labels, which are never rounded to a class). factor: an image holds factor x
    factor smaller ones (multi-formation, Kim et al. 2022, arXiv 2205.14959), which `decode` takes apart.
    """

    images: Float[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"] | Float[Tensor, "n classes"]
    classes: tuple[str, ...]
    mean: Float[Tensor, " c"]
    std: Float[Tensor, " c"]
    recipe: dict[str, Any] = field(default_factory=dict)
    factor: int = 1

    def __post_init__(self):
        check_images(self.images, self.labels, len(self.classes))
        low, high = float(self.images.min()), float(self.images.max())
        if low < -1e-4 or high > 1 + 1e-4:
            raise DataError(
                f"pixels run from {low:.3g} to {high:.3g}; a SynSet holds them in [0, 1], before any normalisation or whitening: "
                "undo it with images * std + mean, or read the file with SynSet.load"
            )
        most = min(self.images.shape[2:])
        if not (isinstance(self.factor, int) and 1 <= self.factor <= most):
            raise DataError(f"factor = {self.factor}: images of shape {tuple(self.images.shape[1:])} can hold 1 to {most}")

    def decode(self) -> tuple[Float[Tensor, "m c h w"], Tensor]:
        """The m = n x factor^2 images that nets see, in [0, 1], and their labels: part by part, all images each time."""
        return decode(self.images, self.factor), self.labels.repeat(self.factor**2, *[1] * (self.labels.ndim - 1))

    def split(self) -> Split:
        """What a net trains on: decoded, normalised images with labels."""
        images, labels = self.decode()
        return Split((images - self.mean[:, None, None]) / self.std[:, None, None], labels)

    @property
    def checksum(self) -> str:
        """SHA-256 (64 hex digits) of images, labels and normalisation."""
        digest = hashlib.sha256()
        for name in PARTS:
            t = getattr(self, name).detach().cpu().contiguous()
            digest.update(f"{name} {t.dtype} {tuple(t.shape)} ".encode() + t.numpy().tobytes())
        return digest.hexdigest()

    def save(self, file: Path | str) -> None:
        """One safetensors file; the metadata holds classes, factor, recipe and checksum as JSON."""
        about = {"classes": self.classes, "recipe": self.recipe, "factor": self.factor, "checksum": self.checksum}
        tensors = {n: getattr(self, n).detach().cpu().contiguous() for n in PARTS}
        save_file(tensors, file, metadata={"lotto": json.dumps(about)})

    @classmethod
    def load(cls, file: Path | str, **more: Any) -> SynSet:
        """Read what `save` wrote; what others have published is read by `lotto.distill.files.load`, to which all other files (and
        `more`) go. DataError where the file is not there, none of these, cut short, or changed since it was saved."""
        path = Path(file)
        if not path.exists():
            raise DataError(f"{file}: no such file; save a SynSet there first")
        if path.suffix != ".safetensors" and (path.is_dir() or path.suffix in (".pt", ".pth", ".npz")):
            from lotto.distill import files

            return files.load(path, **more)
        try:
            with safe_open(file, "pt") as f:
                meta = json.loads((f.metadata() or {})["lotto"])
                images, labels, mean, std = (f.get_tensor(n) for n in PARTS)
                made = cls(images, labels, tuple(meta["classes"]), mean, std, meta["recipe"], meta.get("factor", 1))
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise DataError(f"{file}: is no SynSet file, or is cut short ({error}); make it again with SynSet.save") from None
        if meta.get("checksum", made.checksum) != made.checksum:
            raise DataError(f"{file}: its images are not those it was saved with (checksum); make it again with SynSet.save")
        return made


def spread(n: int, classes: int) -> Int64[Tensor, " n_classes"]:
    """Labels of n images a class, class by class: 0 0 ... 1 1 ..."""
    return torch.arange(classes).repeat_interleave(n)


def decode(images: Float[Tensor, "n c h w"], factor: int) -> Float[Tensor, "m c h w"]:
    """Cut each image into factor x factor parts and enlarge each part to the whole size: m = n x factor^2, part by part.

    Bilinear, corners not aligned. Where factor does not divide a side, the image is first padded with 0.5 at its end. Differentiable.
    """
    if factor == 1:
        return images
    h, w = images.shape[2:]
    padded = F.pad(images, (0, -w % factor, 0, -h % factor), value=0.5)
    a, b = padded.shape[2] // factor, padded.shape[3] // factor
    parts = [padded[:, :, i * a : (i + 1) * a, j * b : (j + 1) * b] for i in range(factor) for j in range(factor)]
    return F.interpolate(torch.cat(parts), size=(h, w), mode="bilinear", align_corners=False)


def encode(images: Float[Tensor, "m c h w"], factor: int) -> Float[Tensor, "n c h w"]:
    """The way back: m = n x factor^2 images, in `decode`'s order, made smaller (nearest) and set together; it loses detail."""
    if factor == 1:
        return images
    h, w = images.shape[2:]
    a, b = -(-h // factor), -(-w // factor)
    small = F.interpolate(images, size=(a, b), mode="nearest")
    parts = small.view(factor, factor, -1, *small.shape[1:])
    rows = [torch.cat(list(row), dim=3) for row in parts]
    return torch.cat(rows, dim=2)[:, :, :h, :w]
