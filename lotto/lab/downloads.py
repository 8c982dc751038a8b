"""torchvision's data sets on the disk: where they lie, whether they are whole, and whether they may be fetched."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from lotto.data import DataError, read_npz
from lotto.lab.describe import Data


@dataclass(frozen=True)
class Source:
    """A data set of torchvision's, as it lies on the disk. Pickles are checked before they are opened, by the MD5
    torchvision lists."""

    place: str
    """Folder of its files in `folder()`."""
    files: dict[str, str | int]
    """File -> MD5 (pickles), or size in bytes (plain arrays)."""
    megabytes: int
    """What a download takes."""


SOURCES = {
    "cifar10": Source(
        "cifar-10-batches-py",
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
        170,
    ),
    "cifar100": Source(
        "cifar-100-python",
        {
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
        169,
    ),
    **{
        name: Source(
            f"{place}/raw",
            {
                "train-images-idx3-ubyte": 47_040_016,
                "train-labels-idx1-ubyte": 60_008,
                "t10k-images-idx3-ubyte": 7_840_016,
                "t10k-labels-idx1-ubyte": 10_008,
            },
            megabytes,
        )
        for name, place, megabytes in (("mnist", "MNIST", 12), ("fashion-mnist", "FashionMNIST", 31))
    },
}
"""torchvision's sets that lotto reads."""


def folder() -> Path:
    """Where torchvision's data sets lie: `LOTTO_DATA`, by default a cache folder of the user."""
    if given := os.environ.get("LOTTO_DATA"):
        return Path(given).expanduser().resolve()
    import platformdirs

    return Path(platformdirs.user_cache_dir("lotto")) / "data"


def check_files(data: Data) -> None:
    """Whether the files of a data set are there and whole; DataError names the first that is not, and what to do.
    Digits need none."""
    if data.name.endswith(".npz"):
        read_npz(Path(data.name))
    if data.name not in SOURCES:
        return
    source = SOURCES[data.name]
    place = folder() / source.place
    remedy = (
        f"run again with --download ({source.megabytes} MB from the data set's home), or put the folder "
        f"{source.place} into {folder()}, or set LOTTO_DATA to where it is"
    )
    for name, expected in source.files.items():
        if not (place / name).is_file():
            if _may_download():
                return
            raise DataError(f"{place / name} is missing; {remedy}")
        what, found = (
            ("MD5", _md5(place / name, stamp(place / name)))
            if isinstance(expected, str)
            else ("size", (place / name).stat().st_size)
        )
        if found != expected:
            raise DataError(
                f"{place / name} is damaged: its {what} is {found}, expected {expected}; delete it, then {remedy}"
            )


def _may_download() -> bool:
    return os.environ.get("LOTTO_DOWNLOAD") == "1"


def stamp(file: Path) -> tuple[int, int]:
    """When a file was changed and how long it is: what is remembered of its content is asked for anew with it."""
    found = file.stat()
    return found.st_mtime_ns, found.st_size


@functools.cache
def _md5(file: Path, stamped: tuple[int, int]) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "md5").hexdigest()
