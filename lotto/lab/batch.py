"""A run of several notebooks: planning it, executing them one after another, the table at the end and index.html."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import lotto
from lotto.checkpoint import Paused
from lotto.config import ConfigError
from lotto.lab import beside, index, parallel, stills
from lotto.lab.arms import ARMS
from lotto.lab.check import check, check_judged
from lotto.lab.claims import judge
from lotto.lab.claims.rules import STABLE
from lotto.lab.notebooks import (
    CLONE,
    FAILED,
    INTERRUPTED,
    OK,
    PAUSED,
    Job,
    digest,
    execute,
    key,
    known_parameters,
    up_to_date,
)
from lotto.lab.options import absolute
from lotto.lab.presets import merged, study
from lotto.lab.store import canonical
from lotto.lab.study import Study
from lotto.lab.waiting import held


def plan(sources: Sequence[Path], given: Mapping[str, Any], out: str | None = None) -> tuple[list[Job], Study]:
    """The jobs of a run of the notebooks `sources` with the parameters `given`, and their study; every name, value,
    file and net is checked here, before anything runs.

    A parameter that is not in a notebook's parameters cell goes into its `more`. out: the folder of the results; None:
    one of their own in the clone.
    """
    given = absolute(given)
    described = check(study(**given))
    if any(p.stem.startswith("01") for p in sources):
        check_judged(described)
    where, jobs, bytes_of = place(described.preset, given, out), [], _files(described)
    for p in sources:
        known = known_parameters(p)
        mine = {n: v for n, v in given.items() if n in known}
        if rest := {n: v for n, v in given.items() if n not in known}:
            mine["more"] = {**(mine.get("more") or {}), **rest}
        jobs.append(Job(p, mine, where, key(p, mine, bytes_of)))
    return jobs, described


def _files(described: Study) -> list[Any]:
    """Fingerprints of what lies behind the names in a study: data, a factory's source, sets in files."""
    own = [described.images("own", seed) for seed in described.initialisations if described.own_set]
    return [canonical(what).get("fingerprints", {}) for what in (described, *own)]


def place(preset: str, given: Mapping[str, Any], out: str | None = None) -> Path:
    """Where the results of a run with these parameters go: `out`, or a folder of their own in the clone."""
    extra = {n: v for n, v in given.items() if n != "preset"}
    folder = preset + (f"-{digest(extra)[:8]}" if extra else "")
    return Path(out).expanduser().resolve() if out else CLONE / "runs" / folder


def run(jobs: list[Job], described: Study, force: bool = False, keep_going: bool = False, looked: bool = False) -> int:
    """Execute the notebooks that are not up to date (with `force`, all) and return an exit code. One run at a time
    writes to an output folder. The first failure ends the run, unless `keep_going`. looked: whether a browser was
    looked for before (`look_for_a_browser`)."""
    out = jobs[0].out
    lock = FileLock(out / ".lock")
    with contextlib.ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(lock, 0))
        except Timeout:
            print(f"another run writes to {out}; waiting for it", flush=True)
            stack.enter_context(held(lock))
        except OSError as error:
            raise ConfigError(
                f"out = {str(out)!r}: cannot be written to ({error.strerror}); give --out another folder"
            ) from None
        return _one_by_one(jobs, described, force, keep_going, looked)


def _one_by_one(jobs: list[Job], described: Study, force: bool, keep_going: bool, looked: bool) -> int:
    d = described
    print(f"preset {d.preset}: {d.seeds} initialisation(s), levels {list(d.levels)}, {len(d.arms)} methods", flush=True)
    code = OK
    for job in jobs:
        if not force and up_to_date(job):
            job.status = "up to date"
            continue
        if code != OK and not keep_going:
            job.status = "not run"
            continue
        if not looked:
            looked = True
            look_for_a_browser()
        print(f"{job.name} ...", flush=True)
        try:
            job.trouble = execute(job) or ""
        except (KeyboardInterrupt, Paused) as stopped:
            # else asyncio reports the interrupted cell as an exception that was never retrieved
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            job.status = word = "paused" if isinstance(stopped, Paused) else "interrupted"
            _index(jobs, described)
            print(_table(jobs))
            print(f"{word}; what was finished is kept, the same command goes on from there")
            return PAUSED if isinstance(stopped, Paused) else INTERRUPTED
        job.status = "FAILED" if job.trouble else "ok"
        if job.trouble:
            code = FAILED
            print(f"\n{job.name} failed; the cells that ran are in {job.partial}\n{job.trouble}\n", flush=True)
    print(_table(jobs))
    print(f"results (page opens offline): {_index(jobs, described)}")
    return code


def _index(jobs: list[Job], described: Study) -> Path:
    """Write index.html for all notebooks in the output folder: this run's, and those finished there before."""
    out, now = jobs[0].out, {j.name: j.status for j in jobs}
    told = {p.stem: json.loads(p.read_text()) for p in out.glob("[0-9][0-9]_*.json")}
    # a notebook that another run left here, with other parameters, says nothing about this one
    mine = merged(jobs[0].parameters)
    kept = {n: t for n, t in told.items() if isinstance(t, dict) and merged(t.get("parameters", {})) == mine}
    names = sorted({*now, *kept})
    entries = [
        {"name": n, "status": "ok", **kept.get(n, {}), **({"status": now[n]} if n in now else {})} for n in names
    ]
    facts = {"preset": described.preset, "initialisations": described.seeds, **made_with(entries)}
    beside.page(out, entries, described)
    return index.index(out, entries, facts, described.named(), arms(entries, described))


def arms(done: Sequence[Mapping[str, Any]], study: Study) -> list[dict[str, str]]:
    """What a run found of each arm at the level of the claims: a row for each that the finished notebooks `done` have
    accuracies or barriers of, as text."""
    at = judge.regime(study).main
    found = {name: value for entry in done for name, value in entry.get("numbers", {}).items()}
    rows = []
    for m, arm in ARMS.items():
        level = 0 if arm.dense else at
        means = [found.get(f"{measure}/{m}/{level}") for measure in ("accuracy", "barrier")]
        if means != [None, None]:
            told = ["-" if mean is None else f"{mean:.1f}" for mean in means]
            words = ("arm", "sparsity", "test accuracy (%)", f"error barrier (points; stable: below {STABLE:g})")
            rows.append(dict(zip(words, [arm.title, study.sparse(level), *told], strict=True)))
    return rows


def made_with(done: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What a run was made with, for index.html: the device, the total `seconds` and `core_seconds` of the finished
    notebooks or cells `done`, the system, the versions."""
    total = {n: sum(e.get(n, 0) for e in done) for n in ("seconds", "core_seconds")}
    here = parallel.machine()  # of what was computed elsewhere, or before that was noted, that machine is told instead
    made = {n: "; ".join(dict.fromkeys(e[n] for e in done if n in e)) or here[n] for n in here}
    return {
        "device": made["device"],
        "cost": (
            f"{total['core_seconds']:,.0f} core-seconds, {total['seconds']:,.0f} s by the clock, where not "
            "read from the store"
        ),
        "system": made["system"],
        "versions": ", ".join(
            [f"lotto {lotto.__version__}", *(f"{m} {version(m)}" for m in ("torch", "torchvision", "plotly"))]
        ),
    }


def look_for_a_browser() -> None:
    """If no browser can make stills, say so once and keep the notebooks from trying again."""
    if trouble := stills.trouble():
        os.environ["LOTTO_STILLS"] = "0"
        print(f"no still pictures: {trouble}; figures are interactive without them", flush=True)


def _table(jobs: list[Job]) -> str:
    rows = [("notebook", "status", "seconds", "as the reference", "output")]
    for j in jobs:
        seconds, there = f"{j.seconds:.0f}" if j.seconds else "", j.partial if j.status == "FAILED" else j.result
        rows.append((j.name, j.status, seconds, index.agreement(j.board), str(there)))
    widths = [max(len(r[i]) for r in rows) for i in range(4)]
    return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(r, widths, strict=False)), r[4]]) for r in rows)
