"""Table -> plotly figure, nothing else. Colours stand for the same method everywhere."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lotto.config import Study
from lotto.lab.arms import ARMS, FACTORIAL
from lotto.lab.stills import still
from lotto.stats import Interval, by_seed, interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from lotto.lab.claims.judge import Judged

RULE = dict(color="#c0392b", width=1, dash="dash")
"""How the limit of a rule is drawn."""
COLOURS = {name: arm.colour for name, arm in ARMS.items()}
LINE, FONT = "#e4e4e4", "#222222"


def _styled(fig: go.Figure, title: str, height: int, width: int = 860) -> go.Figure:
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
    fig.update_yaxes(gridcolor=LINE, zeroline=False, linecolor="#999999")
    return fig


def _legend_below(fig: go.Figure) -> go.Figure:
    return fig.update_layout(
        legend=dict(orientation="h", yref="container", y=0.01, yanchor="bottom", x=0, xanchor="left"), margin=dict(b=100)
    )


def sparsity(study: Study, level: int) -> str:
    """ "83.2 % sparse", for titles."""
    return f"{100 * (1 - study.density(level)):.1f} % sparse" if level else "dense"


def dots(table: pd.DataFrame, study: Study, column: str, axis: str, title: str, mark: float | None = None) -> go.Figure:
    """One row a method, one panel a level: each initialisation a small dot, mean and 95 % interval bold, dense nets as vertical lines.

    Runs that did not train have no dot; how many did is written at the right of the row. A mean beyond the panel is written at its edge.
    """
    arms = [m for m in study.arms if not ARMS[m].dense][::-1]
    names = [ARMS[m].title for m in arms]
    low, high = _range(table, study, column)
    panels = [sparsity(study, level) for level in study.levels]
    fig = make_subplots(cols=len(panels), shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=panels)
    for c, level in enumerate(study.levels, 1):
        where = dict(row=1, col=c)
        for m, name in zip(arms, names, strict=True):
            values = by_seed(table, m, level, column)
            found = interval(list(values.values()))
            if len(values) < study.seeds:
                axis_name = f"x{c if c > 1 else ''} domain"
                fig.add_annotation(
                    **dict(x=0.99, xref=axis_name, xanchor="right", y=name, yref="y", showarrow=False),
                    **dict(text=f"{len(values)} of {study.seeds} trained", font=dict(size=10, color="#666666")),
                )
            # an arm without a value still has its (empty) trace, so that its row is there
            fig.add_trace(_marks(list(values.values()), name, COLOURS[m], size=5, opacity=0.5, hover="%{x:.1f}"), **where)
            if found.mean is not None and not low <= found.mean <= high:
                side = "left" if found.mean < low else "right"
                fig.add_annotation(
                    **dict(x=0.01 if side == "left" else 0.99, xref=f"x{c if c > 1 else ''} domain", xanchor=side, y=name, yref="y"),
                    **dict(text=f"{'◀' if side == 'left' else '▶'} {found.mean:.1f}", showarrow=False, font=dict(size=10, color="#666666")),
                )
            fig.add_trace(_bold(found, name, COLOURS[m]), **where)
        for m in ("dense", "dense-rewound"):
            if (found := interval(list(by_seed(table, m, 0, column).values()))).mean is not None:
                line = dict(color=COLOURS[m], width=1.5, dash="solid" if m == "dense" else "dot")
                fig.add_vline(x=found.mean, line=line, **where)
                label = f"{ARMS[m].title}: {found}"
                fig.add_trace(go.Scatter(x=[None], y=[names[0]], mode="lines", line=line, name=label, showlegend=c == 1), **where)
        if mark is not None:
            fig.add_vline(x=mark, line=RULE, **where)
            fig.add_trace(
                go.Scatter(x=[None], y=[names[0]], mode="lines", line=RULE, name=f"stable: below {mark:g}", showlegend=c == 1), **where
            )
        fig.update_xaxes(title=axis, row=1, col=c)
    fig.update_yaxes(type="category", categoryorder="array", categoryarray=names, range=[-0.6, len(names) - 0.4])
    fig.update_xaxes(range=[low, high])
    return _legend_below(_styled(fig, title, 190 + 28 * len(arms)))


def _marks(x: list[float | None], name: str, colour: str, size: int, opacity: float, hover: str) -> go.Scatter:
    marker = dict(color=colour, size=size, opacity=opacity, line=dict(color="white", width=1 if size > 5 else 0))
    return go.Scatter(
        x=x, y=[name] * len(x), mode="markers", showlegend=False, marker=marker, hovertemplate=f"{hover}<extra>{name}</extra>"
    )


def _bold(found: Interval, name: str, colour: str) -> go.Scatter:
    mark = _marks([found.mean], name, colour, size=10, opacity=1, hover=str(found))
    if found.half is not None:
        mark.error_x = dict(type="data", array=[found.half], thickness=1.5, width=4, color=colour)
    return mark


def _range(table: pd.DataFrame, study: Study, column: str) -> tuple[float, float]:
    # from the dots, not from the intervals, which may reach far beyond with three initialisations; a collapsed arm may leave the panel
    values = [
        v for m in study.arms for level in ((0,) if ARMS[m].dense else study.levels) for v in by_seed(table, m, level, column).values()
    ]
    if not values:
        return 0.0, 100.0
    values.sort()
    low = values[max(0, len(values) // 12)] if column == "accuracy" else 0.0
    top = values[-1]
    pad = 0.06 * max(top - low, 1)
    return (low - pad, min(100.0, top + pad)) if column == "accuracy" else (-pad, top + pad)


def layers(table: pd.DataFrame, accuracy: pd.DataFrame, study: Study, method: str, level: int) -> go.Figure:
    """Where the live weights are: share alive in each layer, mean over initialisations, with the tickets' accuracy in the title."""
    level = 0 if ARMS[method].dense else level
    rows = table[(table.method == method) & (table.level == level)]
    mean = rows.groupby("layer", sort=False)[["live", "size", "density"]].mean()
    found = interval(list(by_seed(accuracy, method, level, "accuracy").values()))
    fig = go.Figure(
        go.Bar(
            x=[n.removesuffix(".weight") for n in mean.index],
            y=(100 * mean.density).tolist(),
            marker_color=COLOURS[method],
            customdata=mean[["live", "size"]].round(1).to_numpy().tolist(),
            hovertemplate="%{x}: %{y:.2f} % alive<br>%{customdata[0]} of %{customdata[1]}<extra></extra>",
        )
    )
    fig.update_yaxes(type="log", range=[-1, 2.05], title="alive (%, log)", tickvals=[0.1, 1, 10, 100])
    fig.update_xaxes(tickangle=-50, tickfont=dict(size=10))
    fig.add_hline(y=100 * study.density(level), line=dict(color="#999999", dash="dot"))
    return _styled(fig, f"{ARMS[method].title}, {sparsity(study, level)}: accuracy {found} %", 400).update_layout(margin=dict(l=70, b=130))


METRICS = {
    "test error": ("test_error", "test error (points)"),
    "train error": ("train_error", "training error (points)"),
    "test loss": ("test_loss", "test loss (nats)"),
    "train loss": ("train_loss", "training loss (nats)"),
}


def path(table: pd.DataFrame, study: Study, method: str, level: int, pair: int = 0, metric: str = "test error") -> go.Figure:
    """The path between two children: recalibrated statistics bold, interpolated ones thin; a line an initialisation, their mean thick."""
    level = 0 if ARMS[method].dense else level
    column, axis = METRICS[metric]
    rows = table[(table.method == method) & (table.level == level) & (table.pair == pair)] if len(table) else table
    fig = go.Figure()
    for statistics, dash in (("interpolated", "dot"), ("recalibrated", "solid")):
        curves = rows[rows.statistics == statistics] if len(rows) else rows
        grid = sorted(set(curves.alpha)) if len(curves) else []
        by = {s: g.sort_values("alpha")[column].tolist() for s, g in curves.groupby("seed")} if len(curves) else {}
        for s in study.initialisations:  # as many traces for every choice, so that a slider only moves them
            fig.add_trace(
                go.Scatter(
                    x=grid if s in by else [],
                    y=by.get(s, []),
                    mode="lines",
                    showlegend=False,
                    opacity=0.45,
                    line=dict(color=COLOURS[method] if dash == "solid" else "#999999", width=1, dash=dash),
                    hovertemplate=f"initialisation {s}: %{{y:.2f}}<extra>{statistics}</extra>",
                )
            )
        mean = [interval([c[i] for c in by.values()]).mean for i in range(len(grid))]
        fig.add_trace(
            go.Scatter(
                x=grid,
                y=mean,
                mode="lines",
                name=f"{statistics} statistics",
                line=dict(color=COLOURS[method] if dash == "solid" else "#999999", width=3, dash=dash),
            )
        )
    fig.update_xaxes(title="from child 1 (0) to child 2 (1)" if pair == 0 else f"along pair {pair}", range=[0, 1])
    fig.update_yaxes(title=axis, rangemode="tozero")
    title = f"{ARMS[method].title}, {sparsity(study, level)}" + ("" if len(rows) else ": no net trained")
    return _styled(fig, title, 400, 640).update_layout(margin=dict(l=70), legend=dict(orientation="h", y=-0.25, x=0))


def all_paths(table: pd.DataFrame, study: Study, level: int) -> go.Figure:
    """Recalibrated test error along the path for every method: a line an initialisation, the mean thick; dense nets first."""
    arms = list(study.arms)
    columns = 4
    fig = make_subplots(
        rows=-(-len(arms) // columns),
        cols=columns,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.09,
        subplot_titles=[ARMS[m].title for m in arms],
    )
    for i, m in enumerate(arms):
        at = 0 if ARMS[m].dense else level
        rows = (
            table[(table.method == m) & (table.level == at) & (table.statistics == "recalibrated") & (table.pair == 0)]
            if len(table)
            else table
        )
        where = dict(row=i // columns + 1, col=i % columns + 1)
        for _, group in rows.groupby("seed") if len(rows) else ():
            fig.add_trace(
                go.Scatter(
                    x=group.alpha.tolist(),
                    y=group.test_error.tolist(),
                    mode="lines",
                    showlegend=False,
                    opacity=0.5,
                    line=dict(color=COLOURS[m], width=1),
                ),
                **where,
            )
        if len(rows):
            mean = rows.groupby("alpha").test_error.mean()
            fig.add_trace(
                go.Scatter(x=mean.index.tolist(), y=mean.tolist(), mode="lines", showlegend=False, line=dict(color=COLOURS[m], width=3)),
                **where,
            )
    fig.update_annotations(font_size=11)
    fig.update_yaxes(range=[0, 100], tickvals=[0, 50, 100])
    fig.update_xaxes(range=[0, 1], tickvals=[0, 0.5, 1])
    return _styled(fig, f"Test error (points) on the straight line between two children, {sparsity(study, level)}", 480).update_layout(
        margin=dict(l=50, t=90, b=40)
    )


def curves(table: pd.DataFrame, study: Study, column: str, axis: str, title: str, mark: float | None = None) -> go.Figure:
    """A line per arm over sparsity, from the dense net it starts from: mean over the initialisations that trained, with a 95 % band (thin
    bars below five initialisations, whose intervals would cover all else).

    The sparsity axis is logarithmic in the share that is left. A point where not all initialisations trained is hollow; where none did,
    there is none.
    """
    fig, start = go.Figure(), {True: "dense-rewound", False: "dense"}
    for m in (m for m in study.arms if not ARMS[m].dense):
        points = [(100.0, start[ARMS[m].from_k], 0), *((100 * study.density(level), m, level) for level in study.levels)]
        found = [(x, interval(list(by_seed(table, name, level, column).values()))) for x, name, level in points]
        found = [(x, f) for x, f in found if f.mean is not None]
        edge = [(x, f.low, f.high) for x, f in found if f.low is not None and f.n >= 5]
        fig.add_trace(
            go.Scatter(
                x=[x for x, *_ in edge] + [x for x, *_ in edge[::-1]],
                y=[low for _, low, _ in edge] + [high for *_, high in edge[::-1]],
                fill="toself",
                fillcolor=COLOURS[m],
                mode="lines",
                opacity=0.12,
                line=dict(width=0),
                hoverinfo="skip",
                showlegend=False,
                legendgroup=m,
            )
        )
        fig.add_trace(
            go.Scatter(
                x=[x for x, _ in found],
                y=[f.mean for _, f in found],
                name=ARMS[m].title,
                legendgroup=m,
                mode="lines+markers",
                line=dict(color=COLOURS[m], width=2, dash="dash" if ARMS[m].from_k else "solid"),
                error_y=dict(type="data", array=[f.half or 0 if f.n < 5 else 0 for _, f in found], thickness=1, width=2),
                marker=dict(
                    color=[COLOURS[m] if f.n == study.seeds else "white" for _, f in found], size=7, line=dict(color=COLOURS[m], width=2)
                ),
                customdata=[[str(f), f.n] for _, f in found],
                hovertemplate="%{x:.2f} % left: %{customdata[0]}, %{customdata[1]} trained<extra>" + ARMS[m].title + "</extra>",
            )
        )
    ticks = [100.0, *(100 * study.density(level) for level in study.levels)]
    if mark is not None:
        fig.add_trace(
            go.Scatter(x=[ticks[0], ticks[-1]], y=[mark] * 2, mode="lines", line=RULE, name=f"stable: below {mark:g}", hoverinfo="skip")
        )
    fig.update_xaxes(
        type="log",
        autorange="reversed",
        tickvals=ticks,
        ticktext=[f"{100 - t:.2f}" if t < 1 else f"{100 - t:.1f}" if t < 100 else "0" for t in ticks],
        title="sparsity (%), logarithmic in what is left",
    )
    low, high = _range(table, study, column)
    means = [y for trace in fig.data if trace.fill is None for y in trace.y if y is not None]  # a line is shown whole
    edge = 0.02 * (high - low)
    fig.update_yaxes(title=axis, range=[min([low, *(y - edge for y in means)]), max([high, *(y + edge for y in means)])])
    return _styled(fig, title, 460).update_layout(margin=dict(l=70), legend=dict(font=dict(size=11)))


def factorial(table: pd.DataFrame, study: Study, column: str, axis: str, title: str, mark: float | None = None) -> go.Figure:
    """One row per combination of images, length and rate of the inner loop, one panel per level: mean and 95 % interval with the weights
    rewound (filled) and with everything rewound (hollow)."""
    arms = [m for m in FACTORIAL if m in study.arms and m in set(table.method)]
    label = {m: f"{ARMS[m].images} · {ARMS[m].length} · {ARMS[m].rate}" for m in arms}
    order = [(i, n, r) for i in ("real", "distilled", "subset") for n in ("long", "short") for r in ("outer", "gentle")]
    rows = list(dict.fromkeys(label[m] for m in sorted(arms, key=lambda m: order.index((ARMS[m].images, ARMS[m].length, ARMS[m].rate)))))
    panels = [sparsity(study, level) for level in study.levels]
    fig = make_subplots(cols=len(panels), shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=panels)
    for c, level in enumerate(study.levels, 1):
        for m in arms:
            trace = _bold(interval(list(by_seed(table, m, level, column).values())), label[m], COLOURS[m])
            if ARMS[m].rewinding == "all":
                trace.marker.update(color="white", line=dict(color=COLOURS[m], width=2))
            trace.hovertemplate = trace.hovertemplate.replace(label[m], f"{label[m]}, {ARMS[m].rewinding} rewound")
            fig.add_trace(trace, row=1, col=c)
        if mark is not None:
            fig.add_vline(x=mark, line=RULE, row=1, col=c)
        if (dense := interval(list(by_seed(table, "dense", 0, column).values()))).mean is not None:
            fig.add_vline(x=dense.mean, line=dict(color=COLOURS["dense"], width=1.5), row=1, col=c)
        fig.update_xaxes(title=axis, row=1, col=c)
    for name, look in (("weights rewound", dict(color=FONT)), ("all rewound", dict(color="white", line=dict(color=FONT, width=2)))):
        fig.add_trace(go.Scatter(x=[None], y=rows[:1], mode="markers", marker=dict(size=10, **look), name=name))
    fig.update_yaxes(type="category", categoryorder="array", categoryarray=rows[::-1])
    return _legend_below(_styled(fig, title, 200 + 30 * len(rows)))


def forest(judged: Sequence[Judged], title: str) -> go.Figure:
    """Every comparison of some claims: the difference with its 95 % interval, turned so that the right side is the claim's; a tick where it
    has to lie to the right of. Hollow: not on that side."""
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
    fig.update_xaxes(title="difference in the claim's direction (points; log10 for curvature)")
    return _styled(fig, title, 130 + 28 * max(1, len(rows))).update_layout(margin=dict(l=30 + 6.5 * max(map(len, names), default=0)))


def states(table: pd.DataFrame, study: Study) -> go.Figure:
    """How tickets came out: for each method and level the number of initialisations that trained, failed, died or diverged."""
    arms = [m for m in study.arms if not ARMS[m].dense][::-1]
    counts, words = [], []
    for m in arms:
        rows = [table[(table.method == m) & (table.level == level)].state for level in study.levels]
        counts.append([int((r == "trained").sum()) / len(r) if len(r) else None for r in rows])
        words.append(["<br>".join(f"{n} {state}" for state, n in r.value_counts().items()) for r in rows])
    fig = go.Figure(
        go.Heatmap(
            z=counts,
            x=[sparsity(study, level) for level in study.levels],
            y=[ARMS[m].title for m in arms],
            text=words,
            texttemplate="%{text}",
            textfont=dict(size=10),
            colorscale=[[0, "#e6b0aa"], [1, "#d5e8d4"]],
            zmin=0,
            zmax=1,
            showscale=False,
            hovertemplate="%{y}, %{x}: %{text}<extra></extra>",
            xgap=2,
            ygap=2,
        )
    )
    return _styled(fig, "How the tickets came out", 120 + 32 * len(arms))


def discarded(table: pd.DataFrame, study: Study, level: int, what: str = "trace") -> go.Figure:
    """What is discarded: how much more of the dense net's curvature lies on the weights that each method removes than on as many weights of
    each layer at random, one panel a point of its training.

    Dots: initialisations; bold: mean with 95 % interval; the line: chance. At the right, the share itself: the mean, in percent.
    """
    from lotto.sharpness import POINTS

    arms = [m for m in study.arms if not ARMS[m].dense][::-1]
    names = [ARMS[m].title for m in arms]
    rows = table[table.level == level]
    fig = make_subplots(
        cols=len(POINTS), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=[f"dense net {where}" for where in POINTS.values()]
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
                **dict(x=[e[0] for e in every], y=[e[1] for e in every], mode="markers", hoverinfo="skip", showlegend=False),
                **dict(marker=dict(color=[e[2] for e in every], size=4, opacity=0.4, line=dict(width=0))),
            ),
            go.Scatter(
                **dict(x=[f.mean for f in found], y=names, mode="markers", showlegend=False, text=[str(f) for f in found]),
                **dict(hovertemplate="%{text}<extra>%{y}</extra>", marker=dict(color=[COLOURS[m] for m in arms], size=9)),
                **dict(error_x=dict(type="data", array=[f.half or 0 for f in found], thickness=1.2, width=3, color="#888888")),
            ),
            go.Scatter(
                **dict(x=[1.28 * reach] * len(arms), y=names, mode="text", textposition="middle left", hoverinfo="skip", showlegend=False),
                **dict(text=["" if share is None else f"{share:.1f} %" for share in shares], textfont=dict(size=10, color="#666666")),
            ),
        ):
            fig.add_trace(trace, row=1, col=c)
        fig.add_vline(x=0, line=dict(color="#999999", dash="dot"), row=1, col=c)
    name = {"trace": "Hessian trace", "absolute": "|Hessian diagonal|"}[what]
    fig.update_xaxes(title="points above chance", title_font_size=11, range=[-reach, 1.3 * reach])
    fig.update_yaxes(type="category", categoryorder="array", categoryarray=names, range=[-0.6, len(names) - 0.4])
    fig.update_annotations(font_size=12)
    title = f"What is discarded: share of the {name} on the removed weights, {sparsity(study, level)}"
    return _styled(fig, title, 170 + 28 * len(arms)).update_layout(showlegend=False)


def scatter(table: pd.DataFrame, other: pd.DataFrame, study: Study, x: str, y: str, axes: tuple[str, str], title: str) -> go.Figure:
    """Two measures of the same tickets: a dot an initialisation, a large one the mean of a method; circles and squares by level."""
    both = table.merge(other, on=["method", "level", "seed"], suffixes=("", "_other"))
    both = both[(both.state == "trained") & both[x].notna() & both[y].notna()]
    fig, named = go.Figure(), set()
    symbols = ["circle", "square", "diamond", "cross", "x", "star"]
    for (method, level), rows in both.groupby(["method", "level"], sort=False):
        symbol = symbols[(0, *study.levels).index(level) % len(symbols)]
        text = f"{ARMS[method].title}, {sparsity(study, level)}"
        for xs, ys, size, opacity in ((rows[x].tolist(), rows[y].tolist(), 5, 0.35), ([rows[x].mean()], [rows[y].mean()], 12, 1)):
            fig.add_trace(
                go.Scatter(
                    x=xs,
                    y=ys,
                    mode="markers",
                    name=ARMS[method].title,
                    legendgroup=method,
                    showlegend=size > 5 and method not in named,
                    marker=dict(color=COLOURS[method], size=size, opacity=opacity, symbol=symbol, line=dict(color="white", width=1)),
                    hovertemplate=f"%{{x:.1f}}, %{{y:.1f}}<extra>{text}</extra>",
                )
            )
        named.add(method)
    ticks = [f * 10.0**e for e in range(-6, 7) for f in (1, 2, 5)]
    fig.update_xaxes(title=axes[0], type="log", tickvals=ticks, ticktext=[f"{t:g}" for t in ticks])
    fig.update_yaxes(title=axes[1], rangemode="tozero")
    shapes = ", ".join(f"{symbols[i % len(symbols)]}: {sparsity(study, at)}" for i, at in enumerate((0, *study.levels)))
    legend = dict(font=dict(size=10), tracegroupgap=0)
    return _styled(fig, f"{title}<br><sub>{shapes}</sub>", 480).update_layout(margin=dict(l=70), legend=legend)


def spectrum_and_plane(
    table: pd.DataFrame, planes: dict[tuple[str, int], dict], study: Study, method: str, level: int, metric: str = "test_error"
) -> go.Figure:
    """Left: the extreme eigenvalues of each initialisation; right: the plane through three children, where there is one.

    All planes of a metric share one colour scale, and spectra one axis unless one reaches far beyond, so that choices can be compared.
    """
    level = 0 if ARMS[method].dense else level
    rows = table[(table.method == method) & (table.level == level)]
    fig = make_subplots(
        cols=2, column_widths=[0.38, 0.62], horizontal_spacing=0.14, subplot_titles=["extreme eigenvalues", _PLANES[metric][0]]
    )
    known = [v for s in table.spectrum if isinstance(s, list) for v in s]
    for s in study.initialisations:
        values = next((r.spectrum for r in rows.itertuples() if r.seed == s and isinstance(r.spectrum, list)), [])
        trace = _marks(values, str(s), COLOURS[method], size=9, opacity=0.8, hover="%{x:.3g}")
        fig.add_trace(trace, row=1, col=1)
    if known:  # one axis for all choices, but for what lies far beyond most
        own = [v for s in rows.spectrum if isinstance(s, list) for v in s]
        low, high = min(known), max([sorted(known)[9 * len(known) // 10], *own])
        fig.update_xaxes(range=[low - 0.05 * (high - low), high + 0.05 * (high - low)], row=1, col=1)
    fig.update_xaxes(title="eigenvalue", row=1, col=1)
    fig.update_yaxes(title="initialisation", tickvals=list(study.initialisations), range=[-0.5, study.seeds - 0.5], row=1, col=1)
    found = planes.get((method, level))
    top = max((v for p in planes.values() for row in p[metric] for v in row if v is not None), default=1.0)
    scale = 100.0 if metric == "test_error" else 1.0
    fig.add_trace(
        go.Contour(
            x=found["x"] if found else [],
            y=found["y"] if found else [],
            z=[[None if v is None else scale * min(v, _PLANES[metric][1]) for v in row] for row in found[metric]] if found else [],
            zmin=0,
            zmax=scale * min(top, _PLANES[metric][1]),
            colorscale="Viridis",
            contours=dict(coloring="heatmap", showlines=True),
            line=dict(width=0.5, color="white"),
            ncontours=12,
            colorbar=dict(len=0.9, thickness=12),
        ),
        row=1,
        col=2,
    )
    corners = found["corners"] if found else []
    fig.add_trace(
        go.Scatter(
            x=[c[0] for c in corners],
            y=[c[1] for c in corners],
            mode="markers+text",
            text=[str(i + 1) for i in range(len(corners))],
            textposition="top center",
            textfont=dict(color="white"),
            marker=dict(color="white", size=8, line=dict(color=FONT, width=1)),
            showlegend=False,
        ),
        row=1,
        col=2,
    )
    fig.update_xaxes(title="distance in weights", row=1, col=2)
    fig.update_annotations(font_size=12)
    note = "" if found else " (no plane: not in `planes`, or not trained)"
    return _styled(fig, f"{ARMS[method].title}, {sparsity(study, level)}{note}", 420).update_layout(margin=dict(l=70))


def spectra(found: dict[tuple[str, int, int], Any], study: Study, level: int) -> go.Figure:
    """Spectral densities of trained tickets (`sharpness.profiles`), a line a method, mean over initialisations, on a logarithmic scale;
    dense nets among them. Eigenvalues are blurred by a hundredth of the range shown, which ends at 1.5 times the middle net's highest."""
    import torch

    from lotto.sharpness import Spectrum

    here = {k: p for k, p in found.items() if k[1] == (0 if ARMS[k[0]].dense else level)}
    fig = go.Figure()
    if here:
        low = min(float(p.tensors["nodes"].min()) for p in here.values())
        tops = sorted(float(p.tensors["nodes"].max()) for p in here.values())
        high = min(tops[-1], 1.5 * tops[len(tops) // 2])  # one sharp net would else press all others to the edge
        if tops[-1] > high:
            beyond = dict(text=f"▶ up to {tops[-1]:.0f}", x=0.99, xref="paper", y=0.97, yref="paper", xanchor="right", showarrow=False)
            fig.add_annotation(**beyond, font=dict(size=10, color="#666666"))
        grid = torch.linspace(1.2 * min(low, -1e-6), 1.1 * high, 120, dtype=torch.float64)
        width = float(grid[-1] - grid[0]) / 100
        for m in dict.fromkeys(k[0] for k in here):
            curves = [Spectrum(p.tensors["nodes"], p.tensors["weights"]).curve(grid, width) for k, p in here.items() if k[0] == m]
            mean = torch.stack(curves).mean(0).clamp_min(1e-12)
            line = dict(color=COLOURS[m], width=2)
            fig.add_trace(go.Scatter(x=grid.tolist(), y=mean.tolist(), mode="lines", name=ARMS[m].title, line=line))
    fig.update_xaxes(title="eigenvalue of the Hessian on the live weights")
    fig.update_yaxes(title="density", type="log", range=[-5, 1.5])
    return _styled(fig, f"Spectra of trained tickets, {sparsity(study, level)}", 400, 760).update_layout(margin=dict(l=70))


def trace_by_layer(found: dict[tuple[str, int, int], Any], study: Study, level: int) -> go.Figure:
    """Share of the trace that lies in each layer (percent), a line a method, mean over initialisations; noise may carry a share below 0."""
    fig = go.Figure()
    here = {k: p for k, p in found.items() if k[1] == (0 if ARMS[k[0]].dense else level)}
    for m in dict.fromkeys(k[0] for k in here):
        traces = [p.metrics["traces"] for k, p in here.items() if k[0] == m]
        shares = {n: interval([100 * t[n] / sum(t.values()) for t in traces]) for n in traces[0]}
        _line(fig, [n.removesuffix(".weight") for n in shares], list(shares.values()), ARMS[m].title, COLOURS[m])
    fig.update_xaxes(tickangle=-50, tickfont=dict(size=10))
    fig.update_yaxes(title="share of the trace (%)")
    return _styled(fig, f"Where the curvature of trained tickets lies, {sparsity(study, level)}", 420).update_layout(
        margin=dict(l=70, b=130)
    )


def switches(table: pd.DataFrame, study: Study, switch: int, level: int, column: str = "accuracy") -> go.Figure:
    """The hybrid over its switch point, a line a level; the chosen switch is marked, and the chosen level bold."""
    axis = {"accuracy": "test accuracy (%)", "barrier": "error barrier (points)"}[column]
    fig, shades = go.Figure(), ["#d2b4de", "#af7ac5", "#8e44ad", "#5b2c6f", "#33193f", "#000000"]
    for i, at in enumerate(study.levels):
        rows = table[(table.method == "hybrid") & (table.level == at)]
        by = {n: rows[(rows.switch == n) & (rows.state == "trained")][column].tolist() for n in study.switches}
        found = [interval(values) for values in by.values()]
        wide = at == level
        fig.add_trace(
            go.Scatter(
                x=list(by),
                y=[f.mean for f in found],
                mode="lines+markers",
                name=sparsity(study, at),
                opacity=1 if wide else 0.45,
                line=dict(color=shades[i % len(shades)], width=3 if wide else 1.5),
                marker=dict(size=[12 if n == switch and wide else 6 for n in by]),
                error_y=dict(type="data", array=[f.half or 0 for f in found], thickness=1, width=3),
                customdata=[[str(f), f.n] for f in found],
                hovertemplate="switch after %{x} rounds: %{customdata[0]}, %{customdata[1]} trained<extra></extra>",
            )
        )
    here = table[(table.method == "hybrid") & (table.level == level) & (table.switch == switch)]
    found = interval(here[here.state == "trained"][column].tolist())
    fig.update_xaxes(title="distilled rounds before IMP on real images (0: IMP alone)", tickvals=list(study.switches))
    fig.update_yaxes(title=axis)
    title = f"Hybrid, switch after {switch}, {sparsity(study, level)}: {found} over {found.n} of {study.seeds} initialisations"
    return _styled(fig, title, 400, 760).update_layout(margin=dict(l=70))


def against_cost(table: pd.DataFrame, costs: pd.DataFrame, study: Study, cost: str) -> go.Figure:
    """Accuracy over the cost of the search, a line a method through its levels; a search that costs nothing stands at the left edge."""
    fig = go.Figure()
    known = [v for v in costs[cost] if v > 0]
    edge = min(known, default=1) / 3
    for m in (m for m in study.arms if not ARMS[m].dense):
        mine = costs[costs.method == m]
        found = [interval(list(by_seed(table, m, at, "accuracy").values())) for at in mine.level]
        fig.add_trace(
            go.Scatter(
                x=[max(v, edge) for v in mine[cost]],
                y=[f.mean for f in found],
                mode="lines+markers",
                name=ARMS[m].title,
                line=dict(color=COLOURS[m], width=1.5),
                marker=dict(size=[6 + 2 * i for i in range(len(found))]),
                customdata=[[str(f), sparsity(study, at)] for f, at in zip(found, mine.level, strict=True)],
                hovertemplate="%{customdata[1]}: %{customdata[0]} at %{x:,.0f}<extra>" + ARMS[m].title + "</extra>",
            )
        )
    names = {
        "passes": "images seen in the inner loops",
        "with distillation": "images seen, distillation included",
        "core-seconds": "seconds on one core, distillation included",
    }
    fig.update_xaxes(title=names[cost], type="log")
    low, high = _range(table, study, "accuracy")
    fig.update_yaxes(title="test accuracy (%)", range=[low, high])
    return _styled(fig, "Accuracy over the cost of the search (larger marks: sparser)", 420).update_layout(margin=dict(l=70))


def regime_map(tables: dict[str, pd.DataFrame], study: Study, level: int, column: str = "barrier") -> go.Figure:
    """Heat maps over peak learning rate (x) and steps (y) of the inner recipe, one a method: mean and half its 95 % interval.

    tables: title -> rows of one method with `lr`, `steps`, `level`, `seed`, `state` and `column`. All panels share one scale, that of all
    levels, so that choices can be compared. A cell where not all trained says how many did; IMP's recipe and the distilled arm's are named.
    """
    import pandas as pd

    every = pd.concat(tables.values())
    known = every[every.state == "trained"][column].dropna()
    low, high = (0.0, max(5.0, float(known.quantile(0.98)))) if column == "barrier" else (float(known.quantile(0.02)), float(known.max()))
    fig = make_subplots(cols=len(tables), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=list(tables))
    for c, table in enumerate(tables.values(), 1):
        rows = table[table.level == level]
        lrs, steps = sorted(set(rows.lr)), sorted(set(rows.steps))
        z, words = [], []
        for s in steps:
            cells = [rows[(rows.lr == lr) & (rows.steps == s)] for lr in lrs]
            found = [interval(cell[cell.state == "trained"][column].tolist()) for cell in cells]
            z.append([f.mean for f in found])
            marks = [_MARKS.get((lr == study.lr and s == study.steps, lr == study.inner_lr and s == study.inner_steps), "") for lr in lrs]
            words.append([_cell(f, len(cell)) + mark for f, cell, mark in zip(found, cells, marks, strict=True)])
        fig.add_trace(
            go.Heatmap(
                z=z,
                x=[f"{lr:g}" for lr in lrs],
                y=[str(s) for s in steps],
                text=words,
                texttemplate="%{text}",
                textfont=dict(size=10),
                colorscale="RdYlBu_r" if column == "barrier" else "Viridis",
                zmin=low,
                zmax=high,
                showscale=c == len(tables),
                colorbar=dict(thickness=12),
                hovertemplate="rate %{x}, %{y} steps: %{text}<extra></extra>",
                xgap=2,
                ygap=2,
            ),
            row=1,
            col=c,
        )
        fig.update_xaxes(title="peak learning rate", type="category", row=1, col=c)
    fig.update_yaxes(title="steps", type="category", row=1, col=1)
    fig.update_annotations(font_size=12)
    name = {"barrier": "Error barrier (points)", "accuracy": "Test accuracy (%)"}[column]
    height = 190 + 48 * max(len(set(t.steps)) for t in tables.values())
    return _styled(fig, f"{name} over the recipe, {sparsity(study, level)}", height).update_layout(margin=dict(l=70, b=70))


_MARKS = {(True, False): "<br><b>outer</b>", (False, True): "<br><b>gentle</b>", (True, True): "<br><b>both</b>"}
"""Whether a cell is IMP's own recipe, whether it is the distilled arm's -> what is written in it."""


def _cell(found: Interval, runs: int) -> str:
    if not runs:
        return ""
    if found.mean is None:
        return "none trained"
    half = "" if found.half is None else f" ± {found.half:.0f}"
    return f"{found.mean:.1f}{half}" + (f"<br>{found.n} of {runs}" if found.n < runs else "")


def over_time(table: pd.DataFrame, study: Study, level: int, column: str = "barrier", mark: float | None = 2.0) -> go.Figure:
    """A line a method over the step k from which nets train anew: mean with 95 % interval; dense nets in black."""
    fig = go.Figure()
    for m in dict.fromkeys(table.method):
        rows = table[(table.method == m) & (table.level == (0 if ARMS[m].dense else level)) & (table.state == "trained")]
        at = sorted(set(rows.k))
        _line(fig, at, [interval(rows[rows.k == k][column].tolist()) for k in at], ARMS[m].title, COLOURS[m])
    if mark is not None and column == "barrier":
        fig.add_hline(y=mark, line=RULE)
    fig.update_xaxes(title="step k of the dense training from which nets train anew")
    fig.update_yaxes(title={"barrier": "error barrier (points)", "accuracy": "test accuracy (%)"}[column])
    sparse = level and any(not ARMS[m].dense for m in table.method)
    title = "Instability over time" + (f", tickets {sparsity(study, level)}" if sparse else "")
    return _styled(fig, title, 400, 760).update_layout(margin=dict(l=70))


def _line(fig: go.Figure, x: list, found: list[Interval], name: str, colour: str, **more) -> None:
    bars = dict(type="data", array=[f.half or 0 for f in found], thickness=1, width=3, color=colour)
    hover = dict(customdata=[str(f) for f in found], hovertemplate="%{x}: %{customdata}<extra>" + name + "</extra>")
    fig.add_trace(
        go.Scatter(x=x, y=[f.mean for f in found], name=name, mode="lines+markers", error_y=bars, line=dict(color=colour), **hover, **more)
    )


def matched(table: pd.DataFrame, study: Study, level: int) -> go.Figure:
    """Barriers of `stability.between` as the nets are (black) and with channels permuted to match (red): mean with 95 % interval."""
    rows = table[(table.level == level) & (table.state == "trained")]
    fig, names = go.Figure(), []
    for (kind, m, other), group in rows.groupby(["kind", "method", "other"], sort=False):
        title = ARMS[m].title
        what = {"children": f"{title}: two children", "levels": f"{title}: child of level {other}"}
        names.append(what.get(kind) or f"{title} and {ARMS[other].title}")
        for column, colour in (("barrier", FONT), ("matched", "#c0392b")):
            fig.add_trace(_bold(interval(group[column].tolist()), names[-1], colour))
    for name, colour in (("as they are", FONT), ("up to permutation", "#c0392b")):
        fig.add_trace(go.Scatter(x=[None], y=names[:1], mode="markers", marker=dict(color=colour, size=10), name=name))
    fig.add_vline(x=2, line=dict(color="#c0392b", width=1, dash="dash"))
    fig.update_yaxes(categoryorder="array", categoryarray=names[::-1])
    fig.update_xaxes(title="error barrier (points)", rangemode="tozero")
    return _legend_below(_styled(fig, f"Barriers up to permutation, {sparsity(study, level)}", 200 + 28 * len(names)))


def overlap_matrix(table: pd.DataFrame, study: Study, level: int, column: str = "excess") -> go.Figure:
    """How much masks share: a cell a pair of methods over the same initialisation, mean over initialisations."""
    arms = [m for m in study.arms if not ARMS[m].dense]
    mean = table[table.level == level].groupby(["method", "other"])[column].mean()
    z = [[float(mean[a, b]) if (a, b) in mean else float(mean[b, a]) if (b, a) in mean else None for b in arms] for a in arms]
    titles = [ARMS[m].title for m in arms]
    top = max((abs(v) for row in z for v in row if v is not None), default=1.0)
    fig = go.Figure(
        go.Heatmap(
            z=z,
            x=titles,
            y=titles,
            zmin=-top if column == "excess" else 0,
            zmax=top,
            colorscale="RdBu_r" if column == "excess" else "Blues",
            texttemplate="%{z:.0f}",
            textfont=dict(size=10),
            hovertemplate="%{y} and %{x}: %{z:.1f}<extra></extra>",
            colorbar=dict(thickness=12),
        )
    )
    fig.update_yaxes(autorange="reversed")
    fig.update_xaxes(tickangle=-40)
    name = {"excess": "Overlap above chance (points)", "overlap": "Overlap (%)", "chance": "Overlap by chance (%)"}[column]
    return _styled(fig, f"{name}, {sparsity(study, level)}", 260 + 26 * len(arms)).update_layout(margin=dict(b=150))


def survivors(table: pd.DataFrame, study: Study, level: int) -> go.Figure:
    """Share kept by magnitude of the initial weight, a line a method: mean with 95 % interval; dotted: the share kept overall."""
    fig = go.Figure()
    for m in (m for m in study.arms if not ARMS[m].dense):
        rows = table[(table.method == m) & (table.level == level)]
        at = sorted(set(rows.bin))
        found = [interval(rows[rows.bin == b].survived.tolist()) for b in at]
        _line(fig, [100 * (b + 0.5) / max(1, len(at)) for b in at], found, ARMS[m].title, COLOURS[m])
    fig.add_hline(y=100 * study.density(level), line=dict(color="#999999", dash="dot"))
    fig.update_xaxes(title="magnitude of the weight at the start, percentile of its layer")
    fig.update_yaxes(title="kept (%)", rangemode="tozero")
    return _styled(fig, f"Who survives, {sparsity(study, level)}", 420).update_layout(margin=dict(l=70), legend=dict(font=dict(size=11)))


def settled(table: pd.DataFrame, study: Study) -> go.Figure:
    """How early in its inner loop the first round's mask is there: overlap with the final one; dotted, chance."""
    fig = go.Figure()
    for m in dict.fromkeys(table.method):
        rows = table[table.method == m]
        at = sorted(set(rows.share))
        _line(fig, [100 * s for s in at], [interval(rows[rows.share == s].overlap.tolist()) for s in at], ARMS[m].title, COLOURS[m])
        lucky = [interval(rows[rows.share == s].chance.tolist()).mean for s in at]
        dots = dict(color=COLOURS[m], dash="dot", width=1)
        fig.add_trace(go.Scatter(x=[100 * s for s in at], y=lucky, mode="lines", showlegend=False, line=dots))
    fig.update_xaxes(title="share of the inner loop done (%)", range=[0, 100])
    fig.update_yaxes(title="overlap with the final mask (%)", range=[0, 102])
    return _styled(fig, "How early a mask is settled (first round; dotted: chance)", 380, 760).update_layout(margin=dict(l=70))


_PLANES = {
    "test_error": ("test error (points), children 1 to 3", 1.0),
    "train_loss": ("training loss (nats, capped at 3), children 1 to 3", 3.0),
}
"""Metric of a plane -> its title, and where its scale ends."""


def losses(runs: dict[str, list[list[float]]], title: str) -> go.Figure:
    """The loss of distillations, each step against other random nets, so smoothed over 5 % of the steps; thin lines, one a distillation."""
    fig = go.Figure()
    for i, (name, several) in enumerate(runs.items()):
        colour = ("#d95f0e", "#1f5fbf", "#1b8a5a", "#8e44ad")[i % 4]
        for j, values in enumerate(several):
            window = max(1, len(values) // 20)
            smooth = [sum(values[max(0, k - window + 1) : k + 1]) / len(values[max(0, k - window + 1) : k + 1]) for k in range(len(values))]
            at = range(0, len(smooth), max(1, len(smooth) // 100))
            fig.add_trace(
                go.Scatter(
                    x=[k + 1 for k in at],
                    y=[smooth[k] for k in at],
                    mode="lines",
                    name=name,
                    legendgroup=name,
                    showlegend=j == 0,
                    line=dict(color=colour, width=1.5),
                )
            )
    fig.update_xaxes(title="step")
    fig.update_yaxes(title="matching loss (smoothed)", rangemode="tozero")
    return _styled(fig, title, 360, 640).update_layout(margin=dict(l=70))


def judged(table: pd.DataFrame, study: Study) -> go.Figure:
    """What sets are worth: one panel a size; each distillation (or draw) a dot, mean and 95 % interval bold; the ceiling as a line."""
    kinds = [k for k in dict.fromkeys(table.method) if k != "real"][::-1]
    names = {k: ARMS[k].title for k in kinds}
    titles = [f"{i} image{'s' if i > 1 else ''} a class" for i in study.ipcs]
    fig = make_subplots(cols=len(study.ipcs), shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=titles)
    ceiling = interval(list(by_seed(table, "real", 0, "accuracy").values()))
    for c, ipc in enumerate(study.ipcs, 1):
        for k in kinds:
            rows = table[(table.method == k) & (table.level == ipc)]
            values = [v for v in rows.accuracy if v is not None]
            found = interval(values)
            fig.add_trace(_marks(values, names[k], COLOURS[k], size=5, opacity=0.5, hover="%{x:.1f}"), row=1, col=c)
            fig.add_trace(_bold(found, names[k], COLOURS[k]), row=1, col=c)
        if ceiling.mean is not None:
            fig.add_vline(x=ceiling.mean, line=dict(color=COLOURS["dense"], width=1.5), row=1, col=c)
        fig.update_xaxes(title="test accuracy of fresh nets (%)", range=[0, 100], row=1, col=c)
    return _styled(fig, f"What a set is worth to a fresh net (line: all training images, {ceiling})", 196 + 28 * len(kinds)).update_layout(
        margin=dict(l=200)
    )


def worth(table: pd.DataFrame, column: str, axis: str) -> go.Figure:
    """What masks are worth over what the sets they were found with are worth to a fresh net (`regimes.sets`): a dot an initialisation,
    a large mark the mean; shapes by images a class."""
    fig, symbols, sizes = go.Figure(), ["circle", "square", "diamond", "cross"], sorted(set(table.level))
    for (method, level), rows in table[table.state == "trained"].groupby(["method", "level"], sort=False):
        look = dict(color=COLOURS[method], symbol=symbols[sizes.index(level) % len(symbols)])
        name = f"{ARMS[method].title}, {level} a class"
        x, y = rows.worth.tolist(), rows[column].tolist()
        fig.add_trace(go.Scatter(x=x, y=y, mode="markers", showlegend=False, hoverinfo="skip", marker=dict(**look, size=5, opacity=0.4)))
        mean = dict(x=[rows.worth.mean()], y=[rows[column].mean()])
        fig.add_trace(go.Scatter(**mean, mode="markers", name=name, marker=dict(**look, size=12, line=dict(color="white", width=1))))
    fig.update_xaxes(title="accuracy of fresh nets trained on the set (%)")
    fig.update_yaxes(title=axis)
    entries = sum(t.showlegend is not False for t in fig.data)
    return _styled(fig, "Does a better set make a better mask?", max(440, 130 + 19 * entries)).update_layout(
        margin=dict(l=70), legend=dict(font=dict(size=10))
    )


def grid(images, labels, per_class: int, title: str) -> go.Figure:
    """Images in [0, 1], (n, c, h, w), a column a class, at most `per_class` of each, at equal grey scale."""
    import numpy as np

    shown, c = images.numpy(), images.shape[1]
    columns = []
    for label in range(int(labels.max()) + 1):
        mine = shown[(labels == label).numpy()][:per_class]
        mine = np.pad(mine, ((0, per_class - len(mine)), (0, 0), (1, 0), (1, 0)), constant_values=1.0)
        columns.append(np.concatenate(list(mine), axis=1))
    whole = np.concatenate(columns, axis=2).transpose(1, 2, 0)
    whole = np.repeat(whole, 3, axis=2) if c == 1 else whole
    fig = go.Figure(go.Image(z=(255 * whole).round().astype("uint8")))
    fig.update_xaxes(visible=False)
    fig.update_yaxes(visible=False)
    return _styled(fig, title, 80 + 60 * per_class, 640).update_layout(margin=dict(l=10, r=10, t=60, b=10))


def one_class(images, label: int, title: str) -> go.Figure:
    """The images of one class in a SynSet, at most 10, side by side."""
    import torch

    mine = images.images[images.labels == label][:10]
    return grid(mine, torch.arange(len(mine)), 1, title)


def show(fig: go.Figure) -> None:
    """Display: interactive where scripts run, the still picture elsewhere (made in headless runs only; JupyterLab needs none)."""
    from IPython.display import display

    bundle = {"application/vnd.plotly.v1+json": fig.to_plotly_json() | {"config": {"displaylogo": False}}}
    from plotly.utils import PlotlyJSONEncoder

    # six digits are more than a screen shows, and half the size of a page
    bundle = json.loads(json.dumps(bundle, cls=PlotlyJSONEncoder), parse_float=lambda text: float(f"{float(text):.6g}"))
    if os.environ.get("LOTTO_HEADLESS") and (png := still(fig)):
        bundle["image/png"] = base64.b64encode(png).decode()
    display(bundle, raw=True)
