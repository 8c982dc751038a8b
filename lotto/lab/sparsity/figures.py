"""Figures of high sparsity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from lotto.lab.plots import error_line, sparsity, styled
from lotto.lab.study import Study
from lotto.lab.tables import averaged
from lotto.stats import interval

if TYPE_CHECKING:
    import pandas as pd


def switches(table: pd.DataFrame, study: Study, switch: int, level: int, column: str = "accuracy") -> go.Figure:
    """The hybrid over its switch point, one line per level; the chosen switch is marked, and the chosen level bold."""
    axis = {"accuracy": "test accuracy (%)", "barrier": "error barrier (points)"}[column]
    fig, shades = go.Figure(), ["#d2b4de", "#af7ac5", "#8e44ad", "#5b2c6f", "#33193f", "#000000"]
    for i, at in enumerate(study.levels):
        rows = averaged(table[(table.method == "hybrid") & (table.level == at)], column)
        by = {n: rows[rows.switch == n][column].tolist() for n in study.sweeps.switches}
        found = [interval(values) for values in by.values()]
        wide = at == level
        look = dict(opacity=1 if wide else 0.45, marker=dict(size=[12 if n == switch and wide else 6 for n in by]))
        error_line(fig, list(by), found, sparsity(study, at), shades[i % len(shades)], **look)
    here = table[(table.method == "hybrid") & (table.level == level) & (table.switch == switch)]
    found, trained = interval(averaged(here, column)[column].tolist()), int((here.state == "trained").sum())
    fig.update_xaxes(
        title="distilled rounds before IMP on real images (0: IMP alone)", tickvals=list(study.sweeps.switches)
    )
    fig.update_yaxes(title=axis)
    title = (
        f"Hybrid, switch after {switch}, {sparsity(study, level)}: {found}, {trained} of {study.seeds} "
        "initialisations trained"
    )
    return styled(fig, title, 400, 760).update_layout(margin=dict(l=70))
