"""Stability to SGD noise: the straight path between two children of one ticket, and how high the error rises on it.

Frankle et al. 2020 (arXiv 1912.05671): a net is stable if training it twice, with different data orders and
augmentations, ends in one linearly connected region. The whole curve is kept, for training and test images, loss and
error, with batch-norm statistics interpolated and recalibrated; everything else is derived from it.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import nn

from lotto import modules
from lotto.data import Split
from lotto.modules import State
from lotto.train import evaluate

STABLE = 0.02
"""Error barrier below which a trained net is called stable (Frankle et al. 2020: 2 points)."""


def interpolate(a: State, b: State, alpha: float) -> State:
    """(1 - alpha) a + alpha b, running statistics included; exactly `a` at 0 and `b` at 1. Integer buffers are a's.

    Weights pruned in both stay 0, so the path stays in the ticket's subspace; for two masks it runs in their union.
    """
    if alpha in (0, 1):
        return dict(a if alpha == 0 else b)
    return {n: torch.lerp(t, b[n], alpha) if t.is_floating_point() else t for n, t in a.items()}


def barrier(values: Sequence[float], alphas: Sequence[float], baseline: Literal["mean", "chord"] = "mean") -> float:
    """Largest height of a curve above its baseline, in the unit of `values`; never negative.

    "mean": above the mean of the two ends (Frankle et al. 2020; the headline here). "chord": above the line between
    them (Entezari et al. 2022, arXiv 2110.06296). ValueError if the alphas do not rise strictly from 0 to 1, or a value
    is not finite: a net that diverged on the way has no barrier, and least of all one of 0.

    >>> barrier([0.1, 0.5, 0.2], [0, 0.5, 1])
    0.35
    """
    if len(values) != len(alphas) or len(alphas) < 2:
        raise ValueError(f"{len(values)} values at {len(alphas)} alphas; give one value an alpha, at least two")
    if alphas[0] != 0 or alphas[-1] != 1 or any(a >= b for a, b in itertools.pairwise(alphas)):
        raise ValueError(
            f"alphas {list(alphas)} do not rise strictly from 0 to 1; give both ends and rising points between"
        )
    for t, v in zip(alphas, values, strict=True):
        if v is None or not math.isfinite(v):
            raise ValueError(f"the value at alpha {t:g} is {v}; a barrier needs finite values: leave this curve out")
    a, b = values[0], values[-1]
    base = [(a + b) / 2] * len(alphas) if baseline == "mean" else [(1 - t) * a + t * b for t in alphas]
    return max(0.0, max(v - z for v, z in zip(values, base, strict=True)))


def alphas(points: int) -> list[float]:
    """Evenly spaced, both ends included; ValueError for fewer than 2."""
    if points < 2:
        raise ValueError(f"points = {points}: give at least 2, the two ends")
    return [i / (points - 1) for i in range(points)]


def path_values(value: Callable[[State], Any], a: State, b: State, at: Sequence[float]) -> list[Any]:
    """`value` of the interpolated state at each alpha. `value` must be deterministic and leave the state as it is: it
    is called twice at the first alpha, and RuntimeError names dropout, shuffling and train mode as the usual causes
    where the two differ."""
    first = value(interpolate(a, b, at[0]))
    if value(interpolate(a, b, at[0])) != first:
        raise RuntimeError(
            "the value of one net differs between two calls; usual causes: dropout, a shuffled or augmented "
            "loader, train mode"
        )
    return [first, *(value(interpolate(a, b, t)) for t in at[1:])]


def path(model: nn.Module, a: State, b: State, train: Split, test: Split, points: int = 11) -> dict[str, Any]:
    """The curves between two states of `model` (which is not changed), and how far recalibration moves the ends.

    Returns {"alphas": [...], "interpolated": {"train_loss": [...], "train_error", "test_loss", "test_error"},
    "recalibrated": {...}}: loss in nats, error in [0, 1]. Statistics are recalibrated on `train`, un-augmented, at
    every point and at both ends. A net without batch norm has equal curves.
    """
    probe = copy.deepcopy(model).to(memory_format=modules.layout(model, train.images.device))
    at = alphas(points)

    def interpolated(state: State) -> dict[str, float]:
        probe.load_state_dict(state)
        return _both(probe, train, test)

    def recalibrated(state: State) -> dict[str, float]:
        probe.load_state_dict(state)
        modules.recalibrate(probe, train.images)
        return _both(probe, train, test)

    curves = {"interpolated": path_values(interpolated, a, b, at)}
    curves["recalibrated"] = (
        path_values(recalibrated, a, b, at) if modules.has_batch_norm(probe) else curves["interpolated"]
    )
    return {"alphas": at, **{name: {k: [p[k] for p in curve] for k in curve[0]} for name, curve in curves.items()}}


def _both(model: nn.Module, train: Split, test: Split) -> dict[str, float]:
    return {
        f"{name}_{k}": v
        for name, split in (("train", train), ("test", test))
        for k, v in evaluate(model, split).items()
    }
