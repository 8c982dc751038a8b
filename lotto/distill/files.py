"""Distilled sets as others have published them, read safely and brought into one form; and written in their formats.

Each of the formats keeps its images in another way, and none says which (research on their code: most questions about these files are
about normalisation). `load` says in the set's `recipe` what it took a file for.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lotto.data import DataError, RealData
from lotto.distill.synset import SynSet

CIFAR = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2023, 0.1994, 0.2010])
"""Mean and deviation by which DatasetCondensation normalises CIFAR-10 (not those of the pixels: deviations there are means of images')."""
FORMATS = ("mtt", "dc", "idc", "npz", "png")
"""MTT and DATM; DatasetCondensation (DC, DSA, DM); IDC; arrays; a folder of pictures."""
KNOWN = (
    "a SynSet (.safetensors), images_*.pt beside labels_*.pt (MTT, DATM), res_*.pt (DatasetCondensation), data_*.pt (IDC), .npz with "
    "`images` and `labels`, or a folder with a folder of PNGs a class"
)


class Whitening(NamedTuple):
    """ZCA: decorrelated pixels that still look like images. x -> (x - mean) @ forward."""

    mean: Float[Tensor, " d"]
    forward: Float[Tensor, "d d"]
    back: Float[Tensor, "d d"]


def whitening(pixels: Float[Tensor, "n c h w"], eps: float = 0.1) -> Whitening:
    """ZCA fitted on pixels in [0, 1], as MTT and DATM have it (kornia's, eps 0.1): U (S + eps)^-1/2 U' of the covariance U S U'.

    Fit it on training images. In double; d = c h w, so a CIFAR image takes an eigenproblem of 3,072.
    """
    x = pixels.flatten(1).double()
    mean = x.mean(0)
    covariance = (x - mean).T @ (x - mean) / (len(x) - 1)
    values, vectors = torch.linalg.eigh(covariance)
    scale = (values.clamp_min(0) + eps).sqrt()
    return Whitening(mean, vectors / scale @ vectors.T, vectors * scale @ vectors.T)


def whiten(pixels: Float[Tensor, "n c h w"], by: Whitening) -> Float[Tensor, "n c h w"]:
    """Pixels in [0, 1] as a whitened set has them."""
    return ((pixels.flatten(1).double() - by.mean) @ by.forward).view(pixels.shape).to(pixels)


def unwhiten(images: Float[Tensor, "n c h w"], by: Whitening) -> Float[Tensor, "n c h w"]:
    """The way back; what leaves [0, 1] is for the caller to judge."""
    return (images.flatten(1).double() @ by.back + by.mean).view(images.shape).to(images)


def load(file: Path | str, real: RealData | None = None, whitened: bool | None = None, factor: int | None = None) -> SynSet:
    """A published set as a SynSet: images in [0, 1], unwhitened.

    real: the real data that it stands for; needed for a whitened set (its whitening is fitted on them), and then its classes and
    normalisation are used. whitened: for `images_*.pt`; None takes pixels outside [0, 1] for whitened. factor: of IDC's multi-formation
    (None takes 1: the files do not say). Labels that are logits (DATM's) become probabilities.
    DataError, in one sentence, for a file of another format, one cut short, one that only an unsafe load could open, and for labels,
    classes, channels or sizes that do not fit. Nothing in a file is ever executed.
    """
    path = Path(file)
    if not path.exists():
        raise DataError(f"{file}: no such file; known are {KNOWN}")
    if path.is_dir():
        images, labels, about = _folder(path)
    elif path.suffix == ".npz":
        images, labels, about = _arrays(path)
    elif path.suffix in (".pt", ".pth"):
        images, labels, about = _tensors(path, whitened, factor)
    else:
        raise DataError(f"{file}: not a format that is known; known are {KNOWN}")
    return _finish(file, images, labels, about, real, factor)


def files_of(file: Path | str) -> list[Path]:
    """All files that make up a set: that one; with MTT's images their labels; all pictures of a folder. DataError where none is there."""
    path = Path(file)
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    if not path.exists():
        raise DataError(f"{file}: no such file; known are {KNOWN}")
    beside = path.with_name(path.name.replace("images", "labels"))
    return [path, beside] if path.suffix in (".pt", ".pth") and beside != path and beside.exists() else [path]


def _finish(file: Path | str, images: Tensor, labels: Tensor, about: dict[str, Any], real: RealData | None, factor: int | None) -> SynSet:
    if len(images) != len(labels):
        raise DataError(f"{file}: {len(images)} images but {len(labels)} labels; a label an image is needed")
    if real is not None and tuple(images.shape[1:]) != real.shape:
        raise DataError(
            f"{file}: images have shape {tuple(images.shape[1:])}, the real ones {real.shape}; load the data set they were made for"
        )
    if about.pop("whitened", False):
        if real is None:
            raise DataError(
                f"{file}: its images are ZCA-whitened; give real=..., the data they were made for, so that they are brought back"
            )
        pixels = unwhiten(images, whitening(real.pixels(real.train.images).clamp(0, 1).cpu()))
        outside = float(((pixels < 0) | (pixels > 1)).double().mean())
        about["read as"] += f"; brought back to pixels, {100 * outside:.1f} % of which were cut to [0, 1]"
        images = pixels.clamp(0, 1)
    if labels.is_floating_point() and not torch.allclose(labels.sum(1), torch.ones(len(labels)).to(labels), atol=1e-3):
        labels = labels.softmax(1)
        about["read as"] += "; its labels, logits, were made probabilities"
    count = labels.shape[1] if labels.is_floating_point() else int(labels.max()) + 1
    classes = about.pop("classes", None) or (real.classes if real is not None else tuple(str(c) for c in range(count)))
    if count > len(classes):
        raise DataError(f"{file}: labels name {count} classes, but there are {len(classes)}; load the data set they were made for")
    if real is not None:
        mean, std = real.mean.cpu(), real.std.cpu()
    else:
        std, mean = torch.std_mean(images, dim=(0, 2, 3), correction=0)
        std = std.clamp_min(1e-6)
    return SynSet(images.contiguous(), labels, tuple(classes), mean, std, {"method": "imported", **about}, factor or 1)


def _tensors(path: Path, whitened: bool | None, factor: int | None) -> tuple[Tensor, Tensor, dict[str, Any]]:
    found = _safely(path)
    if isinstance(found, Tensor):
        if "images" not in path.name:
            raise DataError(f"{path}: holds one tensor; MTT's images are in images_*.pt, with their labels in labels_*.pt beside")
        beside = path.with_name(path.name.replace("images", "labels"))
        if not beside.exists():
            raise DataError(f"{beside}: no such file; MTT's images_*.pt needs its labels_*.pt beside it")
        images, labels = found.detach().float(), _safely(beside).detach()
        outside = bool(((images < 0) | (images > 1)).any())
        if whitened is False and outside:
            raise DataError(f"{path}: whitened=False, but pixels run from {float(images.min()):.3g} to {float(images.max()):.3g}")
        took = {"read as": "MTT", "whitened": outside if whitened is None else whitened}
        took["read as"] += ", ZCA-whitened" if took["whitened"] else ", plain pixels"
        return images, labels.float() if labels.is_floating_point() else labels.long(), took
    if isinstance(found, dict) and "data" in found:
        images, labels = found["data"][-1]  # one pair an experiment; the last
        channels = images.shape[1]
        if channels != 3:
            raise DataError(f"{path}: DatasetCondensation's file of {channels}-channel images; only its CIFAR sets (3 channels) are known")
        mean, std = (t[:, None, None] for t in CIFAR)
        pixels = images.detach().float() * std + mean
        outside = float(((pixels < 0) | (pixels > 1)).double().mean())
        took = f"DatasetCondensation, experiment {len(found['data'])} of {len(found['data'])}, normalised as CIFAR-10 is there"
        return pixels.clamp(0, 1), labels.long(), {"read as": f"{took}; {100 * outside:.1f} % of its pixels were cut to [0, 1]"}
    if isinstance(found, list | tuple) and len(found) == 2 and all(isinstance(t, Tensor) for t in found):
        images, labels = found
        images = images.detach().float()
        cut = f"; {100 * float(((images < 0) | (images > 1)).double().mean()):.1f} % of its pixels were cut to [0, 1]"
        return images.clamp(0, 1), labels.long(), {"read as": f"IDC, factor {factor or 1}{cut}"}  # as IDC does when it next reads them
    raise DataError(f"{path}: holds {_what(found)}, which is none of the formats that are known: {KNOWN}")


def _what(found: Any) -> str:
    names = f" with {', '.join(map(repr, list(found)[:4]))}" if isinstance(found, dict) else ""
    return f"a {type(found).__name__}{names}"


def _safely(path: Path) -> Any:
    # results of experiments hold NumPy scalars: plain numbers, whose few types are named here and nothing else is let in
    import numpy as np
    import numpy.dtypes as kinds

    plain = [np.dtype, np._core.multiarray.scalar, *(getattr(kinds, n) for n in dir(kinds) if re.fullmatch(r"(Float|Int|UInt)\d+DType", n))]
    old = ("numpy.core.multiarray.scalar", np._core.multiarray.scalar)  # the name that NumPy 1 wrote
    try:
        with torch.serialization.safe_globals([*plain, (old[1], old[0])]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"(?:GLOBAL|global) (\S+)", str(error))
        what = f"objects of type {name.group(1)}" if name else "more than tensors and plain values"
        raise DataError(f"{path}: holds {what}, which cannot be opened without running its code; ask for a file of tensors") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: is no PyTorch file, or is cut short ({str(error).splitlines()[0][:80]}); get it again") from None


def _arrays(path: Path) -> tuple[Tensor, Tensor, dict[str, Any]]:
    from lotto.data import read_npz

    found = read_npz(path)
    images = torch.from_numpy(found["images"])
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    about = {"read as": "arrays", "classes": tuple(map(str, found["classes"].flat)) if "classes" in found else None}
    return images, torch.from_numpy(found["labels"]).long(), about


def _folder(path: Path) -> tuple[Tensor, Tensor, dict[str, Any]]:
    import numpy as np
    from PIL import Image

    classes = sorted(p.name for p in path.iterdir() if p.is_dir())
    files = [(c, f) for c, name in enumerate(classes) for f in sorted((path / name).glob("*.png"))]
    if empty := [name for c, name in enumerate(classes) if c not in {c for c, _ in files}]:
        raise DataError(f"{path / empty[0]}: holds no PNG; each class needs one")
    if not files:
        raise DataError(f"{path}: holds no folder of PNGs a class; known are {KNOWN}")
    arrays = []
    for _, f in files:
        with Image.open(f) as picture:
            one = np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))
        arrays.append(torch.tensor(one).view(*one.shape[:2], -1).permute(2, 0, 1))
        if arrays[-1].shape != arrays[0].shape:
            raise DataError(f"{f}: has shape {tuple(arrays[-1].shape)}, {files[0][1].name} {tuple(arrays[0].shape)}; make them alike")
    about = {"read as": "a folder of pictures", "classes": tuple(classes)}
    return torch.stack(arrays).float() / 255, torch.tensor([c for c, _ in files]), about


def export(small: SynSet, place: Path | str, form: str, by: Whitening | None = None) -> list[Path]:
    """Write a set in one of FORMATS, so that the code it comes from can use it; returns what was written.

    "mtt": images_best.pt and labels_best.pt in the folder `place` (whitened with `by`, plain without); "dc": a res_*.pt; "idc": a
    data_*.pt; "npz": arrays; "png": a folder of folders, 8 bits a channel. DataError for another format, and where it cannot say what
    the set holds (soft labels in a format of class numbers, other than 3 channels in "dc").
    """
    if form not in FORMATS:
        raise DataError(f"form = {form!r}: not known; use {', '.join(FORMATS)}")
    if small.labels.is_floating_point() and form != "mtt":
        raise DataError(f"form = {form!r}: keeps class numbers, and this set has soft labels; use 'mtt', or SynSet.save")
    if form == "dc" and small.images.shape[1] != 3:
        raise DataError(f"form = 'dc': only CIFAR's 3 channels are known there, and this set has {small.images.shape[1]}; use another")
    place, images, labels = Path(place), small.images.cpu(), small.labels.cpu()
    writers: dict[str, Callable[[], list[Path]]] = {
        "mtt": lambda: [
            _torch_save(whiten(images, by) if by else images.clone(), place / "images_best.pt"),
            _torch_save(labels.clone(), place / "labels_best.pt"),
        ],
        "dc": lambda: [_torch_save({"data": [[(images - CIFAR[0][:, None, None]) / CIFAR[1][:, None, None], labels]]}, place)],
        "idc": lambda: [_torch_save([images.clone(), labels.clone()], place)],
        "npz": lambda: [_npz(small, place)],
        "png": lambda: _pictures(small, place),
    }
    return writers[form]()


def _torch_save(what: Any, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(what, file)
    return file


def _npz(small: SynSet, file: Path) -> Path:
    import numpy as np

    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, images=small.images.cpu().numpy(), labels=small.labels.cpu().numpy(), classes=np.array(small.classes))
    return file if file.suffix == ".npz" else file.with_name(file.name + ".npz")


def _pictures(small: SynSet, place: Path) -> list[Path]:
    from PIL import Image

    written = []
    for i, (image, label) in enumerate(zip((small.images.cpu() * 255).round().byte(), small.labels.tolist(), strict=True)):
        file = place / f"{label:03d}_{re.sub(r'[^0-9A-Za-z]+', '_', small.classes[label])}" / f"{i:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()).save(file)
        written.append(file)
    return written
