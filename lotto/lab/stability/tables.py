"""Tables of stability: whole curves, barriers, and sweeps over studies."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd

from lotto import symmetry
from lotto.lab import parallel
from lotto.lab.arms import ARMS
from lotto.lab.describe import Segment
from lotto.lab.stability.products import matched_segment, prepare, segment, segments
from lotto.lab.study import Study
from lotto.lab.tables import mean, worst
from lotto.lab.tickets.products import children, network
from lotto.lab.tickets.tables import accuracies
from lotto.stability import barrier


def paths(study: Study):
    """Table of the curves: a row a (method, level, seed, pair, statistics, alpha), with train and test loss (nats) and error (points)."""

    rows = []
    for method, at, seed, number, product in segments(study):
        for statistics in ("interpolated", "recalibrated"):
            curve = product.metrics.get(statistics)
            for i, alpha in enumerate(product.metrics["alphas"] if curve else []):
                rows.append(
                    dict(
                        method=method,
                        level=at,
                        seed=seed,
                        pair=number,
                        statistics=statistics,
                        alpha=alpha,
                        train_loss=curve["train_loss"][i],
                        test_loss=curve["test_loss"][i],
                        train_error=100 * curve["train_error"][i],
                        test_error=100 * curve["test_error"][i],
                    )
                )
    return pd.DataFrame(rows)


def barriers(study: Study):
    """Table of the barriers: a row a (method, level, seed), pairs averaged; test-error barriers in points of error.

    `barrier` is the headline: recalibrated statistics, above the mean of the ends. Beside it `interpolated` statistics, the `chord`
    baseline, the `midpoint` alone (None for an even number of points), the barrier in training loss (nats), and `moved`: how far
    recalibrating moves the ends' error (points).
    None where the net did not train: a dead net has no barrier.
    """

    rows = []
    for (m, at, seed), group in itertools.groupby(segments(study), key=lambda r: r[:3]):
        found = [p.metrics for *_, p in group]
        states = [s for f in found for s in f["states"]]
        state = worst(states)
        row = dict(method=m, level=at, seed=seed, state=state, **dict.fromkeys(HEIGHTS))
        if state == "trained":
            each = [_heights(f) for f in found]
            row |= {k: mean([e[k] for e in each]) for k in each[0]}
        rows.append(row)
    return pd.DataFrame(rows)


def between(study: Study):
    """Table of paths that leave a ticket: a row a (kind, method, other, level, seed), with `barrier` and, up to permutation, `matched`.

    Over `study.sweeps.match_methods`. Kind "children": two children of one ticket, as everywhere (`other` is the method itself); "levels": a
    child of a level and one of the level before (`other`); "methods": children of two methods at one level. Child 1 and child 2, so the
    noise differs always. `matched` is None where the net's symmetries are not known. Dense nets stand at every level.
    """

    one = study.but(methods=study.sweeps.match_methods)
    children(one)
    arms, lines = one.arms, []
    for seed in one.initialisations:
        for before, at in itertools.pairwise((0, *one.levels)):
            ends = {m: [one.training(m, 0 if ARMS[m].dense else at, seed, child) for child in (1, 2)] for m in arms}
            lines += [("children", m, m, at, seed, *ends[m]) for m in arms]
            lines += [("methods", m, n, at, seed, ends[m][0], ends[n][1]) for m, n in itertools.combinations(arms, 2)]
            above = {m: one.training(m, before, seed, 1) for m in arms if before and not ARMS[m].dense}
            lines += [("levels", m, str(before), at, seed, start, ends[m][1]) for m, start in above.items()]
    what = [Segment(a=a, b=b, points=one.points, train_images=one.path_images) for *_, a, b in lines]
    plain = parallel.compute(segment, what, "walk paths")
    matched = parallel.compute(matched_segment, what, "match and walk") if symmetry.known(network(one.setup(0))) else [None] * len(what)
    rows = []
    for (kind, method, other, at, seed, *_), p, q in zip(lines, plain, matched, strict=True):
        state = worst(p.metrics["states"])
        row = dict(kind=kind, method=method, other=other, level=at, seed=seed, state=state, barrier=None, matched=None)
        if state == "trained":
            row["barrier"] = _heights(p.metrics)["barrier"]
            row["matched"] = _heights(q.metrics)["barrier"] if q else None
        rows.append(row)
    return pd.DataFrame(rows, columns=["kind", "method", "other", "level", "seed", "state", "barrier", "matched"])


def measured(study: Study):
    """`accuracies` with the column `barrier`."""
    return accuracies(study).merge(barriers(study)[["method", "level", "seed", "barrier"]], on=["method", "level", "seed"])


def swept(studies: dict[tuple, Study], names: tuple[str, ...]):
    """`measured` of several studies below each other; columns `names`, after `method`, hold what each differs in (its key)."""

    prepare(list(studies.values()))
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
        midpoint=100 * barrier([new["test_error"][i] for i in (0, len(at) // 2, -1)], (0, 0.5, 1)) if len(at) % 2 else None,
        train_loss_barrier=barrier(new["train_loss"], at) if finite else None,
        moved=100 * (new["test_error"][0] + new["test_error"][-1] - old["test_error"][0] - old["test_error"][-1]) / 2,
    )
