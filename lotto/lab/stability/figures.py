"""Figures of stability: paths between children, barriers up to permutation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lotto.lab.arms import ARMS
from lotto.lab.plots import COLOURS, FONT, RULE, bold, legend_below, sparsity, styled
from lotto.lab.study import Study
from lotto.lab.tables import by_seed
from lotto.stats import interval

if TYPE_CHECKING:
    import pandas as pd


def all_paths(table: pd.DataFrame, study: Study, level: int) -> go.Figure:
    """Recalibrated test error along the path for every method: a line an initialisation, the mean thick; dense nets
    first."""
    arms = list(study.arms)
    columns = 4
    deep = -(-len(arms) // columns)
    fig = make_subplots(
        rows=deep,
        cols=columns,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.45 / deep,
        subplot_titles=[ARMS[m].title for m in arms],
    )
    for i, m in enumerate(arms):
        at = 0 if ARMS[m].dense else level
        rows = table[
            (table.method == m) & (table.level == at) & (table.statistics == "recalibrated") & (table.pair == 0)
        ]
        where = dict(row=i // columns + 1, col=i % columns + 1)
        for _, group in rows.groupby("seed"):
            fig.add_trace(
                go.Scatter(
                    x=group.alpha.tolist(),
                    y=group.test_error.tolist(),
                    mode="lines",
                    showlegend=False,
                    opacity=0.5,
                    line=dict(color=COLOURS[m], width=1),
                ),
                **where,
            )
        if len(rows):
            mean = rows.groupby("alpha").test_error.mean()
            fig.add_trace(
                go.Scatter(
                    x=mean.index.tolist(),
                    y=mean.tolist(),
                    mode="lines",
                    showlegend=False,
                    line=dict(color=COLOURS[m], width=3),
                ),
                **where,
            )
    fig.update_annotations(font_size=11)
    highest = max((y for t in fig.data for y in t.y if y is not None), default=100.0)
    fig.update_yaxes(range=[0, min(100.0, 1.1 * highest)])
    fig.update_xaxes(range=[0, 1], tickvals=[0, 0.5, 1], showticklabels=True)
    fig.update_xaxes(title="from one child to the other", title_font_size=11, row=deep)
    title = f"Test error (points) on the straight line between two children, {sparsity(study, level)}"
    return styled(fig, title, 120 + 150 * deep).update_layout(margin=dict(l=50, t=80, b=40))


def rounds(paths: pd.DataFrame, barrier: pd.DataFrame, study: Study, level: int) -> go.Figure:
    """What `level` rounds of pruning (0: none) leave of the hump: at the left the paths between two children, at the
    right the barriers of all rounds with this one marked. A line per arm, means over initialisations, the dense
    network in black; `paths` and `barrier` are the tables of those names.

    As many traces for every level, so that a slider only moves them. An arm of which no net trained has no line.
    """
    arms = [m for m in study.arms if not ARMS[m].dense]
    fig = make_subplots(cols=2, horizontal_spacing=0.12, column_widths=[0.48, 0.52])
    lines = paths[(paths.statistics == "recalibrated") & (paths.pair == 0)]
    for m in ("dense", *arms):
        at = 0 if m == "dense" else level
        mine = lines[(lines.method == (m if at else "dense")) & (lines.level == at)]
        mean = mine.groupby("alpha").test_error.mean().to_dict()
        look = dict(color=COLOURS[m], width=4 if m != "dense" else 2)
        style = dict(mode="lines", line=look, name=ARMS[m].title, legendgroup=m)
        fig.add_trace(go.Scatter(x=list(mean), y=list(mean.values()), **style), row=1, col=1)
    every = (0, *study.levels)
    for m in arms:
        arm = {at: m if at else "dense-rewound" if ARMS[m].from_k else "dense" for at in every}
        found = [interval(list(by_seed(barrier, arm[at], at, "barrier").values())).mean for at in every]
        now = [17 if at == level else 7 for at in every]
        style = dict(mode="lines+markers", line=dict(color=COLOURS[m], width=2), marker=dict(size=now))
        style |= dict(name=ARMS[m].title, legendgroup=m, showlegend=False)
        fig.add_trace(go.Scatter(x=list(every), y=found, **style), row=1, col=2)
    rule = dict(mode="lines", line=RULE, name="stable: below 2", hoverinfo="skip")
    fig.add_trace(go.Scatter(x=[every[0], every[-1]], y=[2, 2], **rule), row=1, col=2)
    fig.update_xaxes(title="from one training to the other", range=[0, 1], row=1, col=1)
    top = 1.08 * max([5.0, *lines.test_error])  # the same for every level
    fig.update_yaxes(title="test error (points)", range=[0, top], row=1, col=1)
    ticks = dict(tickvals=list(every), ticktext=[f"{at}<br>{100 * study.density(at):.3g} %" for at in every])
    fig.update_xaxes(title=dict(text="rounds of pruning, share of weights left", standoff=12), **ticks, row=1, col=2)
    fig.update_yaxes(title="error barrier (points)", rangemode="tozero", row=1, col=2)
    title = f"After {level} rounds, {sparsity(study, level)}" if level else "The dense network, nothing pruned"
    legend = dict(orientation="h", x=0, y=1.02, yanchor="bottom")
    return styled(fig, title, 430).update_layout(margin=dict(l=60, t=84, b=75), legend=legend)


def matched(table: pd.DataFrame, study: Study, level: int) -> go.Figure:
    """Barriers of `stability.between` as the nets are (black) and with channels permuted to match (red): mean with 95 %
    interval."""
    rows = table[(table.level == level) & (table.state == "trained")]
    fig, names = go.Figure(), []
    for (kind, m, other), group in rows.groupby(["kind", "method", "other"], sort=False):
        title = ARMS[m].title
        what = {"children": f"{title}: two children", "levels": f"{title}: child of level {other}"}
        names.append(what.get(kind) or f"{title} and {ARMS[other].title}")
        for column, colour in (("barrier", FONT), ("matched", "#c0392b")):
            fig.add_trace(bold(interval(group[column].tolist()), names[-1], colour))
    for name, colour in (("as they are", FONT), ("up to permutation", "#c0392b")):
        fig.add_trace(go.Scatter(x=[None], y=names[:1], mode="markers", marker=dict(color=colour, size=10), name=name))
    fig.add_vline(x=2, line=dict(color="#c0392b", width=1, dash="dash"))
    fig.update_yaxes(categoryorder="array", categoryarray=names[::-1])
    fig.update_xaxes(title="error barrier (points)", rangemode="tozero")
    return legend_below(styled(fig, f"Barriers up to permutation, {sparsity(study, level)}", 200 + 28 * len(names)))
