"""Many independent products at once: in processes of one thread each on CPU cores, one after another on a GPU, or on
the Dask cluster that `LOTTO_SCHEDULER` names."""

from __future__ import annotations

import functools
import os
import platform
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, TypeVar

from lotto.config import ConfigError
from lotto.lab import cluster, progress, scheduler
from lotto.lab.device import device, device_name
from lotto.lab.product import asking

if TYPE_CHECKING:
    from pydantic import BaseModel

    from lotto.lab.product import Product
    from lotto.lab.store import Cached


T = TypeVar("T")

# loky's manager warns of workers that ended while they were idle, and starts others. Where warnings are errors this one
# would end the manager instead, and whoever waits for a product would wait for ever.
WORKER_ENDED = "A worker stopped while some jobs were given to the executor"
warnings.filterwarnings("ignore", WORKER_ENDED, UserWarning)


def jobs() -> int:
    """Processes at a time: `LOTTO_JOBS`, by default the cores this process may use; 1 on a GPU."""
    if device().type == "cuda":
        return 1
    text = os.environ.get("LOTTO_JOBS", "")
    if text and (not text.isdecimal() or int(text) < 1):
        raise ConfigError(f"jobs = {text!r}: give a whole number from 1")
    import joblib

    return int(text) if text else joblib.cpu_count()  # affinity, and the share of them that a container may use


def machine() -> dict[str, str]:
    """The device and the system that a computation of this process is on, for the record."""
    return {
        "device": place(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def place() -> str:
    """Where products are computed, for the record: "cpu, 2 processes at a time", "Dask cluster local:3"; in a process
    that has a share of that, what `LOTTO_PLACE` says."""
    if told := os.environ.get("LOTTO_PLACE"):
        return told
    return f"Dask cluster {named}" if (named := scheduler.named()) else f"{device_name()}, {jobs()} processes at a time"


@asking
def compute(function: Cached, descriptions: Sequence[BaseModel]) -> list[Product]:
    """The products of many descriptions, in their order; those that are not in the store yet are computed, `jobs()` at
    a time, or as many as the cluster named has workers.

    What they build on (`store.Plan`) is computed before them in the same way. Equal descriptions are computed once. An
    error in one stops the batch (finished ones stay in the store) and is raised here; a training that diverges is not
    an error, but a product that says so.
    """
    plan, keys = function.plan, [function.key(d) for d in descriptions]
    wanted = dict(zip(keys, descriptions, strict=True))
    ready = {k: p for k, d in wanted.items() if (p := function.read(d)) is not None}
    missing = {k: d for k, d in wanted.items() if k not in ready}
    needs = {k: list(plan.needs(d)) for k, d in missing.items()}
    needed = [pair for pairs in needs.values() for pair in pairs]
    if own := [d for f, d in needed if f is function and function.read(d) is None]:
        # products of this function that build on others of it come last; all others are one batch: no worker idle
        free = [missing[k] for k, pairs in needs.items() if all(f is not function for f, _ in pairs)]
        compute(function, [*own, *free])
        return compute(function, descriptions)
    for other in dict.fromkeys(f for f, _ in needed if f is not function):
        compute(other, [d for f, d in needed if f is other])
    met = set()  # keys of those made on the way to others
    for d in missing.values():
        while (d := plan.through(d)) is not None and (k := function.key(d)) not in met:
            met.add(k)
    tasks = sorted(((k, d) for k, d in missing.items() if k not in met), key=lambda t: -plan.cost(t[1]))
    told = progress.Progress(plan.label or function.stage, len(tasks))
    for k, product in (cluster.finished if scheduler.named() else _finished)(function, tasks):
        ready[k] = product
        told.step()
    return [ready[k] if k in ready else function(d) for k, d in zip(keys, descriptions, strict=True)]


def _finished(function: Cached, tasks: Sequence[tuple[str, BaseModel]]) -> Iterator[tuple[str, Product]]:
    """(key, product) of each task (key, description) as it finishes in a process of this machine; `cluster.finished` is
    the same on a cluster. What another process is computing now comes last: runs that want the same products share the
    work, and do not wait for each other at every one."""
    left, at_once = dict(tasks), min(jobs(), len(tasks))
    for k, product in unordered(functools.partial(_keyed, function.unless_busy), tasks, at_once):
        if product is not None:
            del left[k]
            yield k, product
    yield from unordered(functools.partial(_keyed, function), list(left.items()), min(at_once, len(left)))


def _keyed(call: Callable[[Any], T], key: str, description: BaseModel) -> tuple[str, T]:
    return key, call(description)


def unordered(function: Callable[..., T], tasks: Sequence[tuple], at_once: int, **settings: str) -> Iterator[T]:
    """What `function(*task)` returns for each task, as it finishes, in `at_once` processes of this machine; for one at
    a time in this process. They are begun in their order.

    settings: `LOTTO_...` variables that the processes shall have other than this one has. Processes at work are ended,
    with their children, when the iterator is closed. ConfigError if one is ended from outside.
    """
    if at_once < 2:
        yield from (function(*task) for task in tasks)
        return
    import joblib

    settings = {n: v for n, v in os.environ.items() if n.startswith("LOTTO_")} | settings
    # inner_max_num_threads: the workers' BLAS and OpenMP start with one thread, whatever the caller's have
    with joblib.parallel_config("loky", n_jobs=at_once, inner_max_num_threads=1):
        work = (joblib.delayed(_there)(settings, function, *task) for task in tasks)
        results = joblib.Parallel(return_as="generator_unordered", batch_size=1)(work)
        try:
            for found in results:  # noqa: UP028 (what closes this one must not close `results` yet)
                yield found
        except BrokenProcessPool:
            raise ConfigError(
                f"jobs = {at_once}: one of as many processes was ended from outside, for want of memory perhaps; what "
                "was finished is kept. Give the same command again, with fewer (--jobs) if memory is short"
            ) from None
        finally:
            with warnings.catch_warnings():  # that tasks are cancelled: closing means that
                warnings.simplefilter("ignore", UserWarning)
                results.close()


def _there(settings: Mapping[str, str], function: Callable[..., T], *task: Any) -> T:
    progress.in_worker = True
    _die_with_parent()
    # workers outlive the call that started them, so each task sets its own call's store, data and deadline
    for name in [n for n in os.environ if n.startswith("LOTTO_") and n not in settings]:
        del os.environ[name]
    os.environ.update(settings)
    return function(*task)


@functools.cache
def _die_with_parent() -> None:
    # a notebook kernel that is killed cannot stop its workers: they watch for it
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
