"""Explorer of planes through three children of a ticket: how error and loss lie around them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from lotto.lab.arms import ARMS
from lotto.lab.describe import Scape
from lotto.lab.explore.controls import explore
from lotto.lab.plots import FONT, named, styled
from lotto.lab.sharpness.products import scape
from lotto.lab.study import Cell, Study

MEASURES = {"test error": ("test_error", "points", 100.0, 1.0), "training loss": ("train_loss", "nats", 1.0, 3.0)}
"""Measure -> its name in a survey, its unit, the factor that converts values to it, and where the scale ends (before
conversion)."""

Planes = Mapping[tuple[str, int, int], Mapping[str, Any]]
"""(method, level, seed) -> what `landscape.survey` found."""


def read(study: Study) -> dict[Cell, Mapping[str, Any]]:
    """The planes that are stored, of every arm, level and initialisation of the study."""
    found = {}
    for cell in study.cells():
        a, b, c = (study.training(*cell, child) for child in (1, 2, 3))
        what = Scape(a=a, b=b, c=c, points=study.sharp.plane_points, train_images=study.path_images)
        if (product := scape.read(what)) is not None and "x" in product.metrics:
            found[cell] = product.metrics
    return found


def figure(planes: Planes, study: Study, method: str, level: int, seed: int, measure: str) -> go.Figure:
    """The plane through three children (1 to 3) of a ticket, batch norm recalibrated at every point; all planes of a
    measure have one colour scale. Where none is stored, the title says so."""
    level = 0 if ARMS[method].dense else level
    name, unit, factor, highest = MEASURES[measure]
    found = planes.get((method, level, seed))
    values = [v for p in planes.values() for row in p[name] for v in row if v is not None]
    surface = dict(
        type="contour",
        x=found["x"] if found else [],
        y=found["y"] if found else [],
        z=[[None if v is None else factor * min(v, highest) for v in row] for row in (found[name] if found else [])],
        zmin=0,
        zmax=factor * min(max(values, default=1.0), highest),
        colorscale="Viridis",
        contours=dict(coloring="heatmap", showlines=True),
        line=dict(width=0.5, color="white"),
        ncontours=12,
        colorbar=dict(thickness=12, title=dict(text=f"{measure} ({unit})", side="right")),
        hovertemplate=f"(%{{x:.1f}}, %{{y:.1f}}): %{{z:.2f}} {unit}<extra></extra>",
    )
    corners = found["corners"] if found else []
    children = dict(
        **dict(x=[c[0] for c in corners], y=[c[1] for c in corners], text=[str(i + 1) for i in range(len(corners))]),
        **dict(type="scatter", mode="markers+text", textposition="top center", textfont=dict(color="white", size=13)),
        **dict(marker=dict(color="white", size=9, line=dict(color=FONT, width=1)), hoverinfo="skip", showlegend=False),
    )
    layout, note = _canvas(), "" if found else " (no plane stored)"
    title = f"{named(study, method, level)}, initialisation {seed}{note}"
    axes = {f"{n}axis": {**layout[f"{n}axis"], "range": [found[n][0], found[n][-1]] if found else [0, 1]} for n in "xy"}
    layout = {**layout, **axes, "title": {**layout["title"], "text": title}}
    return go.Figure({"data": [surface, children], "layout": layout})


@functools.cache
def _canvas() -> dict[str, Any]:
    """The layout, the same for every choice except for its title and where its axes end."""
    fig = styled(go.Figure(), "", 440, 640).update_layout(margin=dict(l=70))
    fig.update_xaxes(title="distance in weights, along children 1 and 2")
    fig.update_yaxes(title="distance in weights, across")
    return fig.layout.to_plotly_json()


def explorer(study: Study) -> Any:
    """The stored planes; a sentence if there are none (the parameter `planes` names the arms that have one)."""
    planes = read(study)
    if not planes:
        print("no planes are stored: `planes` names the arms that have one")
        return None
    return explore(
        lambda **chosen: figure(planes, study, **chosen),
        start={"method": "distilled", "level": study.levels[-1]},
        method={ARMS[m].title: m for m in dict.fromkeys(m for m, *_ in planes)},
        level=study.levels,
        seed=sorted({s for *_, s in planes}),
        measure=list(MEASURES),
    )
