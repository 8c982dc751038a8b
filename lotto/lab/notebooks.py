"""The numbered notebooks: which there are, how one is executed by papermill, and when it is up to date."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lotto.checkpoint import Paused
from lotto.config import ConfigError
from lotto.lab import cluster, parallel, report, scheduler
from lotto.lab.product import replacing
from lotto.lab.progress import Stages

if TYPE_CHECKING:
    from lotto.lab.claims.board import Board

CLONE = Path(__file__).resolve().parents[2]

OK, FAILED, USAGE, PAUSED, INTERRUPTED = 0, 1, 2, 75, 130
"""Exit codes of a run."""
NOTEBOOKS = CLONE / "notebooks"

COMPARE = "07_compare"
"""The notebook that compares the cells of a grid; a plain run has no grid and leaves it out."""

CLEAR = "\r" + " " * 100 + "\r"
"""Clears the moving line of a terminal."""

KERNEL = {"KernelManager": {"transport_encryption": "auto"}}
"""Encrypts the messages to and from kernels, so that other users of this machine cannot read them (and the kernel does
not warn that they could)."""

ATTEMPTS, STILLBORN = 3, "Kernel died before replying"
"""How often a kernel that ends before it executes anything is started, and what is said of one: the ports that were
found free for it may by then be those of another that started at the same time."""


def finish(notebook: str, board: Board | None = None) -> None:
    """The last call of a notebook, which writes its end mark. Without it a run does not count as finished, whatever the
    exit code (`exit(0)` in a cell, for example, ends papermill with 0 and skips the rest). `board`: what the notebook
    adds to index.html (rows of text; the column "word" is shown as a coloured word), to the table of a grid and to
    compare.html. The products that the notebook asked for are recorded, so that they can be exported with it."""
    rows = [dict(row) for row in board.rows] if board else []
    if mark := os.environ.get("LOTTO_END_MARK"):
        from lotto.lab import product

        told = {"notebook": notebook, "board": rows, "core_seconds": _core_seconds()}
        told |= {"numbers": dict(board.numbers), "compared": list(board.compared)} if board else {}
        told |= {"products": sorted(product.asked), "opened": sorted(product.opened)}
        Path(mark).write_text(json.dumps(told))
    print(f"{notebook}: finished" + (f", {len(rows)} claims judged" if board else ""))


def _core_seconds() -> float:
    """CPU seconds of this process and its workers so far. Its own workers are shut down first, because the system
    counts child processes only once they have ended; workers of a cluster report theirs."""
    import resource

    if "joblib.externals.loky" in sys.modules:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return round(sum(u.ru_utime + u.ru_stime for u in used) + cluster.core_seconds, 1)


@dataclasses.dataclass
class Job:
    """One notebook of a run."""

    source: Path
    parameters: dict[str, Any]
    out: Path
    key: str
    status: str = "waiting"
    trouble: str = ""
    """Why it failed: the last lines of the error."""
    seconds: float = 0.0
    board: list[dict[str, str]] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        return self.source.stem

    @property
    def result(self) -> Path:
        return self.out / f"{self.name}.ipynb"

    @property
    def partial(self) -> Path:
        return self.out / f"{self.name}.partial.ipynb"

    @property
    def manifest(self) -> Path:
        return self.out / f"{self.name}.json"


def choose(only: str | None, start: str | None, every: bool = False) -> list[Path]:
    """The notebooks that `only` and `start` select, in order, among those of a plain run or, with `every`,
    among all; ConfigError names one that does not exist, and refuses both at once."""
    there = sorted(p for p in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb") if every or p.stem != COMPARE)

    def find(name: str) -> Path:
        for p in there:
            if name.strip() and (name.strip() in (p.stem, p.name) or name.strip().zfill(2) == p.stem[:2]):
                return p
        raise ConfigError(f"notebook {name!r} does not exist; there are: {', '.join(p.stem for p in there)}")

    if only is not None and start:
        raise ConfigError(f"--only {only} and --from {start} each say which notebooks run; give one of them")
    if only is not None:
        wanted = [find(name) for name in only.split(",")]
        return [p for p in there if p in wanted]
    return there[there.index(find(start)) :] if start else there


def known_parameters(notebook: Path) -> list[str]:
    """Names in the notebook's parameters cell, by papermill's own inspection."""
    import papermill

    return list(papermill.inspect_notebook(str(notebook)))


def digest(what: Any) -> str:
    """SHA-256 (64 hex digits) of plain data."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _source(notebook: Path) -> list[str]:
    return ["".join(c["source"]) for c in json.loads(notebook.read_text())["cells"]]


@functools.cache
def sources_digest() -> str:
    """Digest of lotto's own source files, as of this process' first call."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return digest([f.read_text() for f in files])


def _reference() -> str:
    return digest([f.read_text() for f in sorted((NOTEBOOKS / "reference").glob("*")) if f.suffix in (".csv", ".json")])


def key(notebook: Path, parameters: Mapping[str, Any], files: Any = None) -> str:
    """Digest of all that a finished notebook is made from: source, parameters, what `files` they name hold, lotto, the
    reference tables, versions."""
    versions = {m: version(m) for m in ("torch", "torchvision", "plotly")}
    return digest(
        {
            "source": _source(notebook),
            "parameters": parameters,
            "files": files,
            "lotto": sources_digest(),
            "reference": _reference(),
            "versions": versions,
        }
    )


def last(job: Job) -> dict[str, Any] | None:
    """What the last finished run left of itself (its manifest), if it had this source, these parameters, this lotto and
    these versions, and its result still exists."""
    try:
        found = json.loads(job.manifest.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found if found["key"] == job.key and job.result.exists() else None


def up_to_date(job: Job) -> bool:
    """Whether there is such a last run; if so, its board is read into `job`."""
    if found := last(job):
        job.board = found["board"]
    return found is not None


@contextlib.contextmanager
def kernel_environment(**more: str) -> Iterator[None]:
    """Environment variables for kernels started within: headless, one thread per process."""
    new = {"LOTTO_HEADLESS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **more}
    before = {n: os.environ.get(n) for n in new}
    os.environ.update(new)
    try:
        yield
    finally:
        for n, v in before.items():
            os.environ.pop(n, None) if v is None else os.environ.__setitem__(n, v)


def execute(job: Job) -> str | None:
    """Run one notebook with papermill; return None, or what went wrong. The result gets its name only once it is
    complete. Paused if the time limit was reached in it."""
    job.out.mkdir(parents=True, exist_ok=True)
    for old in (job.partial, job.manifest):
        old.unlink(missing_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        mark, progress = Path(scratch) / "mark", Path(scratch) / "progress"
        with (
            kernel_environment(
                LOTTO_END_MARK=str(mark), LOTTO_PROGRESS=str(progress), LOTTO_SCHEDULER=scheduler.address()
            ),
            progress_line(job.name, progress),
        ):
            try:
                _papermill(job)
            except Exception as error:
                if getattr(error, "ename", "") == Paused.__name__:
                    raise Paused from None
                return _last_lines(error)
            finally:
                job.seconds = time.monotonic() - started
        if not mark.exists() or json.loads(mark.read_text())["notebook"] != job.name:
            return "the notebook ended without its end mark: a cell left early (exit, quit), or its last cell is gone"
        told = json.loads(mark.read_text())
    job.board = told["board"]
    job.partial.replace(job.result)
    report.page(job.result, base=NOTEBOOKS)
    made = {"key": job.key, "parameters": job.parameters, "seconds": round(job.seconds, 1)} | parallel.machine()
    with replacing(job.manifest) as part:
        part.write_text(json.dumps({**made, "title": report.title(job.result), **told}, indent=1))
    return None


def _papermill(job: Job) -> None:
    import papermill
    from traitlets.config import Config

    for left in reversed(range(ATTEMPTS)):
        try:
            papermill.execute_notebook(
                str(job.source),
                str(job.partial),
                parameters=job.parameters,
                progress_bar=False,
                kernel_name="python3",
                cwd=str(NOTEBOOKS),
                store_widget_state=False,
                config=Config(KERNEL),
            )
            return
        except RuntimeError as error:
            if not left or STILLBORN not in str(error):
                raise


def _last_lines(error: Exception) -> str:
    import re

    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    return "\n".join(text.splitlines()[-6:]) or type(error).__name__


@contextlib.contextmanager
def progress_line(name: str, progress: Path) -> Iterator[None]:
    """Show how far the notebook's computations are: one moving line on a terminal, else a line every 30 s."""
    stop, tty = threading.Event(), sys.stdout.isatty()
    stages = Stages(time.monotonic())

    def read() -> None:
        with contextlib.suppress(OSError):
            stages.read(progress.read_text(), time.monotonic())
        while stages.notes:
            print(f"{CLEAR if tty else ''}  {name}: {stages.notes.pop(0)}", flush=True)

    def tell() -> None:
        last = time.monotonic()
        while not stop.wait(0.5 if tty else 2):
            read()
            line = stages.line(time.monotonic())
            if tty:
                print(f"\r  {name}: {line:<70}", end="", flush=True)
            elif time.monotonic() - last > 30:
                print(f"  {name}: {line}", flush=True)
                last = time.monotonic()
        read()
        if tty:
            print(CLEAR, end="", flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
