"""A finished product: what a function of one description made, in memory or in its folder."""

from __future__ import annotations

import contextvars
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


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
        """Name -> CPU tensor. StoreError where they were left out when the product was handed on."""
        file = self.path / TENSORS
        if not _within.get():
            opened.add(_name(self))
        if not file.exists() and TENSORS in self.info.get("left_out", ()):
            raise StoreError(
                f"{self.path}: its tensors were left out when it was exported; import it from an archive that was "
                "exported with --weights, or delete this folder to compute it anew"
            )
        if not file.exists():
            return {}
        from safetensors.torch import load_file

        return load_file(file)

    @functools.cached_property
    def info(self) -> dict[str, Any]:
        """What `done.json` says: versions, device, seconds, peak memory."""
        return _read(self.path / "done.json")

    def __getstate__(self) -> dict:
        # a product crosses process borders by its path; whoever wants the tensors reads them
        return {"metrics": self.metrics, "path": self.path, **({} if self.path else {"tensors": self.tensors})}


asked: set[str] = set()
"""The products that this process was asked for, as `stage/key`; not those that they were built on."""
opened: set[str] = set()
"""Those whose tensors it looked into, other than to build products on them."""

_within = contextvars.ContextVar("within", default=False)


def asking(call: Callable) -> Callable:
    """Decorate what returns a product, or several: those of outermost calls are noted in `asked`."""

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
