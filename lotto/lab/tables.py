"""What all tables share: a row per (arm, level, initialisation), and which of them a mean is over."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from lotto.lab.study import Cell
from lotto.stats import interval, rank_correlation

Row = Mapping[str, Any]


def rows(
    cells: Iterable[Row | Cell], found: Iterable[Row | Sequence[Row]], columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """A table with a row per cell: its own columns, then those found for it; several rows where several were found.

    columns: which, and in which order, also where there are no rows; without, all in the order in which they come.
    """
    made = []
    for cell, each in zip(cells, found, strict=True):
        named = cell._asdict() if isinstance(cell, Cell) else dict(cell)
        made += [{**named, **row} for row in ([each] if isinstance(each, Mapping) else each)]
    return pd.DataFrame(made, columns=columns)


def batches(found: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """What was found, `size` at a time."""
    return [found[i : i + size] for i in range(0, len(found), size)]


def averaged(table, column: str):
    """The rows that a mean of `column` is over: of nets that trained (by `state`, where the table has it), but of
    `accuracy` all. A net that failed, died or diverged has one too, and the mean without it would flatter its arm."""
    return table[table.state == "trained"] if "state" in table and column != "accuracy" else table


def failures(table, method: str, level: int) -> tuple[int, int]:
    """(did not train, all) of an arm's initialisations at a level; where the table has no `state`, all did."""
    rows = table[(table.method == method) & (table.level == level)]
    return (int((rows.state != "trained").sum()) if "state" in rows else 0), len(rows)


def trained(table, method: str, level: int) -> int:
    """How many of an arm's initialisations trained at a level."""
    lost, every = failures(table, method, level)
    return every - lost


def by_seed(table, method: str, level: int, column: str) -> dict[int, float]:
    """seed -> value, of those that are averaged (`averaged`) and have one."""
    rows = averaged(table[(table.method == method) & (table.level == level)], column)
    return {
        int(s): float(v) for s, v in zip(rows.seed, rows[column], strict=True) if v is not None and not math.isnan(v)
    }


def summary(table, column: str) -> pd.DataFrame:
    """A row a (method, level): `trained` as "2 of 3", then mean and interval of `column` (`averaged`)."""
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


def correlations(table, measures: Sequence[str], against: str) -> pd.DataFrame:
    """How each measure goes with another over an initialisation's trained tickets: one row per (measure), with the mean
    rank correlation over initialisations and its 95 % interval within [-1, 1], and `n`, the initialisations.

    table: rows with `seed`, `state` and the named columns.
    """
    rows = []
    for name in measures:
        known = table[table.state == "trained"].dropna(subset=[name, against])
        ranks = [rank_correlation(g[name].tolist(), g[against].tolist()) for _, g in known.groupby("seed")]
        found = interval(ranks).within(-1.0, 1.0)
        rows.append(dict(measure=name, correlation=found.mean, low=found.low, high=found.high, n=found.n))
    return pd.DataFrame(rows)


ALL = "all arms"
"""Stands for a method in tables with one row for all of a study's tickets."""


def worst(states: Sequence[str]) -> str:
    """The state of several nets together: that of the worst."""
    return next((s for s in ("dead", "diverged", "failed") if s in states), "trained")


def mean(values: Sequence[float | None]) -> float | None:
    """The mean; None without values, and where one is missing."""
    return sum(values) / len(values) if values and None not in values else None
