"""The Dask cluster that `LOTTO_SCHEDULER` names: reading the name, connecting to it, starting one on this machine."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any

from lotto.config import ConfigError
from lotto.lab import worker
from lotto.lab.device import device

if TYPE_CHECKING:
    from distributed import Client, SpecCluster

ANSWER = 10.0
"""Seconds after which a scheduler that does not answer counts as absent."""

START = 180.0
"""Seconds that a worker process has to start on this machine, which may be busy."""


def named() -> str:
    """`LOTTO_SCHEDULER`: "" (processes of this machine, without Dask), "local:N" (a cluster of N worker processes on
    this machine) or the address of a scheduler, as "tcp://host:port". ConfigError for anything else."""
    text = os.environ.get("LOTTO_SCHEDULER", "")
    if text and not re.fullmatch(r"local:0*[1-9]\d{0,3}|(tcp|tls)://[^\s/]+:\d{1,5}", text):
        raise ConfigError(f"scheduler = {text!r}: give local:N with N from 1, or an address such as tcp://host:8786")
    return text


def trouble(what: str) -> ConfigError:
    """The error about the cluster named; `what` completes its sentence."""
    return ConfigError(f"scheduler = {named()!r}: {what}")


def patience() -> float:
    """Seconds to wait for workers: `LOTTO_SCHEDULER_WAIT`, by default 60."""
    text = os.environ.get("LOTTO_SCHEDULER_WAIT", "60")
    with contextlib.suppress(ValueError):
        if 0 < (found := float(text)) < float("inf"):
            return found
    raise ConfigError(f"scheduler wait = {text!r}: give a number of seconds above 0 (LOTTO_SCHEDULER_WAIT)")


def check() -> None:
    """Check that the cluster named can be used: Dask is installed, there are enough GPUs for the workers, the scheduler
    answers and has this process' versions. ConfigError says which of these fails; workers are checked later."""
    text = named()
    patience()
    if text:
        _dask()
    if text.startswith("local:"):
        environments(_workers(text), _gpus())
    elif text:
        _connect(text).close(timeout=ANSWER)


def address() -> str:
    """Where other processes find the cluster named (for "local:N" the cluster of this process, started now); "" if none
    is named."""
    text = named()
    return _local(_workers(text)).scheduler_address if text.startswith("local:") else text


def environments(workers: int, gpus: Sequence[str] | None) -> list[dict[str, str]]:
    """Environment variables of each worker of a cluster on this machine: one thread, the client's store and data, one
    GPU each (`gpus`: their names for CUDA; None: compute on the CPU). ConfigError for more workers than GPUs."""
    if gpus is not None and workers > len(gpus):
        raise trouble(f"a worker takes a GPU, and this machine has {len(gpus)}; use local:{len(gpus)}, or --device cpu")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    # an empty folder name counts as unset, so that workers follow their client even when it changes its store
    every = {**threads, "LOTTO_SCHEDULER": "", "LOTTO_STORE": "", "LOTTO_DATA": ""}
    return [{**every, **({"CUDA_VISIBLE_DEVICES": gpus[n]} if gpus else {})} for n in range(workers)]


def _dask() -> Any:
    try:
        import distributed
    except ImportError:
        raise trouble("needs Dask, which is not installed; pip install 'distributed>=2024.8'") from None
    for name in ("distributed", "distributed.client"):  # our own messages say what matters
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return distributed


_known: dict[str, Client] = {}


def client() -> Client:
    """The connection of this process to the cluster named, renewed if it was lost. ConfigError if no scheduler answers,
    or if its lotto is not this process'."""
    where = address()
    if where not in _known or _known[where].status != "running":
        _known[where] = _connect(where)
    return _known[where]


def _within(seconds: float, function: Callable[[], Any]) -> Any:
    """What `function` returns or raises; TimeoutError if it takes longer than `seconds`. Dask's client waits forever
    for a server that accepts the connection and never answers."""
    ended: futures.Future = futures.Future()

    def run() -> None:
        try:
            ended.set_result(function())
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return ended.result(seconds)


def _connect(where: str) -> Client:
    make = functools.partial(_dask().Client, where, timeout=ANSWER, set_as_default=False)
    try:
        client = _within(2 * ANSWER, make)
    except (OSError, ValueError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise trouble(
            f"no Dask scheduler answered within {2 * ANSWER:g} s ({told}); start one with "
            "`dask scheduler`, or give its address"
        ) from None
    try:
        what = client.run_on_scheduler(worker.unlike, worker.versions())
    except (ImportError, AttributeError, TypeError) as error:
        what = f"does not have the client's lotto ({error}): start it in the client's environment"
    if what:
        client.close(timeout=ANSWER)
        raise trouble(f"it {what}")
    return client


def _workers(text: str) -> int:
    return int(text.removeprefix("local:"))


def _gpus() -> list[str] | None:
    if device().type != "cuda":
        return None
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(n) for n in range(torch.cuda.device_count())]


@functools.cache
def _local(workers: int) -> SpecCluster:
    """A scheduler in this process, on loopback, and worker processes, which Dask ends within 10 s of this process'
    end."""
    _dask()
    import dask
    from distributed import Nanny, Scheduler, SpecCluster
    from distributed.utils import get_mp_context

    from lotto.lab.notebooks import kernel_environment

    # workers are forked from a process that has done the slow imports: one that died is replaced at once
    dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    get_mp_context().set_forkserver_preload(["distributed", "lotto.train", "lotto.lab.store"])
    here = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    alone = {**here, "nthreads": 1, "memory_limit": 0, "death_timeout": START, "silence_logs": logging.CRITICAL}
    spec = {n: {"cls": Nanny, "options": {**alone, "env": env}} for n, env in enumerate(environments(workers, _gpus()))}
    scheduler = {"cls": Scheduler, "options": {**here, "port": 0}}
    try:
        with kernel_environment():  # libraries imported there start one thread each
            return SpecCluster(workers=spec, scheduler=scheduler, silence_logs=logging.CRITICAL)
    except Exception as error:  # whatever keeps a process from starting
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        raise trouble(f"the worker processes did not start within {START:g} s ({told})") from error
