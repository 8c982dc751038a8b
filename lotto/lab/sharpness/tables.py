"""Tables of curvature. Two questions are kept apart.

What is discarded: how much of the dense net's curvature lies on the weights that a method removes (`discarded`). What
is left: the curvature of the trained ticket on its live weights (`curvatures`).
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from torch import Tensor

from lotto import masks
from lotto.hessian import share
from lotto.lab import parallel
from lotto.lab.describe import Scape
from lotto.lab.product import Product
from lotto.lab.sharpness.products import RADII, curvature, dense_points, first_children, profile, scape, steepness
from lotto.lab.study import Cell, Study
from lotto.lab.tables import rows
from lotto.lab.tickets.products import levels, network


def discarded(study: Study) -> pd.DataFrame:
    """Table of what is discarded: one row per (point, method, level, seed), in percent of the dense net's Hessian over
    the prunable weights.

    `trace`: share of the trace on the removed weights; `trace_matched`: what equally many weights of each layer, drawn
    at random, would carry; `trace_excess`: the difference; `error`: half of what the two halves of the probes differ
    by, in `trace`. No numbers where the dense net, or the search, diverged.
    """
    points = [(point, seed, c) for seed in study.initialisations for point, c in dense_points(study, seed).items()]
    found = parallel.compute(curvature, [c for *_, c in points])
    kept, cells, shares = dict(zip(study.cells(), levels(study), strict=True)), [], []
    for (point, seed, _), product in zip(points, found, strict=True):
        halves, order = product.tensors.get("halves"), masks.prunable(network(study.setup(seed)))
        for cell in (c for c in study.cells(dense=False) if c.seed == seed):
            mask = {n: kept[cell].tensors[n] for n in order}
            row = dict(removed=100 * (1 - masks.density(mask)))
            if halves is not None and kept[cell].metrics["state"] != "diverged":
                row |= _shares(halves, mask)
            cells.append(dict(point=point, **cell._asdict()))
            shares.append(row)
    names = ["removed", "error", "trace", "trace_matched", "trace_excess"]
    return rows(cells, shares, ["point", "method", "level", "seed", *names])


def _shares(halves: Tensor, mask: masks.Mask) -> dict[str, float]:
    (a, b), whole = (share(h, mask).share for h in halves), share(halves.mean(0), mask)
    return {
        "error": 50 * abs(a - b),
        "trace": 100 * whole.share,
        "trace_matched": 100 * whole.matched,
        "trace_excess": 100 * (whole.share - whole.matched),
    }


def curvatures(study: Study) -> pd.DataFrame:
    """Table of what is left: one row per (method, level, seed), the first child on its live weights.

    `trace` (nats) with `error`, its standard error from the probes; `highest` and `lowest` eigenvalue; `spectrum`: all
    eigenvalues found, both ends; `norm` of the live weights; `mean`: trace a live weight.
    """
    found = [_curvature(p.metrics) for p in first_children(study, curvature, ends=study.sharp.eigenvalues)]
    columns = ["state", "live", "trace", "error", "norm", "mean", "lowest", "highest", "spectrum"]
    return rows(study.cells(), found, ["method", "level", "seed", *columns])


def _curvature(m: dict[str, Any]) -> dict[str, Any]:
    if "trace" not in m:
        return {"state": m["state"]}
    found = {n: m[n] for n in ("state", "live", "trace", "error", "norm")}
    values = m["eigenvalues"]
    return found | dict(mean=m["trace"] / m["live"], lowest=values[0], highest=values[-1], spectrum=values)


def steepnesses(study: Study) -> pd.DataFrame:
    """Table of how the loss rises around trained tickets: one row per (method, level, seed), the first child.

    `sam`, the rise (nats) up the gradient; `rise 0.05` and so on, along random directions inside the mask; `norm` of
    the live weights; `train`, the final training loss; `gap`, test minus training loss.
    """
    columns = ["method", "level", "seed", "state", "sam", *(f"rise {r:g}" for r in RADII), "norm", "train", "gap"]
    return rows(study.cells(), [p.metrics for p in first_children(study, steepness)], columns)


def profiles(study: Study) -> dict[Cell, Product]:
    """Spectral density and layer traces (`profile`) of the first child of each ticket of `planes` at the last level,
    and of the dense net where it is among them."""
    one = study.but(
        methods=tuple(m for m in study.arms if m in study.sharp.planes) or study.arms[:1], levels=study.levels[-1:]
    )
    return {cell: p for cell, p in zip(one.cells(), first_children(one, profile), strict=True) if "nodes" in p.tensors}


def scapes(study: Study, seed: int = 0) -> dict[tuple[str, int], dict[str, Any]]:
    """The planes of one initialisation, through the first three children of the tickets of `planes`: (method, level) ->
    survey.

    Tickets whose children did not train are left out.
    """
    cells = [c for c in study.but(first_seed=seed, seeds=1).cells() if c.method in study.sharp.planes]
    runs = [[study.training(*cell, child) for child in (1, 2, 3)] for cell in cells]
    planes = [Scape(a=a, b=b, c=c, points=study.sharp.plane_points, train_images=study.path_images) for a, b, c in runs]
    found = parallel.compute(scape, planes)
    return {(c.method, c.level): p.metrics for c, p in zip(cells, found, strict=True) if "x" in p.metrics}
