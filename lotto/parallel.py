"""Many independent products at once: processes of one thread each on CPU cores, one after the other on a GPU."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lotto.config import ConfigError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from lotto.store import Cached, Product


def device() -> torch.device:
    """Where to compute: `LOTTO_DEVICE` = auto (a GPU if there is one), cpu or cuda."""
    name = os.environ.get("LOTTO_DEVICE", "auto")
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device = {name!r}: not known; use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device = 'cuda': PyTorch finds no CUDA device here; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """For the record: the GPU's name, or "cpu"."""
    return torch.cuda.get_device_name() if device().type == "cuda" else "cpu"


def jobs() -> int:
    """Processes at a time: `LOTTO_JOBS`, by default the cores this process may use; 1 on a GPU."""
    if device().type == "cuda":
        return 1
    text = os.environ.get("LOTTO_JOBS", "")
    if text and (not text.isdigit() or int(text) < 1):
        raise ConfigError(f"jobs = {text!r}: give a whole number from 1")
    return int(text) if text else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Compute with one thread, as every product of the study is: equal bits everywhere, and no OpenMP threads spinning."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compute(function: Cached, descriptions: Sequence[BaseModel], label: str = "") -> list[Product]:
    """The products of many descriptions, in their order; those that are not in the store yet are computed, `jobs()` at a time.

    Equal descriptions are computed once. An error in one stops the batch (finished ones stay in the store) and is raised
    here; a training that diverges is no error but a product that says so.
    """
    keys = [function.key(d) for d in descriptions]
    ready = {k: p for k, d in dict(zip(keys, descriptions, strict=True)).items() if (p := function.read(d)) is not None}
    missing = {k: d for k, d in zip(keys, descriptions, strict=True) if k not in ready}
    progress = _Progress(label or function.stage, len(missing))
    if len(missing) < 2 or jobs() == 1:
        for k, d in missing.items():
            ready[k] = function(d)
            progress.step()
    else:
        import joblib

        tasks = (joblib.delayed(_task)(function, k, d) for k, d in missing.items())
        # inner_max_num_threads: the workers' BLAS and OpenMP start with one thread, whatever the caller's have
        with joblib.parallel_config("loky", n_jobs=min(jobs(), len(missing)), inner_max_num_threads=1):
            for k, product in joblib.Parallel(return_as="generator_unordered")(tasks):
                ready[k] = product
                progress.step()
    return [ready[k] for k in keys]


_worker = False
"""Whether this process computes for another."""


def _task(function: Cached, key: str, description: BaseModel) -> tuple[str, Product]:
    global _worker
    _worker = True
    _die_with_parent()
    return key, function(description)


@functools.cache
def _die_with_parent() -> None:
    # a notebook kernel that is killed cannot stop its workers: they look themselves
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Steps:
    """The steps of one long product: a bar with the loss, the time left and the memory, or now and then a line in the file `LOTTO_PROGRESS`
    names. Silent in worker processes, whose products are what is counted."""

    def __init__(self, label: str, total: int, first: int = 0):
        self.label, self.total = label, total
        self.file = os.environ.get("LOTTO_PROGRESS") if not _worker else None
        self.shown = 0.0
        _note(label, first, total)
        self.bar = None
        if total > first and not _worker and not self.file and not os.environ.get("LOTTO_HEADLESS"):
            from tqdm.auto import tqdm

            self.bar = tqdm(total=total, initial=first, desc=label, leave=False, file=sys.stderr, unit="step")

    def at(self, step: int, loss: float | None = None) -> None:
        """So many steps are done."""
        if self.bar:
            memory = (
                torch.cuda.max_memory_allocated() if device().type == "cuda" else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            )
            self.bar.set_postfix(loss="" if loss is None else f"{loss:.3g}", memory=f"{memory / 2**30:.1f} GiB", refresh=False)
            self.bar.update(step - self.bar.n)
        if self.file and time.monotonic() - self.shown > 5:
            self.shown = time.monotonic()
            _note(self.label, step, self.total)

    def close(self) -> None:
        """Take the bar away: the product is finished."""
        _note(self.label, self.total, self.total)
        if self.bar:
            self.bar.close()


class _Progress:
    """A bar in an interactive session; a line a product in the file `LOTTO_PROGRESS` names (run.py shows it)."""

    def __init__(self, label: str, total: int):
        self.label, self.total, self.done = label, total, 0
        self.bar = None
        _note(label, 0, total)
        if total and not os.environ.get("LOTTO_PROGRESS") and not os.environ.get("LOTTO_HEADLESS"):
            from tqdm.auto import tqdm

            self.bar = tqdm(total=total, desc=label, leave=False, file=sys.stderr)

    def step(self) -> None:
        self.done += 1
        if self.bar:
            self.bar.update()
            if self.done == self.total:
                self.bar.close()
        _note(self.label, self.done, self.total)


def _note(label: str, done: int, total: int) -> None:
    # one line in the file that the runner reads; not from workers, whose products are counted by their parent
    file = os.environ.get("LOTTO_PROGRESS")
    if file and total and not _worker:
        with contextlib.suppress(OSError), Path(file).open("a") as f:
            f.write(f"{label} {done}/{total}\n")


class Stages:
    """What a progress file says is being done now: its lines are "label done/total", a stage within another follows that one's line."""

    def __init__(self, now: float):
        self.lines, self.since, self.changed = 0, now, now
        self.open: dict[str, tuple[int, int]] = {}
        self.start = 0.0

    def read(self, text: str, now: float) -> None:
        """Take in what the file holds by now (seconds on any clock)."""
        whole = text.splitlines()[: text.count("\n")]
        for line in whole[self.lines :]:
            label, _, count = line.rpartition(" ")
            done, total = map(int, count.split("/"))
            while label in self.open and next(reversed(self.open)) != label:
                self.open.popitem()  # what was begun within this stage has ended
            if not self.open:
                self.since, self.start = now, done / total
            self.open[label] = done, total
            if done >= total:
                del self.open[label]
                self.since = self.since if self.open else now
            self.changed = now
        self.lines = len(whole)

    def line(self, now: float) -> str:
        """The stages that are not finished, outermost first, with the time left at the rate so far; or that nothing is counted now."""
        if not self.open:
            return f"no counted computation now (imports, tables, figures), for {_span(now - self.since)}"
        share = 0.0
        for done, total in reversed(self.open.values()):
            share = (done + share) / total
        told = ", ".join(f"{label} {done}/{total}" for label, (done, total) in self.open.items())
        if share <= self.start:
            return f"{told}, for {_span(now - self.since)}"
        left = (self.changed - self.since) * (1 - share) / (share - self.start) - (now - self.changed)
        return f"{told}, about {_span(left)} left" if left >= 1 else told


def _span(seconds: float) -> str:
    """A time as people say it: "40 s", "3 min", "2 h 10 min"."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{max(seconds, 0):.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
