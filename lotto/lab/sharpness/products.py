"""Curvature of the dense net at three points and of trained tickets, how the loss rises around these, planes through
children."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from lotto import masks, modules
from lotto.data import Split
from lotto.hessian import Hessian, diagonal, extremes, layer_traces
from lotto.lab import parallel, sources
from lotto.lab.describe import Curvature, Scape
from lotto.lab.device import device
from lotto.lab.product import Product
from lotto.lab.store import Cached, cached
from lotto.lab.study import Study
from lotto.lab.tickets.products import level, network, rewind_point, trained
from lotto.landscape import plane, rise, sam, survey
from lotto.spectrum import density

POINTS: dict[str, str] = {"init": "at initialisation", "rewind": "at the rewind point", "trained": "trained"}
"""Where the dense net's Hessian is taken."""


def _net(what: Curvature) -> list[tuple[Cached, Any]]:
    ticket = what.training.ticket
    return [(trained, what.training)] if what.trained else [(rewind_point, ticket.setup), (level, ticket)]


@cached(version=1, uses=(trained,), label="measure curvature", needs=_net)
def curvature(what: Curvature) -> Product:
    """Trace with its standard error, extreme eigenvalues, loss and norm of the weights; with `ends` 0 the diagonal (two
    halves).

    Batch-norm statistics are recalibrated first, as on the paths of notebook 03: at initialisation they are not those
    of any image.
    """
    ticket, found = what.training.ticket, level(what.training.ticket)
    mask = found.tensors
    if what.trained:
        end = trained(what.training)
        if end.metrics["state"] not in ("trained", "failed"):
            return Product({"state": end.metrics["state"]})
        state, how = end.tensors, end.metrics["state"]
    else:
        state, how = masks.apply(rewind_point(ticket.setup).tensors, mask), "trained"
    return _measure(what, network(ticket.setup, state), mask, how)


def _ready(what: Curvature, model: nn.Module, mask: masks.Mask) -> tuple[Split, masks.Mask]:
    some = sources.load(what.training.ticket.setup.data).train.first(what.images)
    modules.recalibrate(model, some.images)
    # in the model's order: a mask read from its file comes sorted by name
    return some, {n: mask[n].to(device()) for n in masks.prunable(model)}


def _measure(what: Curvature, model: nn.Module, mask: masks.Mask, how: str) -> Product:
    some, mask = _ready(what, model, mask)
    hessian = Hessian(model, some.images, some.labels, mask)
    found = diagonal(hessian, what.probes, what.training.ticket.setup.seed)
    trace, error = found.trace
    if not math.isfinite(trace):  # finite weights, but a loss that is not
        return Product({"state": how})
    metrics = {
        "state": how,
        "live": hessian.size,
        "trace": trace,
        "error": error,
        "norm": hessian.norm(),
        "images": len(some),
    }
    if not what.ends:
        return Product(metrics, {"halves": found.halves})
    return Product({**metrics, "eigenvalues": extremes(hessian, what.ends, what.tolerance)})


RADII = (0.05, 0.1, 0.2, 0.4)
"""Where `steepness` looks along random directions, in lengths of the filters."""


@cached(version=1, uses=(trained,), label="climb", needs=_net)
def steepness(what: Curvature) -> Product:
    """How the loss of a trained net rises around it: `sam`, and `rise` at RADII (means over directions); loss, gap and
    norm beside."""
    end, mask = trained(what.training), level(what.training.ticket).tensors
    if end.metrics["state"] not in ("trained", "failed"):
        return Product({"state": end.metrics["state"]})
    model = network(what.training.ticket.setup, end.tensors)
    some, mask = _ready(what, model, mask)
    rises = [sum(r) / len(r) for r in rise(model, mask, some, RADII, seed=what.training.ticket.setup.seed)]
    norm = math.sqrt(
        sum(float((p.detach() * mask[n]).square().sum()) for n, p in model.named_parameters() if n in mask)
    )
    up, train, test = (
        sam(model, some.images, some.labels, mask),
        end.metrics["train"]["loss"],
        end.metrics["test"]["loss"],
    )
    found = {"sam": up, **{f"rise {r:g}": v for r, v in zip(RADII, rises, strict=True)}, "norm": norm, "train": train}
    found["gap"] = None if None in (train, test) else test - train
    return Product(
        {
            "state": end.metrics["state"],
            **{k: v if v is not None and math.isfinite(v) else None for k, v in found.items()},
        }
    )


@cached(version=1, uses=(trained,), label="measure spectra", needs=_net)
def profile(what: Curvature) -> Product:
    """The spectral density of a trained net's Hessian on its live weights (nodes, weights), and its trace layer by
    layer."""
    end = trained(what.training)
    if end.metrics["state"] not in ("trained", "failed"):
        return Product({"state": end.metrics["state"]})
    model = network(what.training.ticket.setup, end.tensors)
    some, mask = _ready(what, model, level(what.training.ticket).tensors)
    hessian, seed = Hessian(model, some.images, some.labels, mask), what.training.ticket.setup.seed
    seen = density(hessian, 2, 16, seed)
    traces = layer_traces(diagonal(hessian, what.probes, seed).mean, mask)
    if not torch.isfinite(seen.nodes).all():
        return Product({"state": end.metrics["state"]})
    return Product(
        {"state": end.metrics["state"], "live": hessian.size, "traces": traces},
        {"nodes": seen.nodes, "weights": seen.weights},
    )


def dense_points(study: Study, seed: int) -> dict[str, Curvature]:
    """The dense net of an initialisation at each of POINTS."""
    first, later = (study.training(m, 0, seed, 1) for m in ("dense", "dense-rewound"))
    # four times the probes of a ticket: this diagonal is divided into what is removed and what is kept
    common = dict(images=study.sharp.images, probes=4 * study.sharp.probes)
    return {
        "init": Curvature(training=first, trained=False, **common),
        "rewind": Curvature(training=later, trained=False, **common),
        "trained": Curvature(training=first, **common),
    }


def first_children(study: Study, function: Cached, **more: int) -> list[Product]:
    """A measure of the first child of each of `study.cells()`, on its live weights."""
    runs = [study.training(*cell, 1) for cell in study.cells()]
    return parallel.compute(
        function,
        [Curvature(training=run, images=study.sharp.images, probes=study.sharp.probes, **more) for run in runs],
    )


@cached(
    version=2,
    uses=(trained,),
    label="survey planes",
    needs=lambda what: [(trained, t) for t in (what.a, what.b, what.c)],
)
def scape(what: Scape) -> Product:
    """The survey of a plane as a product; where a child is not trained (dead, diverged), there is none."""
    ends = [trained(t) for t in (what.a, what.b, what.c)]
    states = [e.metrics["state"] for e in ends]
    if any(s in ("dead", "diverged") for s in states):
        return Product({"states": states})
    setup = what.a.ticket.setup
    real, model = sources.load(setup.data), network(setup)
    tensors = [{n: t.to(device()) for n, t in e.tensors.items()} for e in ends]
    through = plane(*tensors, parameters=[n for n, _ in model.named_parameters()])
    return Product(
        {"states": states, **survey(model, through, real.train.first(what.train_images), real.test, what.points)}
    )
