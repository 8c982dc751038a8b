"""Explorer of tickets, round by round: where the live weights of two methods are, how many of them are the same, and
what their tickets reach."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lotto import masks
from lotto.lab.arms import ARMS
from lotto.lab.explore.controls import explore
from lotto.lab.plots import COLOURS, FONT, SYMBOLS, sparsity, styled
from lotto.lab.study import Study
from lotto.lab.tables import by_seed
from lotto.lab.tickets.products import level as mask_of
from lotto.stats import Interval, interval

if TYPE_CHECKING:
    import pandas as pd


class Masks(NamedTuple):
    """The masks of a study, round by round, as means over its initialisations."""

    layers: list[str]
    """Names of the layers, in the model's order."""
    alive: Mapping[tuple[str, int], list[float]]
    """(method, rounds) -> share of each layer that is live, in percent."""
    shared: Mapping[tuple[str, str, int], tuple[Interval, Interval]]
    """(method, other, rounds) -> the overlap of their masks over one initialisation (Jaccard, percent), and the overlap
    that masks of the same layer densities have by chance."""
    reached: Mapping[tuple[str, str], tuple[list[int], list[Interval]]]
    """(accuracy or barrier, method) -> (levels at which tickets were trained, from 0, the dense net; what they
    reached)."""
    limits: tuple[float, float]
    """Where the axis of accuracies begins, and where that of barriers ends."""


def read(study: Study, accuracy: pd.DataFrame, barrier: pd.DataFrame) -> Masks:
    """The masks that are stored, of every round up to the study's last level, and what the tickets reached
    (`tickets.tables.accuracies`, `stability.tables.barriers`)."""
    names = list(mask_of(study.ticket("dense", 0, study.first_seed)).metrics["layer_live"])
    alive, shared = {}, {}
    arms = [m for m in study.arms if not ARMS[m].dense]
    for rounds in range(1, study.levels[-1] + 1):
        both: dict[tuple[str, str], list[tuple[float, float]]] = {}
        shares: dict[str, list[list[float]]] = {}
        for seed in study.initialisations:  # one initialisation at a time: masks of large nets are large
            found = {m: p for m in arms if (p := mask_of.read(study.ticket(m, rounds, seed))) is not None}
            for m, p in found.items():
                live, size = p.metrics["layer_live"], p.metrics["layer_size"]
                shares.setdefault(m, []).append([100 * live[n] / size[n] for n in names])
            for m, n in itertools.combinations(found, 2):
                a, b = found[m].tensors, found[n].tensors
                both.setdefault((m, n), []).append((100 * masks.overlap(a, b), 100 * masks.chance(a, b)))
        for m, each in shares.items():
            alive[m, rounds] = [sum(column) / len(each) for column in zip(*each, strict=True)]
        for (m, n), each in both.items():
            shared[m, n, rounds] = shared[n, m, rounds] = tuple(interval(list(v)) for v in zip(*each, strict=True))
    tables = {"accuracy": accuracy, "barrier": barrier}
    reached = {(column, m): _reached(table, study, m, column) for column, table in tables.items() for m in arms}
    low, high = accuracy.accuracy.astype(float).min(), barrier.barrier.astype(float).max()
    limits = (max(0.0, low - 3) if low == low else 0.0, high + 3 if high == high else 100.0)  # NaN: no ticket trained
    return Masks(names, alive, shared, reached, limits)


def _reached(table: pd.DataFrame, study: Study, method: str, column: str) -> tuple[list[int], list[Interval]]:
    dense = "dense-rewound" if ARMS[method].from_k else "dense"
    cells = [(0, dense), *((level, method) for level in study.levels)]
    found = [(level, interval(list(by_seed(table, m, level, column).values()))) for level, m in cells]
    there = [(level, f) for level, f in found if f.mean is not None]
    return [level for level, _ in there], [f for _, f in there]


def figure(found: Masks, study: Study, ticket: str, beside: str, level: int) -> go.Figure:
    """Above: the share of each layer that is live in two methods' masks, on a logarithmic scale. Below, over the rounds
    of pruning: the overlap of the two masks with what chance gives (dotted), accuracy and error barrier of the trained
    tickets; the black line marks the chosen round. Means over initialisations with 95 % intervals.

    Every choice has the same number of traces.
    """
    data = []
    for m, pattern in ((ticket, ""), (beside, "/")):
        shares = found.alive.get((m, level), [])
        shape = dict(shape=pattern, fillmode="overlay", fgcolor="white", size=6)
        bars = dict(x=[n.removesuffix(".weight") for n in found.layers] if shares else [], y=shares, name=ARMS[m].title)
        hover = "%{x}: %{y:.2f} % live<extra>" + ARMS[m].title + "</extra>"
        data.append(dict(type="bar", **bars, marker=dict(color=COLOURS[m], pattern=shape), hovertemplate=hover))
    known = [r for r in range(1, study.levels[-1] + 1) if (ticket, beside, r) in found.shared]
    pairs = [found.shared[ticket, beside, r] for r in known]
    data.append(_line(2, known, [p[0] for p in pairs], FONT, "overlap"))
    data.append(_line(2, known, [p[1] for p in pairs], FONT, "by chance", dash="dot"))
    for panel, column in ((3, "accuracy"), (4, "barrier")):
        for m in (ticket, beside):
            data.append(_line(panel, *found.reached[column, m], COLOURS[m], ARMS[m].title, symbol=SYMBOLS[m]))
    black = dict(mode="lines", line=dict(color="#000000", width=1), showlegend=False, hoverinfo="skip")
    data += [dict(type="scatter", x=[level] * 2, y=[0, 100], **_at(panel), **black) for panel in (2, 3, 4)]
    here = found.shared.get((ticket, beside, level))
    told = f"overlap {here[0].mean:.0f} %, by chance {here[1].mean:.0f} %" if here else "overlap not known"
    layout = _canvas(study.levels[-1], *found.limits)
    title = f"{ARMS[ticket].title} beside {ARMS[beside].title}, {sparsity(study, level)}: {told}"
    return go.Figure({"data": data, "layout": {**layout, "title": {**layout["title"], "text": title}}})


def _at(panel: int) -> dict[str, str]:
    return dict(xaxis=f"x{panel}", yaxis=f"y{panel}")


def _line(
    panel: int,
    at: list[int],
    found: list[Interval],
    colour: str,
    name: str,
    dash: str = "solid",
    symbol: str = "circle",
) -> dict[str, Any]:
    return dict(
        **dict(type="scatter", x=at, y=[f.mean for f in found], mode="lines+markers", showlegend=False, **_at(panel)),
        **dict(line=dict(color=colour, dash=dash), marker=dict(symbol=symbol, size=7)),
        error_y=dict(type="data", array=[f.half or 0 for f in found], thickness=1, width=3, color=colour),
        customdata=[str(f) for f in found],
        hovertemplate="after %{x} rounds: %{customdata}<extra>" + name + "</extra>",
    )


@functools.cache
def _canvas(last: int, lowest: float, highest: float) -> dict[str, Any]:
    """The layout, the same for every choice except for its title: choices can be compared, and redraws are fast."""
    titles = ["", "overlap of the masks (%)", "test accuracy (%)", "error barrier (points)"]
    layout = dict(specs=[[dict(colspan=3), None, None], [{}, {}, {}]], row_heights=[0.55, 0.45], vertical_spacing=0.28)
    fig = make_subplots(2, 3, subplot_titles=titles, horizontal_spacing=0.08, **layout)
    fig.update_yaxes(type="log", range=[-1, 2.05], title="live (%)", tickvals=[0.1, 1, 10, 100], row=1, col=1)
    fig.update_xaxes(tickangle=-50, tickfont=dict(size=10), row=1, col=1)
    fig.update_xaxes(title="rounds of pruning", range=[-0.4, last + 0.4], dtick=max(1, -(-last // 6)), row=2)
    for column, limits in ((1, [0, 100]), (2, [lowest, 100]), (3, [0, highest])):
        fig.update_yaxes(range=limits, row=2, col=column)
    fig.update_annotations(font_size=12)
    legend = dict(orientation="h", x=0, y=1.01, yanchor="bottom")
    fig = styled(fig, "", 620).update_layout(margin=dict(l=60, t=90, b=50), legend=legend, bargap=0.25)
    return fig.layout.to_plotly_json()


def explorer(study: Study, accuracy: pd.DataFrame, barrier: pd.DataFrame) -> Any:
    """The masks of the study, round by round, beside the tables of what its tickets reach."""
    found = read(study, accuracy, barrier)
    arms = {ARMS[m].title: m for m in study.arms if not ARMS[m].dense}
    return explore(
        lambda **chosen: figure(found, study, **chosen),
        start={"level": study.levels[-1], "ticket": "distilled", "beside": "imp"},
        level=list(range(1, study.levels[-1] + 1)),
        ticket=arms,
        beside=dict(reversed(arms.items())),
    )
