"""Migration of a store of an older format to the current one: products keep their content and get their current keys.

Format 1 omitted a description's field if it was newer than the first products and had its default. Format 2 writes
every field. Format 3 leaves out of a setup the dense training that nothing goes back to, and knows no net of before it
as dead, since some of those live (`reach.dead`): what tells of one is removed, and computed anew when it is asked for.
Adding a field later needs a new format number, and nothing else.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lotto.config import ConfigError
from lotto.lab import store
from lotto.lab.product import TENSORS, StoreError, _dump, _read, replacing
from lotto.lab.store import Cached
from lotto.lab.waiting import held

ROOMS = ("sets", "tickets", "stability", "sharpness", "causes")
"""The rooms of the lab that make products."""
PATIENCE = 600
"""Seconds to wait for another process that migrates the same store."""


def functions() -> dict[str, Cached]:
    """Stage -> the cached function whose products it holds."""
    rooms = [importlib.import_module(f"lotto.lab.{room}.products") for room in ROOMS]
    return {f.stage: f for room in rooms for f in vars(room).values() if isinstance(f, Cached)}


def completed(made_from: dict[str, Any], function: Cached) -> dict[str, Any]:
    """What a product is made from, with the fields that its description lacks added at their defaults; versions and
    fingerprints stay. ConfigError if `function` does not take (or no longer takes) such a description."""
    kind = next(iter(typing.get_type_hints(function.function).values()))
    return {**made_from, "config": kind(**made_from["config"]).model_dump(mode="json")}


def migrate(place: Path, known: Mapping[str, Cached] | None = None) -> None:
    """Give every product in the store at `place` its current key, and the store the format `store.FORMAT`.

    After an interruption, the next call continues: a product keeps its old key until it is whole under the new one.
    Products that no function makes any more are left as they are. StoreError if another process migrates the same store
    for longer than PATIENCE.
    """
    try:
        with held(FileLock(place / "migrating.lock"), PATIENCE):
            if _read(place / "store.json")["format"] >= store.FORMAT:
                return
            print(f"{place}: migrating a store of an older format: its products get new keys", file=sys.stderr)
            known = functions() if known is None else known
            for done in list(place.glob("*/*/done.json")):
                if function := known.get(done.parent.parent.name):
                    _move(done.parent, function)
            with replacing(place / "store.json") as part:
                _dump(part, {"format": store.FORMAT})
    except Timeout:
        raise StoreError(
            f"{place}: another process has been migrating this store to a newer format for {PATIENCE} s; wait for it, "
            "or end it"
        ) from None


def _move(folder: Path, function: Cached) -> None:
    if (product := store._open(folder)) is None:  # damaged: it is recomputed when it is asked for
        return
    states = {product.metrics.get("state"), *product.metrics.get("states", ())}
    if "dead" in states and _read(folder / "done.json")["format"] < 3:
        shutil.rmtree(folder)
        return
    try:
        made_from = completed(_read(folder / "config.json"), function)
    except ConfigError:
        return
    new = folder.parent / store.key(made_from)
    if new == folder:
        return
    if store._open(new) is None:
        with store.making(new) as place:
            for file in ("metrics.json", TENSORS):
                if (folder / file).exists():
                    _same(folder / file, place / file)
            _dump(place / "config.json", made_from)
            done = _read(folder / "done.json")
            sizes = done["files"] | {"config.json": (place / "config.json").stat().st_size}
            _dump(place / "done.json", done | {"format": store.FORMAT, "files": sizes})
    shutil.rmtree(folder)


def _same(file: Path, there: Path) -> None:
    """Give the file a second name: a hard link if the file system can make one, else a copy."""
    try:
        os.link(file, there)
    except OSError:
        shutil.copy2(file, there)
