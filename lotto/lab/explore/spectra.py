"""Explorer of spectra: the curvature of a trained ticket on its live weights, eigenvalue by eigenvalue."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import plotly.graph_objects as go
import torch
from jaxtyping import Float
from plotly.subplots import make_subplots
from torch import Tensor

from lotto.lab.arms import ARMS
from lotto.lab.explore.controls import explore
from lotto.lab.plots import COLOURS, named, styled
from lotto.lab.product import Product
from lotto.lab.study import Cell, Study
from lotto.spectrum import Spectrum

if TYPE_CHECKING:
    import pandas as pd


class Spectra(NamedTuple):
    """What is known of the eigenvalues of a study's tickets."""

    extremes: Mapping[tuple[str, int, int], list[float]]
    """(method, level, seed) -> eigenvalues at both ends of the spectrum."""
    grid: list[float]
    """Eigenvalues at which densities are evaluated."""
    densities: Mapping[tuple[str, int, int], list[float]]
    """(method, level, seed) -> the density at each of `grid`, where it was measured."""


def read(table: pd.DataFrame, found: Mapping[Cell, Product], points: int = 90) -> Spectra:
    """The eigenvalues of `sharpness.tables.curvatures`, and the densities of `sharpness.tables.profiles`, smoothed over
    a hundredth of the range, which ends at 1.5 times the median net's highest eigenvalue: otherwise one sharp net would
    press all others to the edge."""
    known = {(r.method, r.level, r.seed): r.spectrum for r in table.itertuples() if isinstance(r.spectrum, list)}
    if not found:
        return Spectra(known, [], {})
    tops = sorted(float(p.tensors["nodes"].max()) for p in found.values())
    low = min(float(p.tensors["nodes"].min()) for p in found.values())
    high = min(tops[-1], 1.5 * tops[len(tops) // 2])
    grid = torch.linspace(1.2 * min(low, -1e-6), 1.1 * high, points, dtype=torch.float64)
    width = float(grid[-1] - grid[0]) / 100
    curves = {c: Spectrum(p.tensors["nodes"], p.tensors["weights"]).curve(grid, width) for c, p in found.items()}
    return Spectra(known, grid.tolist(), {c: _three_digits(v.clamp_min(1e-6)) for c, v in curves.items()})


def _three_digits(values: Float[Tensor, " points"]) -> list[float]:
    return [float(f"{v:.3g}") for v in values.tolist()]  # more digits are not visible, and a page holds every curve


def figure(found: Spectra, study: Study, method: str, level: int) -> go.Figure:
    """Left: the extreme eigenvalues of each initialisation; right: the spectral density of each initialisation, in the
    method's colour, over the others' in grey, where it was measured.

    Axes are the same for every choice, unless a net's eigenvalues reach far beyond the others.
    """
    level = 0 if ARMS[method].dense else level
    seeds, data = list(study.initialisations), []
    own = {s: found.extremes.get((method, level, s), []) for s in seeds}
    right = dict(type="scatter", mode="lines", showlegend=False, xaxis="x2", yaxis="y2")
    for s in seeds:
        look = dict(color=COLOURS[method], size=9, opacity=0.8, line=dict(color="white", width=1))
        dots = dict(type="scatter", mode="markers", showlegend=False, marker=look, xaxis="x", yaxis="y")
        data.append(dict(x=own[s], y=[s] * len(own[s]), hovertemplate="%{x:.3g}<extra></extra>", **dots))
    right |= dict(x0=found.grid[0], dx=found.grid[1] - found.grid[0]) if found.grid else {}
    for values in found.densities.values():
        data.append(dict(y=values, line=dict(color="#cccccc", width=1), hoverinfo="skip", **right))
    for s in seeds:
        hover = f"%{{x:.2f}}: %{{y:.2g}}<extra>initialisation {s}</extra>"
        look = dict(line=dict(color=COLOURS[method], width=2), hovertemplate=hover)
        data.append(dict(y=found.densities.get((method, level, s), []), **look, **right))
    layout = _canvas(tuple(seeds))
    note = "" if any((method, level, s) in found.densities for s in seeds) else " (its density was not measured)"
    layout = {**layout, "title": {**layout["title"], "text": named(study, method, level) + note}}
    if known := sorted(v for values in found.extremes.values() for v in values):
        top = max([known[9 * len(known) // 10], *(v for values in own.values() for v in values)])
        pad = 0.05 * (top - known[0])
        layout["xaxis"] = {**layout["xaxis"], "range": [known[0] - pad, top + pad]}
    return go.Figure({"data": data, "layout": layout})


@functools.cache
def _canvas(seeds: tuple[int, ...]) -> dict[str, Any]:
    """The layout, the same for every choice except for its title and where eigenvalues end."""
    titles = ["extreme eigenvalues", "density of all eigenvalues"]
    fig = make_subplots(cols=2, column_widths=[0.4, 0.6], horizontal_spacing=0.13, subplot_titles=titles)
    fig.update_xaxes(title="eigenvalue of the Hessian", row=1)
    where = dict(range=[seeds[0] - 0.5, seeds[-1] + 0.5], tickvals=seeds)
    fig.update_yaxes(title="initialisation", **where, row=1, col=1)
    fig.update_yaxes(title="density", type="log", range=[-5, 1.5], dtick=1, exponentformat="power", row=1, col=2)
    fig.update_annotations(font_size=12)
    return styled(fig, "", 400).update_layout(margin=dict(l=70)).layout.to_plotly_json()


def explorer(study: Study, table: pd.DataFrame, profiles: Mapping[Cell, Product]) -> Any:
    """The curvatures of `table` and the densities of `profiles` (`sharpness.tables`), by method and level."""
    found = read(table, profiles)
    return explore(
        lambda **chosen: figure(found, study, **chosen),
        start={"method": "distilled", "level": study.levels[-1]},
        method={ARMS[m].title: m for m in study.arms},
        level=study.levels,
    )
