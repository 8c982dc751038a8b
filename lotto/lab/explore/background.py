"""A computation in a process of its own, which a notebook can watch and stop, and need not wait for."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path

from lotto.lab.progress import Stages
from lotto.lab.study import Study

LIMIT = 10.0
"""Seconds that a stopped computation has to end by itself."""


class Background:
    """The paths of a study (and all they are made from), computed by `python -m lotto.run compute` with its workers.

    It ends with the kernel that started it, however that ends. Finished products are in the store in any case.
    """

    def __init__(self, study: Study):
        self.folder = Path(tempfile.mkdtemp(prefix="lotto-whatif-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        named = {n: v for n, v in study.named().items() if n != "preset"}
        values = [part for n, v in named.items() for part in ("-p", n, json.dumps(v))]
        command = [sys.executable, "-m", "lotto.run", "compute", "--attached", "--preset", study.preset, *values]
        more = {"LOTTO_HEADLESS": "1", "LOTTO_PROGRESS": str(self.folder / "progress")}
        self.stages, self.stopped = Stages(time.monotonic()), False
        with open(self.folder / "errors", "wb") as errors:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **more},
                stdin=subprocess.PIPE,  # closing it, as a dying kernel does too, tells the process to end
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it still computes."""
        return self.process.poll() is None

    def told(self) -> str:
        """What it is doing now, or how it ended, in one sentence."""
        if self.running:
            with contextlib.suppress(OSError):
                self.stages.read((self.folder / "progress").read_text(), time.monotonic())
            return self.stages.line(time.monotonic())
        if self.stopped:
            return "stopped; what was finished is kept"
        return "finished" if self.process.returncode == 0 else f"failed: {self._error()}"

    def _error(self) -> str:
        lines = (self.folder / "errors").read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("run_all.sh: ") if lines else f"it ended with code {self.process.returncode}"

    def stop(self, limit: float = LIMIT) -> None:
        """End it and its workers: it is asked to end, and killed after `limit` seconds."""
        self.stopped = self.stopped or self.running
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(OSError):  # the whole group: a worker may still run, or the process itself
            os.killpg(self.process.pid, signal.SIGKILL) if hasattr(os, "killpg") else self.process.kill()
        self.process.wait(limit)
