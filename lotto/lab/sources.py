"""Named data sets, read once: embedded digits, torchvision's sets, .npz files; split, resized, normalised, on the
device.

Also what lies behind a name, for the keys of products: the bytes of a data set, the source of a network's factory.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lotto import nets
from lotto.config import ConfigError, Net
from lotto.data import DataError, RealData, Split, check_alike, check_images, check_no_class_empty, read_npz, stratified
from lotto.lab.describe import Data
from lotto.lab.device import device
from lotto.lab.downloads import SOURCES, _may_download, check_files, folder, stamp
from lotto.lab.store import fingerprint
from lotto.streams import generator


def load(data: Data) -> RealData:
    """The real images that `data` describes, normalised, on the device (read once in a process, a file of your own when
    it changed)."""
    own_file = Path(data.name) if data.name.endswith(".npz") else None
    return _load(data, str(device()), stamp(own_file) if own_file and own_file.is_file() else None)


@functools.lru_cache(maxsize=2)
def _load(data: Data, device: str, stamp: tuple[int, int] | None = None) -> RealData:
    train, test, classes = (_npz if data.name.endswith(".npz") else READERS[data.name])(data)
    train = train if data.name in KNOWN else _mixed(train)
    pool = torch.arange(len(train.labels))
    held = stratified(train.labels, data.held_out, generator(0, "split", 1)) if data.held_out < len(pool) else None
    size = data.train_size if data.train_size is not None else len(pool) - data.held_out
    if held is None or size + data.held_out > len(pool):
        raise DataError(
            f"train_size = {data.train_size} with held_out = {data.held_out}: {data.name} has {len(pool)} training "
            f"images in all; ask for at most {max(len(pool) - data.held_out, 0)}"
        )
    rest = pool[~torch.isin(pool, held)]
    if data.train_size is not None:
        rest = rest[stratified(train.labels[rest], size, generator(0, "split", 2))]
    pixels = _resize(train.images[rest], data.image_size)
    std, mean = torch.std_mean(pixels, dim=(0, 2, 3), correction=0)
    std = std.clamp_min(1e-6)  # a channel that is the same everywhere says nothing; it is no NaN
    whole = RealData(
        Split(pixels, train.labels[rest]),
        Split(_resize(train.images[held], data.image_size), train.labels[held]),
        Split(_resize(test.images, data.image_size), test.labels),
        classes,
        mean,
        std,
    )

    def ready(split: Split) -> Split:
        return Split(whole.normalise(split.images).to(device), split.labels.to(device))

    return RealData(
        ready(whole.train), ready(whole.held_out), ready(whole.test), classes, mean.to(device), std.to(device)
    )


def _mixed(whole: Raw) -> Raw:
    """In an order of its own, the same each time: a set of yours may be sorted by class, and paths, planes and
    curvature look at the first images only."""
    order = torch.randperm(len(whole.labels), generator=generator(0, "split", 3))
    return Raw(whole.images[order], whole.labels[order])


def _resize(pixels: Tensor, size: int | None) -> Tensor:
    pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
    if size is None or tuple(pixels.shape[-2:]) == (size, size) or len(pixels) == 0:
        return pixels if size is None or len(pixels) else pixels.new_zeros(0, pixels.shape[1], size, size)
    return F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


class Raw(NamedTuple):
    """Images as they were read, before they are split, resized and normalised."""

    images: Tensor
    """(n, c, h, w): bytes, or floats in [0, 1]."""
    labels: Tensor
    """(n,) of int64."""


def cut(whole: Raw, size: int) -> tuple[Raw, Raw]:
    """Training and test images, of these `size`, for a set that has no split of its own; the same each time, classes in
    equal shares."""
    picked = stratified(whole.labels, size, generator(0, "split", 0))
    kept = torch.ones(len(whole.labels), dtype=torch.bool)
    kept[picked] = False
    return Raw(whole.images[kept], whole.labels[kept]), Raw(whole.images[picked], whole.labels[picked])


def _digits(data: Data) -> tuple[Raw, Raw, tuple[str, ...]]:
    # scikit-learn's digits: 500 of the 1,797 are the test images
    from sklearn.datasets import load_digits

    raw = load_digits()
    images, labels = (
        torch.tensor(raw.images, dtype=torch.float32)[:, None] / 16,
        torch.tensor(raw.target, dtype=torch.int64),
    )
    return *cut(Raw(images, labels), 500), tuple("0123456789")


def _torchvision(data: Data) -> tuple[Raw, Raw, tuple[str, ...]]:
    check_files(data)
    from torchvision import datasets

    reader = {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "mnist": datasets.MNIST,
        "fashion-mnist": datasets.FashionMNIST,
    }

    def split(train: bool) -> tuple[Raw, list[str]]:
        try:
            raw = reader[data.name](folder(), train=train, download=_may_download())
        except (OSError, RuntimeError) as error:  # what torchvision and urllib raise where there is no network, or room
            told = f"{data.name} could not be fetched to {folder()}"
            raise DataError(f"{told}: {error}; try again, or put it there") from None
        images = torch.as_tensor(raw.data)
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        return Raw(images.contiguous(), torch.as_tensor(raw.targets, dtype=torch.int64)), raw.classes

    (train, classes), (test, _) = split(True), split(False)
    return train, test, tuple(classes)


def _npz(data: Data) -> tuple[Raw, Raw, tuple[str, ...]]:
    found = read_npz(Path(data.name))
    whole = {part: _checked(data.name, found, part) for part in ("", "test_") if f"{part}images" in found}
    images, labels = whole[""]
    if "test_images" in found:
        train, test = whole[""], whole["test_"]
        check_alike(images, test.images, f"{data.name}: ")
    else:  # a fifth of each class
        if len(labels) < 5:
            raise DataError(f"{data.name}: of {len(labels)} images none can be kept for tests; give `test_images` too")
        train, test = cut(whole[""], len(labels) // 5)
    top = int(labels.max()) + 1
    names = tuple(str(c) for c in found["classes"].flat) if "classes" in found else tuple(str(c) for c in range(top))
    if (high := max(top, int(test.labels.max()) + 1)) > len(names):
        raise DataError(f"{data.name}: a label is {high - 1}; labels run from 0 to {len(names) - 1}")
    if len(names) < 2:
        raise DataError(f"{data.name}: one class; there is nothing to tell apart, so give images of two or more")
    check_no_class_empty(train.labels, len(names), f"{data.name}: ")
    return train, test, names


def _checked(file: str, found: dict[str, Any], part: str) -> Raw:
    # in the types that nets take: float64 is what NumPy saves unasked
    images, labels = torch.from_numpy(found[f"{part}images"]), torch.from_numpy(found[f"{part}labels"]).long()
    images = images if images.dtype == torch.uint8 else images.float()
    pixels = images.float() / 255 if images.dtype == torch.uint8 else images
    try:
        check_images(pixels, labels)
    except DataError as error:
        raise DataError(f"{file}: `{part}images`, `{part}labels`: {error}") from None
    if not 0 <= float(pixels.min()) <= float(pixels.max()) <= 1:
        raise DataError(
            f"{file}: pixels run from {float(pixels.min()):.3g} to {float(pixels.max()):.3g}; give floats in [0, "
            "1], or uint8"
        )
    if int(labels.max()) >= len(labels) and not part:
        raise DataError(
            f"{file}: a label is {int(labels.max())} with {len(labels)} images; number the classes without gaps"
        )
    return Raw(images, labels)


Reader = Callable[[Data], tuple[Raw, Raw, tuple[str, ...]]]

KNOWN = ("digits", *SOURCES)
"""Data sets that come in no particular order."""

READERS: dict[str, Reader] = {"digits": _digits, **dict.fromkeys(SOURCES, _torchvision)}
"""Name of a data set (one of `describe.DATA`) -> what reads its training images, test images and the names of its
classes."""


@fingerprint.register
def _(data: Data) -> str:
    """The bytes behind the name, so that other images under the same name are another key."""
    if data.name == "digits":
        return _digits_fingerprint()
    if data.name.endswith(".npz"):
        return f"npz, mixed:{sha256(Path(data.name))}"
    if data.name not in SOURCES:
        return f"{data.name}, mixed:{_pixels(data.name)}"
    source = SOURCES[data.name]
    marks = [m if isinstance(m, str) else sha256(folder() / source.place / name) for name, m in source.files.items()]
    return f"{data.name}:{hashlib.sha256(''.join(marks).encode()).hexdigest()}"


@functools.cache
def _pixels(name: str) -> str:
    digest = hashlib.sha256()
    for part in READERS[name](Data(name=name))[:2]:
        for t in part:
            digest.update(t.contiguous().numpy().tobytes())
    return digest.hexdigest()


def sha256(file: Path) -> str:
    if not file.is_file():
        raise DataError(f"{file} is missing")
    return _sha256_of(file, stamp(file))


@functools.cache
def _sha256_of(file: Path, stamped: tuple[int, int]) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@functools.cache
def _digits_fingerprint() -> str:
    # the wheel's file, not its parsed content: reading it costs no import of scikit-learn
    import importlib.util

    where = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets" / "data" / "digits.csv.gz"
    return f"digits:{hashlib.sha256(where.read_bytes()).hexdigest()}"


@fingerprint.register
def _(net: Net) -> str | None:
    """The source of a factory's package; the nets of this module change with the versions of the functions that train
    them. ConfigError where it is no longer what was imported: products of the old would be kept under the key of the
    new."""
    if ":" not in net.name:
        return None
    nets.factory(net.name)
    module = net.name.partition(":")[0]
    imported, now = _imported(module), _source(module)
    if imported != now:
        raise ConfigError(f"net = {net.name!r}: its source has changed since it was imported; start Python anew")
    return f"{net.name}:{now}"


@functools.cache
def _imported(module: str) -> str:
    """The source of a module, as it was when it was first asked for."""
    return _source(module)


def _source(module: str) -> str:
    """Digest of a module's file or, where it is of a package, of all Python files of that."""
    spec = importlib.util.find_spec(module.partition(".")[0])
    folders = [Path(p) for p in spec.submodule_search_locations or ()]
    files = [f for folder in folders for f in sorted(folder.rglob("*.py"))] or [Path(spec.origin)]
    return hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()
