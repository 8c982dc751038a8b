"""Explorer of paths: the straight line between two children of any ticket."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from lotto.lab.arms import ARMS
from lotto.lab.explore.controls import explore
from lotto.lab.plots import COLOURS, named, styled
from lotto.lab.study import Study
from lotto.stability import barrier
from lotto.stats import interval

if TYPE_CHECKING:
    import pandas as pd

UNITS = {"error": "error (points)", "loss": "loss (nats)"}
EVERY = "all"
"""Stands for all initialisations at once."""
OTHER = "#888888"
"""The colour of the statistics that are not the headline's."""


def figure(
    table: pd.DataFrame,
    study: Study,
    method: str,
    level: int,
    seed: int | str = EVERY,
    pair: int = 0,
    what: str = "error",
    images: str = "test",
) -> go.Figure:
    """The path between two children of a ticket, from `stability.tables.paths`: with recalibrated statistics in the
    method's colour and solid, interpolated ones grey and dotted; a thin line an initialisation, their mean thick. The
    legend says how high each barrier is, mean over the initialisations shown.

    There are as many traces for every choice, so that a control only moves them.
    """
    level = 0 if ARMS[method].dense else level
    rows = table[(table.method == method) & (table.level == level) & (table.pair == pair)] if len(table) else table
    rows = rows[rows.seed == seed] if seed != EVERY and len(rows) else rows
    fig = go.Figure()
    for statistics, dash, colour in (("interpolated", "dot", OTHER), ("recalibrated", "solid", COLOURS[method])):
        curves = rows[rows.statistics == statistics] if len(rows) else rows
        by = {s: g.sort_values("alpha")[f"{images}_{what}"].tolist() for s, g in curves.groupby("seed")} if len(curves) else {}
        grid = sorted(set(curves.alpha)) if len(curves) else []
        for s in study.initialisations:
            thin = dict(color=colour, width=1, dash=dash)
            hover = f"initialisation {s}: %{{y:.2f}}<extra>{statistics}</extra>"
            fig.add_trace(_line(grid if s in by else [], by.get(s, []), thin, opacity=0.5, showlegend=False, hovertemplate=hover))
        mean = [interval([c[i] for c in by.values()]).mean for i in range(len(grid))]
        high = interval([barrier(c, grid) for c in by.values() if not any(map(math.isnan, c))])
        name = f"{statistics} statistics" + (f": barrier {high}" if high.mean is not None else "")
        fig.add_trace(_line(grid, mean, dict(color=colour, width=3, dash=dash), name=name))
    a, b = children(study)[pair]
    fig.update_xaxes(title=f"share of the way from child {a} to child {b}", range=[0, 1])
    top = _top(table[table.statistics == "recalibrated"], rows, f"{images}_{what}")
    fig.update_yaxes(title=f"{images} {UNITS[what]}", range=[-0.02 * top, 1.04 * top])
    over = f"initialisation {seed}" if seed != EVERY else f"{study.seeds} initialisations"
    title = f"{named(study, method, level)}, {over}" + ("" if len(rows) else ": no net trained")
    legend = dict(orientation="h", y=-0.2, yanchor="top", x=0)
    return styled(fig, title, 420, 700).update_layout(margin=dict(l=70, b=100), legend=legend)


def _line(x: list[float], y: list[float | None], line: dict[str, Any], **more: Any) -> go.Scatter:
    return go.Scatter(x=x, y=y, mode="lines", line=line, **more)


def _top(every: pd.DataFrame, rows: pd.DataFrame, column: str) -> float:
    """Where the axis ends: the same for every ticket, unless the one shown reaches beyond."""
    highest = [float(part[column].max()) for part in (every, rows) if len(part) and part[column].notna().any()]
    return max([*highest, 1e-9]) if highest else 1.0


def children(study: Study) -> list[tuple[int, int]]:
    """The pairs of children that paths are walked between, in the order of the tables' `pair`."""
    return list(itertools.combinations(range(1, study.children + 1), 2))


def explorer(study: Study, table: pd.DataFrame) -> Any:
    """The paths of `table`, as `stability.tables.paths` makes it."""
    return explore(
        lambda **chosen: figure(table, study, **chosen),
        start={"method": "distilled", "level": study.levels[-1]},
        method={ARMS[m].title: m for m in study.arms},
        level=study.levels,
        seed=[EVERY, *study.initialisations],
        pair={f"{a} and {b}": n for n, (a, b) in enumerate(children(study))},
        what=list(UNITS),
        images=["test", "train"],
    )
