"""What sets are worth to fresh nets, what they cost, and their cards."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from lotto.config import Net, Recipe
from lotto.lab import parallel, sources
from lotto.lab.describe import Judging, SetOf
from lotto.lab.sets.products import distilled, judged
from lotto.lab.study import Study
from lotto.lab.tables import batches, mean, rows


def judging(
    study: Study, kind: str, ipc: int, seed: int, net: int, on: str = "convnet", recipe: str = "plain"
) -> Judging:
    """Net number `net` on the set of that kind and size that belongs to initialisation `seed`; `on` and `recipe` as in
    `study.judge.on` and `study.judge.recipes`."""
    return Judging(
        data=study.data,
        images=study.but(ipc=ipc).images(kind, seed),
        net=described(study, on),
        recipe=recipes(study)[recipe],
        seed=1000 * seed + net,
    )


def described(study: Study, on: str) -> Net:
    """The net that `on`, one of `study.judge.on`, names."""
    match = study.distill
    if on == "convnet":
        return Net(name="convnet", width=match.width, depth=match.depth, norm="instance")
    return study.setup(0).net if on == "pruned" else Net(name=on, width=study.net.width, norm=study.net.norm)


def recipes(study: Study) -> dict[str, Recipe]:
    """The judges' recipes: equally many steps in each."""
    plain = study.outer.but(steps=study.judge.steps, lr=study.judge.lr, batch=study.judge.batch)
    return {"plain": plain, "augmented": plain.but(ops=("color", "scale", "rotate", "cutout"), cutmix=0.5)}


def make(study: Study) -> None:
    """Compute the distilled sets of all sizes, and their first tenth (what the notebook shows of the way)."""
    sets = [
        SetOf(data=study.data, images=study.but(ipc=i).images("distilled", s))
        for i in study.judge.ipcs
        for s in study.initialisations
    ]
    sets += [stage(study, i, 0, steps) for i in study.judge.ipcs for steps in stages(study)[:-1]]
    parallel.compute(distilled, sets)


def stages(study: Study) -> tuple[int, ...]:
    """Steps of the distillation at which it is shown: its start (real images), a tenth of the way, the end."""
    return tuple(dict.fromkeys((0, study.distill.steps // 10, study.distill.steps)))


def stage(study: Study, ipc: int, seed: int, steps: int) -> SetOf:
    """The distilled set as it is after so many steps."""
    return SetOf(data=study.data, images=study.but(ipc=ipc, distill_steps=steps).images("distilled", seed))


def judgements(study: Study) -> pd.DataFrame:
    """Table of what sets are worth: one row per (method, level, seed), nets averaged; test accuracy in points (None
    where a net diverged).

    `method` is the kind of set, one of `study.judge.kinds`, or `real`: the same net on all training images, the
    ceiling; `level` the images a class (0 for `real`). Each seed has sets of its own; all nets take equally many steps.
    A net that only guesses counts: that is what its set is worth.
    """
    cells = [
        dict(method=kind, level=i, seed=s)
        for kind in study.judge.kinds
        for i in study.judge.ipcs
        for s in study.initialisations
    ]
    cells += [dict(method="real", level=0, seed=s) for s in study.initialisations]
    return rows(cells, _averaged(study, cells))


def robustness(study: Study) -> pd.DataFrame:
    """Table of what sets are worth in other nets and recipes: one row per (method, level, seed, net, recipe), fresh
    nets averaged; accuracy in points.

    Sets: `distilled`; `subset`, equally many real images stored, and, where a stored image holds several, as many real
    ones as it holds; and `real`, all training images. The first three are what the scores of `scored` are made of.
    """
    sizes = sorted({i for ipc in study.judge.ipcs for i in (ipc, ipc * study.distill.factor**2)})
    arms = [("distilled", i) for i in study.judge.ipcs] + [("subset", i) for i in sizes] + [("real", 0)]
    cells = [
        dict(method=kind, level=i, seed=s, net=on, recipe=recipe)
        for kind, i in arms
        for s in study.initialisations
        for on in study.judge.on
        for recipe in study.judge.recipes
    ]
    return rows(cells, _averaged(study, cells)).drop(columns="images")


def _averaged(study: Study, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each cell the test accuracy in points, mean over the nets (None where one diverged), and how many images
    these saw."""
    what = [
        judging(study, c["method"], max(c["level"], 1), c["seed"], n, c.get("net", "convnet"), c.get("recipe", "plain"))
        for c in cells
        for n in range(study.judge.nets)
    ]
    found = []
    for each in batches([p.metrics for p in parallel.compute(judged, what)], study.judge.nets):
        errors = mean([m["test"]["error"] if "test" in m else None for m in each])
        found.append({"accuracy": None if errors is None else 100 * (1 - errors), "images": each[0].get("images")})
    return found


def costs(study: Study) -> pd.DataFrame:
    """Table of what the distilled sets cost: one row per size, mean over distillations.

    `stored`: images; `real images seen` by the distillation, each time counted; `epochs`: the same in units of the
    training set; `updates` of the pixels.
    """
    sets = [stage(study, i, s, study.distill.steps) for i in study.judge.ipcs for s in study.initialisations]
    whole, found = len(sources.load(study.data).train), []
    for i, made in zip(study.judge.ipcs, batches(parallel.compute(distilled, sets), study.seeds), strict=True):
        seen = sum(p.metrics["real_passes"] for p in made) // len(made)
        stored = {"images a class": i, "stored": i * len(made[0].metrics["classes"]), "real images seen": seen}
        found.append({**stored, "epochs": round(seen / whole, 1), "updates": study.distill.steps})
    return pd.DataFrame(found)


def scored(table, weight: float = 0.5) -> pd.DataFrame:
    """Label- and augmentation-robust scores of distilled sets (as the benchmark DD-Ranking defines them), from a table
    of `robustness`: a row a (level, net, seed).

    HLR = accuracy of all real images - of the distilled ones; IOR = of the distilled - of equally many real ones
    stored, in the same recipe, accuracies as shares. LRS = squash(weight x IOR - (1 - weight) x HLR), in the plain
    recipe; ARS = squash(weight x IOR augmented + (1 - weight) x IOR plain), where squash(a) = (e^a - e^-1) / (e - e^-1)
    maps -1 to 0 and 1 to 1. Higher is better. Labels here are hard and the recipe is the judge's own for all, so of the
    original's two accuracies of a set (hard labels, its own recipe) there is one. NaN where an accuracy is missing.
    """
    shares = {
        (r.method, r.level, r.net, r.seed, r.recipe): r.accuracy / 100
        for r in table.itertuples()
        if pd.notna(r.accuracy)
    }

    def share(method: str, level: int, *where) -> float:
        return shares.get((method, level, *where), math.nan)

    def squash(a: float) -> float:
        return (math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1))

    rows = []
    for level, net, seed in (
        table[table.method == "distilled"][["level", "net", "seed"]].drop_duplicates().itertuples(index=False)
    ):
        plain, augmented = (
            share("distilled", level, net, seed, r) - share("subset", level, net, seed, r)
            for r in ("plain", "augmented")
        )
        lost = share("real", 0, net, seed, "plain") - share("distilled", level, net, seed, "plain")
        label, both = weight * plain - (1 - weight) * lost, weight * augmented + (1 - weight) * plain
        rows.append(dict(level=level, net=net, seed=seed, LRS=squash(label), ARS=squash(both)))
    return pd.DataFrame(rows, columns=["level", "net", "seed", "LRS", "ARS"])
