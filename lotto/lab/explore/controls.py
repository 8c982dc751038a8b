"""Controls around a figure. Nothing here trains: a control redraws from data that were read before it was shown."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from lotto.config import ConfigError
from lotto.data import DataError
from lotto.lab.explore.frames import framed
from lotto.lab.plots import show

Options = Sequence[Any] | Mapping[str, Any]
"""What may be chosen: values, or label -> value."""


def explore(
    make: Callable[..., go.Figure], start: Mapping[str, Any] | None = None, main: str | None = None, **choices: Options
) -> Any:
    """A control for each choice, and the figure that `make(**chosen)` returns; tab and arrow keys reach and move them.

    start: the value of a choice that is shown at first (default: its first). In a headless run (`LOTTO_HEADLESS`) one
    figure is shown instead, with a frame for each value of the choice `main` (default: the first) and the other choices
    at their start, so that a page without a kernel has this control too. ValueError if a choice has no values.
    """
    options = labelled(choices)
    first = {name: _first(values, (start or {}).get(name)) for name, values in options.items()}
    if os.environ.get("LOTTO_HEADLESS"):
        main = main or next(iter(options))
        figures = {label: make(**{**first, main: value}) for label, value in options[main].items()}
        show(framed(figures, _label(options[main], first[main]), spelt(main)))
        return None
    import ipywidgets as widgets

    controls = {name: control(spelt(name), values, first[name]) for name, values in options.items()}
    picture, message = go.FigureWidget(make(**first)), widgets.Output()

    def redraw(_: Any) -> None:
        message.clear_output()
        with message:  # an error in a callback would otherwise go unseen
            try:
                replace(picture, make(**{name: c.value for name, c in controls.items()}))
            except (ConfigError, DataError) as error:  # values that do not fit together: one sentence
                print(error)

    for c in controls.values():
        c.observe(redraw, names="value")
    return widgets.VBox([*controls.values(), picture, message])


def labelled(choices: Mapping[str, Options]) -> dict[str, dict[str, Any]]:
    """Name of a choice -> label -> value. ValueError if there is nothing to choose from."""
    for name, values in choices.items():
        if not values:
            raise ValueError(f"{name}: there is nothing to choose from; give at least one value")
    return {n: dict(v) if isinstance(v, Mapping) else {str(x): x for x in v} for n, v in choices.items()}


def spelt(name: str) -> str:
    """A choice's name as a reader sees it."""
    return name.replace("_", " ")


def _first(options: Mapping[str, Any], wanted: Any) -> Any:
    values = list(options.values())
    return wanted if wanted in values else values[0]


def _label(options: Mapping[str, Any], value: Any) -> str:
    return next(label for label, other in options.items() if other == value)


def control(name: str, options: Mapping[str, Any], value: Any) -> Any:
    """A slider over the values of a choice, numbers or words. Arrow keys move it in JupyterLab too, which takes them
    away from lists and buttons."""
    import ipywidgets as widgets

    return widgets.SelectionSlider(
        options=list(options.items()),
        value=value,
        description=name,
        continuous_update=False,
        layout=widgets.Layout(width="640px"),
        style={"description_width": "110px"},
    )


_one_at_a_time = threading.RLock()


def replace(picture: go.FigureWidget, new: go.Figure) -> None:
    """Make `picture` show what `new` shows: one message to the page, if both have the same number of traces."""
    with _one_at_a_time, picture.batch_update():
        if len(picture.data) == len(new.data):
            for old, trace in zip(picture.data, new.data, strict=True):
                old.update(_changed(old, trace), overwrite=True)
        else:
            picture.data = ()
            picture.add_traces(list(new.data))
        picture.update_layout(_changed(picture.layout, new.layout), overwrite=True)


def _changed(old: Any, new: Any) -> dict[str, Any]:
    """The properties of `new` that differ in `old`; plotly validates each property that it is given, which is slow."""
    was, now = old.to_plotly_json(), new.to_plotly_json()
    names = {*was, *now} - {"type", "uid"}  # uid: a live figure's own names for its traces
    return {n: now.get(n) for n in names if was.get(n) != now.get(n)}
