"""Planes through three trained nets, with batch norm recalibrated at every point; how the loss rises, up its gradient
or at random."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lotto import masks, modules
from lotto.data import Split, check_images
from lotto.modules import State, arithmetic, class_scores, evaluating
from lotto.streams import generator
from lotto.train import evaluate


class Plane(NamedTuple):
    """The plane through three states: a + x u + y v, with u and v of length 1 and at right angles (as in Garipov et al.
    2018, arXiv 1802.10026). Lengths are Euclidean, over all parameters; running statistics have no part in them."""

    a: State
    u: State
    v: State
    corners: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    """The coordinates (x, y) of the three states: a at (0, 0), b on the x axis."""

    def at(self, x: float, y: float) -> State:
        """The state at (x, y); buffers are a's."""
        return {n: t + x * self.u[n] + y * self.v[n] if n in self.u else t for n, t in self.a.items()}


def plane(a: State, b: State, c: State, parameters: list[str]) -> Plane:
    """The plane through three states of a net, over the named parameters.

    Weights pruned in all three are 0 in both directions, so the plane stays in the ticket's subspace. ValueError where
    the three lie on one line: then there is no plane.
    """

    def minus(s: State, t: State) -> State:
        return {n: s[n].double() - t[n].double() for n in parameters}

    def dot(s: State, t: State) -> float:
        return float(sum((s[n] * t[n]).sum() for n in parameters))

    def over(s: State, d: float) -> State:
        return {n: t / d for n, t in s.items()}

    x, y = minus(b, a), minus(c, a)
    length = dot(x, x) ** 0.5
    if length == 0:
        raise ValueError("two of the three states are equal; give three different children")
    u = over(x, length)
    along = dot(y, u)
    y = {n: t - along * u[n] for n, t in y.items()}
    y = {n: t - dot(y, u) * u[n] for n, t in y.items()}  # once more: what rounding left of u
    height = dot(y, y) ** 0.5
    if height <= 1e-5 * max(length, abs(along)):  # float32 states on one line are off it by rounding
        raise ValueError("the three states lie on one line; give three different children")
    v = over(y, height)
    like = {n: a[n].dtype for n in parameters}
    u, v = ({n: t.to(like[n]) for n, t in s.items()} for s in (u, v))
    return Plane(a, u, v, ((0.0, 0.0), (length, 0.0), (along, height)))


def survey(
    model: nn.Module, through: Plane, train: Split, test: Split, points: int = 9, margin: float = 0.25
) -> dict[str, Any]:
    """Loss and error on a grid over the plane that holds its corners and a `margin` (share of the extent) around them.

    Returns {"x": [...], "y": [...], "corners": [[x, y], ...], "train_loss": rows by y of columns by x, "test_error":
    the same}; loss in nats (None where it is not finite), error in [0, 1]. Batch norm is recalibrated on `train` at
    every point. `model` is not changed. ValueError for fewer than 2 points a side.
    """
    if points < 2:
        raise ValueError(f"points = {points}: give at least 2 a side")
    probe = copy.deepcopy(model).to(memory_format=modules.layout(model, train.images.device))
    # a state has a tied weight under all its names, and the last one read is the one that stays
    through = through._replace(u=masks.spread(through.u, model), v=masks.spread(through.v, model))
    axes = []
    for values in zip(*through.corners, strict=True):
        low, high = min(values), max(values)
        pad = margin * (high - low)
        axes.append([low - pad + i * (high - low + 2 * pad) / (points - 1) for i in range(points)])
    rows: dict[str, list[list[float | None]]] = {"train_loss": [], "test_error": []}
    for y in axes[1]:
        found = []
        for x in axes[0]:
            probe.load_state_dict(through.at(x, y))
            modules.recalibrate(probe, train.images)
            found.append((evaluate(probe, train)["loss"], evaluate(probe, test)["error"]))
        for name, column in zip(rows, zip(*found, strict=True), strict=True):
            rows[name].append(list(column))
    return {"x": axes[0], "y": axes[1], "corners": [list(c) for c in through.corners], **rows}


def direction(state: State, mask: masks.Mask, seed: int = 0, *index: int) -> State:
    """A Gaussian direction on the live weights, each filter (row of a weight) as long as the net's own (Li et al. 2018,
    arXiv 1712.09913).

    So that nets of different scale are compared alike. 0 on pruned weights; norms and biases have no part in it.
    """
    draw, found = generator(seed, "probe", *index), {}
    for n, m in mask.items():
        d = torch.randn(m.shape, generator=draw).to(state[n]) * m.to(state[n].device)
        w = torch.where(m.to(state[n].device), state[n], 0)
        lengths = [masks.rows(t).norm(dim=1).view(-1, *[1] * (t.ndim - 1)) for t in (w, d)]
        found[n] = d * lengths[0] / lengths[1].clamp_min(1e-30)
    return found


def rise(
    model: nn.Module, mask: masks.Mask, some: Split, radii: Sequence[float], directions: int = 5, seed: int = 0
) -> list[list[float]]:
    """By how much the loss (nats) rises at each radius, one list per radius with one value per direction (`direction`);
    radius 1 is as far as every filter is long. Batch-norm statistics stay as they are; `model` is not changed. Infinite
    where the loss is not finite, NaN where it is not even at the net itself. MaskError for another net's mask."""
    masks.check(mask, dict(model.named_parameters()))
    state, probe = modules.copy_state(model), copy.deepcopy(model)
    ways = [masks.spread(direction(state, mask, seed, 1, number), model) for number in range(directions)]

    def loss(way: State, radius: float) -> float:
        probe.load_state_dict({**state, **{n: state[n] + radius * d for n, d in way.items()}})
        found = evaluate(probe, some, precision="float32")["loss"]  # near the net, the rise is below TF32's rounding
        return math.inf if found is None else found

    start = loss({}, 0.0)
    return [[loss(way, radius) - start for way in ways] for radius in radii]


def sam(
    model: nn.Module,
    images: Float[Tensor, "images c h w"],
    labels: Int64[Tensor, " images"],
    mask: masks.Mask,
    rho: float = 0.05,
    batch: int = 512,
) -> float:
    """By how much the loss (nats) rises a step of length `rho` up its gradient, on the live weights: to first order the
    highest rise at that distance (Foret et al. 2021, arXiv 2010.01412). Evaluation mode; `model` is not changed. 0
    where the gradient is, NaN where the loss is not finite."""
    check_images(images, labels)
    params = {n: p.detach() for n, p in model.named_parameters()}
    masks.check(mask, params)
    live = {n: params[n].clone().requires_grad_() for n in mask}

    def losses(weights: dict[str, Tensor]) -> Iterator[Tensor]:  # a batch's part of the mean each
        for some, theirs in zip(images.split(batch), labels.split(batch), strict=True):
            scores = class_scores(model, some, lambda x: torch.func.functional_call(model, {**params, **weights}, (x,)))
            yield F.cross_entropy(scores, theirs) * (len(some) / len(images))

    with evaluating(model), arithmetic("float32", images.device):
        here, gradient = 0.0, {n: torch.zeros_like(w) for n, w in live.items()}
        for part in losses(live):
            here = here + part.detach()
            for g, more in zip(
                gradient.values(), torch.autograd.grad(part, list(live.values()), materialize_grads=True), strict=True
            ):
                g += more
        gradient = masks.apply(gradient, mask)
        length = math.sqrt(sum(float((g**2).sum()) for g in gradient.values()))
        if length == 0:
            return 0.0
        with torch.no_grad():
            return float(sum(losses({n: w + rho * gradient[n] / length for n, w in live.items()})) - here)
