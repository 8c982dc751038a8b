"""Figures of claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from lotto.lab.plots import styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lotto.lab.claims.judge import Judged


def forest(judged: Sequence[Judged], title: str) -> go.Figure:
    """Every comparison of some claims: the difference with its 95 % interval, turned so that the right side is the
    claim's; a tick where it has to lie to the right of. Hollow: not on that side."""
    rows = [(j, e) for j in judged for e in j.parts if e.difference.mean is not None]
    names = [f"{j.claim.id}  {e.named()}" for j, e in rows]
    fig = go.Figure()
    for (j, e), name in zip(rows, names, strict=True):
        d, colour = e.difference, "#1f5fbf" if j.claim.primary else "#777777"
        mark = go.Scatter(
            x=[e.sign * d.mean],
            y=[name],
            mode="markers",
            showlegend=False,
            marker=dict(color=colour if e.fits else "white", size=10, line=dict(color=colour, width=2)),
            hovertemplate=f"{e.text()}<extra>{j.claim.short}</extra>",
        )
        if d.half is not None:
            mark.error_x = dict(type="data", array=[d.half], thickness=1.5, width=4, color=colour)
        fig.add_trace(mark)
        fig.add_trace(
            go.Scatter(
                x=[e.line],
                y=[name],
                mode="markers",
                showlegend=False,
                hoverinfo="skip",
                marker=dict(symbol="line-ns-open", size=14, color="#c0392b"),
            )
        )
    fig.update_yaxes(categoryorder="array", categoryarray=names[::-1])
    fig.update_xaxes(title="difference, claimed to the right (points; curvature: log10)")
    return styled(fig, title, 130 + 28 * max(1, len(rows))).update_layout(margin=dict(l=30))
