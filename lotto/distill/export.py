"""Distilled sets written in the formats of others, so that the code they come from can use them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_map

from lotto.data import DataError
from lotto.distill.files import constants
from lotto.distill.synset import SynSet

FORMATS = ("mtt", "dc", "idc", "npz", "png")
"""MTT and DATM; DatasetCondensation (DC, DSA, DM); IDC; arrays; a folder of pictures."""


def export(small: SynSet, place: Path | str, form: str) -> list[Path]:
    """Write a set in one of FORMATS, so that the code it comes from can use it; returns what was written.

    "mtt": images_best.pt and labels_best.pt in the folder `place`, pixels or whitened as the set has them; "dc": a
    res_*.pt, normalised by `constants`, or by the set's own mean and deviation; "idc": a data_*.pt; "npz": arrays;
    "png": a folder of folders, 8 bits a channel, for looking at (whitened sets lose there what they teach). Images that
    hold several are taken apart, but for "idc", whose code does that itself, if it is told the factor. DataError for
    another format, and where it cannot say what the set holds: soft labels in a format of class numbers, whitened
    images in one of pixels.
    """
    if form not in FORMATS:
        raise DataError(f"form = {form!r}: not known; use {', '.join(FORMATS)}")
    if small.labels.is_floating_point() and form != "mtt":
        raise DataError(
            f"form = {form!r}: keeps class numbers, and this set has soft labels; use 'mtt', or SynSet.save"
        )
    if small.whitening and form not in ("mtt", "png"):
        raise DataError(f"form = {form!r}: keeps pixels, and this set is whitened; use 'mtt', or SynSet.save")
    if small.factor > 1 and form != "idc":
        images, labels = small.decode()
        small = dataclasses.replace(small, images=images, labels=labels, factor=1)
    place, images, labels = Path(place), small.images.cpu(), small.labels.cpu()

    if form == "mtt":
        return [_torch_save(images, place / "images_best.pt"), _torch_save(labels, place / "labels_best.pt")]
    if form == "dc":
        _, mean, std = constants(small, images.shape[1:], len(small.classes))
        return [_torch_save({"data": [[(images - mean[:, None, None]) / std[:, None, None], labels]]}, place)]
    if form == "idc":
        return [_torch_save([images, labels], place)]
    return [_npz(small, place)] if form == "npz" else _pictures(small, place)


def _torch_save(what: Any, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tree_map(torch.clone, what), file)  # clones: a view would bring its whole storage along
    return file


def _npz(small: SynSet, file: Path) -> Path:
    import numpy as np

    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        file, images=small.images.cpu().numpy(), labels=small.labels.cpu().numpy(), classes=np.array(small.classes)
    )
    return file if file.suffix == ".npz" else file.with_name(file.name + ".npz")


def _pictures(small: SynSet, place: Path) -> list[Path]:
    from PIL import Image

    written = []
    for i, (image, label) in enumerate(
        zip((small.pixels.cpu() * 255).round().byte(), small.labels.tolist(), strict=True)
    ):
        file = place / f"{label:03d}_{re.sub(r'[^0-9A-Za-z]+', '_', small.classes[label])}" / f"{i:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()).save(file)
        written.append(file)
    return written
