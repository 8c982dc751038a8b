"""Products computed on the Dask cluster that `LOTTO_SCHEDULER` names; its workers write into the store that all share.

The name of a future contains the product's key, so a product that many clients want is computed once on the cluster.
Only the CPU seconds travel back: the client reads the product from the store. A worker that dies leaves a checkpoint,
and Dask gives its work to another. Before anything is computed, client and workers check that they see the same store
and have the same versions (`lotto.lab.worker`); a worker also recomputes the key, which covers the data's fingerprints.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import pickle
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lotto.checkpoint import Paused
from lotto.config import ConfigError
from lotto.lab import progress, scheduler, worker
from lotto.lab.scheduler import ANSWER, trouble

if TYPE_CHECKING:
    from distributed import Client, Future
    from pydantic import BaseModel

    from lotto.lab.product import Product
    from lotto.lab.store import Cached

PAUSING = 60.0
"""Seconds that workers have to save their states once the run's time limit is reached."""

KEPT = "what was finished is kept, and the same command goes on from there"

core_seconds = 0.0
"""CPU seconds that workers have reported so far, for products that this process asked for."""


class Lost(Exception):
    """The connection to the scheduler was lost, or the scheduler no longer knows our tasks."""


def finished(function: Cached, tasks: Sequence[tuple[str, BaseModel]]) -> Iterator[tuple[str, Product]]:
    """Yield (key, product) for each task (key, description) as it finishes on the cluster named.

    Waiting for workers, the loss of one and its return are each reported in one line (`progress.note`). An error in a
    task is raised here with its own type, and the other tasks are abandoned. Once the run's time limit is reached,
    workers have `PAUSING` seconds to save their states before Paused is raised. ConfigError if there is no worker for
    `patience()` seconds, if the scheduler is lost, if a worker's versions, store or data are not this process', or if
    workers die one after another on a task that makes no progress.
    """
    left = dict(tasks)
    before = None
    while left:
        try:
            for key, product in _finished(function, left):
                del left[key]
                yield key, product
        except Lost as loss:
            gone = f"it was lost ({loss}); start it again, or name another: {KEPT}"
            if before == len(left):  # lost twice, and no task finished in between
                raise trouble(gone) from None
            before = len(left)
            try:
                scheduler.client()
            except ConfigError:
                raise trouble(gone) from None
            progress.note(f"lost the connection to {scheduler.named()} ({loss}), and found it again")


def _finished(function: Cached, tasks: Mapping[str, BaseModel]) -> Iterator[tuple[str, Product]]:
    """`finished` over one connection; Lost if that is lost."""
    global core_seconds
    client, told, waits = scheduler.client(), _told(), scheduler.patience()
    from distributed import KilledWorker  # Dask is there: the client is

    same = hashlib.sha256(json.dumps(told.settings, sort_keys=True).encode()).hexdigest()[:8]
    crew, futures, paused, until = Crew(client, told, waits), {}, None, float("inf")
    states: dict[str, int] = {}

    def submit(key: str, description: BaseModel) -> None:
        # the same name for all clients that ask for this product with the same settings, from the same state
        name = f"{function.stage}-{key}-{same}-{states.get(key, 0)}"
        work = pickle.dumps((function, key, description))
        futures[client.submit(worker.compute, work, told, key=name, pure=True)] = key, description

    try:
        with _watched(client):
            crew.gather()
            for task in tasks.items():
                submit(*task)
        while futures and time.monotonic() < until:
            with _watched(client):
                _wait(client, list(futures))
                crew.look()
                done = {f: found for f in futures if (found := _outcome(f)) is not None}
            for future, found in done.items():
                key, description = futures.pop(future)
                if isinstance(found, KilledWorker) and (state := _state(function, description)) != states.get(key, 0):
                    states[key] = state  # workers died computing it, but its state advanced: try again
                    with _watched(client):
                        submit(key, description)
                elif isinstance(found, Paused):
                    paused, until = found, min(until, time.monotonic() + PAUSING)
                elif isinstance(found, BaseException):
                    raise _told_as(found, f"{function.stage} {key[:12]}")
                else:
                    core_seconds += found
                    yield key, _arrived(function, description, waits)
    finally:
        for future in futures:
            future.release()
    if paused:
        raise paused


class Crew:
    """The workers of a cluster as one client sees them; each is checked when it joins."""

    def __init__(self, client: Client, told: worker.Told, waits: float):
        self.client, self.told, self.waits = client, told, waits
        self.known: set[str] | None = None
        self.there = time.monotonic()
        """When a worker was last seen (`time.monotonic`)."""

    def gather(self) -> None:
        """Wait until there is a worker."""
        self.look()
        while not self.known:
            time.sleep(0.2)
            self.look()

    def look(self) -> None:
        """Report the workers that joined or were lost since the last call. ConfigError for a new worker that must not
        compute for this client, or if there has been no worker for `waits` seconds."""
        threads = _asked(self.client, self.client.scheduler.ncores)
        before, self.known = self.known, set(threads)
        came, lost = self.known - (before or set()), (before or set()) - self.known
        waiting = f"waiting up to {self.waits:g} s for one"
        if before is None and not came:
            progress.note(f"no worker at {scheduler.named()} yet: {waiting}")
        if lost:
            left = f"{len(self.known)} left" if self.known else f"none is left, {waiting}"
            progress.note(f"lost {_counted(lost)}: {left}; what was being computed there goes on from its last state")
        if came:
            self._check({w: threads[w] for w in came})
            if before is not None:
                progress.note(f"{_counted(came)} joined: {len(self.known)} at work")
        if self.known:
            self.there = time.monotonic()
        elif time.monotonic() - self.there > self.waits:
            raise trouble(f"no worker for {self.waits:g} s; start some, or wait longer (LOTTO_SCHEDULER_WAIT): {KEPT}")

    def _check(self, threads: dict[str, int]) -> None:
        looked = _asked(self.client, self.client._run, worker.look, self.told, workers=[*threads], on_error="return")
        for name, found in looked.items():
            if isinstance(found, OSError):
                continue  # gone again
            if isinstance(found, Exception):
                lacks = f"{type(found).__name__}: {found}"
                found = f"does not have the client's lotto ({lacks}): start it in the client's environment", ""
            what, answer = found
            if answer and not _taken(_meeting() / answer, self.waits):
                what = (
                    f"says that it sees the store {_meeting().parent}, but what it writes does not appear there; mount "
                    "the same folder on both machines"
                )
            if not what and threads[name] != 1:
                what = f"computes {threads[name]} products in one process: start it with --nthreads 1"
            if what:
                raise trouble(f"worker {name} {what}")


def _counted(workers: set[str]) -> str:
    return "a worker" if len(workers) == 1 else f"{len(workers)} workers"


def _meeting() -> Path:
    from lotto.lab.store import root

    return root() / worker.MEETING


@functools.cache
def _mark(meeting: Path) -> str:
    # this process' mark; those of other processes are kept for a week, as their tasks may still be queued
    meeting.mkdir(parents=True, exist_ok=True)
    for old in meeting.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if time.time() - old.stat().st_mtime > 7 * 24 * 3600:
                old.unlink()
    return uuid.uuid4().hex


def _told() -> worker.Told:
    from lotto.lab.store import _full_disk_told
    from lotto.lab.waiting import deadline

    with _full_disk_told():
        mark = _mark(_meeting())
        (_meeting() / mark).touch()
    settings = {"LOTTO_STORE": str(_meeting().parent), "LOTTO_DEADLINE": str(deadline())}
    settings |= {"LOTTO_SCHEDULER": "", "LOTTO_JOBS": "1"}  # no cluster and no processes within a worker
    for name in ("LOTTO_DATA", "LOTTO_CHECKPOINT_SECONDS", "LOTTO_DEVICE"):
        if (value := os.environ.get(name, "")) not in ("", "auto"):
            settings[name] = value
    return worker.Told(mark, worker.versions(), settings)


def _taken(file: Path, waits: float) -> bool:
    """Remove a file once it appears here, and say whether it did within `waits` seconds: a network file system caches
    lists of files for some seconds."""
    until = time.monotonic() + waits
    while time.monotonic() < until:
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
            return True
        time.sleep(0.2)
    return False


def _arrived(function: Cached, description: BaseModel, waits: float) -> Product:
    """The product that a worker has written, once it appears here."""
    until = time.monotonic() + waits
    while (product := function.read(description)) is None:
        if time.monotonic() > until:
            raise trouble(
                f"a worker has finished {function.folder(description)}, but it did not "
                f"appear here within {waits:g} s; let client and workers share the store's folder"
            )
        time.sleep(0.2)
    return product


def _state(function: Cached, description: BaseModel) -> int:
    """When an unfinished computation last saved its state: the file's modification time in nanoseconds; 0: never."""
    with contextlib.suppress(FileNotFoundError):
        return (function.partial(description) / "state.safetensors").stat().st_mtime_ns
    return 0


def _outcome(future: Future) -> float | BaseException | None:
    """The CPU seconds that a task took, its error, or None if it is not finished. CancelledError if the scheduler no
    longer knows it."""
    if future.status == "error":
        return future.exception(timeout=ANSWER)
    with contextlib.suppress(TimeoutError):  # the worker may die with the result; the next call asks again
        return future.result(timeout=ANSWER) if future.status in ("finished", "cancelled") else None
    return None


def _told_as(error: BaseException, what: str) -> BaseException:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return trouble(f"{what}: several workers died over it, one after the other (out of memory, perhaps): {KEPT}")
    if isinstance(error, ModuleNotFoundError):
        return trouble(f"a worker has no module {error.name!r}: start it in the client's environment")
    return error


def _wait(client: Client, futures: list[Future], seconds: float = 1.0) -> None:
    from distributed import wait

    with client.as_current(), contextlib.suppress(TimeoutError):
        wait(futures, timeout=seconds, return_when="FIRST_COMPLETED")
    if client.status != "running":
        raise OSError("the connection was closed")


def _asked(client: Client, function: Any, *args: Any, **more: Any) -> Any:
    return client.sync(function, *args, callback_timeout=6 * ANSWER, **more)


@contextlib.contextmanager
def _watched(client: Client) -> Iterator[None]:
    """Raise every error that means a lost connection as Lost."""
    try:
        yield
    except (OSError, TimeoutError, CancelledError) as error:
        with contextlib.suppress(Exception):
            client.close(timeout=1)
        raise Lost((str(error) or type(error).__name__).splitlines()[0]) from None
