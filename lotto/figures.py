"""Table -> plotly figure, nothing else. Colours stand for the same method everywhere."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import warnings
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lotto.config import METHODS, Study
from lotto.stats import by_seed, interval

if TYPE_CHECKING:
    import pandas as pd

# blue: IMP; orange: distilled images; green: other images in the gentle recipe; purple: both in turn; grey: no training, or no pruning
COLOURS = {
    "dense": "#222222",
    "dense-rewound": "#777777",
    "imp": "#1f5fbf",
    "imp-rewound": "#6fa8f5",
    "distilled": "#d95f0e",
    "distilled-harsh": "#f4a55f",
    "real-gentle": "#1b8a5a",
    "subset": "#63c48f",
    "noise": "#b8d8a0",
    "initial": "#9a8c7c",
    "random": "#c9bfb3",
    "hybrid": "#8e44ad",
    "random-layerwise": "#b09fbd",
}
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


def sparsity(study: Study, level: int) -> str:
    """ "83.2 % sparse", for titles."""
    return f"{100 * (1 - study.density(level)):.1f} % sparse" if level else "dense"


def dots(table: pd.DataFrame, study: Study, column: str, axis: str, title: str, mark: float | None = None) -> go.Figure:
    """One row a method, one panel a level: each initialisation a small dot, mean and 95 % interval bold, dense nets as vertical lines.

    Runs that did not train have no dot; how many did is written at the right of the row. A mean beyond the panel is written at its edge.
    """
    arms = [m for m in study.arms if not METHODS[m].dense][::-1]
    names = [METHODS[m].title for m in arms]
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
            bold = _marks([found.mean], name, COLOURS[m], size=10, opacity=1, hover=str(found))
            if found.low is not None:
                bold.error_x = dict(type="data", array=[found.high - found.mean], thickness=1.5, width=4, color=COLOURS[m])
            fig.add_trace(bold, **where)
        for m in ("dense", "dense-rewound"):
            if (found := interval(list(by_seed(table, m, 0, column).values()))).mean is not None:
                line = dict(color=COLOURS[m], width=1.5, dash="solid" if m == "dense" else "dot")
                fig.add_vline(x=found.mean, line=line, **where)
                label = f"{METHODS[m].title}: {found}"
                fig.add_trace(go.Scatter(x=[None], y=[names[0]], mode="lines", line=line, name=label, showlegend=c == 1), **where)
        if mark is not None:
            fig.add_vline(x=mark, line=dict(color="#c0392b", width=1, dash="dash"), **where)
        fig.update_xaxes(title=axis, row=1, col=c)
    fig.update_yaxes(type="category", categoryorder="array", categoryarray=names, range=[-0.6, len(names) - 0.4])
    fig.update_xaxes(range=[low, high])
    fig = _styled(fig, title, 150 + 30 * len(arms))
    return fig.update_layout(legend=dict(orientation="h", y=-0.18, x=0, xanchor="left"), margin=dict(b=100))


def _marks(x: list[float | None], name: str, colour: str, size: int, opacity: float, hover: str) -> go.Scatter:
    marker = dict(color=colour, size=size, opacity=opacity, line=dict(color="white", width=1 if size > 5 else 0))
    return go.Scatter(
        x=x, y=[name] * len(x), mode="markers", showlegend=False, marker=marker, hovertemplate=f"{hover}<extra>{name}</extra>"
    )


def _range(table: pd.DataFrame, study: Study, column: str) -> tuple[float, float]:
    # from the dots, not from the intervals, which may reach far beyond with three initialisations; a collapsed arm may leave the panel
    values = [
        v for m in study.arms for level in ((0,) if METHODS[m].dense else study.levels) for v in by_seed(table, m, level, column).values()
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
    level = 0 if METHODS[method].dense else level
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
    return _styled(fig, f"{METHODS[method].title}, {sparsity(study, level)}: accuracy {found} %", 400).update_layout(
        margin=dict(l=70, b=130)
    )


METRICS = {
    "test error": ("test_error", "test error (points)"),
    "train error": ("train_error", "training error (points)"),
    "test loss": ("test_loss", "test loss (nats)"),
    "train loss": ("train_loss", "training loss (nats)"),
}


def path(table: pd.DataFrame, study: Study, method: str, level: int, pair: int = 0, metric: str = "test error") -> go.Figure:
    """The path between two children: recalibrated statistics bold, interpolated ones thin; a line an initialisation, their mean thick."""
    level = 0 if METHODS[method].dense else level
    column, axis = METRICS[metric]
    rows = table[(table.method == method) & (table.level == level) & (table.pair == pair)] if len(table) else table
    fig = go.Figure()
    for statistics, dash in (("interpolated", "dot"), ("recalibrated", "solid")):
        curves = rows[rows.statistics == statistics] if len(rows) else rows
        grid = sorted(set(curves.alpha)) if len(curves) else []
        by = {s: g.sort_values("alpha")[column].tolist() for s, g in curves.groupby("seed")} if len(curves) else {}
        for s in range(study.seeds):  # as many traces for every choice, so that a slider only moves them
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
        mean = [_mean_of([c[i] for c in by.values()]) for i in range(len(grid))]
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
    title = f"{METHODS[method].title}, {sparsity(study, level)}" + ("" if len(rows) else ": no net trained")
    return _styled(fig, title, 400, 640).update_layout(margin=dict(l=70), legend=dict(orientation="h", y=-0.25, x=0))


def _mean_of(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


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
        subplot_titles=[METHODS[m].title for m in arms],
    )
    for i, m in enumerate(arms):
        at = 0 if METHODS[m].dense else level
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


@functools.cache
def _camera():
    """kaleido's browser, started once; None where there is none. `LOTTO_STILLS=0` switches stills off."""
    if os.environ.get("LOTTO_STILLS", "1") == "0":
        return None
    try:
        import kaleido

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kaleido.start_sync_server(silence_warnings=True)
        return kaleido
    except Exception:  # whatever keeps a browser from starting: the figure is shown without a still
        return None


def still(fig: go.Figure) -> bytes | None:
    """The figure as PNG for pages that run no scripts, or None where no browser (chromium or Chrome) is found. Best effort."""
    if (camera := _camera()) is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _few_colours(camera.calc_fig_sync(fig, opts=dict(format="png", scale=1)))
    except Exception:
        return None


def _few_colours(png: bytes) -> bytes:
    # a palette of 128 colours, chosen to cover all that a chart has, makes the picture a third as large
    from PIL import Image

    out = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return out.getvalue()


def show(fig: go.Figure) -> None:
    """Display: interactive where scripts run, the still picture elsewhere (made in headless runs only; JupyterLab needs none)."""
    from IPython.display import display

    bundle = {"application/vnd.plotly.v1+json": fig.to_plotly_json() | {"config": {"displaylogo": False}}}
    from plotly.utils import PlotlyJSONEncoder

    bundle = json.loads(json.dumps(bundle, cls=PlotlyJSONEncoder))
    if os.environ.get("LOTTO_HEADLESS") and (png := still(fig)):
        bundle["image/png"] = base64.b64encode(png).decode()
    display(bundle, raw=True)
