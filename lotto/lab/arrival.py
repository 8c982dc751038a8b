"""Import of an archive: everything in it is checked before any of it is kept.

One sentence says what is wrong: not a zip file, truncated, not lotto's, a newer format, names that leave the folder,
members that differ from the manifest, a product that does not match its key.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from filelock import FileLock, Timeout
from safetensors.torch import load

from lotto.checkpoint import save_tensors
from lotto.config import ConfigError
from lotto.lab import batch, store
from lotto.lab.archive import FORMAT, MANIFEST, NAMES, PACKED, RESULT, unpack
from lotto.lab.presets import PRESETS
from lotto.lab.product import TENSORS, StoreError, _dump, replacing
from lotto.lab.waiting import held

TEXT = 256 * 2**20
"""The most bytes that a text member may have."""
PATIENCE = 60
"""Seconds to wait for another process that is computing one of the archive's products."""


@dataclass(frozen=True)
class Arrived:
    """What an archive brought."""

    manifest: dict[str, Any]
    out: Path
    """Where its notebooks are."""
    new: int
    """Products that the store lacked, or had without their tensors."""
    kept: int
    """Products that the store had already, left as they are."""


def bring(file: Path, out: str | None = None) -> Arrived:
    """Put what an archive holds into the store, and its notebooks where `./run_all.sh` with the same parameters looks
    for them (or into `out`).

    A product that is complete in the store is kept; one without its tensors is replaced by one that has them. After an
    interruption, the same call continues. StoreError or ConfigError says what is wrong with the archive before anything
    is written.
    """
    with _opened(file) as archive:
        manifest = archive.manifest
        for name, parts in archive.products.items():
            _check_product(archive, name, parts)
        _check_results(archive)
        where = batch.place(manifest["parameters"]["preset"], manifest["parameters"], out)
        store._check_format()
        store._ready(store.root())
        _room(archive)
        with _own(where):
            _nothing_lost(archive, where)
            new = sum(_put(archive, name, parts) for name, parts in archive.products.items())
            _lay(archive, where)
    return Arrived(manifest, where, new, len(archive.products) - new)


class Archive:
    """An open archive, its names and sizes checked against its manifest. StoreError if they differ."""

    def __init__(self, file: Path, z: zipfile.ZipFile):
        self.file, self._z = file, z
        self._names()
        self.manifest = self._told()
        self.products = collections.defaultdict(list)
        """`stage/key` -> names of a product's parts."""
        self.results = [n for n in self.manifest["files"] if n.startswith("run/")]
        for name in self.manifest["files"]:
            if name.startswith("store/"):
                self.products[name[len("store/") : name.rindex("/")]].append(name.rsplit("/", 1)[1])

    def wrong(self, what: str) -> StoreError:
        return StoreError(f"{self.file}: {what}; nothing of it was kept: ask for a new export")

    def _names(self) -> None:
        seen = set()
        for entry in self._z.infolist():
            name = entry.orig_filename
            if name != MANIFEST and not NAMES.fullmatch(name):
                raise self.wrong(f"holds {name!r}, a name that no archive of lotto has")
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise self.wrong(f"{name!r} is a link")
            if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise self.wrong(f"{name!r} is encrypted or compressed in another way than lotto's")
            if name.lower() in seen:
                raise self.wrong(f"holds {name!r} twice")
            seen.add(name.lower())

    def _told(self) -> dict[str, Any]:
        infos = {entry.filename: entry for entry in self._z.infolist()}
        if MANIFEST not in infos:
            raise self.wrong(f"has no {MANIFEST}, so it was not made by `python -m lotto.run export`")
        try:
            told = json.loads(self._bytes(MANIFEST, TEXT))
            if told["format"] > FORMAT:
                raise StoreError(
                    f"{self.file}: made by a newer lotto (archive format {told['format']}, this one reads "
                    f"{FORMAT}); update lotto"
                )
            if told["format"] < FORMAT:
                raise StoreError(
                    f"{self.file}: made by an older lotto (archive format {told['format']}, this one reads {FORMAT}), "
                    "under whose keys nothing would be found; export it anew with this one"
                )
            sizes = {name: f["size"] for name, f in told["files"].items()}
            fine = (
                told["parameters"]["preset"] in PRESETS
                and all(isinstance(f["size"], int) and isinstance(f["sha256"], str) for f in told["files"].values())
                and isinstance(told["weights"], bool)
                and {f"run/{name}.{kind}" for name in told["notebooks"] for kind in ("ipynb", "json")}
                == {name for name in sizes if RESULT.fullmatch(name)}
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            fine = False
        if not fine:
            raise self.wrong(f"its {MANIFEST} cannot be read")
        if unlike := {MANIFEST, *sizes} ^ infos.keys():
            raise self.wrong(f"{min(unlike)!r} is in the archive or in its {MANIFEST}, but not in both")
        for name, size in sizes.items():
            if infos[name].file_size != size:
                raise self.wrong(f"{name!r} has {infos[name].file_size} bytes, and its {MANIFEST} says {size}")
        return told

    def _bytes(self, name: str, most: int) -> bytes:
        try:
            with self._z.open(name) as f:
                data = f.read(most + 1)
        except OSError as error:  # an offset that leads out of the file
            raise self.wrong(f"{name!r} cannot be read ({error.strerror})") from None
        if len(data) > most:
            raise self.wrong(f"{name!r} unpacks to more than the {most} bytes allowed")
        return data

    def read(self, name: str) -> bytes:
        """A member's bytes; StoreError if their number or SHA-256 is not the manifest's."""
        told = self.manifest["files"][name]
        data = self._bytes(name, told["size"])
        if len(data) != told["size"] or hashlib.sha256(data).hexdigest() != told["sha256"]:
            raise self.wrong(f"{name!r} is not what its {MANIFEST} says")
        return data

    def json(self, name: str) -> dict[str, Any]:
        """A member that is a JSON object; StoreError if it is not one."""
        if self.manifest["files"][name]["size"] > TEXT:
            raise self.wrong(f"{name!r} is longer than the {TEXT} bytes that text may have")
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(found := json.loads(self.read(name)), dict):
                return found
        raise self.wrong(f"{name!r} is not a JSON object")


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Archive]:
    try:
        raw = file.open("rb")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); name an archive that `export` made") from None
    try:
        with raw, zipfile.ZipFile(raw) as z:
            yield Archive(file, z)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise StoreError(f"{file}: not a whole zip archive ({error}); copy it again, or ask for a new export") from None


def _check_product(archive: Archive, name: str, parts: list[str]) -> None:
    """StoreError if a product is not whole, or does not match its key."""
    stage, key = name.split("/")
    place, told = f"store/{name}", {TENSORS if part == PACKED else part for part in parts if part != "done.json"}
    if not {"config.json", "metrics.json", "done.json"} <= set(parts):
        raise archive.wrong(f"the product {name} is not whole")
    made_from, _, done = (archive.json(f"{place}/{part}.json") for part in ("config", "metrics", "done"))
    try:
        if done["format"] > store.FORMAT:
            raise StoreError(store._newer(archive.file, done["format"]))
        left_out = set(done.get("left_out", ()))
        whole = told | left_out == set(done["files"]) and not told & left_out and left_out <= {TENSORS}
        whole = whole and {"seconds", "device", "torch"} <= done.keys() and not {TENSORS, PACKED} <= set(parts)
        if made_from["function"] != stage or store.key(made_from) != key:
            raise archive.wrong(f"the key of the product {name} does not match its config.json")
        for part in {TENSORS, PACKED} & set(parts):
            (unpack if part == PACKED else load)(archive.read(f"{place}/{part}"))
    except (ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError):
        whole = False
    if not whole:
        raise archive.wrong(f"the product {name} is not whole")


def _check_results(archive: Archive) -> None:
    """StoreError if the members under run/ are not what a run leaves."""
    for name in archive.results:
        archive.json(name) if name.endswith((".json", ".ipynb")) else archive.read(name)
    for name in archive.manifest["notebooks"]:
        if not {"key", "board", "products", "opened", "parameters"} <= archive.json(f"run/{name}.json").keys():
            raise archive.wrong(f"'run/{name}.json' does not say how the notebook ended")


def _room(archive: Archive) -> None:
    needed, free = sum(f["size"] for f in archive.manifest["files"].values()), shutil.disk_usage(store.root()).free
    if needed > free:
        raise StoreError(
            f"{store.root()}: {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB free; make room, or set "
            "LOTTO_STORE to a folder on another disk"
        )


@contextlib.contextmanager
def _own(where: Path) -> Iterator[None]:
    """Create and lock the output folder, so that no run writes there at the same time."""
    try:
        where.mkdir(parents=True, exist_ok=True)
        with held(FileLock(where / ".lock"), 0):
            yield
    except Timeout:
        raise ConfigError(f"out = {str(where)!r}: a run is writing there; wait for it to end, or give --out") from None
    except OSError as error:
        raise ConfigError(
            f"out = {str(where)!r}: cannot be written to ({error.strerror}); what arrived is kept: the same command "
            "goes on, or give --out another folder"
        ) from None


def _nothing_lost(archive: Archive, where: Path) -> None:
    """ConfigError if another run's finished notebooks would be overwritten."""
    for name in archive.manifest["notebooks"]:
        kinds = [f"{name}.ipynb", f"{name}.json"]
        if all((where / kind).exists() for kind in kinds):
            if any((where / kind).read_bytes() != archive.read(f"run/{kind}") for kind in kinds):
                raise ConfigError(f"out = {str(where)!r}: holds another {kinds[0]}; give --out another folder")


def _lay(archive: Archive, where: Path) -> None:
    """Write the notebooks and their pages; their manifests, which mark them as finished, come last."""
    for name in archive.manifest["notebooks"]:
        if not (where / f"{name}.ipynb").exists():  # a manifest whose notebook is gone
            (where / f"{name}.json").unlink(missing_ok=True)
    for name in sorted(archive.results, key=lambda n: (n.endswith(".json"), n)):
        target = where / name.removeprefix("run/")
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as part:
            part.write_bytes(archive.read(name))


def _put(archive: Archive, name: str, parts: list[str]) -> bool:
    """Write a product into the store unless an equally complete one is there; return whether it was written."""
    folder, done = store.root() / name, archive.json(f"store/{name}/done.json")
    try:
        with store._full_disk_told(), store._lock(folder, PATIENCE):
            here = store._open(folder)
            if here is not None and (done.get("left_out") or not here.info.get("left_out")):
                return False
            with store.making(folder) as place:
                for part in sorted(set(parts) - {"done.json"}):
                    data = archive.read(f"store/{name}/{part}")
                    if part == PACKED:
                        save_tensors(unpack(data), place / TENSORS)
                    else:
                        (place / part).write_bytes(data)
                written = {f.name: f.stat().st_size for f in sorted(place.iterdir())}
                _dump(place / "done.json", {**done, "files": {**done["files"], **written}})
    except Timeout:
        raise StoreError(
            f"{folder}: another process has been computing it for {PATIENCE} s; import again when it is done"
        ) from None
    return True
