"""What all tables share: a row per (arm, level, initialisation), averaged over those that trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from lotto.lab.arms import ARMS
from lotto.lab.study import Study
from lotto.stats import interval, rank_correlation


def by_seed(table, method: str, level: int, column: str) -> dict[int, float]:
    """seed -> value of the runs that trained; what failed, died or diverged (by `state`, where the table has it) is not averaged in."""
    rows = table[(table.method == method) & (table.level == level)]
    rows = rows[rows.state == "trained"] if "state" in rows else rows
    return {int(s): float(v) for s, v in zip(rows.seed, rows[column], strict=True) if v is not None and not math.isnan(v)}


def summary(table, column: str):
    """A row a (method, level): `trained` as "2 of 3", then mean and interval of `column` over those that trained."""

    rows = []
    for (method, level), group in table.groupby(["method", "level"], sort=False):
        found = interval(list(by_seed(table, method, level, column).values()))
        rows.append(
            dict(
                method=method,
                level=level,
                trained=f"{int((group.state == 'trained').sum()) if 'state' in group else found.n} of {len(group)}",
                mean=found.mean,
                low=found.low,
                high=found.high,
                n=found.n,
            )
        )
    return pd.DataFrame(rows)


def correlations(table, measures: Sequence[str], against: str):
    """How each measure goes with another over an initialisation's trained tickets: a row a (measure), with the mean rank correlation
    over initialisations and its 95 % interval, and `n`, the initialisations.

    table: rows with `seed`, `state` and the named columns.
    """

    rows = []
    for name in measures:
        known = table[table.state == "trained"].dropna(subset=[name, against])
        found = interval([rank_correlation(g[name].tolist(), g[against].tolist()) for _, g in known.groupby("seed")])
        rows.append(dict(measure=name, correlation=found.mean, low=found.low, high=found.high, n=found.n))
    return pd.DataFrame(rows)


ALL = "all arms"
"""Stands for a method in tables with one row for all of a study's tickets."""


def arms_at(study: Study) -> list[tuple[str, int]]:
    """(method, level) of everything the study trains and compares."""
    return [(m, at) for m in study.arms for at in ((0,) if ARMS[m].dense else study.levels)]


def worst(states: list[str]) -> str:
    return next((s for s in ("dead", "diverged", "failed") if s in states), "trained")


def mean(values: list[float | None]) -> float | None:
    return sum(values) / len(values) if values and None not in values else None
