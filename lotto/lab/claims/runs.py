"""Reference runs: planned here, computed part by part and seed by seed, kept as small tables in notebooks/reference.

A run's file of facts, with the digest of the rules, is written before anything is computed; rows are added as
initialisations are done. So a stopped run goes on from its tables alone, on another machine too, without what the store
had.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lotto.config import ConfigError, nearest
from lotto.lab import cluster, device, parallel, presets, scheduler, sources
from lotto.lab.arms import ARMS
from lotto.lab.claims import judge
from lotto.lab.claims.plans import PLANS, Batch, Plan
from lotto.lab.claims.rules import ENOUGH, MEASURES, REGIMES, Regime
from lotto.lab.product import replacing
from lotto.lab.study import Study

FOLDER = Path(__file__).resolve().parents[3] / "notebooks" / "reference"


def tables() -> dict[str, Callable[[Study], Any]]:
    """What makes each table from a study."""
    from lotto.lab.sets.tables import judgements
    from lotto.lab.sharpness import tables as sharpness
    from lotto.lab.stability import tables as stability
    from lotto.lab.tickets.tables import accuracies

    return {
        "accuracy": accuracies,
        "barrier": stability.barriers,
        "discarded": sharpness.discarded,
        "curvature": sharpness.curvatures,
        "judged": judgements,
    }


@dataclass(frozen=True)
class Reference:
    """A reference run, as far as it has come."""

    name: str
    facts: dict[str, Any]
    tables: dict[str, Any]

    @property
    def study(self) -> Study:
        """Its study, with the arms and levels of all batches; `view` has those of some."""
        return self.view()

    def view(self, *batches: str, methods: Sequence[str] = (), levels: Sequence[int] = ()) -> Study:
        """The study of some batches, or of these arms and levels, with as many initialisations as are done in all of
        those batches that have begun. None named: of all batches, with as many as any of them has."""
        chosen = [b for n, b in self.facts["batches"].items() if not batches or n in batches]
        methods = methods or list(dict.fromkeys(m for b in chosen for m in b["methods"]))
        levels = levels or sorted({at for b in chosen for at in b["levels"]})
        done = [len(b["done"]) for b in chosen if b["done"]]
        seeds = {"seeds": min(done) if batches else max(done)} if done else {}
        return Study(**{**self.facts["study"], "methods": methods, "levels": levels, **seeds})

    def values(self, measure: str, level: int) -> dict[str, dict[int, float]]:
        """Arm -> initialisation -> a measure, for the arms that were run at a level (dense nets: at their own), nets
        that did not train counted as in `judge.counted`."""
        table, guess, found = self.tables[MEASURES[measure].table], 100 / self.facts["classes"], {}
        for arm in dict.fromkeys(table.method):
            at = 0 if arm in ARMS and ARMS[arm].dense else level  # `real`, all images, is a set and no arm
            if values := judge.counted(table, measure, arm, at, guess):
                found[arm] = values
        return found

    @property
    def interpolated(self) -> Reference:
        """The same run with the barriers of interpolated batch-norm statistics in the place of its own; without those
        tables that do not have them."""
        table = self.tables.get("barrier")
        there = table is not None and "interpolated" in table
        return dataclasses.replace(self, tables={"barrier": table.assign(barrier=table.interpolated)} if there else {})

    @property
    def current(self) -> bool:
        """Whether it was started under today's rules."""
        return self.facts["rules"] == judge.digest()

    @property
    def confirmatory(self) -> bool:
        """Whether it may give words: today's rules, and the initialisations kept for it."""
        kept, mine, plan = REGIMES.get(self.facts["preset"]), self.facts["study"], PLANS.get(self.name)
        if not kept or not plan or plan.more:
            return False
        return self.current and (mine["first_seed"], mine["seeds"]) == (kept.first_seed, kept.seeds)

    @property
    def regime(self) -> Regime:
        """The levels at which its claims are judged."""
        found, plan = judge.regime(self.study), PLANS.get(self.name)
        if plan and plan.main in self.study.levels:
            found = dataclasses.replace(found, main=plan.main, fine=plan.main, high=plan.main)
        return found

    def judged(self, notebook: str | None = None) -> list[judge.Judged]:
        """The claims judged by this run."""
        told = self.confirmatory, self.planned, self.regime
        return judge.judge(self.tables, self.study, self.facts["classes"], notebook, *told)

    @property
    def planned(self) -> int:
        """Initialisations that it was begun for; with fewer there are no words yet."""
        return self.facts.get("planned", self.facts["study"]["seeds"])

    @property
    def origin(self) -> str:
        """What run it is, as Markdown."""
        f, s, plan = self.facts, self.study, PLANS.get(self.name)
        changed = ", ".join(f"{n} = {v}" for n, v in plan.more) if plan else ""
        when = (
            "rule fixed before this run"
            if self.current
            else f"rules have changed since (it began under {f['rules'][:12]}): exploratory"
        )
        lacking = [
            f"{n} ({len(b['done'])} of {self.planned} done)"
            for n, b in f["batches"].items()
            if len(b["done"]) < self.planned
        ]
        hours = f["core_hours"]
        took = f"{hours:.1f} core-hours" if f["device"] == "cpu" else f"{60 * hours:.0f} GPU-minutes"
        made = f"{f['device']}, torch {f['torch']}, {took}"
        return (
            f"Reference run *{self.name}*, `python -m lotto.run reference {self.name}`: initialisations "
            f"{s.first_seed} to {s.first_seed + self.planned - 1}; rules {f['rules'][:12]}, {when}; {made}. "
            + (f"Other than in the preset *{f['preset']}*: {changed}. " if changed else "")
            + (f"Batches of its plan that are not done: {', '.join(lacking)}." if lacking else "Its plan is done.")
            + (f" {note}" if (note := f.get("note")) else "")
        )


def reference(name: str, folder: Path | None = None) -> Reference:
    """A reference run kept in notebooks/reference; ConfigError names those there are."""
    import pandas as pd

    folder = folder or FOLDER
    file = folder / f"{name}.json"
    if not file.exists():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none"
        raise ConfigError(f"reference {name!r} is not there; {folder} has: {known}")
    found = {t: pd.read_csv(f) for t in tables() if (f := folder / f"{name}-{t}.csv").exists()}
    return Reference(name, json.loads(file.read_text()), found)


def known(preset: str, folder: Path | None = None) -> Reference | None:
    """The reference run of a preset, where there is one."""
    return reference(preset, folder) if ((folder or FOLDER) / f"{preset}.json").exists() else None


def make(name: str, seeds: int | None = None, only: Sequence[str] = (), folder: Path | None = None) -> Path:
    """Compute a planned run, or go on with it: batch by batch, and in each the initialisations that are not done yet.

    seeds: fewer initialisations than the plan has, to be said when the run is begun. only: these batches. ConfigError
    for an unknown name, fewer initialisations than a verdict needs, or a run that was begun for another number or under
    other rules.
    """
    if name not in PLANS:
        raise ConfigError(f"reference {name!r} is not planned; {nearest(name, list(PLANS))}")
    plan = PLANS[name]
    if unknown := [b for b in only if b not in plan.batches]:
        raise ConfigError(f"batch {unknown[0]!r} is not in {name}; {nearest(unknown[0], list(plan.batches))}")
    folder, kept = folder or FOLDER, REGIMES.get(plan.preset)
    whole = plan.seeds or kept.seeds
    fewest = min(ENOUGH, whole)
    if seeds is not None and not fewest <= seeds <= whole:
        raise ConfigError(
            f"seeds = {seeds}: a verdict needs {ENOUGH} initialisations, and {name} has {whole}; give {fewest} "
            f"to {whole}"
        )
    first = kept.first_seed if plan.first_seed is None else plan.first_seed
    described = presets.study(plan.preset, first_seed=first, seeds=whole, **dict(plan.more))
    file, facts = folder / f"{name}.json", _facts(plan, described)
    here = {n: facts[n] for n in ("device", "torch", "python")}
    if file.exists():
        old = json.loads(file.read_text())
        begun = old.get("planned", whole)
        _check_goes_on(file, old, facts)
        if seeds not in (None, begun):
            raise ConfigError(
                f"seeds = {seeds}: reference {name!r} was begun for {begun}, and its number may not follow its "
                f"results; give {begun}"
            )
        facts |= {n: old[n] for n in ("begun", "commit", "core_hours", "note", *here) if n in old} | {"planned": begun}
        for n, b in facts["batches"].items():
            b["done"] = old["batches"].get(n, b)["done"]
    facts.setdefault("planned", seeds or whole)
    folder.mkdir(parents=True, exist_ok=True)
    _write(file, facts)
    numbers = list(described.initialisations)[: facts["planned"]]
    for n, some in plan.parts({n: b["done"] for n, b in facts["batches"].items()}, numbers, only):
        started = _core_seconds()
        _add(name, plan.batches[n], described, some, folder)
        facts["batches"][n]["done"] += some
        for what, new in here.items():  # of all machines that its rows are from
            facts[what] = facts[what] if new in facts[what].split(", ") else f"{facts[what]}, {new}"
        facts["core_hours"] = round(facts["core_hours"] + (_core_seconds() - started) / 3600, 3)
        _write(file, facts)
        print(f"{name}: {n}, initialisations {some} done", flush=True)
    return file


def _check_goes_on(file: Path, old: dict[str, Any], facts: dict[str, Any]) -> None:
    """ConfigError where what is planned today, here, would not be the same run as the one in the file."""
    name = file.stem
    if old["rules"] != facts["rules"]:
        raise ConfigError(
            f"reference {name!r} was begun under rules {old['rules'][:12]}, and today's are "
            f"{facts['rules'][:12]}: rows under two rules would be one table. Go back to those rules, or delete "
            f"{file.name} and its tables to begin anew"
        )
    if Study(**old["study"]) != Study(**facts["study"]):
        raise ConfigError(
            f"reference {name!r} was begun with another study; delete {file.name} and its tables to begin anew"
        )
    if (old["device"] == "cpu") != (facts["device"] == "cpu"):
        raise ConfigError(
            f"reference {name!r} was begun on {old['device']}, and products are computed on {facts['device']} here: "
            "rows of both would be one table. Go on with it there (LOTTO_DEVICE says on which device)"
        )
    for n, b in old["batches"].items():
        if b["done"] and {**b, "done": []} != facts["batches"].get(n):
            raise ConfigError(
                f"batch {n!r} of reference {name!r} was begun as {b['methods']} at levels {b['levels']}, and is "
                f"planned otherwise today: give what is new a batch of its own, or delete {file.name} and its "
                "tables to begin anew"
            )


def _core_seconds() -> float:
    """A clock of core-seconds: of all processes here, busy or not, or what the workers of a cluster have told."""
    return cluster.core_seconds if scheduler.named() else parallel.jobs() * time.monotonic()


def _facts(plan: Plan, described: Study) -> dict[str, Any]:
    import torch

    real = sources.load(described.data)
    batches = {n: {**dataclasses.asdict(b), "done": []} for n, b in plan.batches.items()}
    facts = {
        "preset": plan.preset,
        "study": described.model_dump(mode="json"),
        "rules": judge.digest(),
        "commit": _commit(),
        "begun": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "batches": batches,
        "classes": len(real.classes),
        "test_images": len(real.test),
        "device": device.device_name(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "core_hours": 0.0,
    }
    return json.loads(json.dumps(facts))


def _commit() -> str:
    git = shutil.which("git")
    call = [git, "-C", str(FOLDER.parent), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(call, capture_output=True, text=True).stdout.strip() if git else ""


def _write(file: Path, facts: dict[str, Any]) -> None:
    with replacing(file) as part:
        part.write_text(json.dumps(facts, indent=1) + "\n")


def _add(name: str, batch: Batch, described: Study, some: Sequence[int], folder: Path) -> None:
    import pandas as pd

    given = dict(methods=batch.methods, levels=batch.levels) if batch.methods else {}
    study = described.but(first_seed=some[0], seeds=len(some), children=batch.children, **given)
    # all of them, then written: a stop in between leaves no initialisation in one table and not in another
    made = {t: tables()[t](study).round(4) for t in batch.tables}
    for t, new in made.items():
        file = folder / f"{name}-{t}.csv"
        old = [pd.read_csv(file)] if file.exists() else []
        whole = pd.concat([*old, new], ignore_index=True)
        # a net that two batches share, such as the dense one, stands once
        key = [c for c in ("method", "level", "seed", "point", "layer") if c in whole]
        with replacing(file) as part:
            whole.drop_duplicates(key, keep="first").to_csv(part, index=False)
