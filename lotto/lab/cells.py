"""The cells of a grid executed, several at once, and the table rewritten as each finishes."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence

from lotto.checkpoint import Paused
from lotto.lab import batch, gather, parallel, progress, scheduler
from lotto.lab.gather import Cell
from lotto.lab.notebooks import INTERRUPTED, OK, PAUSED, Job, up_to_date
from lotto.lab.study import Study
from lotto.lab.waiting import deadline

STOPPED = {PAUSED: "paused", INTERRUPTED: "interrupted"}
"""Exit code -> status of a cell whose run was stopped with it."""

TICKETS, PATHS = "02_distilled_imp", "03_stability"
"""Notebooks that show the trained tickets of a cell's study as it stands, and the paths between them."""


def ahead(cells: Sequence[Cell]) -> int:
    """Compute the tickets of several cells together, before their notebooks are executed; return an exit code. A
    search is a chain of rounds, so that one cell alone keeps few workers busy. An error is only told here: its cell
    meets it again, and makes a row of it."""
    missing = [(c.study, {j.name for j in c.jobs if not up_to_date(j)}) for c in cells]
    missing = [(study, names) for study, names in missing if names & {TICKETS, PATHS}]
    if len(missing) < 2:
        return OK
    from lotto.lab.stability.products import pairs, segment
    from lotto.lab.tickets.products import trained, trainings

    print(f"tickets of {len(missing)} cells together", flush=True)
    try:
        parallel.compute(trained, [t for study, _ in missing for t in trainings(study)])
        walked = [study for study, names in missing if PATHS in names]
        parallel.compute(segment, [p for study in walked for cell in study.cells() for p in pairs(study, cell)])
    except Paused:
        return PAUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        print(f"not all of them: {error}", flush=True)
    return OK


def run(cells: Sequence[Cell], mine: Sequence[Cell], name: str, force: bool = False) -> int:
    """Execute the cells of `mine` that are not up to date, when their tickets are there (`ahead`), as many at once as
    there may be processes; return an exit code. A failed cell is a row with its error, and the others run. The table of
    all `cells` is rewritten after each."""
    code = ahead(mine) if time.time() < deadline() else OK
    waiting = {}
    for i, cell in enumerate(mine if code == OK else (), 1):
        told = f"cell {i} of {len(mine)}, {cell.name}"
        if not force and all(map(up_to_date, cell.jobs)):
            print(f"{told}: up to date", flush=True)
        else:
            waiting[cell.name] = told, cell
    at_once = min(parallel.jobs(), len(waiting))
    try:
        with contextlib.closing(_executed(list(waiting.values()), force, at_once)) as executed:
            for place, found, jobs in executed:
                _, cell = waiting.pop(place)
                cell.jobs = jobs
                if found is None:  # the time was up before it began
                    code = max(code, PAUSED)
                    continue
                cell.note(STOPPED.get(found))
                gather.write(cells)
                code = max(code, found)
                if found == INTERRUPTED:
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        code = INTERRUPTED
        for _, cell in list(waiting.values())[: at_once if at_once > 1 else 0]:
            cell.note(STOPPED[code])
    finally:
        gather.write(cells)
    if gather.finished(cells) and code not in STOPPED:
        code = max(code, gather.compare(cells, force))
    print(f"\n{gather.told(cells)}")
    if code in STOPPED:
        print(f"{STOPPED[code]}; what was finished is kept, the same command goes on from there")
    print(f"table: {cells[0].folder.parent / 'table.csv'}; page (opens offline): {gather.pages(cells, name)}")
    return code


def _executed(
    waiting: Sequence[tuple[str, Cell]], force: bool, at_once: int
) -> Iterator[tuple[str, int | None, list[Job]]]:
    """Execute cells, each with what is told of it: (name, exit code, jobs) of each as it finishes; code None: not
    begun. Of several at once, each has its share of the processes, and its lines begin with its name."""
    tasks = [(told, cell.name, cell.jobs, cell.study, force) for told, cell in waiting]
    if at_once < 2:
        return parallel.unordered(_cell, tasks, at_once)
    batch.look_for_a_browser()  # said once
    # those that are left over when the others have ended have the processes for themselves
    over = len(tasks) % at_once
    beside = [at_once] * (len(tasks) - over) + [over] * over
    tasks = [(*task, str(math.ceil(parallel.jobs() / n))) for task, n in zip(tasks, beside, strict=True)]
    settings = {"LOTTO_SCHEDULER": scheduler.address(), "LOTTO_PLACE": parallel.place()}
    return parallel.unordered(_cell, tasks, at_once, **settings)


def _cell(
    told: str, name: str, jobs: list[Job], study: Study, force: bool, share: str | None = None
) -> tuple[str, int | None, list[Job]]:
    """share: of the processes, where several cells are executed at once, each in a process of its own."""
    if time.time() >= deadline():
        return name, None, jobs
    if share:
        os.environ["LOTTO_JOBS"] = share
    scheduler.check()  # one that is lost is no fault of this cell's: the run ends, and nothing is made a row of
    with contextlib.redirect_stdout(progress.Named(name, sys.stdout)) if share else contextlib.nullcontext():
        print(f"\n{told}", flush=True)
        return name, batch.run(jobs, study, force, keep_going=True, looked=bool(share)), jobs
