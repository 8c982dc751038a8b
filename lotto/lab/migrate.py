"""Migration of a store of an older format to the current one: products keep their content and get their current keys.

Format 1 omitted a description's field if it was newer than the first products and had its default. Format 2 writes
every field. Format 3 leaves out of a setup the dense training that nothing goes back to, and takes no earlier product's
word that a net is dead, since some of those live (`reach.dead`, `product.outdated`): such products, and what was pruned
further from such nets, are removed, and computed anew when they are asked for. Adding a field later needs a new format
number, and nothing else. What was paused begins anew where its key has changed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lotto.config import ConfigError
from lotto.lab import store
from lotto.lab.product import TENSORS, StoreError, _dump, _read, outdated, replacing
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
            _forget_the_dead(place)
            for done in list(place.glob("*/*/done.json")):
                if function := known.get(done.parent.parent.name):
                    with contextlib.suppress(FileNotFoundError):  # without locks another process may have moved it
                        _move(done.parent, function)
            with replacing(place / "store.json") as part:
                _dump(part, {"format": store.FORMAT})
    except Timeout:
        raise StoreError(
            f"{place}: another process has been migrating this store to a newer format for {PATIENCE} s; wait for it, "
            "or end it"
        ) from None


def _forget_the_dead(place: Path) -> None:
    """Remove what is outdated, last of all: until then an interrupted call finds it again; and what builds on it."""
    tickets, dead = {}, []
    for folder in [done.parent for done in place.glob("*/*/done.json")]:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):  # damaged: nobody takes it for a product
            config, metrics, done = (_read(folder / f"{part}.json") for part in ("config", "metrics", "done"))
            tickets[folder] = list(_tickets(config.get("config")))
            dead += [folder] if outdated(metrics, done) else []
    lost = [t for folder in dead for t in tickets[folder]]
    further = [f for f, theirs in tickets.items() if f not in dead and any(_begins(t, o) for t in theirs for o in lost)]
    for folder in [*further, *dead]:
        shutil.rmtree(folder, ignore_errors=True)


def _tickets(config: Any) -> Iterator[dict[str, Any]]:
    """The tickets in a description, at any depth."""
    if isinstance(config, dict):
        if {"setup", "rounds"} <= config.keys():
            yield config
        for part in config.values():
            yield from _tickets(part)
    elif isinstance(config, list):
        for part in config:
            yield from _tickets(part)


def _begins(ticket: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a ticket's search goes on from another's."""
    n = len(other["rounds"])
    return n > 0 and ticket["setup"] == other["setup"] and ticket["rounds"][:n] == other["rounds"]


def _move(folder: Path, function: Cached) -> None:
    if (product := store._open(folder)) is None:  # damaged: it is recomputed when it is asked for
        return
    try:
        made_from = completed(_read(folder / "config.json"), function)
    except ConfigError:
        return
    new = folder.parent / store.key(made_from)
    if new == folder:
        return
    there = store._open(new)
    if there is None or there.info.get("left_out") and not product.info.get("left_out"):
        with store.making(new) as place:
            for file in ("metrics.json", TENSORS):
                if (folder / file).exists():
                    _same(folder / file, place / file)
            _dump(place / "config.json", made_from)
            done = _read(folder / "done.json")
            sizes = done["files"] | {"config.json": (place / "config.json").stat().st_size}
            _dump(place / "done.json", done | {"format": store.FORMAT, "files": sizes})
    shutil.rmtree(folder, ignore_errors=True)


def _same(file: Path, there: Path) -> None:
    """Give the file a second name: a hard link if the file system can make one, else a copy."""
    try:
        os.link(file, there)
    except OSError:
        shutil.copy2(file, there)
