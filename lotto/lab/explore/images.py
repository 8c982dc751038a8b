"""Explorer of small sets: their images by kind of set, class, size and stage of the distillation."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int64
from torch import Tensor

from lotto.lab import sources
from lotto.lab.arms import ARMS
from lotto.lab.describe import SetOf
from lotto.lab.explore.controls import explore
from lotto.lab.plots import styled
from lotto.lab.sets.products import made_of, small_set
from lotto.lab.sets.tables import stage, stages
from lotto.lab.study import Study

EVERY = "all"
"""Stands for all classes at once."""


class Shown(NamedTuple):
    """Stored images in [0, 1] and the class of each (the likeliest one, if labels are soft)."""

    images: Float[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]


Sets = Mapping[tuple[str, int, int], Shown]
"""(kind of set, images per class, steps of the distillation) -> its images."""


def read(study: Study) -> dict[tuple[str, int, int], Shown]:
    """The sets of the first initialisation that notebook 01 judges, if they are stored; distilled ones at every stored
    stage."""
    found, seed = {}, study.first_seed
    for ipc in study.judge.ipcs:
        for kind in study.judge.kinds:
            wanted = {study.distill.steps: SetOf(data=study.data, images=study.but(ipc=ipc).images(kind, seed))}
            if kind == "distilled":
                wanted |= {steps: stage(study, ipc, seed, steps) for steps in stages(study)}
            for steps, what in sorted(wanted.items()):
                if all(function.read(other) is not None for function, other in made_of(what)):
                    small = small_set(what)
                    labels = small.labels.argmax(1) if small.labels.is_floating_point() else small.labels
                    found[kind, ipc, steps] = Shown(small.pixels.cpu(), labels.cpu())
    return found


def figure(sets: Sets, classes: Sequence[str], kind: str, label: str, ipc: int, stage: int) -> go.Figure:
    """One class of a set, at most ten images; or at most three images of every class, one column per class. A kind that
    lacks this stage is shown at its last one."""
    there = sorted(s for k, i, s in sets if (k, i) == (kind, ipc))
    name = ARMS[kind].title if kind in ARMS else kind
    fig = go.Figure(go.Image(source=_png(np.full((8, 80, 3), 255, dtype="uint8")), hoverinfo="skip"))
    title = f"{name}, {ipc} a class: not stored"
    if there:
        steps = stage if stage in there else there[-1]
        shown = sets[kind, ipc, steps]
        picked = range(len(classes)) if label == EVERY else [classes.index(label)]
        fig.data[0].source = _png(_side_by_side(shown, picked, min(ipc, 3 if label == EVERY else 10), label == EVERY))
        at = f" after {steps:,} steps" if len(there) > 1 else ""
        stored = max(1, len(shown.labels) // len(classes))
        title = f"{name}{at}: {'every class' if label == EVERY else f'class {label}'}, {stored} stored a class"
    fig.update_xaxes(visible=False)
    fig.update_yaxes(visible=False)
    height = 130 if label != EVERY else 80 + 60 * min(ipc, 3)
    return styled(fig, title, height, 700).update_layout(margin=dict(l=10, r=10, t=50, b=10))


def _side_by_side(shown: Shown, classes: Sequence[int], each: int, down: bool) -> np.ndarray:
    """Pixels (height, width, 3) of `each` images of these classes, white lines between them; a class is a column
    (`down`) or a row."""
    stacks = []
    for c in classes:
        mine = shown.images[shown.labels == c][:each].clamp(0, 1).numpy()
        mine = np.pad(mine, ((0, each - len(mine)), (0, 0), (1, 0), (1, 0)), constant_values=1.0)
        stacks.append(np.concatenate(list(mine), axis=1 if down else 2))
    whole = np.concatenate(stacks, axis=2 if down else 1).transpose(1, 2, 0)
    return np.repeat((255 * whole).round().astype("uint8"), 3 if whole.shape[2] == 1 else 1, axis=2)


def _png(pixels: np.ndarray) -> str:
    """Pixels (height, width, 3) as a data URL of a PNG, a tenth as large as a list of numbers."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def explorer(study: Study) -> Any:
    """The sets of the first initialisation, by kind, class, size and stage."""
    sets, classes = read(study), sources.load(study.data).classes
    kinds = {ARMS[k].title if k in ARMS else k: k for k in dict.fromkeys(k for k, *_ in sets)}
    sizes, steps = sorted({i for _, i, _ in sets}), sorted({s for *_, s in sets})
    return explore(
        lambda images, label, ipc, stage: figure(sets, classes, images, label, ipc, stage),
        start={"ipc": sizes[-1:] and sizes[-1], "stage": steps[-1:] and steps[-1]},
        **{"images": kinds, "label": [EVERY, *classes], "ipc": sizes, "stage": steps},
    )
