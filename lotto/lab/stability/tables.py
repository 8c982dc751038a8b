"""Tables of stability: whole curves, barriers, and sweeps over studies."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd

from lotto import symmetry
from lotto.lab import parallel
from lotto.lab.arms import ARMS
from lotto.lab.describe import Segment, Training
from lotto.lab.stability.products import matched_segment, pairs, segment, segments
from lotto.lab.study import Study
from lotto.lab.tables import mean, rows, worst
from lotto.lab.tickets.products import network
from lotto.lab.tickets.tables import accuracies
from lotto.stability import barrier


def paths(study: Study) -> pd.DataFrame:
    """Table of the curves: one row per (method, level, seed, pair, statistics, alpha), with train and test loss (nats)
    and error (points); pairs whose nets did not both train are left out, as in `barriers`."""
    whole = [
        [row for n, p in enumerate(lines) if worst(p.metrics["states"]) == "trained" for row in _points(n, p.metrics)]
        for lines in segments(study)
    ]
    columns = ["pair", "statistics", "alpha", "train_loss", "test_loss", "train_error", "test_error"]
    return rows(study.cells(), whole, ["method", "level", "seed", *columns])


def _points(number: int, found: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        dict(
            pair=number,
            statistics=statistics,
            alpha=alpha,
            train_loss=curve["train_loss"][i],
            test_loss=curve["test_loss"][i],
            train_error=100 * curve["train_error"][i],
            test_error=100 * curve["test_error"][i],
        )
        for statistics in ("interpolated", "recalibrated")
        if (curve := found.get(statistics))
        for i, alpha in enumerate(found["alphas"])
    ]


def barriers(study: Study) -> pd.DataFrame:
    """Table of the barriers: one row per (method, level, seed), pairs averaged; test-error barriers in points of error.

    `barrier` is the headline: recalibrated statistics, above the mean of the ends. Beside it `interpolated` statistics,
    the `chord` baseline, the `midpoint` alone (None for an even number of points), the barrier in training loss (nats),
    and `moved`: how far recalibrating moves the ends' error (points). None where the net did not train: a dead net has
    no barrier.
    """
    return rows(study.cells(), [_barrier([p.metrics for p in lines]) for lines in segments(study)])


def _barrier(found: list[dict[str, Any]]) -> dict[str, Any]:
    state = worst([s for f in found for s in f["states"]])
    if state != "trained":
        return dict(state=state, **dict.fromkeys(HEIGHTS))
    each = [_heights(f) for f in found]
    return dict(state=state, **{k: mean([e[k] for e in each]) for k in HEIGHTS})


def between(study: Study) -> pd.DataFrame:
    """Table of paths that leave a ticket: one row per (kind, method, other, level, seed), with `barrier` and, up to
    permutation, `matched`.

    Over `match_methods`. Kind "children": two children of one ticket, as everywhere (`other` is the method itself);
    "levels": a child of a level and one of the level before (`other`); "methods": children of two methods at one level.
    Child 1 and child 2, so the noise differs always. `matched` is None where the net's symmetries are not known. Dense
    nets stand at every level.
    """
    one, cells, lines = study.but(methods=study.sweeps.match_methods), [], []

    def line(kind: str, method: str, other: str, level: int, seed: int, a: Training, b: Training) -> None:
        cells.append(dict(kind=kind, method=method, other=other, level=level, seed=seed))
        lines.append(Segment(a=a, b=b, points=one.points, train_images=one.path_images))

    for seed in one.initialisations:
        for before, level in itertools.pairwise((0, *one.levels)):
            ends = {
                m: [one.training(m, 0 if ARMS[m].dense else level, seed, child) for child in (1, 2)] for m in one.arms
            }
            for m in one.arms:
                line("children", m, m, level, seed, *ends[m])
            for m, n in itertools.combinations(one.arms, 2):
                line("methods", m, n, level, seed, ends[m][0], ends[n][1])
            for m in one.arms:
                if before and not ARMS[m].dense:
                    line("levels", m, str(before), level, seed, one.training(m, before, seed, 1), ends[m][1])
    plain = [p.metrics for p in parallel.compute(segment, lines)]
    known = symmetry.known(network(one.setup(0)))
    matched = (
        [p.metrics for p in parallel.compute(matched_segment, lines)]
        if known
        else [{"states": ["failed"]}] * len(lines)
    )
    found = [
        dict(state=worst(p["states"]), barrier=_height(p), matched=_height(q))
        for p, q in zip(plain, matched, strict=True)
    ]
    return rows(cells, found, ["kind", "method", "other", "level", "seed", "state", "barrier", "matched"])


def _height(found: dict[str, Any]) -> float | None:
    return _heights(found)["barrier"] if worst(found["states"]) == "trained" else None


def measured(study: Study) -> pd.DataFrame:
    """`accuracies` with the column `barrier`."""
    return accuracies(study).merge(
        barriers(study)[["method", "level", "seed", "barrier"]], on=["method", "level", "seed"]
    )


def swept(studies: dict[tuple, Study], names: tuple[str, ...]) -> pd.DataFrame:
    """`measured` of several studies below each other; columns `names`, after `method`, hold what each differs in (its
    key)."""
    # all of them at once, so that no worker waits between one and the next
    parallel.compute(segment, [pair for one in studies.values() for cell in one.cells() for pair in pairs(one, cell)])
    parts = []
    for key, one in studies.items():
        part = measured(one).drop(columns=list(names), errors="ignore")  # what varies stands once
        for at, (name, value) in enumerate(zip(names, key, strict=True), 1):
            part.insert(at, name, value)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


HEIGHTS = ("barrier", "interpolated", "chord", "midpoint", "train_loss_barrier", "moved")
"""Columns of `barriers`."""


def _heights(f: dict[str, Any]) -> dict[str, float | None]:
    at, new, old = f["alphas"], f["recalibrated"], f["interpolated"]
    finite = None not in new["train_loss"]
    return dict(
        barrier=100 * barrier(new["test_error"], at),
        interpolated=100 * barrier(old["test_error"], at),
        chord=100 * barrier(new["test_error"], at, "chord"),
        midpoint=100 * barrier([new["test_error"][i] for i in (0, len(at) // 2, -1)], (0, 0.5, 1))
        if len(at) % 2
        else None,
        train_loss_barrier=barrier(new["train_loss"], at) if finite else None,
        moved=100 * (new["test_error"][0] + new["test_error"][-1] - old["test_error"][0] - old["test_error"][-1]) / 2,
    )
