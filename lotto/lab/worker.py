"""The workers' side of a Dask cluster: what a client sends them, what they check before they compute, the computation.

Cheap to import: a scheduler imports this module to pass its functions on, and needs no PyTorch for that.
"""

from __future__ import annotations

import functools
import os
import pickle
import platform
import time
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from lotto.config import ConfigError

MEETING = "cluster"
"""Folder in the store where clients and workers leave files, to show each other that they see the same store."""


class Told(NamedTuple):
    """What a client sends its workers besides the work itself."""

    mark: str
    """Name of a file that the client has written into the store's folder `MEETING`."""
    versions: dict[str, str]
    """The client's `versions`."""
    settings: dict[str, str]
    """Environment variables to compute with: store, data, device, deadline. Those of `own` take precedence."""


@functools.cache
def own() -> dict[str, str]:
    """`LOTTO_STORE` and `LOTTO_DATA` as this process was started with, if they were set: the shared folders may be
    mounted elsewhere here than on the client's machine."""
    return {name: os.environ[name] for name in ("LOTTO_STORE", "LOTTO_DATA") if os.environ.get(name)}


@functools.cache
def versions() -> dict[str, str]:
    """What client and worker must share so that equal keys give equal bytes: a digest of lotto's source files, and the
    versions of PyTorch (without its build), Dask and Python (major and minor)."""
    from lotto.lab.notebooks import sources_digest

    def found(package: str) -> str:
        try:
            return version(package).partition("+")[0]
        except PackageNotFoundError:
            return "none"

    python = ".".join(platform.python_version_tuple()[:2])
    lotto = sources_digest()[:12]
    return {"lotto": lotto, "torch": found("torch"), "distributed": found("distributed"), "Python": python}


def unlike(told: dict[str, str]) -> str:
    """The first difference between a client's versions and those here, as the end of a sentence whose subject is this
    process; "" if there is none."""
    for name, mine in versions().items():
        if mine != told[name]:
            what = "other lotto source files" if name == "lotto" else f"{name} {mine}"
            return f"has {what} ({mine} here, {told[name]} there): start it in the client's environment"
    return ""


def objection(told: Told) -> str:
    """Why this process must not compute for that client, as the end of such a sentence, or ""."""
    if what := unlike(told.versions):
        return what
    meeting = _meeting(told)
    if not (meeting / told.mark).is_file():
        return (
            f"does not see the client's store {told.settings['LOTTO_STORE']}: it looked in {meeting.parent}; mount "
            "the same folder there, and start it with LOTTO_STORE set to its path"
        )
    return ""


def _meeting(told: Told) -> Path:
    return Path({**told.settings, **own()}["LOTTO_STORE"]).expanduser().resolve() / MEETING


def look(told: Told) -> tuple[str, str]:
    """(`objection`, name of a file that this process has written into the store for the client to find, or "")."""
    if what := objection(told):
        return what, ""
    meeting = _meeting(told)
    answer = f"{told.mark}-{uuid.uuid4().hex[:8]}"
    try:
        (meeting / answer).touch()
    except OSError as error:
        return f"cannot write to the store {meeting.parent} ({error.strerror}); give it permission", ""
    return "", answer


def compute(work: bytes, told: Told) -> float:
    """Compute one product, in one thread and without a cluster of its own; return the CPU seconds that took.

    work: the cached function, the client's key of the product, and its description, pickled. ConfigError if this
    process differs from the client (`objection`), or computes another key, because its data or the source of a factory
    of nets differ. The product stays in the store and is not sent back.
    """
    from lotto.lab import progress
    from lotto.lab.notebooks import kernel_environment

    progress.in_worker = True
    with kernel_environment(**{**told.settings, **own()}):
        if what := objection(told):
            raise ConfigError(f"worker {_name()} {what}")
        function, key, description = pickle.loads(work)
        try:
            mine = function.key(description)
        except (RuntimeError, ValueError, OSError) as error:
            raise ConfigError(f"worker {_name()} cannot read what {function.stage} is made from: {error}") from None
        if mine != key:
            raise ConfigError(
                f"worker {_name()} would make another product ({function.stage} {mine[:12]}, not {key[:12]}): its "
                "data, or a network's source file, are not the client's; give it the same files (LOTTO_DATA)"
            )
        began = time.process_time()
        function(description)
        return time.process_time() - began


def _name() -> str:
    from distributed import get_worker

    return get_worker().address
