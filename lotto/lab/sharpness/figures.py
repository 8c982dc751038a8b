"""Figures of curvature: what is discarded, what is left, spectra, planes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from lotto.lab.arms import ARMS
from lotto.lab.plots import COLOURS, error_line, sparsity, styled
from lotto.lab.sharpness.products import POINTS
from lotto.lab.study import Study
from lotto.spectrum import Spectrum
from lotto.stats import interval

if TYPE_CHECKING:
    import pandas as pd


def discarded(table: pd.DataFrame, study: Study, level: int) -> go.Figure:
    """What is discarded: how much more of the dense net's curvature lies on the weights that each method removes than
    on as many weights of each layer at random, one panel per point of its training.

    Dots: initialisations; bold: mean with 95 % interval; the line: chance. At the right, the share itself: the mean, in
    percent.
    """
    arms = [m for m in study.arms if not ARMS[m].dense][::-1]
    names = [ARMS[m].title for m in arms]
    rows = table[table.level == level]
    fig = make_subplots(
        cols=len(POINTS),
        shared_yaxes=True,
        horizontal_spacing=0.09,
        subplot_titles=[f"dense net {where}" for where in POINTS.values()],
    )
    dots = max(1.0, float(rows["trace_excess"].abs().max()))  # every dot is in the panel; 1.0 beats NaN
    every = [interval(part["trace_excess"].tolist()) for _, part in rows.groupby(["point", "method"])]
    ends = [abs(end) for f in every if f.low is not None for end in (f.low, f.high)]
    reach = 1.1 * max(dots, min(1.6 * dots, max(ends, default=0.0)))  # and intervals, unless they go far beyond
    for c, point in enumerate(POINTS, 1):
        own = {m: rows[(rows.point == point) & (rows.method == m)] for m in arms}
        found = [interval(own[m]["trace_excess"].tolist()) for m in arms]
        every = [(x, ARMS[m].title, COLOURS[m]) for m in arms for x in own[m]["trace_excess"].tolist()]
        shares = [interval(own[m]["trace"].tolist()).mean for m in arms]
        for trace in (
            go.Scatter(
                **dict(
                    x=[e[0] for e in every], y=[e[1] for e in every], mode="markers", hoverinfo="skip", showlegend=False
                ),
                **dict(marker=dict(color=[e[2] for e in every], size=4, opacity=0.4, line=dict(width=0))),
            ),
            go.Scatter(
                **dict(
                    x=[f.mean for f in found], y=names, mode="markers", showlegend=False, text=[str(f) for f in found]
                ),
                **dict(
                    hovertemplate="%{text}<extra>%{y}</extra>", marker=dict(color=[COLOURS[m] for m in arms], size=9)
                ),
                **dict(
                    error_x=dict(
                        type="data", array=[f.half or 0 for f in found], thickness=1.2, width=3, color="#888888"
                    )
                ),
            ),
            go.Scatter(  # at the edge and right of the panel, where no interval runs through it
                **dict(x=[reach] * len(arms), y=names, mode="text", textposition="middle right", hoverinfo="skip"),
                **dict(
                    text=["" if share is None else f"{share:.1f} %" for share in shares],
                    textfont=dict(size=10, color="#666666"),
                ),
                **dict(cliponaxis=False, showlegend=False),
            ),
        ):
            fig.add_trace(trace, row=1, col=c)
        fig.add_vline(x=0, line=dict(color="#999999", dash="dot"), row=1, col=c)
    fig.update_xaxes(title="points above chance", title_font_size=11, range=[-reach, reach])
    fig.update_yaxes(type="category", categoryorder="array", categoryarray=names, range=[-0.6, len(names) - 0.4])
    fig.update_annotations(font_size=12)
    title = f"What is discarded: Hessian trace on the removed weights, above chance, {sparsity(study, level)}"
    return styled(fig, title, 170 + 28 * len(arms)).update_layout(showlegend=False, margin=dict(r=60))


def spectra(found: dict[tuple[str, int, int], Any], study: Study, level: int) -> go.Figure:
    """Spectral densities of trained tickets (`sharpness.profiles`), one line per method, mean over initialisations, on
    a logarithmic scale; dense nets among them. Eigenvalues are blurred by a hundredth of the range shown, which ends at
    1.5 times the middle net's highest."""
    here = {k: p for k, p in found.items() if k[1] == (0 if ARMS[k[0]].dense else level)}
    fig = go.Figure()
    if here:
        low = min(float(p.tensors["nodes"].min()) for p in here.values())
        tops = sorted(float(p.tensors["nodes"].max()) for p in here.values())
        high = min(tops[-1], 1.5 * tops[len(tops) // 2])  # one sharp net would else press all others to the edge
        if tops[-1] > high:
            far = {m: max(float(p.tensors["nodes"].max()) for k, p in here.items() if k[0] == m) for m, *_ in here}
            beyond = dict(
                text="▶ " + ", ".join(f"{ARMS[m].title} up to {top:.0f}" for m, top in far.items() if top > high),
                x=0.99,
                xref="paper",
                y=0.97,
                yref="paper",
                xanchor="right",
                showarrow=False,
            )
            fig.add_annotation(**beyond, font=dict(size=10, color="#666666"))
        grid = torch.linspace(1.2 * min(low, -1e-6), 1.1 * high, 120, dtype=torch.float64)
        width = float(grid[-1] - grid[0]) / 100
        for m in dict.fromkeys(k[0] for k in here):
            curves = [
                Spectrum(p.tensors["nodes"], p.tensors["weights"]).curve(grid, width)
                for k, p in here.items()
                if k[0] == m
            ]
            mean = torch.stack(curves).mean(0).clamp_min(1e-12)
            line = dict(color=COLOURS[m], width=2)
            fig.add_trace(go.Scatter(x=grid.tolist(), y=mean.tolist(), mode="lines", name=ARMS[m].title, line=line))
    fig.update_xaxes(title="eigenvalue of the Hessian on the live weights")
    fig.update_yaxes(title="density", type="log", range=[-5, 1.5], dtick=1, exponentformat="power")
    return styled(fig, f"Spectra of trained tickets, {sparsity(study, level)}", 400, 760).update_layout(
        margin=dict(l=70)
    )


def trace_by_layer(found: dict[tuple[str, int, int], Any], study: Study, level: int) -> go.Figure:
    """Share of the trace that lies in each layer (percent), one line per method, mean over initialisations; noise may
    carry a share below 0."""
    fig = go.Figure()
    here = {k: p for k, p in found.items() if k[1] == (0 if ARMS[k[0]].dense else level)}
    for m in dict.fromkeys(k[0] for k in here):
        traces = [p.metrics["traces"] for k, p in here.items() if k[0] == m]
        shares = {n: interval([100 * t[n] / sum(t.values()) for t in traces]) for n in traces[0]}
        error_line(fig, [n.removesuffix(".weight") for n in shares], list(shares.values()), ARMS[m].title, COLOURS[m])
    fig.update_xaxes(tickangle=-50, tickfont=dict(size=10))
    means = [y for t in fig.data for y in t.y]  # an interval of three may go far beyond
    low, high = min([0.0, *means]), max([1.0, *means])
    fig.update_yaxes(title="share of the trace (%)", range=[low - 0.2 * (high - low), high + 0.2 * (high - low)])
    return styled(fig, f"Where the curvature of trained tickets lies, {sparsity(study, level)}", 420).update_layout(
        margin=dict(l=70, b=130)
    )
