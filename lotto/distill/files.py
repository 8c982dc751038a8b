"""Distilled sets as others have published them, read safely and brought into one form; and written in their formats.

Each of the formats keeps its images in another way, and none says which (research on their code: most questions about
these files are about normalisation). `load` says in the set's `recipe` what it took a file for.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lotto.data import DataError, RealData, check_images
from lotto.distill.formats import KNOWN, MTT, SPACES, Found, _arrays, _folder, _tensors
from lotto.distill.synset import SynSet
from lotto.distill.whitening import Principal, nearer, principal, zca

CONSTANTS = {
    "CIFAR-10": (10, 32, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "CIFAR-100": (100, 32, (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "SVHN": (10, 32, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "Tiny ImageNet": (200, 64, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "MNIST": (10, 28, (0.1307,), (0.3081,)),
    "Fashion-MNIST": (10, 28, (0.2861,), (0.3530,)),
}
"""Classes, side, and the mean and deviation by which DatasetCondensation's utils.py normalises a data set (not always
those of its pixels: CIFAR-10's deviations are means of images'). MTT's takes CIFAR-10's for CIFAR-100 too."""

FEW = 0.05
"""Share of a set's values that may be cut to [0, 1]: beyond it, it is read wrongly, or little of what it teaches would
be left."""

EDGE = 1e-3
"""A value so little outside [0, 1], a quarter of a grey level, is rounding and not counted as cut."""

READING = 3
"""Version of what `load` makes of the files of others: raise it when the same bytes become another set."""


def load(file: Path | str, real: RealData | None = None, space: str | None = None, factor: int | None = None) -> SynSet:
    """A published set as a SynSet: pixels in [0, 1], or whitened images beside the whitening, which real images then
    have to go through too (`SynSet.view`): a set teaches as published only where it is seen as its makers saw it.

    real: the real data that it stands for, whose classes and normalisation are then used. Needed for a whitened set
    (its whitening is fitted on their training images, which should be all that its makers had), and for a normalised
    one of other data than CIFAR. space: what the file's values are; None takes what its format keeps and, for
    images_*.pt and .npz, where formats keep different things, tells it: values in [0, 1] are pixels, others are what
    they are nearer to along the leading principal axes of the real images (`whitening.nearer`). factor: of IDC's
    multi-formation (None takes 1: the files do not say). Labels that are logits (DATM's) become probabilities;
    `recipe["read as"]` says all that was taken. A SynSet's own file has all of this in it, and nothing else is taken
    for it: its normalisation remains its own. DataError, in one sentence, for a file of another format, empty or cut
    short, one that only an unsafe load could open, labels, classes, channels or sizes that do not fit, values that fit
    both readings or none, and where more than FEW of them would have to be cut to [0, 1]. Nothing in a file is ever
    executed.
    """
    if space not in (None, *SPACES):
        raise DataError(f"space = {space!r}: not known; use {', '.join(SPACES)}")
    path = Path(file)
    if not path.exists():
        raise DataError(f"{file}: no such file; known are {KNOWN}")
    if path.is_dir():
        found = _folder(path)
    elif path.suffix == ".npz":
        found = _arrays(path)
    elif path.suffix in (".pt", ".pth"):
        found = _tensors(path, factor)
    elif path.suffix == ".safetensors":
        return SynSet.load(path, space=space, factor=factor)
    else:
        raise DataError(f"{file}: not a format that is known; known are {KNOWN}")
    return _finish(file, found, real, space, factor)


def files_of(file: Path | str) -> list[Path]:
    """All files that make up a set: that one; with MTT's images their labels; all pictures of a folder. DataError where
    none is there."""
    path = Path(file)
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    if not path.exists():
        raise DataError(f"{file}: no such file; known are {KNOWN}")
    beside = path.with_name(path.name.replace("images", "labels"))
    return [path, beside] if path.suffix in (".pt", ".pth") and beside != path and beside.exists() else [path]


def _finish(file: Path | str, found: Found, real: RealData | None, space: str | None, factor: int | None) -> SynSet:
    images, labels, told = (
        found.images.float() / (255 if found.images.dtype == torch.uint8 else 1),
        found.labels,
        [found.form],
    )
    fits = real is not None and tuple(images.shape[1:]) == real.shape
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3) and not fits:
        images = images.permute(0, 3, 1, 2)
        told.append("its channels, which were last, were brought to the front")
    if not labels.is_floating_point() or (labels.ndim == 1 and labels.equal(labels.round())):
        labels = labels.long()
    elif labels.ndim == 2 and not torch.allclose(labels.sum(1), torch.ones(len(labels)).to(labels), atol=1e-3):
        labels = labels.softmax(1)
        told.append("its labels, logits, were made probabilities")
    labels = labels.float() if labels.is_floating_point() else labels
    if len(images) != len(labels):
        raise DataError(f"{file}: {len(images)} images but {len(labels)} labels; a label an image is needed")
    try:
        check_images(images, labels)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    if real is not None and tuple(images.shape[1:]) != real.shape:
        raise DataError(
            f"{file}: images have shape {tuple(images.shape[1:])}, the real ones {real.shape}; load the data set "
            "they were made for"
        )
    count = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    classes = found.classes or (real.classes if real is not None else tuple(str(c) for c in range(count)))
    if count > len(classes):
        raise DataError(
            f"{file}: labels name {count} classes, but there are {len(classes)}; load the data set they were made for"
        )
    labels, classes, order = _as_named(labels, tuple(classes), real)
    told += [order] if order else []
    images, by, how = _seen(file, found, images.contiguous(), len(classes), real, space)
    if by:
        mean, std = torch.zeros(images.shape[1]), torch.ones(images.shape[1])
    elif real is not None:
        mean, std = real.mean.cpu(), real.std.cpu()
    else:
        std, mean = torch.std_mean(images, dim=(0, 2, 3), correction=0)
        std = std.clamp_min(1e-6)
    about = {"method": "imported", "read as": "; ".join([f"{told[0]}, {how}", *told[1:]])}
    return SynSet(images, labels, classes, mean, std, about, factor or 1, zca(by) if by else None)


def _as_named(
    labels: Tensor, classes: tuple[str, ...], real: RealData | None
) -> tuple[Tensor, tuple[str, ...], str | None]:
    """Labels and classes in the order of the real data's, where these have the same names; else as they are, and where
    names differ, in words that they were not compared."""
    if real is None or classes == real.classes or len(classes) != len(real.classes):
        return labels, classes, None
    if set(classes) != set(real.classes):
        return labels, classes, f"its classes, whose names are others, in the order {', '.join(classes[:3])}, ..."
    theirs = torch.tensor([real.classes.index(c) for c in classes])
    soft = labels.is_floating_point()
    labels = labels[:, theirs.argsort()] if soft else theirs[labels]
    return labels, real.classes, "its classes were brought into the order of the real data's"


def _seen(
    file: Path | str, found: Found, images: Tensor, classes: int, real: RealData | None, space: str | None
) -> tuple[Tensor, Principal | None, str]:
    """The images as the set keeps them, what its whitening is made from (None: they are pixels), and in words what they
    were taken for."""
    space, why = space or found.space, ""
    if space is None and _outside(images) <= FEW:
        space = "pixels"
    if real is None and space in (None, "whitened"):
        raise DataError(
            f"{file}: its images are ZCA-whitened{'' if space else ' or normalised, as they are not in [0, 1]'}; give "
            "real=..., the data they were made for, which nets have to see as they see these"
        )
    if space in (None, "whitened"):
        of = _principal(real)
    if space in (None, "normalised"):
        by = constants(real, images.shape[1:], classes, found.form)
        if by is None:
            raise DataError(
                f"{file}: its images are normalised, and the file does not say by what; give real=..., the data they "
                f"were made for (without, CIFAR's constants are known, and these are {classes} classes of shape "
                f"{tuple(images.shape[1:])})"
            )
        whose, mean, std = by
    if space is None:
        space, why = nearer(images, of, mean, std), ", as its values tell,"
        if space is None:
            raise DataError(
                f"{file}: cannot tell whether its images are normalised or whitened; say space='normalised' or "
                "'whitened'"
            )
    if space == "whitened":
        return (
            images,
            of,
            f"ZCA-whitened{why} and kept so, with the whitening of the {len(real.train):,} real training images",
        )
    if space == "normalised":
        return _cut(file, images * std[:, None, None] + mean[:, None, None], space, f"normalised{why} by {whose}")
    return _cut(file, images, space, "plain pixels")


@functools.lru_cache(
    maxsize=1
)  # an arm reads its set before every inner loop, and at 32 x 32 pixels this takes half a minute
def _principal(real: RealData) -> Principal:
    return principal(real.pixels(real.train.images).clamp(0, 1).cpu())


def _cut(file: Path | str, pixels: Tensor, space: str, taken: str) -> tuple[Tensor, None, str]:
    if (cut := _outside(pixels)) > FEW:
        others = " or ".join(f"space={s!r}" for s in SPACES if s != space)
        raise DataError(
            f"{file}: read as {taken}, {100 * cut:.0f} % of its values would have to be cut to [0, 1], from "
            f"{float(pixels.min()):.3g} to {float(pixels.max()):.3g}, and the set would teach less; say {others} if "
            "that is what it holds, or clamp it yourself into a SynSet"
        )
    return pixels.clamp(0, 1), None, taken + (f", {100 * cut:.1f} % of its values cut to [0, 1]" if cut else "")


def _outside(images: Tensor) -> float:
    return float(((images < -EDGE) | (images > 1 + EDGE)).double().mean())


def constants(
    of: RealData | SynSet | None, shape: Sequence[int], classes: int, form: str = ""
) -> tuple[str, Tensor, Tensor] | None:
    """By what published images of this shape (c, h, w) and so many classes are normalised: in words, mean and deviation
    by channel.

    With the data in hand: those of CONSTANTS whose mean is within 0.03 of the data's in all channels, the nearest; else
    the data's own. Without: CIFAR's, by the number of classes; None where that says nothing.
    """
    fit = [
        n
        for n, (many, side, mean, _) in CONSTANTS.items()
        if many == classes and tuple(shape) == (len(mean), side, side)
    ]
    if of is None:
        fit = [n for n in fit if "CIFAR" in n]
    else:
        far = {n: float((torch.tensor(CONSTANTS[n][2]) - of.mean.cpu()).abs().max()) for n in fit}
        fit = sorted((n for n in fit if far[n] < 0.03), key=far.get)
    if fit:
        used = "CIFAR-10" if fit[0] == "CIFAR-100" and form == MTT else fit[0]
        return f"the constants that its code has for {fit[0]}", *(torch.tensor(t) for t in CONSTANTS[used][2:])
    return None if of is None else ("the real data's own mean and deviation", of.mean.cpu(), of.std.cpu())
