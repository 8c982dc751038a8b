"""The results of a grid: a table with one row per cell, the notebook that compares the cells, and their index page.

A row is made from what the cell's notebooks left in its folder, so any run of the grid can make it: after an
interruption, in one shard of several, or much later.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from lotto.lab import batch, index, notebooks
from lotto.lab.groups import DEFAULTS, places
from lotto.lab.notebooks import FAILED, OK, Job, digest, last, up_to_date
from lotto.lab.product import replacing
from lotto.lab.study import Study
from lotto.lab.waiting import held

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass
class Cell:
    """One cell of a grid: a run of some notebooks with parameters of its own, in a folder of its own."""

    name: str
    folder: Path
    varied: tuple[str, ...]
    """The parameters that vary over the grid."""
    jobs: list[Job]
    study: Study
    stopped: str | None = None
    """How its run was stopped in this process: paused or interrupted; None: it was not."""

    def note(self, stopped: str | None) -> None:
        """Write the errors of failed notebooks to failed.json, so that any process can make the cell's row."""
        self.stopped, file = stopped, self.folder / "failed.json"
        failed = {j.name: error_line(j.trouble) for j in self.jobs if j.trouble}
        if failed:
            _replace(file, json.dumps({"made from": self.made_from, "errors": failed}, indent=1))
        else:
            file.unlink(missing_ok=True)

    @property
    def made_from(self) -> str:
        """Digest of what the cell's notebooks are made from."""
        return digest([job.key for job in self.jobs])

    def row(self) -> dict[str, Any]:
        """The cell's row: name, varied parameters, `status` (ok, failed, not run, paused, interrupted), `error` (the
        errors of its notebooks in one line), total `seconds` and `core_seconds` of its finished notebooks, and their
        estimates under the names of `claims.board.numbers`."""
        done = [made for job in self.jobs if (made := last(job))]
        file, errors = self.folder / "failed.json", {}
        if len(done) < len(self.jobs) and file.exists():
            kept = json.loads(file.read_text())
            errors = kept["errors"] if kept["made from"] == self.made_from else {}
        status = "ok" if len(done) == len(self.jobs) else self.stopped or ("failed" if errors else "not run")
        numbers = {n: v for made in done for n, v in made.get("numbers", {}).items()}
        return {
            "cell": self.name,
            **{n: _plain(value(self.study, n)) for n in self.varied},
            "status": status,
            "error": "; ".join(f"{n}: {error}" for n, error in errors.items()),
            "seconds": sum((made["seconds"] for made in done), 0.0),
            "core_seconds": sum((made["core_seconds"] for made in done), 0.0),
            **numbers,
        }


def value(study: Study, name: str) -> Any:
    """A study's value of the parameter with this short name."""
    if name in type(study).model_fields and name not in DEFAULTS:
        return getattr(study, name)
    group, field = places(name, study.distill_method, [])[0]
    return getattr(getattr(study, group), field)


def _plain(found: Any) -> Any:
    # lists as text: CSV cannot hold them, and pandas cannot compare them
    return json.dumps(found) if isinstance(found, tuple | list) else found


def error_line(trouble: str) -> str:
    """The error at the end of a traceback as one line; the last line where none is recognised.

    >>> error_line("----> 1 f(x)\\nValueError: too\\nlong")
    'ValueError: too long'
    """
    lines = trouble.strip().splitlines() or [""]
    starts = [i for i, line in enumerate(lines) if re.match(r"[\w.]+(Error|Exception|Exit|Interrupt|Warning)\b", line)]
    return " ".join(" ".join(lines[starts[-1] if starts else -1 :]).split())


# the table


def table(cells: Sequence[Cell]) -> pd.DataFrame:
    """One row per cell: its name, varied parameters, status, error, cost, and its estimates, missing where a cell has
    none. Counts are whole numbers, lists JSON."""
    import pandas as pd

    found = pd.DataFrame([cell.row() for cell in cells])
    numbers = [n for n in found if "/" in n]
    counts = [n for n in numbers if n.endswith("/untrained")]
    kinds = dict.fromkeys(numbers, "float64") | dict.fromkeys(counts, "Int64") | {"status": "str", "error": "str"}
    return found.astype(kinds)


def write(cells: Sequence[Cell]) -> pd.DataFrame:
    """Write the table of all cells, as they are now, to table.csv and table.parquet, and the whole study of each to
    table.json, in the grid's folder; return the table. Each file is replaced as a whole."""
    folder = cells[0].folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    with held(FileLock(folder / ".table.lock")):  # two shards may write at once: the later table must miss nothing
        found = table(cells)
        _replace(folder / "table.csv", found.to_csv(index=False))
        with replacing(folder / "table.parquet") as part:
            found.to_parquet(part, index=False)
        whole = {cell.name: cell.study.named() for cell in cells}
        _replace(folder / "table.json", json.dumps(whole, indent=1))
    return found


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        part.write_text(text, encoding="utf-8")


def finished(cells: Sequence[Cell]) -> bool:
    """Whether every cell has run, and at least one did not fail."""
    states = {cell.row()["status"] for cell in cells}
    return "ok" in states and states <= {"ok", "failed"}


def told(cells: Sequence[Cell]) -> str:
    """One line per cell, for the terminal: status, seconds, name, error."""
    rows = [cell.row() for cell in cells]
    lines = [f"{r['status']:11}  {r['seconds']:7.0f} s  {r['cell']}{'  ' * bool(r['error'])}{r['error']}" for r in rows]
    return "\n".join(lines)


# the notebook and the page


def compare(cells: Sequence[Cell], force: bool = False) -> int:
    """Execute the notebook that compares the cells on the grid's table, unless it was executed on this very table;
    return an exit code."""
    folder = cells[0].folder.parent
    (source,) = notebooks.choose(notebooks.COMPARE, None, every=True)
    parameters = {"table": str(folder / "table.parquet")}
    key = digest([notebooks.key(source, parameters), (folder / "table.csv").read_text()])
    job = Job(source, parameters, folder, key)
    with held(FileLock(folder / ".lock")):  # if the last two shards end together, only one compares
        if not force and up_to_date(job):
            return OK
        print(f"\n{job.name} ...", flush=True)
        trouble = notebooks.execute(job)
    if trouble:
        print(f"{job.name} failed; the cells that ran are in {job.partial}\n{trouble}\n", flush=True)
    return FAILED if trouble else OK


def pages(cells: Sequence[Cell], name: str) -> Path:
    """Write index.html, with links to the cells' folders, their table and the notebook that compares them; return its
    path."""
    rows = [cell.row() for cell in cells]
    seen = [
        {n: r[n] for n in ("cell", *cells[0].varied, "status", "error")}
        | {n: f"{r[n]:,.0f}" if r[n] else "" for n in ("seconds", "core_seconds")}
        for r in rows
    ]
    files = [f"{notebooks.COMPARE}.html", "table.csv", "table.parquet", "table.json"]
    states = [r["status"] for r in rows]
    facts = {"cells": ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states)), **batch.made_with(rows)}
    return index.index_of_cells(cells[0].folder.parent, name, seen, files, facts)
