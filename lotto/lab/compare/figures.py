"""Figures of a grid: estimates against one of its axes, and what each parameter changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from lotto.config import ConfigError, nearest
from lotto.lab import plots
from lotto.lab.arms import ARMS
from lotto.lab.claims.rules import CLAIMS, MEASURES, STABLE
from lotto.lab.compare.tables import axes, ordered, title
from lotto.stats import Interval, interval

if TYPE_CHECKING:
    import pandas as pd

SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon")
OTHERS = ("#1f5fbf", "#d55e00", "#009e73", "#cc79a7", "#777777", "#e69f00")
"""Colours of series that are not arms: comparisons of a claim, kinds of sets."""


def unit(show: str) -> str:
    """The title of an axis with these estimates."""
    if show in MEASURES:
        return MEASURES[show].title
    short = next((c.short for c in CLAIMS if c.id == show), "")
    return f"{show}: {short}"


def against(table: pd.DataFrame, found: pd.DataFrame, by: str | None, show: str) -> go.Figure:
    """Estimates against one axis of the grid: one colour per series, one symbol per combination of values of the other
    axes. Large marks are means over cells that differ only in the seed, with 95 % intervals, and these cells are small
    dots; a single cell is a large mark with its own interval."""
    axis = _axis(table, by)
    others = [a for a in axes(table) if a != axis]
    places = {text: i for i, text in enumerate(ordered(table, axis))}
    found = found.assign(other=list(map(tuple, found[others].to_numpy())))
    series, combinations = found.series.unique(), found.other.unique()
    fig, count = go.Figure(), len(series) * len(combinations)
    for i, s in enumerate(series):
        colour = _colour(s, i)
        for j, other in enumerate(combinations):
            mine = found[(found.series == s) & (found.other == other)]
            shift = 0.6 * ((i * len(combinations) + j + 0.5) / count - 0.5)
            means = [(places[x], rows) for x, rows in mine.groupby(axis, sort=False)]
            means = [(x + shift, _mean(rows), rows) for x, rows in sorted(means, key=lambda m: m[0])]
            if not means:
                continue
            repeated = [(x, v) for x, _, rows in means if len(rows) > 1 for v in rows.value]
            hover = [f"{title(s)}, {axis} {rows[axis].iloc[0]}{_told(others, other)}: {m}" for _, m, rows in means]
            fig.add_trace(_dots(repeated, colour, SYMBOLS[j % len(SYMBOLS)]))
            fig.add_trace(_means([(x, m) for x, m, _ in means], colour, SYMBOLS[j % len(SYMBOLS)], hover))
        fig.add_trace(_key(title(s), colour, "circle"))
    for j, other in enumerate(combinations if len(combinations) > 1 else []):
        fig.add_trace(_key(_told(others, other).removeprefix(", "), "#888888", SYMBOLS[j % len(SYMBOLS)], hollow=True))
    if show == "barrier":
        fig.add_hline(y=STABLE, line=plots.RULE)
    limits = [-0.5, len(places) - 0.5]
    fig.update_xaxes(title=axis, tickvals=list(places.values()), ticktext=list(places), range=limits, showgrid=False)
    fig.update_yaxes(title=unit(show))
    heading = f"{unit(show)[0].upper()}{unit(show)[1:]} against {axis}"
    return plots.legend_below(plots.styled(fig, heading, 460)).update_layout(margin=dict(l=70, t=60, b=105))


def _axis(table: pd.DataFrame, by: str | None) -> str:
    known = axes(table)
    if by is None:
        numbers = [a for a, names in known.items() if len(names) == 1 and table[names[0]].dtype.kind in "iuf"]
        return [*numbers, *known][0]
    if found := [a for a, names in known.items() if by in (a, *names)]:
        return found[0]
    raise ConfigError(f"by = {by!r}: does not vary in this grid; {nearest(by, list(known))}")


def _colour(series: str, i: int) -> str:
    show, arm, *_ = series.split("/")
    return plots.COLOURS[arm] if show in MEASURES and arm in ARMS else OTHERS[i % len(OTHERS)]


def _mean(rows: pd.DataFrame) -> Interval:
    if len(rows) > 1:
        return interval(rows.value.tolist())
    low, high = (None if v is None or v != v else float(v) for v in (rows.low.iloc[0], rows.high.iloc[0]))
    return Interval(float(rows.value.iloc[0]), low, high, 1)


def _told(names: Sequence[str], values: Sequence[str]) -> str:
    return "".join(f", {n} {v}" for n, v in zip(names, values, strict=True))


def _dots(found: Sequence[tuple[float, float]], colour: str, symbol: str) -> go.Scatter:
    marker = dict(color=colour, size=5, opacity=0.5, symbol=symbol)
    x, y = [p[0] for p in found], [p[1] for p in found]
    return go.Scatter(
        x=x, y=y, mode="markers", marker=marker, showlegend=False, hovertemplate="%{y:.2f}<extra></extra>"
    )


def _means(found: Sequence[tuple[float, Interval]], colour: str, symbol: str, hover: Sequence[str]) -> go.Scatter:
    bars = dict(type="data", thickness=1.5, width=4, color=colour, symmetric=False)
    bars |= {"array": [m.half or 0 for _, m in found]}
    bars |= {"arrayminus": [m.mean - m.low if m.low is not None else 0 for _, m in found]}
    return go.Scatter(
        x=[x for x, _ in found],
        y=[m.mean for _, m in found],
        mode="lines+markers",
        line=dict(color=colour, width=1, dash="dot"),
        marker=dict(color=colour, size=10, symbol=symbol, line=dict(color="white", width=1)),
        error_y=bars,
        customdata=list(hover),
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )


def _key(name: str, colour: str, symbol: str, hollow: bool = False) -> go.Scatter:
    marker = dict(color="white" if hollow else colour, size=9, symbol=symbol, line=dict(color=colour, width=1.5))
    return go.Scatter(x=[None], y=[None], mode="markers", name=name, marker=marker)


def changes(found: pd.DataFrame, show: str) -> go.Figure:
    """Every difference with its 95 % interval, one row each; hollow where the interval holds 0 or there is none."""
    fig = go.Figure()
    rows = found.to_dict("records")
    names = [f"{r['axis']}: {r['from']} → {r['to']}  ·  {r['series']}" for r in rows]
    for r, name in zip(rows, names, strict=True):
        known = r["low"] == r["low"] and r["low"] is not None
        clear = known and (r["low"] > 0 or r["high"] < 0)
        mark = go.Scatter(x=[r["mean"]], y=[name], mode="markers", showlegend=False)
        mark.marker = dict(color="#1f5fbf" if clear else "white", size=10, line=dict(color="#1f5fbf", width=2))
        if known:
            half = r["high"] - r["mean"]
            mark.error_x = dict(type="data", array=[half], thickness=1.5, width=4, color="#1f5fbf")
        told = Interval(r["mean"], r["low"] if known else None, r["high"] if known else None, r["n"])
        mark.hovertemplate = f"{told}, {r['pairs']} pairs<extra></extra>"
        fig.add_trace(mark)
    fig.add_vline(x=0, line=dict(color="#999999", width=1))
    fig.update_yaxes(categoryorder="array", categoryarray=names[::-1], type="category")
    fig.update_xaxes(title=f"change of {unit(show)}, all other parameters equal")
    return plots.styled(fig, "What each parameter changes", 130 + 28 * max(1, len(rows))).update_layout(
        margin=dict(l=30)
    )
