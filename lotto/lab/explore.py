"""Sliders around the figures. Nothing here trains: a slider redraws from tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go

from lotto.lab.plots import show


def explore(make: Callable[..., go.Figure], start: dict[str, Any] | None = None, **choices: Sequence[Any]) -> Any:
    """A slider for each choice, and the figure that `make(**chosen)` gives; arrow keys move a focused slider.

    Each choice is a list of values; `start` says where its slider stands at first (default: the first value). In a
    headless run (`LOTTO_HEADLESS`) it shows the figure of that start instead, so that a page without a kernel still has
    its picture. ValueError where a choice is empty.
    """
    for name, options in choices.items():
        if not options:
            raise ValueError(f"{name}: there is nothing to choose from; give at least one value")
    first = {name: (start or {}).get(name, options[0]) for name, options in choices.items()}
    first = {name: v if v in choices[name] else choices[name][0] for name, v in first.items()}
    if os.environ.get("LOTTO_HEADLESS"):
        show(make(**first))
        return None
    import ipywidgets as widgets

    sliders = {
        name: widgets.SelectionSlider(
            options=list(options),
            value=first[name],
            description=name,
            continuous_update=False,
            layout=widgets.Layout(width="640px"),
            style={"description_width": "90px"},
        )
        for name, options in choices.items()
    }
    picture, message = go.FigureWidget(make(**first)), widgets.Output()

    def redraw(_: Any) -> None:
        message.clear_output()
        with message:  # an error in a callback would else go unseen
            replace(picture, make(**{name: s.value for name, s in sliders.items()}))

    for s in sliders.values():
        s.observe(redraw, names="value")
    return widgets.VBox([*sliders.values(), picture, message])


def replace(picture: go.FigureWidget, new: go.Figure) -> None:
    """Make `picture` show what `new` shows, in one message to the page."""
    with picture.batch_update():
        if len(picture.data) == len(new.data):
            for old, trace in zip(picture.data, new.data, strict=True):
                old.update(trace.to_plotly_json(), overwrite=True)
        else:
            picture.data = ()
            picture.add_traces(list(new.data))
        picture.update_layout(new.layout.to_plotly_json(), overwrite=True)
