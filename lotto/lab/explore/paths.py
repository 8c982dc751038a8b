"""Explorer of paths: the straight line between two children of any ticket."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import plotly.graph_objects as go

from lotto.lab.arms import ARMS
from lotto.lab.explore.controls import explore
from lotto.lab.plots import COLOURS, counted, named, styled
from lotto.lab.study import Study
from lotto.stability import barrier
from lotto.stats import interval

if TYPE_CHECKING:
    import pandas as pd

UNITS = {"error": "error (points)", "loss": "loss (nats)"}
COLUMNS = [f"{images}_{what}" for images in ("train", "test") for what in UNITS]
EVERY = "all"
"""Stands for all initialisations at once."""
OTHER = "#888888"
"""The colour of the interpolated statistics, which no headline uses."""


class Curves(NamedTuple):
    """The paths of a study."""

    alphas: list[float]
    """Positions on the path: 0 is the first child, 1 the second."""
    values: Mapping[tuple[str, int, int, str], Mapping[int, Mapping[str, list[float]]]]
    """(method, level, pair, statistics) -> seed -> column of `stability.tables.paths` -> its value at each alpha."""
    tops: Mapping[str, float]
    """Column -> its highest value with recalibrated statistics, where the axis ends."""


def read(table: pd.DataFrame) -> Curves:
    """The table of `stability.tables.paths`, curve by curve."""
    values: dict[tuple[str, int, int, str], dict[int, dict[str, list[float]]]] = {}
    for (*key, seed), rows in table.sort_values("alpha").groupby(["method", "level", "pair", "statistics", "seed"]):
        values.setdefault(tuple(key), {})[seed] = {c: rows[c].astype(float).tolist() for c in COLUMNS}
    tops = table[table.statistics == "recalibrated"][COLUMNS].astype(float).max()
    return Curves(sorted(set(table.alpha)), values, {c: float(v) for c, v in tops.items() if v == v})


def figure(
    found: Curves, study: Study, method: str, level: int, seed: int | str, pair: int, what: str, images: str
) -> go.Figure:
    """The path between two children of a ticket: with recalibrated statistics in the method's colour and solid, with
    interpolated ones grey and dotted; one thin line per initialisation, their mean thick. The legend gives the
    barriers, as means over the initialisations shown.

    Every choice has the same number of traces, so that a control only moves them.
    """
    level, column, data, top = 0 if ARMS[method].dense else level, f"{images}_{what}", [], []
    for statistics, dash, colour in (("interpolated", "dot", OTHER), ("recalibrated", "solid", COLOURS[method])):
        curves = found.values.get((method, level, pair, statistics), {})
        shown = {s: c[column] for s, c in curves.items() if seed in (EVERY, s)}
        for s in study.initialisations:
            look = dict(opacity=0.5, showlegend=False, line=dict(color=colour, width=1, dash=dash))
            hover = f"initialisation {s}: %{{y:.2f}}<extra>{statistics}</extra>"
            data.append(_line(found.alphas if s in shown else [], shown.get(s, []), **look, hovertemplate=hover))
        mean = [interval(list(at)).mean for at in zip(*shown.values(), strict=True)]
        high = interval([barrier(c, found.alphas) for c in shown.values() if not any(map(math.isnan, c))])
        name = f"{statistics} statistics" + (f": barrier {high}" if high.mean is not None else "")
        data.append(_line(found.alphas if mean else [], mean, name=name, line=dict(color=colour, width=3, dash=dash)))
        top += [v for c in shown.values() for v in c if not math.isnan(v)]
    over = f"initialisation {seed}" if seed != EVERY else counted(study)
    if seed == EVERY and 0 < len(shown) < study.seeds:
        over += f", {len(shown)} trained"
    title = f"{named(study, method, level)}, {over}" + ("" if top else ": no net trained")
    layout, end = _canvas(), max([found.tops.get(column, 0.0), *top]) or 1.0
    axes = {
        "xaxis": {
            **layout["xaxis"],
            "title": dict(text="share of the way from child {} to child {}".format(*children(study)[pair])),
        },
        "yaxis": {**layout["yaxis"], "title": dict(text=f"{images} {UNITS[what]}"), "range": [-0.02 * end, 1.04 * end]},
    }
    return go.Figure({"data": data, "layout": {**layout, **axes, "title": {**layout["title"], "text": title}}})


def _line(x: list[float], y: list[float | None], **more: Any) -> dict[str, Any]:
    return dict(type="scatter", x=x, y=y, mode="lines", **more)


@functools.cache
def _canvas() -> dict[str, Any]:
    """The layout, the same for every choice except for its titles."""
    fig = styled(go.Figure(), "", 420, 700)
    fig.update_xaxes(range=[0, 1])
    legend = dict(orientation="h", y=-0.2, yanchor="top", x=0)
    return fig.update_layout(margin=dict(l=70, b=100), legend=legend).layout.to_plotly_json()


def children(study: Study) -> list[tuple[int, int]]:
    """The pairs of children with a path between them, in the order of the tables' `pair`."""
    return list(itertools.combinations(range(1, study.children + 1), 2))


def explorer(study: Study, table: pd.DataFrame) -> Any:
    """The paths of `table`, as `stability.tables.paths` makes it."""
    found = read(table)
    return explore(
        lambda **chosen: figure(found, study, **chosen),
        start={"method": "distilled", "level": study.levels[-1]},
        method={ARMS[m].title: m for m in study.arms},
        level=study.levels,
        seed=[EVERY, *study.initialisations],
        pair={f"{a} and {b}": n for n, (a, b) in enumerate(children(study))},
        what=list(UNITS),
        images=["test", "train"],
    )
