"""SynSet: a few images that stand in for many, with all that is needed to use them rightly."""

from __future__ import annotations

import dataclasses
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

from lotto.data import DataError, RealData, Split, check_images
from lotto.distill.whitening import Whitening, unwhiten, whiten

PARTS = ("images", "labels", "mean", "std")


@dataclass(frozen=True)
class SynSet:
    """Images, labels, how a net has to see them (and real images beside them), and how they were made.

    images: pixels in [0, 1], neither normalised nor whitened; or, where there is a `whitening`, whitened values of any
    range, as their makers trained on them (brought back to [0, 1] such a set is ruined: much of it lies outside).
    labels: class numbers, or one probability per class (soft labels, which are never rounded to a class). mean, std: by
    channel, what `split` and `normalise` apply last; 0 and 1 for published whitened sets. factor: an image holds factor
    x factor smaller ones (multi-formation, Kim et al. 2022, arXiv 2205.14959), which `decode` takes apart.
    """

    images: Float[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"] | Float[Tensor, "n classes"]
    classes: tuple[str, ...]
    mean: Float[Tensor, " c"]
    std: Float[Tensor, " c"]
    recipe: dict[str, Any] = field(default_factory=dict)
    factor: int = 1
    whitening: Whitening | None = None

    def __post_init__(self):
        check_images(self.images, self.labels, len(self.classes))
        low, high = float(self.images.min()), float(self.images.max())
        if self.whitening:
            d, shape = self.images[0].numel(), tuple(self.whitening.matrix.shape)
            if shape != (d, d):
                raise DataError(
                    f"whitening of shape {shape}: images of {d} values need ({d}, {d}); fit it on images of this size"
                )
        elif low < -1e-4 or high > 1 + 1e-4:
            raise DataError(
                f"pixels run from {low:.3g} to {high:.3g}; a SynSet holds them in [0, 1], before any normalisation or "
                "whitening: undo it with images * std + mean, or read the file with SynSet.load"
            )
        most = min(self.images.shape[2:])
        if not (isinstance(self.factor, int) and 1 <= self.factor <= most):
            raise DataError(
                f"factor = {self.factor}: images of shape {tuple(self.images.shape[1:])} can hold 1 to {most}"
            )

    def decode(self) -> tuple[Float[Tensor, "m c h w"], Tensor]:
        """The m = n x factor^2 images that are stored in n, and their labels: part by part, all images each time."""
        return decode(self.images, self.factor), self.labels.repeat(self.factor**2, *[1] * (self.labels.ndim - 1))

    def split(self) -> Split:
        """What a net trains on: decoded, normalised images with labels."""
        images, labels = self.decode()
        return Split((images - self.mean[:, None, None]) / self.std[:, None, None], labels)

    def normalise(self, pixels: Float[Tensor, "k c h w"]) -> Float[Tensor, "k c h w"]:
        """Pixels in [0, 1] as a net has to see them that is trained on this set: whitened, where it is, and normalised;
        any device."""
        seen = whiten(pixels, self.whitening) if self.whitening else pixels
        return (seen - self.mean.to(seen)[:, None, None]) / self.std.to(seen)[:, None, None]

    def view(self, real: RealData) -> RealData:
        """The real data as a net has to see them that is trained on this set; `real` itself where that is how they are
        already.

        Its `pixels` undoes the normalisation only: of a whitened set's view it gives whitened images.
        """
        mean, std = self.mean.to(real.mean), self.std.to(real.std)
        if not self.whitening and mean.equal(real.mean) and std.equal(real.std):
            return real  # there and back again would change the last bits
        parts = {n: getattr(real, n) for n in ("train", "held_out", "test")}
        seen = {n: Split(self.normalise(real.pixels(split.images)), split.labels) for n, split in parts.items()}
        return dataclasses.replace(real, **seen, mean=mean, std=std)

    @property
    def pixels(self) -> Float[Tensor, "n c h w"]:
        """The images for pictures, in [0, 1]: unwhitened and cut, where they are whitened. Not for training."""
        return unwhiten(self.images, self.whitening).clamp(0, 1) if self.whitening else self.images

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the set by name, on the CPU: those of PARTS and, where it is whitened, "whitening.mean" and
        "whitening.matrix"."""
        whole = {n: getattr(self, n) for n in PARTS}
        whole |= {f"whitening.{n}": t for n, t in (self.whitening._asdict() if self.whitening else {}).items()}
        return {n: t.detach().cpu().contiguous() for n, t in whole.items()}

    @property
    def checksum(self) -> str:
        """SHA-256 (64 hex digits) of `tensors`: images, labels, normalisation and whitening."""
        digest = hashlib.sha256()
        for name, t in self.tensors.items():
            digest.update(f"{name} {t.dtype} {tuple(t.shape)} ".encode() + t.numpy().tobytes())
        return digest.hexdigest()

    def save(self, file: Path | str) -> None:
        """One safetensors file; the metadata holds classes, factor, recipe and checksum as JSON."""
        about = {"classes": self.classes, "recipe": self.recipe, "factor": self.factor, "checksum": self.checksum}
        save_file(self.tensors, file, metadata={"lotto": json.dumps(about)})

    @classmethod
    def load(cls, file: Path | str, **more: Any) -> SynSet:
        """Read what `save` wrote; what others have published is read by `lotto.distill.files.load`, to which all other
        files (and `more`: real, space, factor) go. DataError where the file is not there, none of these, cut short, or
        changed since it was saved."""
        path = Path(file)
        if not path.exists():
            raise DataError(f"{file}: no such file; save a SynSet there first")
        if path.suffix != ".safetensors" and (path.is_dir() or path.suffix in (".pt", ".pth", ".npz")):
            from lotto.distill import files

            return files.load(path, **more)
        if given := [f"{n} = {v!r}" for n, v in more.items() if n != "real" and v is not None]:
            raise DataError(f"{file}: {given[0]}: the file of a SynSet says itself what its values are; leave that out")
        check_file(path)
        try:
            with safe_open(file, "pt") as f:
                meta = json.loads((f.metadata() or {})["lotto"])
                images, labels, mean, std = (f.get_tensor(n) for n in PARTS)
                by = (
                    Whitening(*(f.get_tensor(f"whitening.{n}") for n in Whitening._fields))
                    if "whitening.matrix" in f.keys()
                    else None
                )
                made = cls(images, labels, tuple(meta["classes"]), mean, std, meta["recipe"], meta.get("factor", 1), by)
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise DataError(
                f"{file}: is no SynSet file, or is cut short ({error}); make it again with SynSet.save"
            ) from None
        if meta.get("checksum", made.checksum) != made.checksum:
            raise DataError(
                f"{file}: its images are not those it was saved with (checksum); make it again with SynSet.save"
            )
        return made


def check_file(path: Path) -> None:
    """DataError for a file without content, and for what git-lfs leaves in place of one that was not fetched."""
    with path.open("rb") as f:
        start = f.read(40)
    if not start:
        raise DataError(f"{path}: is empty (0 bytes); get it again")
    if start.startswith(b"version https://git-lfs"):
        raise DataError(
            f"{path}: is a git-lfs pointer and not the file itself; run `git lfs pull` in the clone that it comes from"
        )


def spread(n: int, classes: int) -> Int64[Tensor, " n_classes"]:
    """Labels of n images a class, class by class: 0 0 ... 1 1 ..."""
    return torch.arange(classes).repeat_interleave(n)


def decode(images: Float[Tensor, "n c h w"], factor: int) -> Float[Tensor, "m c h w"]:
    """Cut each image into factor x factor parts and enlarge each part to the whole size: m = n x factor^2, part by
    part.

    Bilinear, corners not aligned. Where factor does not divide a side, the image is first padded with 0.5 at its end.
    Differentiable.
    """
    if factor == 1:
        return images
    h, w = images.shape[2:]
    padded = F.pad(images, (0, -w % factor, 0, -h % factor), value=0.5)
    a, b = padded.shape[2] // factor, padded.shape[3] // factor
    parts = [padded[:, :, i * a : (i + 1) * a, j * b : (j + 1) * b] for i in range(factor) for j in range(factor)]
    return F.interpolate(torch.cat(parts), size=(h, w), mode="bilinear", align_corners=False)


def encode(images: Float[Tensor, "m c h w"], factor: int) -> Float[Tensor, "n c h w"]:
    """The way back: m = n x factor^2 images, in `decode`'s order, made smaller (nearest) and set together; it loses
    detail."""
    if factor == 1:
        return images
    h, w = images.shape[2:]
    a, b = -(-h // factor), -(-w // factor)
    small = F.interpolate(images, size=(a, b), mode="nearest")
    parts = small.view(factor, factor, -1, *small.shape[1:])
    rows = [torch.cat(list(row), dim=3) for row in parts]
    return torch.cat(rows, dim=2)[:, :, :h, :w]


def check_classes(small: SynSet, real: RealData) -> None:
    """DataError where a set and the real data have the same classes in different orders: labels would be mistaken."""
    if small.classes != real.classes and set(small.classes) == set(real.classes):
        raise DataError(
            f"the set's classes begin with {small.classes[0]!r} and the real data's with {real.classes[0]!r}: they are "
            "the same in another order; bring the labels into that of the real data"
        )
