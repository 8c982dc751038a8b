"""Figures of curvature: what is discarded, what is left, spectra, planes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from lotto.lab.arms import ARMS
from lotto.lab.plots import COLOURS, FONT, error_line, marks, sparsity, styled
from lotto.lab.sharpness.products import POINTS
from lotto.lab.study import Study
from lotto.spectrum import Spectrum
from lotto.stats import interval

if TYPE_CHECKING:
    import pandas as pd


def discarded(table: pd.DataFrame, study: Study, level: int, what: str = "trace") -> go.Figure:
    """What is discarded: how much more of the dense net's curvature lies on the weights that each method removes than
    on as many weights of each layer at random, one panel a point of its training.

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
    means = rows.groupby(["point", "method"])[f"{what}_excess"].mean()
    reach = 1.35 * max(1.0, float(means.abs().max())) if means.notna().any() else 1.0
    for c, point in enumerate(POINTS, 1):
        own = {m: rows[(rows.point == point) & (rows.method == m)] for m in arms}
        found = [interval(own[m][f"{what}_excess"].tolist()) for m in arms]
        every = [(x, ARMS[m].title, COLOURS[m]) for m in arms for x in own[m][f"{what}_excess"].tolist()]
        shares = [interval(own[m][what].tolist()).mean for m in arms]
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
    name = {"trace": "Hessian trace", "absolute": "|Hessian diagonal|"}[what]
    fig.update_xaxes(title="points above chance", title_font_size=11, range=[-reach, reach])
    fig.update_yaxes(type="category", categoryorder="array", categoryarray=names, range=[-0.6, len(names) - 0.4])
    fig.update_annotations(font_size=12)
    title = f"What is discarded: share of the {name} on the removed weights, {sparsity(study, level)}"
    return styled(fig, title, 170 + 28 * len(arms)).update_layout(showlegend=False, margin=dict(r=60))


_PLANES = {
    "test_error": ("test error (points), children 1 to 3", 1.0),
    "train_loss": ("training loss (nats, capped at 3), children 1 to 3", 3.0),
}
"""Metric of a plane -> its title, and where its scale ends."""


def spectrum_and_plane(
    table: pd.DataFrame,
    planes: dict[tuple[str, int], dict],
    study: Study,
    method: str,
    level: int,
    metric: str = "test_error",
) -> go.Figure:
    """Left: the extreme eigenvalues of each initialisation; right: the plane through three children, where there is
    one.

    All planes of a metric share one colour scale, and spectra one axis unless one reaches far beyond, so that choices
    can be compared.
    """
    level = 0 if ARMS[method].dense else level
    rows = table[(table.method == method) & (table.level == level)]
    fig = make_subplots(
        cols=2,
        column_widths=[0.38, 0.62],
        horizontal_spacing=0.14,
        subplot_titles=["extreme eigenvalues", _PLANES[metric][0]],
    )
    known = [v for s in table.spectrum if isinstance(s, list) for v in s]
    for s in study.initialisations:
        values = next((r.spectrum for r in rows.itertuples() if r.seed == s and isinstance(r.spectrum, list)), [])
        fig.add_trace(marks(values, str(s), COLOURS[method], size=9, opacity=0.8, hover="%{x:.3g}"), row=1, col=1)
    if known:  # one axis for all choices, but for what lies far beyond most
        own = [v for s in rows.spectrum if isinstance(s, list) for v in s]
        low, high = min(known), max([sorted(known)[9 * len(known) // 10], *own])
        fig.update_xaxes(range=[low - 0.05 * (high - low), high + 0.05 * (high - low)], row=1, col=1)
    fig.update_xaxes(title="eigenvalue", row=1, col=1)
    fig.update_yaxes(
        title="initialisation", tickvals=list(study.initialisations), range=[-0.5, study.seeds - 0.5], row=1, col=1
    )
    found = planes.get((method, level))
    for trace in _plane(found, planes.values(), metric):
        fig.add_trace(trace, row=1, col=2)
    fig.update_xaxes(title="distance in weights", row=1, col=2)
    fig.update_annotations(font_size=12)
    note = "" if found else " (no plane: not in `planes`, or not trained)"
    return styled(fig, f"{ARMS[method].title}, {sparsity(study, level)}{note}", 420).update_layout(margin=dict(l=70))


def _plane(found: dict | None, every: Iterable[dict], metric: str) -> tuple[go.Contour, go.Scatter]:
    """A plane and the children in its corners, on the colour scale of `every` plane; empty where there is none."""
    highest = _PLANES[metric][1]
    top = max((v for p in every for row in p[metric] for v in row if v is not None), default=1.0)
    scale = 100.0 if metric == "test_error" else 1.0
    rows = found[metric] if found else []
    surface = go.Contour(
        x=found["x"] if found else [],
        y=found["y"] if found else [],
        z=[[None if v is None else scale * min(v, highest) for v in row] for row in rows],
        zmin=0,
        zmax=scale * min(top, highest),
        colorscale="Viridis",
        contours=dict(coloring="heatmap", showlines=True),
        line=dict(width=0.5, color="white"),
        ncontours=12,
        colorbar=dict(len=0.9, thickness=12),
    )
    corners = found["corners"] if found else []
    children = go.Scatter(
        x=[c[0] for c in corners],
        y=[c[1] for c in corners],
        mode="markers+text",
        text=[str(i + 1) for i in range(len(corners))],
        textposition="top center",
        textfont=dict(color="white"),
        marker=dict(color="white", size=8, line=dict(color=FONT, width=1)),
        showlegend=False,
    )
    return surface, children


def spectra(found: dict[tuple[str, int, int], Any], study: Study, level: int) -> go.Figure:
    """Spectral densities of trained tickets (`sharpness.profiles`), a line a method, mean over initialisations, on a
    logarithmic scale; dense nets among them. Eigenvalues are blurred by a hundredth of the range shown, which ends at
    1.5 times the middle net's highest."""
    here = {k: p for k, p in found.items() if k[1] == (0 if ARMS[k[0]].dense else level)}
    fig = go.Figure()
    if here:
        low = min(float(p.tensors["nodes"].min()) for p in here.values())
        tops = sorted(float(p.tensors["nodes"].max()) for p in here.values())
        high = min(tops[-1], 1.5 * tops[len(tops) // 2])  # one sharp net would else press all others to the edge
        if tops[-1] > high:
            beyond = dict(
                text=f"▶ up to {tops[-1]:.0f}",
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
    """Share of the trace that lies in each layer (percent), a line a method, mean over initialisations; noise may carry
    a share below 0."""
    fig = go.Figure()
    here = {k: p for k, p in found.items() if k[1] == (0 if ARMS[k[0]].dense else level)}
    for m in dict.fromkeys(k[0] for k in here):
        traces = [p.metrics["traces"] for k, p in here.items() if k[0] == m]
        shares = {n: interval([100 * t[n] / sum(t.values()) for t in traces]) for n in traces[0]}
        error_line(fig, [n.removesuffix(".weight") for n in shares], list(shares.values()), ARMS[m].title, COLOURS[m])
    fig.update_xaxes(tickangle=-50, tickfont=dict(size=10))
    fig.update_yaxes(title="share of the trace (%)")
    return styled(fig, f"Where the curvature of trained tickets lies, {sparsity(study, level)}", 420).update_layout(
        margin=dict(l=70, b=130)
    )
