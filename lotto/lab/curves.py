"""Curves over sparsity, the standard figure of this field: a line per arm, with intervals."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lotto.lab.arms import ARMS
from lotto.lab.study import Study
from lotto.lab.tables import by_seed, trained
from lotto.stats import interval

if TYPE_CHECKING:
    import pandas as pd
from lotto.lab.plots import COLOURS, RULE, SYMBOLS, counted, styled, value_range


def curves(
    table: pd.DataFrame, study: Study, column: str, axis: str, title: str, mark: float | None = None
) -> go.Figure:
    """A line per arm over sparsity, from the dense net it starts from: mean over initialisations (`tables.averaged`)
    with a 95 % band; below five initialisations, whose intervals would cover all else, bars from the lowest to the
    highest (each arm then stands a little beside the others, so that they can be told apart).

    The sparsity axis is logarithmic in the share that is left. A point where not all initialisations trained is hollow;
    where none did, or an arm was not run, there is none, and the line is broken. Where a few accuracies far below the
    others would take half of the panel, it ends above them, and they are written at its edge.
    """
    fig = _curves([(table, column, axis, mark)], study)
    return styled(fig, title + _marks(fig, study), 460).update_layout(
        margin=dict(l=70), legend=dict(font=dict(size=11))
    )


def both(accuracy: pd.DataFrame, barrier: pd.DataFrame, study: Study, title: str = "") -> go.Figure:
    """`curves` of accuracy (%) and of the error barrier (points, with the 2-point rule) side by side, under one
    legend."""
    panels = [(accuracy, "accuracy", "test accuracy (%)", None), (barrier, "barrier", "error barrier (points)", 2.0)]
    title = title or f"Tickets over sparsity, {counted(study)}"
    words = sum(45 + 6 * len(ARMS[m].title) for m in study.arms)  # pixels that the legend takes, roughly
    top = 42 + 19 * -(-words // 860)
    fig = _curves(panels, study)
    fig = styled(fig, title + _marks(fig, study), 270 + top, 920)
    legend = dict(orientation="h", x=0, y=1.02, yanchor="bottom", font=dict(size=11))
    return fig.update_layout(margin=dict(l=60, t=top, b=46), legend=legend, title_y=0.99, title_yanchor="top")


def _marks(fig: go.Figure, study: Study) -> str:
    """What the title says of bars and hollow marks, where there are any."""
    hollow = any("white" in (t.marker.color or ()) for t in fig.data)
    told = ["bars: lowest to highest"] * (1 < study.seeds < BAND) + ["hollow: not all trained"] * hollow
    return f" ({'; '.join(told)})" if told else ""


def _curves(panels: list[tuple[pd.DataFrame, str, str, float | None]], study: Study) -> go.Figure:
    fig = make_subplots(cols=len(panels), horizontal_spacing=0.09)
    for c, (table, column, axis, mark) in enumerate(panels, 1):
        arms = [m for m in study.arms if not ARMS[m].dense]
        for i, m in enumerate(arms):
            beside = 1.04 ** (i - (len(arms) - 1) / 2) if study.seeds < BAND else 1.0
            fig.add_traces(_curve(table, study, column, m, beside, named=c == 1), rows=1, cols=c)
        ticks = [100.0, *(100 * study.density(level) for level in study.levels)]
        if mark is not None:
            rule = dict(mode="lines", line=RULE, name=f"stable: below {mark:g}", hoverinfo="skip")
            fig.add_trace(go.Scatter(x=[ticks[0], ticks[-1]], y=[mark] * 2, **rule), row=1, col=c)
        words = [f"{100 - t:.2f}" if t < 1 else f"{100 - t:.1f}" if t < 100 else "0" for t in ticks]
        scale = dict(type="log", autorange="reversed", tickvals=ticks, ticktext=words)
        fig.update_xaxes(**scale, title="sparsity (%), logarithmic in what is left", row=1, col=c)
        low, high = value_range(table, study, column)
        drawn = [t for t in fig.select_traces(row=1, col=c) if t.fill is None]
        means = sorted(y for t in drawn for y in t.y if y is not None)
        shown = _whole(means, column)
        floor = low if column == "barrier" else shown[0] if shown else low  # accuracies of single nets may leave it
        low, high = min([floor, *shown]), max([high, *means])
        edge = 0.05 * (high - low)
        fig.update_yaxes(title=axis, range=[low - edge, high + edge], row=1, col=c)
        below = [
            (t.line.color, x, y) for t in drawn for x, y in zip(t.x, t.y, strict=True) if y is not None and y < low
        ]
        for i, (colour, x, y) in enumerate(below):  # one above the other, for they may be near
            told = dict(text=f"▼ {y:.1f}", showarrow=False, font=dict(size=10, color=colour))
            place = dict(x=math.log10(x), y=low - edge, yanchor="bottom", xshift=-22, yshift=12 * i)
            fig.add_annotation(**told, **place, row=1, col=c)
    return fig


def _whole(means: list[float], column: str) -> list[float]:
    """The means, in order, that a panel shows: all, but for a tenth of the accuracies where the others need less than
    half of the room."""
    most = means[len(means) // 10 :] if column == "accuracy" else means
    return most if most and most[-1] - most[0] < (means[-1] - means[0]) / 2 else means


BAND = 5
"""Initialisations from which on an interval is drawn as a band."""


def _curve(table: pd.DataFrame, study: Study, column: str, m: str, beside: float, named: bool) -> list[go.Scatter]:
    """The band and the line of one arm. beside: factor by which its tickets stand beside their share left, for the
    bars' sake; `named`: in the legend."""
    points = [
        (100.0, "dense-rewound" if ARMS[m].from_k else "dense", 0),
        *((100 * study.density(at), m, at) for at in study.levels),
    ]
    values = [list(by_seed(table, name, level, column).values()) for _, name, level in points]
    found = [(x, interval(each)) for (x, *_), each in zip(points, values, strict=True)]
    runs = [list(run) for wide, run in groupby(found, lambda point: point[1].n >= BAND) if wide]
    runs = [run for run in runs if len(run) > 1]
    joined = {x for run in runs for x, _ in run}  # in a band, where the others have bars
    outline = [[*((x, f.low) for x, f in run), *((x, f.high) for x, f in run[::-1]), (None, None)] for run in runs]
    band = go.Scatter(
        x=[x for part in outline for x, _ in part],
        y=[y for part in outline for _, y in part],
        **dict(fill="toself", fillcolor=COLOURS[m], mode="lines", opacity=0.12, line=dict(width=0)),
        **dict(hoverinfo="skip", showlegend=False, legendgroup=m),
    )
    few = study.seeds < BAND
    ends = [(min(v), max(v)) if few and v else (f.low, f.high) for v, (_, f) in zip(values, found, strict=True)]
    bars = [
        (0, 0) if x in joined or low is None else (high - f.mean, f.mean - low)
        for (x, f), (low, high) in zip(found, ends, strict=True)
    ]
    counts = [trained(table, name, level) for _, name, level in points]
    full = ["white" if f.n and n < study.seeds else COLOURS[m] for (_, f), n in zip(found, counts, strict=True)]
    line = go.Scatter(
        x=[x * beside if x < 100 else x for x, _ in found],
        y=[f.mean for _, f in found],
        **dict(name=ARMS[m].title, legendgroup=m, showlegend=named, mode="lines+markers"),
        line=dict(color=COLOURS[m], width=2, dash="dash" if ARMS[m].from_k else "solid"),
        error_y=dict(type="data", array=[b[0] for b in bars], arrayminus=[b[1] for b in bars], thickness=1, width=2),
        marker=dict(color=full, size=7, symbol=SYMBOLS[m], line=dict(color=COLOURS[m], width=2)),
        customdata=[[str(f), n, f"{x:.2f}"] for (x, f), n in zip(found, counts, strict=True)],
        hovertemplate="%{customdata[2]} % left: %{customdata[0]}, %{customdata[1]} trained<extra>"
        + ARMS[m].title
        + "</extra>",
    )
    return [band, line]
