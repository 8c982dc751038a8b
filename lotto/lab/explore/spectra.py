"""Explorer of spectra: the curvature of a trained ticket on its live weights, eigenvalue by eigenvalue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from lotto.lab.arms import ARMS
from lotto.lab.explore.controls import explore
from lotto.lab.plots import COLOURS, marks, named, styled
from lotto.lab.product import Product
from lotto.lab.study import Cell, Study
from lotto.spectrum import Spectrum

if TYPE_CHECKING:
    import pandas as pd


class Densities(NamedTuple):
    """Spectral densities on one grid."""

    grid: list[float]
    """Eigenvalues."""
    curves: Mapping[tuple[str, int, int], list[float]]
    """(method, level, seed) -> the density at each of them."""


def read(found: Mapping[Cell, Product], points: int = 100) -> Densities:
    """The densities of `sharpness.tables.profiles`, blurred by a hundredth of the range, which ends at 1.5 times the
    middle net's highest eigenvalue: one sharp net would else press all others to the edge."""
    if not found:
        return Densities([], {})
    tops = sorted(float(p.tensors["nodes"].max()) for p in found.values())
    low = min(float(p.tensors["nodes"].min()) for p in found.values())
    high = min(tops[-1], 1.5 * tops[len(tops) // 2])
    grid = torch.linspace(1.2 * min(low, -1e-6), 1.1 * high, points, dtype=torch.float64)
    width = float(grid[-1] - grid[0]) / 100
    curves = {c: Spectrum(p.tensors["nodes"], p.tensors["weights"]).curve(grid, width) for c, p in found.items()}
    return Densities(grid.tolist(), {c: v.clamp_min(1e-12).tolist() for c, v in curves.items()})


def figure(table: pd.DataFrame, found: Densities, study: Study, method: str, level: int) -> go.Figure:
    """Left: the extreme eigenvalues of each initialisation (`sharpness.tables.curvatures`); right: the spectral density
    of each initialisation, in the method's colour, over the others' in grey, where it was measured.

    Axes are the same for every choice, but for what reaches far beyond the others.
    """
    level = 0 if ARMS[method].dense else level
    rows = table[(table.method == method) & (table.level == level)]
    titles = ["extreme eigenvalues", "density of all eigenvalues"]
    fig = make_subplots(cols=2, column_widths=[0.4, 0.6], horizontal_spacing=0.13, subplot_titles=titles)
    own = {r.seed: r.spectrum for r in rows.itertuples() if isinstance(r.spectrum, list)}
    for s in study.initialisations:
        fig.add_trace(marks(own.get(s, []), str(s), COLOURS[method], 9, 0.8, "%{x:.3g}"), row=1, col=1)
    for cell, values in found.curves.items():
        look = dict(mode="lines", line=dict(color="#cccccc", width=1), showlegend=False, hoverinfo="skip")
        fig.add_trace(go.Scatter(x=found.grid, y=values, **look), row=1, col=2)
    measured = False
    for s in study.initialisations:
        values = found.curves.get((method, level, s), [])
        measured = measured or bool(values)
        look = dict(mode="lines", line=dict(color=COLOURS[method], width=2), showlegend=False)
        hover = f"%{{x:.2f}}: %{{y:.2g}}<extra>initialisation {s}</extra>"
        fig.add_trace(go.Scatter(x=found.grid if values else [], y=values, **look, hovertemplate=hover), row=1, col=2)
    if known := sorted(v for s in table.spectrum if isinstance(s, list) for v in s):
        top = max([known[9 * len(known) // 10], *(v for values in own.values() for v in values)])
        pad = 0.05 * (top - known[0])
        fig.update_xaxes(range=[known[0] - pad, top + pad], row=1, col=1)
    seeds = list(study.initialisations)
    fig.update_xaxes(title="eigenvalue of the Hessian", row=1)
    fig.update_yaxes(title="initialisation", type="category", categoryorder="array", categoryarray=seeds, row=1, col=1)
    fig.update_yaxes(range=[-0.5, study.seeds - 0.5], row=1, col=1)
    fig.update_yaxes(title="density", type="log", range=[-5, 1.5], dtick=1, exponentformat="power", row=1, col=2)
    fig.update_annotations(font_size=12)
    note = "" if measured else " (its density was not measured)"
    return styled(fig, named(study, method, level) + note, 400).update_layout(margin=dict(l=70))


def explorer(study: Study, table: pd.DataFrame, profiles: Mapping[Cell, Product]) -> Any:
    """The curvatures of `table` and the densities of `profiles` (`sharpness.tables`), by method and level."""
    found = read(profiles)
    return explore(
        lambda **chosen: figure(table, found, study, **chosen),
        start={"method": "distilled", "level": study.levels[-1]},
        method={ARMS[m].title: m for m in study.arms},
        level=study.levels,
    )
