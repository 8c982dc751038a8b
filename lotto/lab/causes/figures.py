"""Figures of causes: the factorial, the regime map, masks and their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lotto.lab.arms import ARMS, FACTORIAL, IMAGES
from lotto.lab.plots import COLOURS, FONT, RULE, error_line, heat, legend_below, sparsity, styled
from lotto.lab.study import Study
from lotto.lab.tables import averaged, by_seed, trained
from lotto.stats import Interval, interval

if TYPE_CHECKING:
    import pandas as pd


def factorial(
    table: pd.DataFrame, study: Study, column: str, axis: str, title: str, mark: float | None = None
) -> go.Figure:
    """One row per combination of images, length and rate of the inner loop, one panel per level: mean and 95 % interval
    with the weights rewound (filled) and with everything rewound (hollow); how many trained, where not all did."""
    arms = [m for m in FACTORIAL if m in study.arms and m in set(table.method)]
    label = {m: f"{IMAGES[ARMS[m].images]} · {ARMS[m].length} · {ARMS[m].rate}" for m in arms}
    order = [(i, n, r) for i in IMAGES for n in ("long", "short") for r in ("outer", "gentle")]
    rows = list(
        dict.fromkeys(
            label[m] for m in sorted(arms, key=lambda m: order.index((ARMS[m].images, ARMS[m].length, ARMS[m].rate)))
        )
    )
    panels = [sparsity(study, level) for level in study.levels]
    fig = make_subplots(cols=len(panels), shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=panels)
    for c, level in enumerate(study.levels, 1):
        for what, filled, grey in (("weights", True, "#666666"), ("all", False, "#bbbbbb")):
            mine = [m for m in arms if ARMS[m].rewinding == what]
            found = [interval(list(by_seed(table, m, level, column).values())) for m in mine]
            colours = [COLOURS[m] for m in mine]
            marker = dict(size=10, color=colours if filled else "white", line=dict(color=colours, width=2))
            bars = dict(type="data", array=[f.half or 0 for f in found], thickness=1.2, width=4, color=grey)
            hover = dict(customdata=[str(f) for f in found])
            hover |= dict(hovertemplate=f"%{{customdata}}<extra>%{{y}}, {what} rewound</extra>")
            some = [f"{n} of {study.seeds}" if (n := trained(table, m, level)) < study.seeds else "" for m in mine]
            look = dict(mode="markers+text", showlegend=False, marker=marker, error_x=bars, textposition="top center")
            fig.add_trace(
                go.Scatter(x=[f.mean for f in found], y=[label[m] for m in mine], text=some, **look, **hover),
                row=1,
                col=c,
            )
        if mark is not None:
            fig.add_vline(x=mark, line=RULE, row=1, col=c)
        if (dense := interval(list(by_seed(table, "dense", 0, column).values()))).mean is not None:
            fig.add_vline(x=dense.mean, line=dict(color=COLOURS["dense"], width=1.5), row=1, col=c)
        fig.update_xaxes(title=axis, row=1, col=c)
    for name, look in (
        ("weights rewound", dict(mode="markers", marker=dict(size=10, color=FONT))),
        ("all rewound", dict(mode="markers", marker=dict(size=10, color="white", line=dict(color=FONT, width=2)))),
        ("dense", dict(mode="lines", line=dict(color=COLOURS["dense"], width=1.5))),
        *([(f"stable: below {mark:g}", dict(mode="lines", line=RULE))] if mark is not None else []),
    ):
        fig.add_trace(go.Scatter(x=[None], y=rows[:1], name=name, **look))
    fig.update_xaxes(matches="x")
    fig.update_yaxes(type="category", categoryorder="array", categoryarray=rows[::-1])
    return legend_below(styled(fig, title, 150 + 20 * len(rows))).update_layout(margin=dict(t=60, b=85))


def regime_map(tables: dict[str, pd.DataFrame], study: Study, level: int, column: str = "barrier") -> go.Figure:
    """Heat maps over peak learning rate (x) and steps (y) of the inner recipe, one a method: mean and half its 95 %
    interval.

    tables: title -> rows of one method with `lr`, `steps`, `level`, `seed`, `state` and `column`. All panels share one
    scale, that of all levels, so that choices can be compared. A cell where not all trained says how many did; IMP's
    recipe and the distilled arm's are named.
    """
    import pandas as pd

    every = pd.concat(tables.values())
    known = averaged(every, column)[column].dropna()
    low, high = (
        (0.0, max(5.0, float(known.quantile(0.98))))
        if column == "barrier"
        else (float(known.quantile(0.02)), float(known.max()))
    )
    fig = make_subplots(cols=len(tables), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=list(tables))
    for c, table in enumerate(tables.values(), 1):
        rows = table[table.level == level]
        lrs, steps = sorted(set(rows.lr)), sorted(set(rows.steps))
        z, words = [], []
        for s in steps:
            cells = [rows[(rows.lr == lr) & (rows.steps == s)] for lr in lrs]
            found = [interval(averaged(cell, column)[column].tolist()) for cell in cells]
            z.append([f.mean for f in found])
            marks = [
                _MARKS.get(
                    (lr == study.outer.lr and s == study.outer.steps, lr == study.inner.lr and s == study.inner.steps),
                    "",
                )
                for lr in lrs
            ]
            words.append([_cell(f, cell) + mark for f, cell, mark in zip(found, cells, marks, strict=True)])
        colours = "RdYlBu_r" if column == "barrier" else "Viridis"
        cells = heat(
            z,
            [f"{lr:g}" for lr in lrs],
            [str(s) for s in steps],
            words,
            colours,
            (low, high),
            showscale=c == len(tables),
        )
        fig.add_trace(cells, row=1, col=c)
        fig.update_xaxes(title="peak learning rate", type="category", row=1, col=c)
    fig.update_yaxes(title="steps", type="category", row=1, col=1)
    fig.update_annotations(font_size=12)
    name = {"barrier": "Error barrier (points)", "accuracy": "Test accuracy (%)"}[column]
    height = 190 + 48 * max(len(set(t.steps)) for t in tables.values())
    return styled(fig, f"{name} over the recipe, {sparsity(study, level)}", height).update_layout(
        margin=dict(l=70, b=70)
    )


_MARKS = {(True, False): "<br><b>outer</b>", (False, True): "<br><b>gentle</b>", (True, True): "<br><b>both</b>"}
"""Whether a cell is IMP's own recipe, whether it is the distilled arm's -> what is written in it."""


def _cell(found: Interval, rows: pd.DataFrame) -> str:
    if not len(rows):
        return ""
    if found.mean is None:
        return "none trained"
    half = "" if found.half is None else f" ± {found.half:.0f}"
    return f"{found.mean:.1f}{half}" + (
        f"<br>{n} of {len(rows)}" if (n := int((rows.state == "trained").sum())) < len(rows) else ""
    )


def over_time(
    table: pd.DataFrame, study: Study, level: int, column: str = "barrier", mark: float | None = 2.0
) -> go.Figure:
    """A line a method over the step k from which nets train anew: mean with 95 % interval; dense nets in black."""
    fig = go.Figure()
    for m in dict.fromkeys(table.method):
        rows = averaged(table[(table.method == m) & (table.level == (0 if ARMS[m].dense else level))], column)
        at = sorted(set(rows.k))
        error_line(fig, at, [interval(rows[rows.k == k][column].tolist()) for k in at], ARMS[m].title, COLOURS[m])
    if mark is not None and column == "barrier":
        fig.add_hline(y=mark, line=RULE)
    fig.update_xaxes(title="step k of the dense training from which nets train anew")
    fig.update_yaxes(title={"barrier": "error barrier (points)", "accuracy": "test accuracy (%)"}[column])
    sparse = level and any(not ARMS[m].dense for m in table.method)
    title = "Instability over time" + (f", tickets {sparsity(study, level)}" if sparse else "")
    return styled(fig, title, 400, 760).update_layout(margin=dict(l=70))


def _with_own_masks(study: Study) -> list[str]:
    return [m for m in study.arms if not ARMS[m].dense and ARMS[m].then not in ("rewound", "new weights")]


def overlap_matrix(table: pd.DataFrame, study: Study, level: int, column: str = "excess") -> go.Figure:
    """How much masks share: one cell per pair of methods over the same initialisation, mean over initialisations. Arms
    that take another's mask as it is are left out."""
    arms = _with_own_masks(study)
    mean = table[table.level == level].groupby(["method", "other"])[column].mean()
    z = [
        [float(mean[a, b]) if (a, b) in mean else float(mean[b, a]) if (b, a) in mean else None for b in arms]
        for a in arms
    ]
    titles = [ARMS[m].title for m in arms]
    sizes = sorted(abs(v) for row in z for v in row if v is not None) or [1.0]
    top = sizes[-1]
    signed = column == "excess"
    fig = go.Figure(heat(z, titles, titles, None, "RdBu_r" if signed else "Blues", (-top if signed else 0, top)))
    fig.update_yaxes(autorange="reversed")
    fig.update_xaxes(tickangle=-40)
    name = {"excess": "Overlap above chance (points)", "overlap": "Overlap (%)", "chance": "Overlap by chance (%)"}[
        column
    ]
    return styled(fig, f"{name}, {sparsity(study, level)}", 260 + 26 * len(arms)).update_layout(margin=dict(b=150))


def survivors(table: pd.DataFrame, study: Study, level: int) -> go.Figure:
    """Share kept by magnitude of the weight at the rewind point, one line per method: mean with 95 % interval; dotted:
    the share kept overall. Arms that take another's mask as it is are left out."""
    fig = go.Figure()
    for m in _with_own_masks(study):
        rows = table[(table.method == m) & (table.level == level)]
        at = sorted(set(rows.bin))
        found = [interval(rows[rows.bin == b].survived.tolist()) for b in at]
        error_line(fig, [100 * (b + 0.5) / max(1, len(at)) for b in at], found, ARMS[m].title, COLOURS[m])
    fig.add_hline(y=100 * study.density(level), line=dict(color="#999999", dash="dot"))
    fig.update_xaxes(title="magnitude of the weight at the start, percentile of its layer")
    fig.update_yaxes(title="kept (%)", rangemode="tozero")
    return styled(fig, f"Who survives, {sparsity(study, level)}", 420).update_layout(
        margin=dict(l=70), legend=dict(font=dict(size=11))
    )


def settled(table: pd.DataFrame, study: Study) -> go.Figure:
    """How early in its inner loop the first round's mask is there: overlap with the final one; dotted, chance."""
    fig = go.Figure()
    for m in dict.fromkeys(table.method):
        rows = table[table.method == m]
        at = sorted(set(rows.share))
        error_line(
            fig,
            [100 * s for s in at],
            [interval(rows[rows.share == s].overlap.tolist()) for s in at],
            ARMS[m].title,
            COLOURS[m],
        )
        lucky = [interval(rows[rows.share == s].chance.tolist()).mean for s in at]
        dots = dict(color=COLOURS[m], dash="dot", width=1)
        fig.add_trace(go.Scatter(x=[100 * s for s in at], y=lucky, mode="lines", showlegend=False, line=dots))
    fig.update_xaxes(title="share of the inner loop done (%)", range=[0, 100])
    fig.update_yaxes(title="overlap with the final mask (%)", range=[0, 102])
    return styled(fig, "How early a mask is settled (first round; dotted: chance)", 380, 760).update_layout(
        margin=dict(l=70)
    )
