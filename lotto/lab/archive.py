"""Export: a finished run and the products that its notebooks asked for, in one zip file, for a colleague to read and
explore without computing.

In the archive, `run/` holds the files that `report.files` names, `store/STAGE/KEY/` a product as in the store, but with
masks packed to bits, and `manifest.json` the run's parameters and the size and SHA-256 of every other member. It
contains no path of this machine; a run on files of your own is refused, because their paths are in its keys. The same
run gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

import lotto
from lotto.config import ConfigError
from lotto.lab import report, store
from lotto.lab.notebooks import CLONE
from lotto.lab.presets import merged
from lotto.lab.product import TENSORS, StoreError, _read

FORMAT = 2
"""Version of the archive's layout and of its keys; another one is refused."""

WEIGHTS = ("trained", "expert")
"""Stages whose tensors are weights of trained nets: left out unless asked for, or opened by a notebook."""

PACKED = "packed.safetensors"
"""Name, in an archive, of the tensors of a product that has masks among them."""

MANIFEST = "manifest.json"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
NAMES = re.compile(
    rf"run/({_PART}/)*{_PART}\.(ipynb|html|json|js|css|png)"
    rf"|store/[a-z_]+/[0-9a-f]{{64}}/(config\.json|metrics\.json|done\.json|{TENSORS}|{PACKED})"
)
"""Allowed names of members other than the manifest: no absolute path, no drive, no backslash, no `..`."""
RESULT = re.compile(r"run/\d\d_[^/]*\.(ipynb|json)")
"""Names of executed notebooks, and of what marks them as finished."""


# masks as bits


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as safetensors bytes; bool tensors are packed eight entries to a byte, their shapes are in the
    metadata."""
    shapes, flat = {}, {}
    for name, t in tensors.items():
        flat[name] = t.contiguous()
        if t.dtype == torch.bool:
            shapes[name] = list(t.shape)
            flat[name] = torch.from_numpy(np.packbits(t.numpy()))
    return save(flat, {"shapes": json.dumps(shapes, sort_keys=True)})


def unpack(data: bytes) -> dict[str, Tensor]:
    """The tensors that `pack` packed. ValueError for any other bytes."""
    tensors = load(data)
    size = int.from_bytes(data[:8], "little")
    shapes = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["shapes"])
    for name, shape in shapes.items():
        entries, packed = math.prod(shape), tensors[name]
        if packed.dtype != torch.uint8 or packed.shape != (-(-entries // 8),) or min(shape, default=0) < 0:
            raise ValueError(f"{name}: {tuple(packed.shape)} bytes for a mask of shape {shape}")
        found = np.unpackbits(packed.numpy(), count=entries).astype(bool)
        tensors[name] = torch.from_numpy(found).reshape(shape)
    return tensors


# export


@dataclass(frozen=True)
class Run:
    """The finished notebooks in an output folder."""

    folder: Path
    notebooks: tuple[str, ...]
    parameters: dict[str, Any]
    """What they were run with, including `preset`."""
    products: tuple[str, ...]
    """What they asked the store for, as `stage/key`."""
    opened: tuple[str, ...]
    """Products whose tensors they read."""


def finished(folder: Path) -> Run:
    """The run in an output folder. ConfigError if there is none, if its notebooks had different parameters, or if it
    was made from files of this machine."""
    told = {p.stem: _read(p) for p in sorted(folder.glob("[0-9][0-9]_*.json")) if p.with_suffix(".ipynb").exists()}
    if not told:
        raise ConfigError(
            f"{folder}: contains no finished notebook; run ./run_all.sh first, or give the --out of a run"
        )
    if old := [name for name, t in told.items() if "opened" not in t]:
        raise ConfigError(
            f"{folder / old[0]}.json: made by an older lotto, which did not record its products; ./run_all.sh --force "
            "executes the notebooks again, from the store"
        )
    each = {name: merged(t["parameters"]) for name, t in told.items()}
    first, *others = each
    if unlike := [name for name in others if each[name] != each[first]]:
        raise ConfigError(
            f"{folder}: {first} and {unlike[0]} were run with different parameters; give each run an --out of its own"
        )
    for name, value in each[first].items():
        if _is_path(value):
            raise ConfigError(
                f"{name} = {value!r}: a run on a file of this machine cannot be exported, because the file's path is "
                "in the keys of all its products; give your colleague the file and the command instead"
            )
    products, opened = (tuple(sorted({p for t in told.values() for p in t[of]})) for of in ("products", "opened"))
    return Run(folder, tuple(told), each[first], products, opened)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and (PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute())


def export(folder: Path, file: Path, weights: bool = False) -> dict[str, Any]:
    """Write the run in an output folder, and its products, as an archive; return its manifest.

    weights: include the weights of trained nets. The file gets its name only once it is complete. StoreError if a
    product is not in the store, ConfigError as from `finished` or if the file cannot be written.
    """
    run = finished(folder)
    store._ready(store.root())
    if gone := [name for name in run.products if store._open(store.root() / name) is None]:
        raise StoreError(
            f"{store.root()}: {len(gone)} of the {len(run.products)} products of {folder} are missing, such as "
            f"{gone[0][:24]}; set LOTTO_STORE to the store that the run used, or run it again with --force"
        )
    # what came without its weights is handed on as it is
    weights = weights and not any(_read(store.root() / name / "done.json").get("left_out") for name in run.products)
    versions = {m: version(m) for m in ("torch", "torchvision", "plotly")}
    made = {"format": FORMAT, "lotto": lotto.__version__, "versions": versions, "parameters": run.parameters}
    part, files = file.with_name(file.name + ".part"), {}
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as z:
            for name, data in _members(run, weights):
                z.writestr(_entry(name), data)
                files[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            manifest = {**made, "notebooks": list(run.notebooks), "weights": weights, "files": files}
            z.writestr(_entry(MANIFEST), json.dumps(manifest, indent=1, sort_keys=True))
        part.replace(file)
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be written ({error.strerror}); name a file in a folder of yours, with room for it"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return manifest


def summary(manifest: Mapping[str, Any]) -> str:
    """What an archive contains, in one line, and a digest of its content for comparison."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    kept = sum(name.endswith("/done.json") for name in manifest["files"])
    weights = "with" if manifest["weights"] else "without"
    return f"{len(manifest['notebooks'])} notebooks, {kept} products {weights} weights; content {digest[:16]}"


def _entry(name: str) -> zipfile.ZipInfo:
    """A member without the date and the machine it was made on."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr, entry.compress_type = 3, 0o644 << 16, zipfile.ZIP_DEFLATED
    return entry


def _members(run: Run, weights: bool) -> Iterator[tuple[str, bytes]]:
    for file in report.files(run.folder, run.notebooks):
        data = file.read_bytes()
        if file.suffix in (".ipynb", ".html", ".json"):
            data = _neutral(data.decode(), run.folder).encode()
        yield f"run/{file.relative_to(run.folder).as_posix()}", data
    for name in run.products:
        yield from ((f"store/{name}/{part}", data) for part, data in _product(name, weights or name in run.opened))


def _neutral(text: str, folder: Path) -> str:
    """A text with this machine's folders replaced by words; a notebook contains them in its metadata and in
    warnings."""
    places = {str(folder): "OUT", str(store.root()): "STORE", str(CLONE): "CLONE", str(Path.home()): "HOME"}
    for place in sorted(places.keys() - {"/"}, key=len, reverse=True):
        text = re.sub(rf"(?<![\w<.]){re.escape(place)}(?![\w-])", places[place], text)
    return text


def _product(name: str, weights: bool) -> list[tuple[str, bytes]]:
    """The parts of a product: (name, bytes), sorted by name."""
    folder = store.root() / name
    done = _read(folder / "done.json")
    parts = {part: (folder / part).read_bytes() for part in done["files"] if (folder / part).exists()}
    if TENSORS in parts:
        if name.split("/")[0] in WEIGHTS and not weights:
            del parts[TENSORS]
            done["left_out"] = [TENSORS]
        elif any(t.dtype == torch.bool for t in load(parts[TENSORS]).values()):
            parts[PACKED] = pack(load(parts.pop(TENSORS)))
    parts["done.json"] = json.dumps(done, indent=1).encode()
    return sorted(parts.items())
