"""Figures of claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lotto.lab.plots import legend_below, styled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from lotto.lab.claims.judge import Judged

TICK = dict(symbol="line-ns-open", color="#c0392b")
"""What a difference has to lie to the right of."""


def forest(judged: Sequence[Judged], title: str) -> go.Figure:
    """Every comparison of some claims, a panel for each measure: the difference with its 95 % interval, turned so that
    the right side is the claim's; a tick where it has to lie to the right of. Hollow: not on that side."""
    rows = [(j, e) for j in judged for e in j.parts if e.difference.mean is not None]
    fig, places = _panels([(j.claim.id, e.named()) for j, e in rows], title, 28)
    for (j, e), (panel, y) in zip(rows, places, strict=True):
        d, colour = e.difference, "#1f5fbf" if j.claim.primary else "#777777"
        mark = go.Scatter(
            x=[e.sign * d.mean],
            y=[y],
            mode="markers",
            showlegend=False,
            marker=dict(color=colour if e.fits else "white", size=10, line=dict(color=colour, width=2)),
            hovertemplate=f"{e.text()}<extra>{j.claim.short}</extra>",
        )
        if d.half is not None:
            mark.error_x = dict(type="data", array=[d.half], thickness=1.5, width=4, color=colour)
        line = dict(x=[e.line], y=[y], mode="markers", showlegend=False, hoverinfo="skip")
        fig.add_traces([mark, go.Scatter(**line, marker=dict(size=14, **TICK))], rows=panel, cols=1)
    return fig


def beside(compared: Sequence[Mapping[str, Any]], title: str) -> go.Figure:
    """Comparisons of a run, each above that of the reference run, a panel for each measure: the difference with its
    95 % interval, the claim's side to the right; a tick where it has to lie to the right of. Hollow: another value than
    the reference leads one to expect.

    compared: `board.comparisons`, each with the `claim` that it belongs to.
    """
    fig, places = _panels([(c["claim"].split()[0], c["what"]) for c in compared], title, 34)
    for panel in sorted({panel for panel, _ in places}):
        here = [(c, y) for c, (at, y) in zip(compared, places, strict=True) if at == panel]
        for name, key, colour, symbol, up in (
            ("this run", "here", "#1f5fbf", "circle", 0.16),
            ("reference", "reference", "#777777", "diamond", -0.16),
        ):
            rows = [(y + up, c, c[key]) for c, y in here if c[key] and c[key][0] is not None]
            hollow = [key == "here" and c["agrees"] is False for _, c, _ in rows]
            halves = [0 if high is None else high - mean for _, _, (mean, _, high, _) in rows]
            fill = ["white" if h else colour for h in hollow]
            mark = go.Scatter(
                x=[mean for _, _, (mean, *_) in rows],
                y=[y for y, *_ in rows],
                error_x=dict(type="data", array=halves, thickness=1.5, width=4, color=colour),
                marker=dict(symbol=symbol, size=10, color=fill, line=dict(color=colour, width=2)),
                text=[f"{c['claim']}<br>{c['what']}, {c['where']}<br>n = {n}" for _, c, (*_, n) in rows],
                hovertemplate="%{text}<br>%{x:.2f}",
                **dict(name=name, legendgroup=name, showlegend=panel == 1, mode="markers"),
            )
            fig.add_trace(mark, row=panel, col=1)
        line = dict(x=[c["line"] for c, _ in here], y=[y for _, y in here], mode="markers", hoverinfo="skip")
        named = dict(name="to be exceeded", legendgroup="line", showlegend=panel == 1)
        fig.add_trace(go.Scatter(**line, **named, marker=dict(size=22, **TICK)), row=panel, col=1)
    return legend_below(fig.update_layout(height=fig.layout.height + 50))


def _panels(rows: Sequence[tuple[str, str]], title: str, each: int) -> tuple[go.Figure, list[tuple[int, int]]]:
    """A panel for each measure, one above the other, with a line of so many pixels for each of its comparisons; and in
    which panel, at which height, each comparison lies.

    rows: (claim, comparison as `Estimate.named` has it: "measure: arms").
    """
    parted = [(claim, *what.split(": ", 1)) for claim, what in rows]
    kinds: dict[str, list[str]] = {}
    places = []
    for claim, kind, arms in parted:
        lines = kinds.setdefault(kind, [])
        places.append((1 + list(kinds).index(kind), -len(lines)))
        lines.append(f"{claim}  {arms}")
    several, gap = len(kinds) > 1, 70
    whole = each * max(1, len(rows)) + gap * (len(kinds) - 1) * several
    look = dict(vertical_spacing=gap / whole, row_heights=[len(lines) for lines in kinds.values()]) if several else {}
    fig = make_subplots(rows=max(1, len(kinds)), **look)
    for panel, (kind, lines) in enumerate(kinds.items(), 1):
        ticks = dict(tickvals=[-y for y in range(len(lines))], ticktext=lines)
        fig.update_yaxes(**ticks, range=[0.6 - len(lines), 0.6], row=panel, col=1)
        unit = "" if "(" in kind or "log" in kind else " (points)"
        fig.update_xaxes(title=f"difference in {kind}{unit}, claimed to the right", row=panel, col=1)
    return styled(fig, title, 130 + whole).update_layout(margin=dict(l=30)), places
