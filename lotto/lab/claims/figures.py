"""Figures of claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from lotto.lab.plots import legend_below, styled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

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
    fig.update_xaxes(title="difference, claimed to the right (points, or log10 of a trace)")
    return styled(fig, title, 130 + 28 * max(1, len(rows))).update_layout(margin=dict(l=30))


def beside(compared: Sequence[Mapping[str, Any]], title: str) -> go.Figure:
    """Comparisons of a run, each above that of the reference run: the difference with its 95 % interval, the claim's
    side to the right; a tick where it has to lie to the right of. Hollow: another value than the reference leads one to
    expect.

    compared: `board.comparisons`, each with the `claim` that it belongs to.
    """
    fig = go.Figure()
    for name, key, colour, symbol, up in (
        ("this run", "here", "#1f5fbf", "circle", 0.16),
        ("reference", "reference", "#777777", "diamond", -0.16),
    ):
        rows = [(-i + up, c, c[key]) for i, c in enumerate(compared) if c[key] and c[key][0] is not None]
        halves = [0 if high is None else high - mean for _, _, (mean, _, high, _) in rows]
        hollow = [key == "here" and c["agrees"] is False for _, c, _ in rows]
        fig.add_trace(
            go.Scatter(
                name=name,
                x=[mean for _, _, (mean, *_) in rows],
                y=[y for y, *_ in rows],
                mode="markers",
                error_x=dict(type="data", array=halves, thickness=1.5, width=4, color=colour),
                marker=dict(
                    symbol=symbol,
                    size=10,
                    color=["white" if h else colour for h in hollow],
                    line=dict(color=colour, width=2),
                ),
                text=[f"{c['claim']}<br>{c['what']}, {c['where']}<br>n = {n}" for _, c, (*_, n) in rows],
                hovertemplate="%{text}<br>%{x:.2f}",
            )
        )
    fig.add_trace(
        go.Scatter(
            name="to be exceeded",
            x=[c["line"] for c in compared],
            y=[-i for i in range(len(compared))],
            mode="markers",
            hoverinfo="skip",
            marker=dict(symbol="line-ns-open", size=22, color="#c0392b"),
        )
    )
    names = [f"{c['claim'].split()[0]}  {c['what']}" for c in compared]
    fig.update_yaxes(tickvals=[-i for i in range(len(names))], ticktext=names, range=[0.6 - len(names), 0.6])
    fig.update_xaxes(title="difference, claimed to the right (points, or log10 of a trace)")
    styled(fig, title, 170 + 34 * max(1, len(names))).update_layout(margin=dict(l=30))
    return legend_below(fig)
