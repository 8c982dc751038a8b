"""The store of products: every costly step is a function of one frozen description, computed once and then read.

A product is a folder `<store>/<stage>/<key>/` with `config.json`, `metrics.json`, `tensors.safetensors` (where it has
any) and `done.json`, all readable without lotto. The key is the SHA-256 of canonical JSON: the function's name and
version, the versions of the functions it builds on, the description with everything upstream in it, and the
fingerprints of data and foreign code. A folder is made under another name and renamed when complete, so that a
half-written one is never seen.

If two processes want one product, a file lock lets one compute while the other waits. On a network file system without
working locks both compute, which costs only time: each writes a folder of its own, the first to rename its folder
decides, and equal keys give equal bytes (on the CPU).
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import hashlib
import inspect
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pydantic import BaseModel

from lotto.checkpoint import Checkpoint, Paused, save_tensors
from lotto.lab.device import device_name, peak_memory, single_thread
from lotto.lab.product import (
    FORMAT,
    TENSORS,
    Product,
    StoreError,
    _dump,
    _newer,
    _open,
    _read,
    asking,
    making,
    replacing,
)
from lotto.lab.waiting import deadline, held, seconds


def root() -> Path:
    """The store's folder: `LOTTO_STORE`, by default `.lotto` in the clone (or in the current folder, where lotto is
    installed alone)."""
    if given := os.environ.get("LOTTO_STORE"):
        return Path(given).expanduser().resolve()
    clone = Path(__file__).resolve().parents[2]
    return (clone if (clone / "environment.yml").exists() else Path.cwd()) / ".lotto"


def checkpoint(folder: Path) -> Checkpoint:
    """A checkpoint in a folder, saved every `LOTTO_CHECKPOINT_SECONDS` (60) and at the `deadline`."""
    return Checkpoint(folder, seconds("LOTTO_CHECKPOINT_SECONDS", "60"), deadline())


@functools.singledispatch
def fingerprint(description: Any) -> str | None:
    """A digest of what a product depends on beside its description: the bytes of a data set, the source of a user's
    factory. Modules register theirs; None: nothing to add."""
    return None


def canonical(description: BaseModel) -> dict:
    """The description as plain JSON data, with the fingerprints of all its parts."""
    stamps: dict[str, str] = {}

    def walk(node: Any) -> None:
        if isinstance(node, BaseModel):
            if (stamp := fingerprint(node)) is not None:
                stamps[stamp] = type(node).__name__
            for name in type(node).model_fields:
                walk(getattr(node, name))
        elif isinstance(node, tuple | list):
            for item in node:
                walk(item)

    walk(description)
    return {"config": description.model_dump(mode="json"), "fingerprints": dict(sorted(stamps.items()))}


@dataclass(frozen=True)
class Plan:
    """What `parallel.compute` uses to schedule a cached function, so that no worker waits for another. Results do not
    depend on it."""

    label: str = ""
    """What is being done, for the progress line; by default the function's name."""
    needs: Callable[[Any], Iterable[tuple[Cached, Any]]] = lambda description: ()
    """The products that a description's product builds on, as (function, description): computed first, in parallel,
    each once."""
    through: Callable[[Any], Any] = lambda description: None
    """The description whose product is made on the way to this one's, or None."""
    cost: Callable[[Any], float] = lambda description: 0.0
    """How long one takes, relative to others: the longest start first, so that none runs alone at the end."""


def key(made_from: dict) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of what a product is made from, as its config.json holds it."""
    text = json.dumps(made_from, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Cached:
    """A function computed once per description. Calling it returns the `Product`, computed or read."""

    def __init__(
        self, function: Callable[..., Product], version: int, uses: tuple[Cached, ...] = (), plan: Plan | None = None
    ):
        self.function, self.version, self.uses, self.plan = function, version, uses, plan or Plan()
        self.stage = function.__name__
        self._resumes = "checkpoint" in inspect.signature(function).parameters
        functools.update_wrapper(self, function)

    def __reduce__(self):
        return _import, (self.function.__module__, self.stage)

    def versions(self) -> dict[str, int]:
        """Versions of this function and of all it builds on; they are in the key."""
        mine = {self.stage: self.version}
        for other in self.uses:
            mine.update(other.versions())
        return mine

    def made_from(self, description: BaseModel) -> dict:
        """All that the product is made from, as plain JSON data."""
        return {"function": self.stage, "versions": self.versions(), **canonical(description)}

    def key(self, description: BaseModel) -> str:
        """SHA-256 (64 hex digits) of all that the product is made from."""
        return key(self.made_from(description))

    def folder(self, description: BaseModel) -> Path:
        """Where the product lies, or would lie."""
        return _ready(root()) / self.stage / self.key(description)

    def partial(self, description: BaseModel) -> Path:
        """Where the computation of the product keeps its state until it is finished."""
        return self.folder(description).with_name(f".{self.key(description)}.partial")

    def read(self, description: BaseModel) -> Product | None:
        """The product if it is there and whole, else None."""
        return _open(self.folder(description))

    @asking
    def __call__(self, description: BaseModel) -> Product:
        return self._made(description)

    def unless_busy(self, description: BaseModel) -> Product | None:
        """The product, or None if another process is computing it now."""
        with contextlib.suppress(Timeout):
            return self._made(description, patience=0)
        return None

    def _made(self, description: BaseModel, patience: float = -1) -> Product:
        folder = self.folder(description)
        if (product := _open(folder)) is not None:
            return product
        _check_format()
        if time.time() >= deadline():
            raise Paused
        with _full_disk_told(), _lock(folder, patience):
            if (product := _open(folder)) is not None:  # another process made it while we waited
                return product
            partial = self.partial(description)
            kept = checkpoint(partial)
            with single_thread():
                product = self.function(description, **({"checkpoint": kept} if self._resumes else {}))
            self._write(folder, description, product, kept.seconds())
            shutil.rmtree(partial, ignore_errors=True)
        return _open(folder)

    def _write(self, folder: Path, description: BaseModel, product: Product, seconds: float) -> None:
        with making(folder) as place:
            _dump(place / "config.json", self.made_from(description))
            _dump(place / "metrics.json", product.metrics)
            if product.tensors:
                save_tensors(product.tensors, place / TENSORS)
            _dump(
                place / "done.json",
                {
                    "format": FORMAT,
                    "files": {f.name: f.stat().st_size for f in sorted(place.iterdir())},
                    "seconds": round(seconds, 3),
                    "device": device_name(),
                    "torch": torch.__version__,
                    "python": platform.python_version(),
                    "peak_memory_mib": peak_memory() // 2**20,
                    "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                },
            )


def cached(version: int, uses: tuple[Cached, ...] = (), **plan: Any) -> Callable[[Callable[..., Product]], Cached]:
    """Decorate a function (description) -> Product, or (description, checkpoint) -> Product for one that can resume.

    Raise `version` whenever the function's results change; `uses` names the cached functions it builds on, so that
    their changes reach its key too. `plan`: fields of `Plan`.
    """
    return lambda function: Cached(function, version, uses, Plan(**plan))


def _import(module: str, name: str) -> Cached:
    return getattr(__import__(module, fromlist=[name]), name)


@functools.cache
def _ready(place: Path) -> Path:
    """`place`, after migrating the store there to the current format; once per process."""
    if (_format(place) or FORMAT) < FORMAT:
        from lotto.lab.migrate import migrate

        with _full_disk_told():
            migrate(place)
    return place


def _format(place: Path) -> int | None:
    """The format of the store at `place`; None where there is none yet. StoreError where there is something else."""
    try:
        return int(_read(place / "store.json")["format"])
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise StoreError(f"{place}: is a file; set LOTTO_STORE to a folder") from None
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            f"{place / 'store.json'}: does not say the store's format; delete this one file, and what is in the store "
            "is taken as of today's format"
        ) from None


def _check_format() -> None:
    file, number = root() / "store.json", _format(root())
    if number is None:
        with _full_disk_told():
            root().mkdir(parents=True, exist_ok=True)
            with replacing(file) as part:
                _dump(part, {"format": FORMAT})
        return
    if number > FORMAT:
        raise StoreError(_newer(root(), number))


@contextlib.contextmanager
def _lock(folder: Path, patience: float = -1) -> Iterator[None]:
    # the operating system frees the lock when its holder dies, however it dies
    locks = root() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with held(FileLock(locks / f"{folder.parent.name}-{folder.name[:32]}"), patience):
        yield


@contextlib.contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"{root()}: no space left on the disk; free some, or set LOTTO_STORE to a folder on another "
                "disk. What was finished is kept; the same command goes on from there"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise StoreError(
                f"{root()}: cannot be written ({error.strerror}); set LOTTO_STORE to a folder of yours"
            ) from error
        raise
