"""What all figures share: colours, styles, error bars, and the figures that several notebooks draw. Table -> figure,
nothing else."""

from __future__ import annotations

import base64
import json
import math
import os
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lotto.lab.arms import ARMS
from lotto.lab.stills import still
from lotto.lab.study import Study
from lotto.lab.tables import by_seed, trained
from lotto.stats import Interval, interval

if TYPE_CHECKING:
    import pandas as pd


RULE = dict(color="#c0392b", width=1, dash="dash")
"""How the limit of a rule is drawn."""

COLOURS = {name: arm.colour for name, arm in ARMS.items()}

_SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagram")
SYMBOLS = {name: _SHAPES[i % len(_SHAPES)] for i, name in enumerate(ARMS)}
"""How a method is marked where lines cross, beside its colour."""

_TICKS = [f * 10.0**e for e in range(-6, 10) for f in (1, 2, 5)]

LOG = dict(type="log", tickvals=_TICKS, ticktext=[f"{t / 1000:g}k" if t >= 1000 else f"{t:g}" for t in _TICKS])
"""A logarithmic axis with ticks at 1, 2 and 5."""

LINE, FONT = "#e4e4e4", "#222222"


def styled(fig: go.Figure, title: str, height: int, width: int = 860) -> go.Figure:
    fig.update_layout(
        template=go.layout.Template(),
        title=dict(text=title, x=0, xref="container", xanchor="left", pad=dict(l=12), font=dict(size=15)),
        height=height,
        width=width,
        font=dict(family="Helvetica, Arial, sans-serif", size=12, color=FONT),
        paper_bgcolor="white",
        plot_bgcolor="white",
        margin=dict(l=170, r=20, t=70, b=50),
        hovermode="closest",
    )
    fig.update_xaxes(gridcolor=LINE, zeroline=False, linecolor="#999999", ticks="outside", tickcolor="#999999")
    fig.update_yaxes(gridcolor=LINE, zeroline=False, linecolor="#999999", automargin=True)  # room for the longest name
    return fig


def legend_below(fig: go.Figure) -> go.Figure:
    return fig.update_layout(
        legend=dict(orientation="h", yref="container", y=0.01, yanchor="bottom", x=0, xanchor="left"),
        margin=dict(b=100),
    )


def sparsity(study: Study, level: int) -> str:
    """ "83.2 % sparse", for titles."""
    return f"{study.sparse(level)} sparse" if level else "dense"


def named(study: Study, method: str, level: int) -> str:
    """ "IMP, 83.2 % sparse", for titles; of a dense arm its title alone."""
    return ARMS[method].title if ARMS[method].dense else f"{ARMS[method].title}, {sparsity(study, level)}"


def counted(study: Study) -> str:
    """ "1 initialisation", "10 initialisations"."""
    return f"{study.seeds} initialisation{'s' * (study.seeds > 1)}"


def marks(x: list[float | None], name: str, colour: str, size: int, opacity: float, hover: str) -> go.Scatter:
    marker = dict(color=colour, size=size, opacity=opacity, line=dict(color="white", width=1 if size > 5 else 0))
    return go.Scatter(
        x=x,
        y=[name] * len(x),
        mode="markers",
        showlegend=False,
        marker=marker,
        hovertemplate=f"{hover}<extra>{name}</extra>",
    )


def bold(found: Interval, name: str, colour: str) -> go.Scatter:
    mark = marks([found.mean], name, colour, size=10, opacity=1, hover=str(found))
    if found.half is not None:
        mark.error_x = dict(type="data", array=[found.half], thickness=1.5, width=4, color=colour)
    return mark


def error_line(fig: go.Figure, x: list, found: list[Interval], name: str, colour: str, **more) -> None:
    bars = dict(type="data", array=[f.half or 0 for f in found], thickness=1, width=3, color=colour)
    hover = dict(customdata=[str(f) for f in found], hovertemplate="%{x}: %{customdata}<extra>" + name + "</extra>")
    fig.add_trace(
        go.Scatter(
            x=x,
            y=[f.mean for f in found],
            name=name,
            mode="lines+markers",
            error_y=bars,
            line=dict(color=colour),
            **hover,
            **more,
        )
    )


def value_range(table: pd.DataFrame, study: Study, column: str) -> tuple[float, float]:
    # from the dots, not from the intervals, which may reach far beyond with three initialisations: `dots` makes some
    # room for those. A collapsed arm may leave the panel
    values = [
        v
        for m in study.arms
        for level in ((0,) if ARMS[m].dense else study.levels)
        for v in by_seed(table, m, level, column).values()
    ]
    if not values:
        return 0.0, 100.0
    values.sort()
    low = values[max(0, len(values) // 12)] if column == "accuracy" else 0.0
    top = values[-1]
    pad = 0.06 * max(top - low, 1)
    return (low - pad, min(100.0, top + pad)) if column == "accuracy" else (-pad, top + pad)


def _with_intervals(table: pd.DataFrame, study: Study, column: str) -> tuple[float, float]:
    """`value_range` with room for the intervals of those means that lie in it, up to twice as wide."""
    low, high = value_range(table, study, column)
    found = [
        interval(list(by_seed(table, m, level, column).values()))
        for m in study.arms
        for level in study.levels
        if not ARMS[m].dense
    ]
    inside = [f for f in found if f.low is not None and low <= f.mean <= high]
    room, most = (high - low) / 2, 100.0 if column == "accuracy" else math.inf
    return (
        min([low, *(max(f.low, low - room) for f in inside)]),
        max([high, *(min(f.high, high + room, most) for f in inside)]),
    )


def dots(table: pd.DataFrame, study: Study, column: str, axis: str, title: str, mark: float | None = None) -> go.Figure:
    """One row per method, one panel per level: each initialisation a small dot, mean and 95 % interval bold, dense nets
    as vertical lines.

    How many trained is written at the right of the row, where not all did; those have no dot but of their accuracy. A
    mean beyond the panel is written at its edge.
    """
    arms = [m for m in study.arms if not ARMS[m].dense][::-1]
    names = [ARMS[m].title for m in arms]
    low, high = _with_intervals(table, study, column)
    panels = [sparsity(study, level) for level in study.levels]
    fig = make_subplots(cols=len(panels), shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=panels)
    for c, level in enumerate(study.levels, 1):
        where = dict(row=1, col=c)
        for m, name in zip(arms, names, strict=True):
            values = by_seed(table, m, level, column)
            found = interval(list(values.values()))
            if (n := trained(table, m, level)) < study.seeds:
                axis_name = f"x{c if c > 1 else ''} domain"
                fig.add_annotation(
                    **dict(x=0.99, xref=axis_name, xanchor="right", y=name, yref="y", showarrow=False),
                    **dict(text=f"{n} of {study.seeds} trained", font=dict(size=10, color="#666666")),
                )
            # an arm without a value still has its (empty) trace, so that its row is there
            fig.add_trace(
                marks(list(values.values()), name, COLOURS[m], size=5, opacity=0.5, hover="%{x:.1f}"), **where
            )
            if found.mean is not None and not low <= found.mean <= high:
                side = "left" if found.mean < low else "right"
                fig.add_annotation(
                    **dict(
                        x=0.01 if side == "left" else 0.99,
                        xref=f"x{c if c > 1 else ''} domain",
                        xanchor=side,
                        y=name,
                        yref="y",
                    ),
                    **dict(
                        text=f"{'◀' if side == 'left' else '▶'} {found.mean:.1f}",
                        showarrow=False,
                        font=dict(size=10, color="#666666"),
                    ),
                    bgcolor="rgba(255, 255, 255, 0.85)",
                )
            fig.add_trace(bold(found, name, COLOURS[m]), **where)
        for m in (m for m in ("dense", "dense-rewound") if m in study.arms):
            if (found := interval(list(by_seed(table, m, 0, column).values()))).mean is not None:
                line = dict(color=COLOURS[m], width=1.5, dash="solid" if m == "dense" else "dot")
                fig.add_vline(x=found.mean, line=line, **where)
                label = f"{ARMS[m].title}: {found}"
                fig.add_trace(
                    go.Scatter(x=[None], y=[names[0]], mode="lines", line=line, name=label, showlegend=c == 1), **where
                )
        if mark is not None:
            fig.add_vline(x=mark, line=RULE, **where)
            fig.add_trace(
                go.Scatter(
                    x=[None], y=[names[0]], mode="lines", line=RULE, name=f"stable: below {mark:g}", showlegend=c == 1
                ),
                **where,
            )
        fig.update_xaxes(title=axis, row=1, col=c)
    fig.update_yaxes(type="category", categoryorder="array", categoryarray=names, range=[-0.6, len(names) - 0.4])
    fig.update_xaxes(range=[low, high])
    return legend_below(styled(fig, title, 145 + 20 * len(arms))).update_layout(margin=dict(t=60, b=85))


def heat(
    z: list, x: list[str], y: list[str], text: list | None, colours: str | list, limits: tuple[float, float], **more
) -> go.Heatmap:
    """Cells with their text (by default the rounded value) over a colour scale that spans `limits`; hovering names row
    and column."""
    cells = dict(texttemplate="%{text}", text=text) if text else dict(texttemplate="%{z:.0f}")
    look = dict(
        textfont=dict(size=10),
        colorscale=colours,
        zmin=limits[0],
        zmax=limits[1],
        colorbar=dict(thickness=12),
        xgap=2,
        ygap=2,
    )
    hover = "%{y}, %{x}: " + ("%{text}" if text else "%{z:.1f}") + "<extra></extra>"
    return go.Heatmap(z=z, x=x, y=y, hovertemplate=hover, **cells, **look, **more)


def scatter(
    table: pd.DataFrame, other: pd.DataFrame, study: Study, x: str, y: str, axes: tuple[str, str], title: str
) -> go.Figure:
    """Two measures of the same tickets: a dot an initialisation, a large one the mean of a method; circles and squares
    by level."""
    both = table.merge(other, on=["method", "level", "seed"], suffixes=("", "_other"))
    both = both[(both.state == "trained") & both[x].notna() & both[y].notna()]
    fig, listed = go.Figure(), set()
    symbols = ["circle", "square", "diamond", "cross", "x", "star"]
    for (method, level), rows in both.groupby(["method", "level"], sort=False):
        symbol = symbols[(0, *study.levels).index(level) % len(symbols)]
        text = named(study, method, level)
        for xs, ys, size, opacity in (
            (rows[x].tolist(), rows[y].tolist(), 5, 0.35),
            ([rows[x].mean()], [rows[y].mean()], 12, 1),
        ):
            fig.add_trace(
                go.Scatter(
                    x=xs,
                    y=ys,
                    mode="markers",
                    name=ARMS[method].title,
                    legendgroup=method,
                    showlegend=size > 5 and method not in listed,
                    marker=dict(
                        color=COLOURS[method],
                        size=size,
                        opacity=opacity,
                        symbol=symbol,
                        line=dict(color="white", width=1),
                    ),
                    hovertemplate=f"%{{x:.1f}}, %{{y:.1f}}<extra>{text}</extra>",
                )
            )
        listed.add(method)
    fig.update_xaxes(title=axes[0], **LOG)
    fig.update_yaxes(title=axes[1], rangemode="tozero")
    shapes = ", ".join(f"{symbols[i % len(symbols)]}: {sparsity(study, at)}" for i, at in enumerate((0, *study.levels)))
    legend = dict(font=dict(size=10), tracegroupgap=0)
    return styled(fig, f"{title}<br><sub>{shapes}</sub>", 480).update_layout(margin=dict(l=70), legend=legend)


def show(fig: go.Figure) -> None:
    """Display: interactive where scripts run, the still picture elsewhere (made in headless runs only; JupyterLab needs
    none)."""
    from IPython.display import display

    bundle = {"application/vnd.plotly.v1+json": fig.to_plotly_json() | {"config": {"displaylogo": False}}}
    from plotly.utils import PlotlyJSONEncoder

    # six digits are more than a screen shows, and half the size of a page
    bundle = json.loads(json.dumps(bundle, cls=PlotlyJSONEncoder), parse_float=lambda text: float(f"{float(text):.6g}"))
    if os.environ.get("LOTTO_HEADLESS") and (png := still(fig)):
        bundle["image/png"] = base64.b64encode(png).decode()
    display(bundle, raw=True)
