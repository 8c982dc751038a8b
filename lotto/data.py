"""Images as tensors: checked, normalised, drawn class by class. Named data sets are the lab's (`lotto.lab.sources`)."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor
from torch.utils.data import Dataset


class DataError(ValueError):
    """Images or files that cannot be used: one sentence with what was found and what to do."""


@dataclass(frozen=True)
class Split:
    """Some images, normalised, with their labels."""

    images: Float[Tensor, "images channels height width"]
    labels: Int64[Tensor, " images"] | Float[Tensor, "images classes"]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, n: int) -> Split:
        """At most the first n of them."""
        return self if n >= len(self) else Split(self.images[:n], self.labels[:n])


@dataclass(frozen=True)
class RealData:
    """A data set in three parts; `held_out` is cut from the training images and serves every choice, `test` none."""

    train: Split
    held_out: Split
    test: Split
    classes: tuple[str, ...]
    mean: Float[Tensor, " channels"]
    std: Float[Tensor, " channels"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return tuple(self.train.images.shape[1:])

    def normalise(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Pixels in [0, 1] to what a net takes: (pixels - mean) / std, by channel, of the training images."""
        return (pixels - self.mean[:, None, None]) / self.std[:, None, None]

    def pixels(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The inverse of `normalise`."""
        return images * self.std[:, None, None] + self.mean[:, None, None]


def check_images(images: Tensor, labels: Tensor, classes: int | None = None) -> None:
    """Refuse what no training can use: wrong shape or type, NaN, labels out of range. Raises DataError, naming the
    first culprit."""
    if images.ndim != 4 or not images.is_floating_point():
        raise DataError(
            f"images have shape {tuple(images.shape)} and type {images.dtype}; floating-point (images, channels, "
            "height, width) is needed"
        )
    soft = labels.ndim == 2 and labels.is_floating_point()
    if len(images) != len(labels) or not (soft or (labels.ndim == 1 and labels.dtype == torch.int64)):
        raise DataError(
            f"labels have shape {tuple(labels.shape)} and type {labels.dtype}; ({len(images)},) of int64 is needed, "
            "one an image, or floating-point (images, classes), one probability per class"
        )
    if len(images) == 0:
        raise DataError("there are no images; give at least two")
    if not (ok := torch.isfinite(images).flatten(1).all(1)).all():
        raise DataError(
            f"image {int((~ok).nonzero()[0])} holds NaN or infinity; mend or drop it ({int((~ok).sum())} such images)"
        )
    if soft:
        if classes is not None and labels.shape[1] != classes:
            raise DataError(f"labels give {labels.shape[1]} probabilities each; there are {classes} classes")
        if (bad := (labels < 0).any(1) | ~((labels.sum(1) - 1).abs() < 1e-3)).any():
            i = int(bad.nonzero()[0])
            raise DataError(
                f"label {i} adds to {float(labels[i].sum()):.3g}; probabilities of 0 to 1 that add to 1 are "
                "needed: logits.softmax(1)"
            )
        return
    top = classes if classes is not None else max(1, int(labels.max()) + 1)
    if (bad := (labels < 0) | (labels >= top)).any():
        i = int(bad.nonzero()[0])
        raise DataError(f"label {i} is {int(labels[i])}; labels run from 0 to {top - 1}")


def own(
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"],
    test_images: Float[Tensor, "m c h w"],
    test_labels: Int64[Tensor, " m"],
    classes: tuple[str, ...] | None = None,
) -> RealData:
    """Your own images, with pixels in [0, 1], as a data set: normalised by the training images, nothing held out.

    DataError for wrong shapes or types, test images of another shape than the training images, NaN, labels that are no
    class numbers or out of range, pixels outside [0, 1], fewer than two classes, a class without an image.
    """
    for name, y in {"training": labels, "test": test_labels}.items():
        if y.ndim != 1 or y.is_floating_point():
            raise DataError(
                f"{name} labels have shape {tuple(y.shape)} and type {y.dtype}; class numbers are needed here, one an "
                "image (of probabilities: labels.argmax(1))"
            )
    top = len(classes) if classes else int(labels.max()) + 1 if len(labels) else 0
    for name, (x, y) in {"training": (images, labels), "test": (test_images, test_labels)}.items():
        check_images(x, y, top)
        low, high = float(x.min()), float(x.max())
        if low < 0 or high > 1:
            raise DataError(
                f"{name} pixels run from {low:.3g} to {high:.3g}; give them in [0, 1] (bytes: images.float() / 255)"
            )
    check_alike(images, test_images)
    if top < 2:
        raise DataError(f"there is {top} class; give at least two, for a net to tell apart")
    check_no_class_empty(labels, top)
    std, mean = torch.std_mean(images, dim=(0, 2, 3), correction=0)
    names = classes or tuple(str(c) for c in range(top))
    raw = RealData(
        Split(images, labels),
        Split(images[:0], labels[:0]),
        Split(test_images, test_labels),
        names,
        mean,
        std.clamp_min(1e-6),
    )
    train, test = Split(raw.normalise(images), labels), Split(raw.normalise(test_images), test_labels)
    return RealData(train, raw.held_out, test, names, raw.mean, raw.std)


def check_alike(images: Tensor, test_images: Tensor, where: str = "") -> None:
    if (these := tuple(test_images.shape[1:])) != (those := tuple(images.shape[1:])):
        raise DataError(f"{where}test images have shape {these}, training images {those}; make them alike")


def check_no_class_empty(labels: Tensor, classes: int, where: str = "") -> None:
    if (empty := (labels.bincount(minlength=classes) == 0).nonzero()).numel():
        raise DataError(
            f"{where}class {int(empty[0])} has no training image; give some, or number the classes without gaps"
        )


def from_datasets(
    train: Dataset | Sequence, test: Dataset | Sequence, classes: tuple[str, ...] | None = None
) -> RealData:
    """Two `torch.utils.data.Dataset`s (or lists) of (image, label) pairs as a data set, read once into memory.

    Images are tensors (c, h, w), uint8 or floats in [0, 1], or PIL images (`channels_first`); all of one size. The rest
    is as for `own`.
    """

    def stack(what: Dataset | Sequence, name: str) -> tuple[Tensor, Tensor]:
        images, labels = [], []
        for i in range(len(what)):
            image, label = what[i]
            image = image if isinstance(image, Tensor) else channels_first(image)
            if images and image.shape != images[0].shape:
                raise DataError(
                    f"{name} image {i} has shape {tuple(image.shape)}, the first {tuple(images[0].shape)}; "
                    "resize them alike"
                )
            images.append(image)
            labels.append(int(label))
        if not images:
            raise DataError(f"there are no {name} images; give at least two")
        whole = torch.stack(images)
        return whole.float() / 255 if whole.dtype == torch.uint8 else whole.float(), torch.tensor(labels)

    return own(*stack(train, "training"), *stack(test, "test"), classes)


def channels_first(picture: Any) -> Shaped[Tensor, "c h w"]:
    """A PIL image, or an array (h, w) or (h, w, c), as a tensor (c, h, w) of the same numbers; a picture with a palette
    in its colours, as its own numbers only say which."""
    pixels = np.asarray(picture.convert("RGB") if getattr(picture, "mode", None) in ("P", "PA") else picture)
    return torch.tensor(pixels).view(*pixels.shape[:2], -1).permute(2, 0, 1)


def stratified(labels: Int64[Tensor, " n"], size: int, draw: torch.Generator) -> Int64[Tensor, " size"]:
    """Indices of `size` examples drawn without replacement, each class in its share (largest remainders), rising.

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> labels[stratified(labels, 3, torch.Generator().manual_seed(0))].tolist()
    [0, 0, 1]
    """
    if not 0 <= size <= len(labels):
        raise DataError(f"{size} images asked of {len(labels)}; ask for at most {len(labels)}")
    counts = torch.bincount(labels)
    share = counts * (size / max(len(labels), 1))
    take = share.floor().long()
    short = size - int(take.sum())
    take[torch.argsort(take - share, stable=True)[:short]] += 1
    order = torch.randperm(len(labels), generator=draw)
    picked = [order[labels[order] == c][: int(n)] for c, n in enumerate(take)]
    return torch.cat(picked).sort().values


def per_class(labels: Int64[Tensor, " n"], count: int, draw: torch.Generator) -> Int64[Tensor, " m"]:
    """Indices of `count` examples of each class, class by class. DataError if a class has fewer."""
    order = torch.randperm(len(labels), generator=draw)
    picked = [order[labels[order] == c][:count] for c in range(int(labels.max()) + 1)]
    for c, found in enumerate(picked):
        if len(found) < count:
            raise DataError(
                f"{count} images a class asked, but class {c} has {len(found)} training images; ask for at most "
                f"{len(found)}"
            )
    return torch.cat(picked)


def read_npz(file: Path) -> dict[str, Any]:
    form = "an .npz needs `images` (n, channels, height, width; uint8, or floats in [0, 1]) and integer `labels` (n)"
    if not file.is_file():
        raise DataError(f"{file}: no such file; {form}")
    try:
        whole = np.load(file, allow_pickle=False)
        if isinstance(whole, np.ndarray):
            raise ValueError("it is one array, as in an .npy")
        with whole as found:
            arrays = {name: found[name] for name in found.files}
    # RuntimeError: what damage makes look encrypted, or packed in a way that zipfile does not know
    except (
        *(ValueError, OSError, EOFError, RuntimeError, TypeError),
        *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
    ) as error:
        raise DataError(f"{file}: cannot be read as plain arrays ({error}); {form}") from None
    names = [
        "images",
        "labels",
        *(n for n in ("test_images", "test_labels") if {"test_images", "test_labels"} & arrays.keys()),
    ]
    if missing := [n for n in names if n not in arrays]:
        raise DataError(f"{file}: holds {', '.join(arrays) or 'nothing'}, but no `{missing[0]}`; {form}")
    for name in names:
        kinds = "iu" if "labels" in name else "f" if arrays[name].dtype != np.uint8 else "u"
        if arrays[name].dtype.kind not in kinds:
            raise DataError(f"{file}: `{name}` is of type {arrays[name].dtype}; {form}")
        if not arrays[name].ndim or 0 in arrays[name].shape[1:] or arrays[name].itemsize > 8:
            raise DataError(f"{file}: `{name}` is of shape {arrays[name].shape} and {arrays[name].dtype}; {form}")
        arrays[name] = arrays[name].astype(arrays[name].dtype.newbyteorder("="))
    return arrays
