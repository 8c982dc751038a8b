"""Several figures in one that needs no kernel: plotly's frames, with a slider over them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

ROOM = 76
"""Pixels above the plot that plotly's own slider takes; pages that draw a control of their own remove them again."""


def framed(figures: Mapping[str, go.Figure], start: str, name: str) -> go.Figure:
    """The figure `start` with all of `figures` (label -> figure) as its frames, and a slider called `name` over them.

    Frames hold only what differs between figures, so that a page stays small. A frame cannot add a trace, so figures
    that have fewer get empty ones. ValueError if traces at the same position are of different types.
    """
    plain = {label: json.loads(fig.to_json()) for label, fig in figures.items()}
    kinds = [trace["type"] for trace in max((fig["data"] for fig in plain.values()), key=len)]
    for label, fig in plain.items():
        mine = [trace["type"] for trace in fig["data"]]
        if mine != kinds[: len(mine)]:
            raise ValueError(f"{name}: {label} has traces of the types {mine}, and another choice {kinds}")
        fig["data"] += [{"type": kind, "x": [], "y": [], "showlegend": False} for kind in kinds[len(mine) :]]
    traces = [_differing([fig["data"][i] for fig in plain.values()]) for i in range(len(kinds))]
    layouts = _differing([fig["layout"] for fig in plain.values()])
    moving = [i for i, parts in enumerate(traces) if any(parts)]
    frames = [
        {
            "name": label,
            "data": [{"type": kinds[i], **traces[i][n]} for i in moving],
            "traces": moving,
            "layout": layouts[n],
        }
        for n, label in enumerate(plain)
    ]
    layout = {**plain[start]["layout"], "sliders": [_slider(list(plain), start, name)], "meta": {"room": ROOM}}
    layout["height"] = layout.get("height", 450) + ROOM
    layout["margin"] = {**layout.get("margin", {}), "t": layout.get("margin", {}).get("t", 60) + ROOM}
    title = layout.get("title", {})
    layout["title"] = {**title, "y": 1, "yref": "container", "yanchor": "top", "pad": {**title.get("pad", {}), "t": 14}}
    return go.Figure({"data": plain[start]["data"], "layout": layout, "frames": frames})


def _differing(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each part, the entries that are not the same in all parts; None for those it lacks."""
    names = dict.fromkeys(n for part in parts for n in part)
    unlike = [n for n in names if any(part.get(n) != parts[0].get(n) for part in parts)]
    return [{n: part.get(n) for n in unlike} for part in parts]


def _slider(labels: Sequence[str], start: str, name: str) -> dict[str, Any]:
    at_once = dict(mode="immediate", frame=dict(duration=0, redraw=True), transition=dict(duration=0))
    steps = [dict(label=label, method="animate", args=[[label], at_once]) for label in labels]
    return dict(
        active=labels.index(start),
        steps=steps,
        currentvalue=dict(prefix=f"{name}: ", font=dict(size=12)),
        **dict(x=0.04, len=0.9, y=1, yanchor="bottom", pad=dict(l=0, r=0, t=0, b=40)),
        **dict(font=dict(size=9), ticklen=3, minorticklen=0, tickcolor="#999999"),
    )
