"""A finished product: the result of a function of one description, in memory or in its folder; and how a complete
folder gets its name."""

from __future__ import annotations

import contextlib
import contextvars
import errno
import functools
import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


FORMAT = 3
"""Version of the store's layout and keys. A store with a higher number is refused, one with a lower number is migrated
when it is first used (`lotto.lab.migrate`)."""
TENSORS = "tensors.safetensors"


class StoreError(RuntimeError):
    """The store cannot be read or written: one sentence with the place and the fix."""


class Product:
    """A finished product: `metrics` (plain data) and `tensors` (read when first asked for)."""

    def __init__(self, metrics: dict[str, Any], tensors: dict[str, Tensor] | None = None, path: Path | None = None):
        self.metrics, self.path = metrics, path
        if path is None:
            self.__dict__["tensors"] = tensors or {}

    @functools.cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Name -> CPU tensor. StoreError if they were left out when the product was exported."""
        if not _within.get():
            opened.add(_name(self))
        if TENSORS in self.info.get("left_out", ()):
            raise StoreError(
                f"{self.path}: its tensors were left out when it was exported; import it from an archive that was "
                "exported with --weights, or delete this folder to compute it anew"
            )
        if TENSORS not in self.info["files"]:
            return {}
        from safetensors.torch import load_file

        return load_file(self.path / TENSORS)

    @functools.cached_property
    def info(self) -> dict[str, Any]:
        """What `done.json` says: versions, device, seconds, peak memory."""
        return _read(self.path / "done.json")

    def __getstate__(self) -> dict:
        # a stored product is sent between processes as its path; the receiver reads the tensors if it needs them
        return {"metrics": self.metrics, "path": self.path, **({} if self.path else {"tensors": self.tensors})}


asked: set[str] = set()
"""The products that this process was asked for, as `stage/key`, without those that they build on."""
opened: set[str] = set()
"""Those whose tensors it read, other than to build products on them."""

_within = contextvars.ContextVar("within", default=False)


def asking(call: Callable) -> Callable:
    """Decorate a function that returns one product or several: those of outermost calls are recorded in `asked`."""

    @functools.wraps(call)
    def noting(*args: Any, **named: Any) -> Any:
        outermost = not _within.get()
        before = _within.set(True)
        try:
            found = call(*args, **named)
        finally:
            _within.reset(before)
        if outermost:
            products = [found] if isinstance(found, Product) else found
            asked.update(map(_name, products))
        return found

    return noting


def _name(product: Product) -> str:
    return f"{product.path.parent.name}/{product.path.name}"


def _read(file: Path) -> Any:
    return json.loads(file.read_text())


def _dump(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=1, allow_nan=False))


def _sync(file: Path) -> None:
    with open(file, "rb") as f:
        os.fsync(f.fileno())


def _open(folder: Path) -> Product | None:
    try:
        done = _read(folder / "done.json")
        if done["format"] > FORMAT:
            raise StoreError(_newer(folder, done["format"]))
        here = {name: size for name, size in done["files"].items() if name not in done.get("left_out", ())}
        if any((folder / name).stat().st_size != size for name, size in here.items()):
            return None
        product = Product(_read(folder / "metrics.json"), path=folder)
        if outdated(product.metrics, done):
            return None
    except (
        FileNotFoundError,
        NotADirectoryError,
        UnicodeDecodeError,
        json.JSONDecodeError,
        KeyError,
        TypeError,
        AttributeError,
    ):
        return None
    return product


def outdated(metrics: dict[str, Any], done: dict[str, Any]) -> bool:
    """Whether a product says of a net that it is dead and is older than format 3: it may live (`reach.dead`)."""
    return done["format"] < 3 and "dead" in (metrics.get("state"), *metrics.get("states", ()))


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary file to write into, of this writer's own: renamed to `file` when the block ends, removed if that
    fails."""
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        _sync(part)
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """A temporary folder to write a product into: renamed to `folder` when the block ends, removed if that fails.

    Half-made folders that other processes left behind are removed first.
    """
    for old in folder.parent.glob(f".{folder.name}.making-*"):
        if _left_behind(old):
            shutil.rmtree(old, ignore_errors=True)
    place = folder.parent / f".{folder.name}.making-{uuid.uuid4().hex[:8]}-{os.getpid()}@{platform.node()}"
    place.mkdir(parents=True)
    try:
        yield place
        for file in place.iterdir():
            _sync(file)
        _place(place, folder)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _left_behind(making: Path) -> bool:
    """Whether nobody writes into a half-made folder any more: its writer was a process of this machine and is gone, or
    it has not changed for a day."""
    name, _, machine = making.name.partition("@")
    try:
        if machine == platform.node():
            os.kill(int(name.rpartition("-")[2]), 0)
        return time.time() - making.stat().st_mtime > 24 * 3600
    except ProcessLookupError:
        return True
    except (PermissionError, FileNotFoundError):  # a process of somebody else's; a folder that is gone
        return False


def _place(making: Path, folder: Path) -> None:
    """Give a complete folder its name. If another process was first, because its lock was not visible here, its product
    stays and ours is removed; a product that is damaged, or lacks tensors that ours has, is replaced."""
    while True:
        try:
            making.rename(folder)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        if _as_good(folder, making):
            shutil.rmtree(making, ignore_errors=True)
            return
        # only the process that set the mark moves the worse one, after another look: it may be replaced by now
        mark, aside = folder / "damaged", folder.with_name(f".{folder.name}.making-{uuid.uuid4().hex[:8]}")
        with contextlib.suppress(FileNotFoundError):
            try:
                mark.touch(exist_ok=False)
            except FileExistsError:
                if time.time() - mark.stat().st_mtime < 10:  # else the process that set it has died
                    time.sleep(0.05)
                    continue
            if _as_good(folder, making):
                mark.unlink()
            else:
                folder.rename(aside)
                shutil.rmtree(aside, ignore_errors=True)


def _as_good(folder: Path, making: Path) -> bool:
    here = _open(folder)
    return here is not None and (not here.info.get("left_out") or bool(_read(making / "done.json").get("left_out")))


def _newer(place: Path, number: int) -> str:
    return (
        f"{place}: made by a newer lotto (store format {number}, this one reads up to {FORMAT}); "
        "update lotto, or set LOTTO_STORE to another folder"
    )
