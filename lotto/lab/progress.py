"""Progress of a computation: a bar in an interactive session, or lines in the file that `LOTTO_PROGRESS` names, which
the process that started it reads."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from pathlib import Path
from typing import TextIO

from lotto.lab.device import device, peak_memory

NOTE = "! "
"""Prefix of a line in the progress file that is to be printed as it stands."""

in_worker = False
"""Whether this process computes for another, which counts its products; its own steps are not reported."""


class Progress:
    """A count of `total` steps or products, of which `first` are done. In headless runs without a file to write to,
    nothing is reported."""

    def __init__(self, label: str, total: int, first: int = 0, unit: str = "it"):
        self.label, self.total, self.done = label, total, first
        self.file = None if in_worker else os.environ.get("LOTTO_PROGRESS")
        self.noted, self.bar = 0.0, None
        self._note()
        if total > first and not in_worker and not self.file and not os.environ.get("LOTTO_HEADLESS"):
            from tqdm.auto import tqdm

            self.bar = tqdm(total=total, initial=first, desc=label, leave=False, file=sys.stderr, unit=unit)

    def reached(self, done: int, loss: float | None = None) -> None:
        """Report that `done` are done by now, and the current `loss`. The file gets a line every 5 seconds, and at the
        end."""
        self.done = done
        if self.bar:
            if loss is not None:
                self.bar.set_postfix(loss=f"{loss:.3g}", memory=f"{_memory() / 2**30:.1f} GiB", refresh=False)
            self.bar.update(done - self.bar.n)
            if done == self.total:
                self.bar.close()
        if done == self.total or time.monotonic() - self.noted > 5:
            self._note()

    def step(self) -> None:
        """Report one more."""
        self.noted = 0.0  # every product gets a line
        self.reached(self.done + 1)

    def _note(self) -> None:
        if self.file and self.total:
            self.noted = time.monotonic()
            with contextlib.suppress(OSError), Path(self.file).open("a") as f:
                f.write(f"{self.label} {self.done}/{self.total}\n")


def note(text: str) -> None:
    """Report an event, such as a lost worker, in one line, wherever progress is shown."""
    if in_worker:
        return
    if file := os.environ.get("LOTTO_PROGRESS"):
        with contextlib.suppress(OSError), Path(file).open("a") as f:
            f.write(f"{NOTE}{text}\n")
    elif not os.environ.get("LOTTO_HEADLESS"):
        from tqdm.auto import tqdm

        tqdm.write(text, file=sys.stderr)


def _memory() -> float:
    """Peak memory in bytes: on the GPU, or of this process."""
    import torch

    return torch.cuda.max_memory_allocated() if device().type == "cuda" else peak_memory()


class Named(io.TextIOBase):
    """Text written to `to`, whole lines at a time and each after a name: who of several that print at once says it.
    Never a terminal: lines that move would overwrite each other."""

    def __init__(self, name: str, to: TextIO):
        self.name, self.to, self.begun = name, to, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *whole, self.begun = (self.begun + text).split("\n")
        if told := "".join(f"{self.name} | {line}\n" for line in whole if line.strip()):
            self.to.write(told)
            self.to.flush()
        return len(text)


class Stages:
    """The stages that run now, from a progress file. Its lines are "label done/total"; a stage within another comes
    after that one's line; lines that begin with `NOTE` are to be printed."""

    def __init__(self, now: float):
        self.lines, self.since, self.changed = 0, now, now
        self.open: dict[str, tuple[int, int]] = {}
        self.start = 0.0
        self.notes: list[str] = []
        """Lines to be printed; whoever prints one removes it."""

    def read(self, text: str, now: float) -> None:
        """Read the file's text so far, at the time `now` (seconds on any clock)."""
        whole = text.splitlines()[: text.count("\n")]
        for line in whole[self.lines :]:
            if line.startswith(NOTE):
                self.notes.append(line.removeprefix(NOTE))
                continue
            label, _, count = line.rpartition(" ")
            done, total = map(int, count.split("/"))
            while label in self.open and next(reversed(self.open)) != label:
                self.open.popitem()  # stages within this one have ended
            if not self.open:
                self.since, self.start = now, done / total
            self.open[label] = done, total
            if done >= total:
                del self.open[label]
                self.since = self.since if self.open else now
            self.changed = now
        self.lines = len(whole)

    def line(self, now: float) -> str:
        """The unfinished stages, outermost first, with the time left at the rate so far; or that nothing is being
        counted."""
        if not self.open:
            return f"nothing to count (imports, tables, figures), for {_span(now - self.since)}"
        share = 0.0
        for done, total in reversed(self.open.values()):
            share = (done + share) / total
        told = ", ".join(f"{label} {done}/{total}" for label, (done, total) in self.open.items())
        if share <= self.start:
            return f"{told}, for {_span(now - self.since)}"
        left = (self.changed - self.since) * (1 - share) / (share - self.start) - (now - self.changed)
        return f"{told}, about {_span(left)} left" if left >= 1 else told


def _span(seconds: float) -> str:
    """A duration in words: "40 s", "3 min", "2 h 10 min"."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{max(seconds, 0):.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
