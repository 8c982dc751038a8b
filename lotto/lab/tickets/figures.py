"""Figures of tickets: where their weights are, how they came out, what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from lotto.lab.arms import ARMS
from lotto.lab.plots import COLOURS, LOG, heat, sparsity, styled, value_range
from lotto.lab.study import Study
from lotto.lab.tables import by_seed
from lotto.stats import interval

if TYPE_CHECKING:
    import pandas as pd


def states(table: pd.DataFrame, study: Study) -> go.Figure:
    """How tickets came out: for each method and level the number of initialisations that trained, failed, died or
    diverged."""
    arms = [m for m in study.arms if not ARMS[m].dense][::-1]
    counts, words = [], []
    for m in arms:
        rows = [table[(table.method == m) & (table.level == level)].state for level in study.levels]
        counts.append([int((r == "trained").sum()) / len(r) if len(r) else None for r in rows])
        words.append(["<br>".join(f"{n} {state}" for state, n in r.value_counts().items()) for r in rows])
    panels, colours = [sparsity(study, level) for level in study.levels], [[0, "#e6b0aa"], [1, "#d5e8d4"]]
    fig = go.Figure(heat(counts, panels, [ARMS[m].title for m in arms], words, colours, (0, 1), showscale=False))
    return styled(fig, "How the tickets came out", 120 + 32 * len(arms))


def against_cost(table: pd.DataFrame, costs: pd.DataFrame, study: Study, cost: str) -> go.Figure:
    """Accuracy over the cost of the search, one line per method through its levels; a search that costs nothing stands
    at the left edge."""
    fig = go.Figure()
    known = [v for v in costs[cost] if v > 0]
    edge = min(known, default=1) / 3
    for m in (m for m in study.arms if not ARMS[m].dense):
        mine = costs[costs.method == m]
        found = [interval(list(by_seed(table, m, at, "accuracy").values())) for at in mine.level]
        fig.add_trace(
            go.Scatter(
                x=[max(v, edge) for v in mine[cost]],
                y=[f.mean for f in found],
                mode="lines+markers",
                name=ARMS[m].title,
                line=dict(color=COLOURS[m], width=1.5),
                marker=dict(size=[6 + 2 * i for i in range(len(found))]),
                customdata=[[str(f), sparsity(study, at)] for f, at in zip(found, mine.level, strict=True)],
                hovertemplate="%{customdata[1]}: %{customdata[0]} at %{x:,.0f}<extra>" + ARMS[m].title + "</extra>",
            )
        )
    names = {
        "passes": "images seen in the inner loops",
        "with distillation": "images seen, distillation included",
        "core-seconds": "seconds on one core: inner loops and distillation",
    }
    fig.update_xaxes(title=names[cost], **LOG)
    means = [y for t in fig.data for y in t.y if y is not None]  # a line is shown whole
    low, high = value_range(table, study, "accuracy")
    fig.update_yaxes(title="test accuracy (%)", range=[min([low, *(m - 1 for m in means)]), max([high, *means])])
    return styled(fig, "Accuracy over the cost of the search (larger marks: sparser)", 420).update_layout(
        margin=dict(l=70)
    )
