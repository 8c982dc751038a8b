"""What the files of others hold, opened safely: one function per format, all into one form."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lotto.data import DataError, channels_first
from lotto.distill.synset import check_file

SPACES = ("pixels", "normalised", "whitened")
"""What the values of a set's images are: in [0, 1]; (pixels - mean) / deviation, by channel; or ZCA-whitened."""
MTT = "MTT"
KNOWN = (
    "a SynSet (.safetensors), images_*.pt beside labels_*.pt (MTT, DATM), res_*.pt (DatasetCondensation), data_*.pt "
    "(IDC), .npz with `images` and `labels`, or a folder with one folder of PNGs per class"
)


class Found(NamedTuple):
    """What a file holds, before anything is made of it."""

    images: Tensor
    labels: Tensor
    form: str
    """The format that it was taken for, in words."""
    space: str | None
    """One of SPACES, where this format keeps one; None where its files differ in it."""
    classes: tuple[str, ...] | None = None


def _tensors(path: Path, factor: int | None) -> Found:
    found = _safely(path)
    if isinstance(found, Tensor):
        if "images" not in path.name:
            raise DataError(
                f"{path}: holds one tensor; MTT's images are in images_*.pt, with their labels in labels_*.pt beside"
            )
        beside = path.with_name(path.name.replace("images", "labels"))
        if not beside.exists():
            raise DataError(f"{beside}: no such file; MTT's images_*.pt needs its labels_*.pt beside it")
        return _pair(path, [found, _safely(beside)], MTT, None)
    if isinstance(found, dict) and "data" in found:
        pairs = found["data"]
        if not (isinstance(pairs, list | tuple) and len(pairs)):
            raise DataError(
                f"{path}: `data` is {_what(pairs)}; DatasetCondensation keeps a list there, one [images, labels] "
                "an experiment"
            )
        return _pair(path, pairs[-1], f"DatasetCondensation, experiment {len(pairs)} of {len(pairs)}", "normalised")
    if isinstance(found, list | tuple) and len(found) == 2 and all(isinstance(t, Tensor) for t in found):
        return _pair(path, found, f"IDC, factor {factor or 1}", "pixels")  # cut, as IDC does when it next reads them
    raise DataError(f"{path}: holds {_what(found)}, which is none of the formats that are known: {KNOWN}")


def _pair(path: Path, pair: Any, form: str, space: str | None) -> Found:
    if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(t, Tensor) and t.ndim for t in pair)):
        raise DataError(
            f"{path}: {form}: images and their labels are two tensors, and here is {_what(pair)}; get or save it again"
        )
    images, labels = (t.detach() for t in pair)
    if images.ndim != 4 and labels.ndim == 4:
        raise DataError(
            f"{path}: its images have shape {tuple(images.shape)} and its labels {tuple(labels.shape)}: they are "
            "swapped; save them as images, labels"
        )
    return Found(images, labels, form, space)


def _what(found: Any) -> str:
    if isinstance(found, Tensor):
        return f"a tensor of shape {tuple(found.shape)}"
    if isinstance(found, list | tuple):
        return f"a {type(found).__name__} of {len(found)}{': ' if found else ''}{', '.join(map(_what, found[:4]))}"
    names = f" with {', '.join(map(repr, list(found)[:4]))}" if isinstance(found, dict) else ""
    return f"a {type(found).__name__}{names}"


def _safely(path: Path) -> Any:
    check_file(path)
    # results of experiments hold NumPy scalars: plain numbers, whose few types are named here and nothing else is let
    # in
    import numpy as np
    import numpy.dtypes as kinds

    plain = [
        np.dtype,
        np._core.multiarray.scalar,
        *(getattr(kinds, n) for n in dir(kinds) if re.fullmatch(r"(Float|Int|UInt)\d+DType", n)),
    ]
    old = ("numpy.core.multiarray.scalar", np._core.multiarray.scalar)  # the name that NumPy 1 wrote
    try:
        with torch.serialization.safe_globals([*plain, (old[1], old[0])]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"(?:GLOBAL|global) (\S+)", str(error))
        what = f"objects of type {name.group(1)}" if name else "more than tensors and plain values"
        raise DataError(
            f"{path}: holds {what}, which cannot be opened without running its code; ask for a file of tensors"
        ) from None
    except Exception as error:  # whatever an unpickler may stumble over in bytes that are no pickle
        said = (str(error) or type(error).__name__).splitlines()[0][:80]
        raise DataError(f"{path}: is no PyTorch file, or is cut short ({said}); get it again") from None


def _arrays(path: Path) -> Found:
    from lotto.data import read_npz

    check_file(path)
    found = read_npz(path)
    classes = tuple(map(str, found["classes"].flat)) if "classes" in found else None
    return Found(torch.from_numpy(found["images"]), torch.from_numpy(found["labels"]), "arrays", None, classes)


EIGHT_BITS = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB"}
"""Modes of pictures that are read, and as what."""


def _counted(name: str) -> tuple:
    # "2" before "10"
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _folder(path: Path) -> Found:
    from PIL import Image

    classes = sorted((p.name for p in path.iterdir() if p.is_dir()), key=_counted)
    files = [(c, f) for c, name in enumerate(classes) for f in sorted((path / name).glob("*.png"))]
    if empty := [name for c, name in enumerate(classes) if c not in {c for c, _ in files}]:
        raise DataError(f"{path / empty[0]}: holds no PNG; each class needs one")
    if not files:
        raise DataError(f"{path}: holds no folder of PNGs for each class; known are {KNOWN}")
    arrays = []
    for _, f in files:
        check_file(f)
        try:
            with Image.open(f) as picture:
                if picture.mode not in EIGHT_BITS:
                    raise DataError(f"{f}: has pictures of mode {picture.mode!r}; save them with 8 bits a channel")
                arrays.append(channels_first(picture.convert(EIGHT_BITS[picture.mode])))
        except OSError as error:  # PIL's UnidentifiedImageError is one
            raise DataError(f"{f}: is no picture, or is cut short ({str(error)[:80]}); get it again") from None
        if arrays[-1].shape != arrays[0].shape:
            raise DataError(
                f"{f}: has shape {tuple(arrays[-1].shape)}, {files[0][1].name} {tuple(arrays[0].shape)}; make "
                "them alike"
            )
    return Found(
        torch.stack(arrays), torch.tensor([c for c, _ in files]), "a folder of pictures", "pixels", tuple(classes)
    )
