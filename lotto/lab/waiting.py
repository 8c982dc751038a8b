"""What a process waits for, and how long: locks that others hold, and the time that a run was given."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import time
from collections.abc import Iterator

from filelock import FileLock, Timeout

from lotto.checkpoint import Paused
from lotto.config import ConfigError


def deadline() -> float:
    """When this run has to stop, in seconds since 1970: `LOTTO_DEADLINE`, by default never."""
    return seconds("LOTTO_DEADLINE", "inf")


def seconds(variable: str, default: str) -> float:
    """The seconds that an environment variable tells; ConfigError if it is no number from 0."""
    with contextlib.suppress(ValueError):
        if (found := float(text := os.environ.get(variable, default))) >= 0:
            return found
    raise ConfigError(f"{variable} = {text!r}: give a number of seconds")


@contextlib.contextmanager
def held(lock: FileLock, patience: float = -1) -> Iterator[None]:
    """A lock, held. Timeout after `patience` seconds (-1: never); Paused when the run's time is up and another process
    still holds it. On a file system that has no locks, nothing is held."""
    try:
        found = _acquired(lock, patience)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
            raise
        found = contextlib.nullcontext()
    with found:
        yield


def _acquired(lock: FileLock, patience: float) -> contextlib.AbstractContextManager:
    try:
        return lock.acquire(timeout=max(patience, 0))
    except Timeout:
        if patience >= 0:
            raise
    left = deadline() - time.time()
    try:
        return lock.acquire(timeout=-1 if left == math.inf else max(left, 0))
    except Timeout:
        raise Paused from None
