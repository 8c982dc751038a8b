"""Figures of sets: their images, the way there, what they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lotto.lab.arms import ARMS
from lotto.lab.plots import COLOURS, bold, marks, styled
from lotto.lab.study import Study
from lotto.lab.tables import by_seed
from lotto.stats import interval

if TYPE_CHECKING:
    import pandas as pd


def losses(runs: dict[str, list[list[float]]], title: str) -> go.Figure:
    """The loss of distillations, each step against other random nets, so smoothed over 5 % of the steps; thin lines,
    one a distillation."""
    fig = go.Figure()
    for i, (name, several) in enumerate(runs.items()):
        colour = ("#d95f0e", "#1f5fbf", "#1b8a5a", "#8e44ad")[i % 4]
        for j, values in enumerate(several):
            window = max(1, len(values) // 20)
            smooth = [
                sum(values[max(0, k - window + 1) : k + 1]) / len(values[max(0, k - window + 1) : k + 1])
                for k in range(len(values))
            ]
            at = range(0, len(smooth), max(1, len(smooth) // 100))
            fig.add_trace(
                go.Scatter(
                    x=[k + 1 for k in at],
                    y=[smooth[k] for k in at],
                    mode="lines",
                    name=name,
                    legendgroup=name,
                    showlegend=j == 0,
                    line=dict(color=colour, width=1.5),
                )
            )
    fig.update_xaxes(title="step")
    fig.update_yaxes(title="matching loss (smoothed)", rangemode="tozero")
    return styled(fig, title, 360, 640).update_layout(margin=dict(l=70))


def judged(table: pd.DataFrame, study: Study) -> go.Figure:
    """What sets are worth: one panel per size; each distillation (or draw) a dot, mean and 95 % interval bold; the
    ceiling as a line."""
    kinds = [k for k in dict.fromkeys(table.method) if k != "real"][::-1]
    names = {k: ARMS[k].title for k in kinds}
    titles = [f"{i} image{'s' if i > 1 else ''} a class" for i in study.judge.ipcs]
    fig = make_subplots(cols=len(study.judge.ipcs), shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=titles)
    ceiling = interval(list(by_seed(table, "real", 0, "accuracy").values()))
    for c, ipc in enumerate(study.judge.ipcs, 1):
        for k in kinds:
            rows = table[(table.method == k) & (table.level == ipc)]
            values = rows.accuracy.dropna().tolist()
            found = interval(values)
            if len(values) < len(rows):
                told = dict(text=f"{len(values)} of {len(rows)} trained", font=dict(size=9), showarrow=False)
                fig.add_annotation(x=100, y=names[k], xanchor="right", **told, row=1, col=c)
            fig.add_trace(marks(values, names[k], COLOURS[k], size=5, opacity=0.5, hover="%{x:.1f}"), row=1, col=c)
            fig.add_trace(bold(found, names[k], COLOURS[k]), row=1, col=c)
        if ceiling.mean is not None:
            fig.add_vline(x=ceiling.mean, line=dict(color=COLOURS["dense"], width=1.5), row=1, col=c)
        fig.update_xaxes(title="test accuracy of fresh nets (%)", range=[0, 100], row=1, col=c)
    return styled(
        fig, f"What a set is worth to a fresh net (line: all training images, {ceiling})", 196 + 28 * len(kinds)
    ).update_layout(margin=dict(l=200))


def grid(images, labels, per_class: int, title: str) -> go.Figure:
    """Images in [0, 1], (n, c, h, w), a column a class, at most `per_class` of each, at equal grey scale."""
    import numpy as np

    shown, c = images.numpy(), images.shape[1]
    columns = []
    for label in range(int(labels.max()) + 1):
        mine = shown[(labels == label).numpy()][:per_class]
        mine = np.pad(mine, ((0, per_class - len(mine)), (0, 0), (1, 0), (1, 0)), constant_values=1.0)
        columns.append(np.concatenate(list(mine), axis=1))
    whole = np.concatenate(columns, axis=2).transpose(1, 2, 0)
    whole = np.repeat(whole, 3, axis=2) if c == 1 else whole
    fig = go.Figure(go.Image(z=(255 * whole).round().astype("uint8")))
    fig.update_xaxes(visible=False)
    fig.update_yaxes(visible=False)
    return styled(fig, title, 80 + 60 * per_class, 640).update_layout(margin=dict(l=10, r=10, t=60, b=10))
