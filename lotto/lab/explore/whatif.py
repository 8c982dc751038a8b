"""Explorer of what is not computed yet: choose parameters, see what they will cost here, compute them in the
background, and see the curve grow beside the reference run's."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lotto.config import ConfigError
from lotto.data import DataError
from lotto.lab import parallel
from lotto.lab.arms import ARMS
from lotto.lab.claims import runs
from lotto.lab.explore.background import Background
from lotto.lab.explore.controls import Options, explore, labelled, replace
from lotto.lab.explore.costs import ORDER, Known, Need, Rates, needs, totals
from lotto.lab.plots import COLOURS, FONT, counted, styled
from lotto.lab.stability.tables import measured
from lotto.lab.study import Study
from lotto.lab.tables import by_seed
from lotto.stats import interval

MEASURES = {"barrier": "error barrier (points)", "accuracy": "test accuracy (%)"}
GREY, TODO = "#c4c8ce", "#56789a"
"""The colours of what is in the store and of what is to be computed."""

Curve = list[tuple[float, list[float]]]
"""(percent of the weights left, values over the initialisations that trained): what a line is drawn from."""


class Plans:
    """What is known about studies, kept for one ticket at a time, so that a moved control looks up only what is new."""

    def __init__(self, study: Study):
        self.study, self.rates = study, Rates()
        self.known: Known = {}
        self.needed: dict[Study, list[Need]] = {}
        self.rows: dict[Study, dict[str, list[float]]] = {}
        self.kept = runs.known(study.preset)

    def meant(self, method: str, chosen: Mapping[str, Any]) -> Study:
        """The study of one arm and the dense net it starts from, with these parameters."""
        dense = "dense-rewound" if ARMS[method].from_k else "dense"
        return self.study.but(methods=(dense, method), **chosen)

    def needs(self, study: Study) -> list[Need]:
        """All products that the study's curves are made from, in the store or not."""
        found = {need.folder: need for one in _cells(study) for need in self._of(one)}
        return list(found.values())

    def _of(self, one: Study) -> list[Need]:
        if one not in self.needed:
            self.needed[one] = needs(one, self.known)
        return self.needed[one]

    def values(self, study: Study, column: str) -> dict[tuple[str, int], list[float]]:
        """(method, level) -> `column` of `stability.tables.measured` for each initialisation whose products are all in
        the store."""
        found: dict[tuple[str, int], list[float]] = {}
        for one in _cells(study):
            (m, level, _), *_ = one.cells()
            if one not in self.rows and all(need.stored for need in self._of(one)):
                table = measured(one)
                self.rows[one] = {c: list(by_seed(table, m, level, c).values()) for c in MEASURES}
            if one in self.rows:
                found.setdefault((m, level), []).extend(self.rows[one][column])
        return found

    def curve(self, study: Study, column: str) -> Curve:
        """This study's curve, as far as its products are in the store."""
        values = self.values(study, column)
        return sorted(((100 * study.density(level), v) for (_, level), v in values.items() if v), reverse=True)

    def reference(self, study: Study, column: str) -> Curve:
        """The reference run's curve of the same arm, at all of its levels."""
        if self.kept is None:
            return []
        table, (dense, method) = self.kept.tables[column], study.methods
        cells = [(dense, 0), *((method, level) for level in sorted(set(table.level)) if level)]
        found = [(level, list(by_seed(table, m, level, column).values())) for m, level in cells]
        return [(100 * self.kept.study.density(level), v) for level, v in found if v]


@functools.lru_cache(maxsize=1000)
def _cells(study: Study) -> list[Study]:
    """The study, one ticket at a time."""
    return [
        study.but(methods=(c.method,), first_seed=c.seed, seeds=1, levels=(c.level,) if c.level else study.levels[:1])
        for c in study.cells()
    ]


def figure(
    study: Study,
    cost: Mapping[str, tuple[float, float, int]],
    own: Curve,
    reference: Curve,
    measure: str,
    workers: int,
) -> go.Figure:
    """Left: minutes of one core that each part of the study takes, what is in the store grey and what is missing blue;
    right: its curve over sparsity, as far as it is computed, beside the reference run's (dotted).

    cost: as `costs.totals` makes it; workers: processes that compute at a time.
    """
    method, parts = study.methods[-1], [p for p in ORDER if p != "other" or p in cost]
    minutes = {part: [seconds / 60 for seconds in cost.get(part, (0.0, 0.0, 0))[:2]] for part in parts}
    data: list[dict[str, Any]] = []
    for n, (name, colour) in enumerate((("in the store", GREY), ("to be computed", TODO))):
        hover = "%{y}: %{x:.1f} minutes " + name + "<extra></extra>"
        bars = dict(type="bar", orientation="h", x=[minutes[p][n] for p in parts], y=parts, hovertemplate=hover)
        data.append(dict(**bars, name=name, marker=dict(color=colour), xaxis="x", yaxis="y"))
    for curve, name, colour, dash in (
        (reference, "reference run", FONT, "dot"),
        (own, "these parameters", COLOURS[method], "solid"),
    ):
        data.append(_line(curve, name, colour, dash))
    missing = sum(count for *_, count in cost.values())
    seconds = sum(more for _, more, _ in cost.values())
    told = f"{missing} products to compute, about {span(seconds / workers)} on {workers} core{'s' * (workers > 1)}"
    layout = _canvas(tuple(study.density(level) for level in (0, 4, 8, 12, 16)))
    title = f"{ARMS[method].title}, {counted(study)}: " + (told if missing else "all is in the store")
    layout = {**layout, "title": {**layout["title"], "text": title}}
    layout["yaxis2"] = {
        **layout["yaxis2"],
        "title": dict(text=MEASURES[measure]),
        "range": _range(own + reference, measure),
    }
    return go.Figure({"data": data, "layout": layout})


def _range(curves: Curve, measure: str) -> list[float]:
    """Where the axis begins and ends, from the means alone: intervals over few initialisations reach far beyond
    them."""
    means = [interval(values).mean for _, values in curves] or [0.0, 100.0]
    if measure == "barrier":
        return [-1.0, max(5.0, 1.4 * max(means))]
    return [min(means) - 4.0, 100.5]


def _line(curve: Curve, name: str, colour: str, dash: str) -> dict[str, Any]:
    found = [(left, interval(values)) for left, values in curve]
    return dict(
        **dict(type="scatter", x=[x for x, _ in found], y=[f.mean for _, f in found], mode="lines+markers"),
        **dict(name=name, line=dict(color=colour, dash=dash), xaxis="x2", yaxis="y2"),
        error_y=dict(type="data", array=[f.half or 0 for _, f in found], thickness=1, width=3, color=colour),
        customdata=[[str(f), f.n] for _, f in found],
        hovertemplate="%{customdata[0]}, %{customdata[1]} initialisations<extra>" + name + "</extra>",
    )


def span(seconds: float) -> str:
    """A duration in words, at least a minute."""
    minutes = seconds / 60
    if minutes < 1.5:
        return "a minute"
    return f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.0f} hours"


@functools.cache
def _canvas(ticks: tuple[float, ...]) -> dict[str, Any]:
    """The layout, the same for every choice except for its titles."""
    titles = ["what it costs", "what came out so far"]
    fig = make_subplots(cols=2, column_widths=[0.42, 0.58], horizontal_spacing=0.12, subplot_titles=titles)
    fig.update_xaxes(title="minutes on one core", rangemode="tozero", row=1, col=1)
    fig.update_yaxes(autorange="reversed", row=1, col=1)
    words = [f"{100 - 100 * t:.1f}" if t < 1 else "0" for t in ticks]
    scale = dict(type="log", autorange="reversed", tickvals=[100 * t for t in ticks], ticktext=words)
    fig.update_xaxes(title="sparsity (%), logarithmic in what is left", **scale, row=1, col=2)
    fig.update_annotations(font_size=12)
    legend = dict(orientation="h", x=0, y=-0.22, yanchor="top", traceorder="normal")
    fig = styled(fig, "", 400).update_layout(barmode="stack", margin=dict(l=150, b=90), legend=legend)
    return fig.layout.to_plotly_json()


def offered(study: Study) -> dict[str, Options]:
    """Short name of a parameter -> values to choose from, around the study's own."""
    last, own = study.levels[-1], (study.distill.ipc, study.inner.steps)
    levels = [(last,), (max(1, last // 2), last), (max(1, last // 2), last, last + max(1, last // 2))]
    return {
        "seeds": sorted({1, 2, 3, 5, 10, study.seeds}),
        "levels": {", ".join(map(str, ls)): ls for ls in (tuple(dict.fromkeys(ls)) for ls in levels)},
        "ipc": sorted({1, 5, 10, 20, own[0]}),
        "inner_steps": sorted({own[1] // 2 or 1, own[1], 2 * own[1]}),
    }


def explorer(study: Study, **choices: Options) -> Any:
    """What a study of one arm costs, for each choice of its parameters (by their short names; without: those of
    `offered`), with a button that computes it in the background and another that stops it.

    An invalid choice is answered with one sentence, and nothing is computed for it.
    """
    plans, choices = Plans(study), labelled({**offered(study), **choices})
    arms = {ARMS[m].title: m for m in study.arms if ARMS[m].main and not ARMS[m].dense}
    arms = arms or {ARMS[m].title: m for m in study.arms if not ARMS[m].dense}

    def make(method: str, measure: str, **chosen: Any) -> go.Figure:
        meant = plans.meant(method, chosen)
        cost = totals(plans.needs(meant), plans.rates)
        return figure(
            meant, cost, plans.curve(meant, measure), plans.reference(meant, measure), measure, parallel.jobs()
        )

    start = {n: v for n, v in study.named().items() if n in choices} | {"method": "distilled", "ipc": study.distill.ipc}
    start["levels"] = list(choices["levels"].values())[min(1, len(choices["levels"]) - 1)]
    start["seeds"] = min([n for n in choices["seeds"].values() if n > study.seeds], default=study.seeds)
    box = explore(make, start, method=arms, **choices, measure=list(MEASURES))
    return box if os.environ.get("LOTTO_HEADLESS") else _with_buttons(box, plans, make)


def _with_buttons(box: Any, plans: Plans, make: Any) -> Any:
    """The controls of `explore`, with buttons below that start and stop a computation, and a line that says how it
    goes."""
    import ipywidgets as widgets

    *controls, picture, message = box.children
    go_on, stop = widgets.Button(description="compute"), widgets.Button(description="stop", disabled=True)
    line = widgets.Label()
    names = [c.description.replace(" ", "_") for c in controls]
    work: list[Background] = []

    def chosen() -> dict[str, Any]:
        return {n: c.value for n, c in zip(names, controls, strict=True)}

    def redraw() -> None:
        with contextlib.suppress(ConfigError, DataError):  # a choice that cannot be: its control has said so
            replace(picture, make(**chosen()))

    def watch(running: Background) -> None:
        with message:  # an error in a thread would otherwise go unseen
            while running.running:
                line.value = running.told()
                redraw()
                time.sleep(1.0)
            line.value = running.told()
            redraw()
        go_on.disabled, stop.disabled = False, True

    def begin(_: Any) -> None:
        if work and work[-1].running:  # a second click that was on its way
            return
        values = {n: v for n, v in chosen().items() if n != "measure"}
        try:
            work.append(Background(plans.meant(values.pop("method"), values).check()))
        except (ConfigError, DataError) as error:
            line.value = str(error)
            return
        go_on.disabled, stop.disabled, line.value = True, False, "starting"
        threading.Thread(target=watch, args=(work[-1],), daemon=True).start()

    go_on.on_click(begin)
    stop.on_click(lambda _: work[-1].stop())
    return widgets.VBox([*controls, widgets.HBox([go_on, stop, line]), picture, message])
