"""Tables of curvature. Two questions are kept apart.

What is discarded: how much of the dense net's curvature lies on the weights that a method removes (`discarded`). What is left: the
curvature of the trained ticket on its live weights (`curvatures`).
"""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd

from lotto import masks
from lotto.hessian import magnitudes, share
from lotto.lab import parallel
from lotto.lab.arms import ARMS
from lotto.lab.describe import Scape
from lotto.lab.sharpness.products import RADII, curvature, dense_points, first_children, profile, scape, steepness
from lotto.lab.store import Product
from lotto.lab.study import Study
from lotto.lab.tables import arms_at
from lotto.lab.tickets.products import level, network, search, trained


def discarded(study: Study):
    """Table of what is discarded: a row a (point, method, level, seed), in percent of the dense net's Hessian over the prunable weights.

    `trace` and `absolute`: share of the trace and of |diagonal| on the removed weights; `trace_matched` and `absolute_matched`: what
    equally many weights of each layer, drawn at random, would carry; `trace_excess` and `absolute_excess`: the differences; `error`:
    half the difference of the two halves of the probes, for `trace`. No numbers where the dense net, or the search, diverged.
    """

    search(study)
    what = [(point, seed, c) for seed in study.initialisations for point, c in dense_points(study, seed).items()]
    parallel.compute(trained, [c.training for p, _, c in what if p == "trained"], "train tickets")
    found = parallel.compute(curvature, [c for *_, c in what], "probe dense nets")
    rows = []
    for (point, seed, _), product in zip(what, found, strict=True):
        halves = product.tensors.get("halves")
        order = masks.prunable(network(study.setup(seed)))
        for method, at in arms_at(study):
            if ARMS[method].dense:
                continue
            ticket = level(study.ticket(method, at, seed))
            mask = {n: ticket.tensors[n] for n in order}
            row = dict(point=point, method=method, level=at, seed=seed, removed=100 * (1 - masks.density(mask)))
            rows.append(row)
            if halves is None or ticket.metrics["state"] == "diverged":
                continue
            a, b = (share(h, mask).share for h in halves)
            row["error"] = 50 * abs(a - b)
            for name, values in (("trace", halves.mean(0)), ("absolute", magnitudes(halves))):
                s = share(values, mask)
                row |= {name: 100 * s.share, f"{name}_matched": 100 * s.matched, f"{name}_excess": 100 * (s.share - s.matched)}
    shares = [f"{name}{end}" for name in ("trace", "absolute") for end in ("", "_matched", "_excess")]
    return pd.DataFrame(rows, columns=["point", "method", "level", "seed", "removed", "error", *shares])


def curvatures(study: Study):
    """Table of what is left: a row a (method, level, seed), the first child on its live weights.

    `trace` (nats) with `error`, its standard error from the probes; `highest` and `lowest` eigenvalue; `spectrum`: all eigenvalues
    found, both ends; `norm` of the live weights; `mean`: trace a live weight.
    """

    arms, found = first_children(study, curvature, "measure curvature", ends=study.sharp.eigenvalues)
    rows = []
    for (method, at, seed), product in zip(arms, found, strict=True):
        m = product.metrics
        row = dict(method=method, level=at, seed=seed, state=m["state"])
        if "trace" in m:
            row |= {n: m[n] for n in ("live", "trace", "error", "norm")}
            row |= dict(mean=m["trace"] / m["live"], lowest=m["eigenvalues"][0], highest=m["eigenvalues"][-1], spectrum=m["eigenvalues"])
        rows.append(row)
    columns = ["method", "level", "seed", "state", "live", "trace", "error", "norm", "mean", "lowest", "highest", "spectrum"]
    return pd.DataFrame(rows, columns=columns)


def steepnesses(study: Study):
    """Table of how the loss rises around trained tickets: a row a (method, level, seed), the first child.

    `sam`, the rise (nats) up the gradient; `rise 0.05` and so on, along random directions inside the mask; `norm` of the live weights;
    `train`, the final training loss; `gap`, test minus training loss.
    """

    arms, found = first_children(study, steepness, "climb")
    rows = [dict(method=m, level=at, seed=s, **p.metrics) for (m, at, s), p in zip(arms, found, strict=True)]
    columns = ["method", "level", "seed", "state", "sam", *(f"rise {r:g}" for r in RADII), "norm", "train", "gap"]
    return pd.DataFrame(rows, columns=columns)


def profiles(study: Study) -> dict[tuple[str, int, int], Product]:
    """(method, level, seed) -> spectral density and layer traces (`profile`) of the tickets of `study.sharp.planes` at the last level, and of the
    dense net where it is among them; first child."""
    one = study.but(methods=tuple(m for m in study.arms if m in study.sharp.planes) or study.arms[:1], levels=study.levels[-1:])
    arms, found = first_children(one, profile, "measure spectra")
    return {arm: p for arm, p in zip(arms, found, strict=True) if "nodes" in p.tensors}


def scapes(study: Study, seed: int = 0) -> dict[tuple[str, int], dict[str, Any]]:
    """The planes of one initialisation, through the first three children of the tickets of `study.sharp.planes`: (method, level) -> survey.

    Tickets whose children did not train are left out.
    """
    what = [(m, at) for m, at in arms_at(study) if m in study.sharp.planes]
    search(study)
    runs = {w: [study.training(*w, seed, child) for child in (1, 2, 3)] for w in what}
    parallel.compute(trained, list(itertools.chain.from_iterable(runs.values())), "train tickets")
    lines = [Scape(a=r[0], b=r[1], c=r[2], points=study.sharp.plane_points, train_images=study.path_images) for r in runs.values()]
    found = parallel.compute(scape, lines, "survey planes")
    return {w: p.metrics for w, p in zip(what, found, strict=True) if "x" in p.metrics}
