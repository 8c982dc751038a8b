"""What a worker of a Dask cluster is told by a client, what it looks at before it computes, and what it does.

Light to import: a scheduler imports this module to pass its functions on, and needs no PyTorch for that.
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
"""Folder within the store in which clients and workers show each other that they see the same store."""


class Told(NamedTuple):
    """What a client tells its workers, besides the product that is wanted."""

    mark: str
    """Name of a file that the client has written into the store's folder `MEETING`."""
    versions: dict[str, str]
    """The client's `versions`."""
    settings: dict[str, str]
    """Environment variables to compute with: store, data, device, deadline. Those of `own` come before them."""


@functools.cache
def own() -> dict[str, str]:
    """Where this process was started to find the store and the data, if it was told: a machine may have the shared
    folders elsewhere than the client."""
    return {name: os.environ[name] for name in ("LOTTO_STORE", "LOTTO_DATA") if os.environ.get(name)}


@functools.cache
def versions() -> dict[str, str]:
    """What must be the same wherever equal keys are to give equal bytes: a digest of lotto's source files, versions of
    PyTorch (without its build), Dask and Python (its minor version)."""
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
    """The first difference between a client's versions and those here, as the end of a sentence that begins with a
    name of this process; "" where there is none."""
    for name, mine in versions().items():
        if mine != told[name]:
            what = "lotto of other source files" if name == "lotto" else f"{name} {mine}"
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
    """`objection`, and the name of a file that this process has written into the store for the client to find."""
    if what := objection(told):
        return what, ""
    meeting = _meeting(told)
    answer = f"{told.mark}-{uuid.uuid4().hex[:8]}"
    try:
        (meeting / answer).touch()
    except OSError as error:
        return f"cannot write to the store {meeting.parent} ({error.strerror}); let it", ""
    return "", answer


def compute(work: bytes, told: Told) -> float:
    """Make one product, in one thread and without a cluster of its own; the CPU seconds that took.

    work: the cached function, the key that the client knows the product by, and its description, pickled. ConfigError
    where this process is not like the client, or would make another product under that description: with other data, or
    another factory of nets. The product is left in the store; nothing of it travels.
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
