"""A finished product: what a function of one description made, in memory or in its folder."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor


class Product:
    """A finished product: `metrics` (plain data) and `tensors` (read when first asked for)."""

    def __init__(self, metrics: dict[str, Any], tensors: dict[str, Tensor] | None = None, path: Path | None = None):
        self.metrics, self.path = metrics, path
        if path is None:
            self.__dict__["tensors"] = tensors or {}

    @functools.cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Name -> CPU tensor."""
        file = self.path / "tensors.safetensors"
        return load_file(file) if file.exists() else {}

    @functools.cached_property
    def info(self) -> dict[str, Any]:
        """What `done.json` says: versions, device, seconds, peak memory."""
        return _read(self.path / "done.json")

    def __getstate__(self) -> dict:
        # a product crosses process borders by its path; whoever wants the tensors reads them
        return {"metrics": self.metrics, "path": self.path, **({} if self.path else {"tensors": self.tensors})}


def _read(file: Path) -> Any:
    return json.loads(file.read_text())


def _dump(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=1, allow_nan=False))


def _sync(file: Path) -> None:
    with open(file, "rb") as f:
        os.fsync(f.fileno())
