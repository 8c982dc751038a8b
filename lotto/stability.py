"""Stability to SGD noise: children of one ticket, the straight path between two of them, and how high the error rises on it.

Frankle et al. 2020 (arXiv 1912.05671): a net is stable if training it twice, with different data orders and augmentations, ends in
one linearly connected region. The whole curve is kept, for training and test images, loss and error, with batch-norm statistics
interpolated and recalibrated; everything else is derived from it.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import nn

from lotto import data, nets, parallel, permute
from lotto.config import Segment, Study, Training
from lotto.data import Split
from lotto.lab.arms import ARMS
from lotto.nets import State
from lotto.store import Product, cached
from lotto.tickets import arms_at, level, network, search, trained
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

    "mean": above the mean of the two ends (Frankle et al. 2020; the headline here). "chord": above the line between them
    (Entezari et al. 2022, arXiv 2110.06296). ValueError if the alphas do not rise strictly from 0 to 1.

    >>> barrier([0.1, 0.5, 0.2], [0, 0.5, 1])
    0.35
    """
    if len(values) != len(alphas) or len(alphas) < 2:
        raise ValueError(f"{len(values)} values at {len(alphas)} alphas; give one value an alpha, at least two")
    if alphas[0] != 0 or alphas[-1] != 1 or any(a >= b for a, b in itertools.pairwise(alphas)):
        raise ValueError(f"alphas {list(alphas)} do not rise strictly from 0 to 1; give both ends and rising points between")
    a, b = values[0], values[-1]
    base = [(a + b) / 2] * len(alphas) if baseline == "mean" else [(1 - t) * a + t * b for t in alphas]
    return max(0.0, max(v - z for v, z in zip(values, base, strict=True)))


def alphas(points: int) -> list[float]:
    """Evenly spaced, both ends included."""
    return [i / (points - 1) for i in range(points)]


def path_values(value: Callable[[State], Any], a: State, b: State, at: Sequence[float]) -> list[Any]:
    """`value` of the interpolated state at each alpha. `value` must be deterministic and leave the state as it is: it is called
    twice at the first alpha, and RuntimeError names dropout, shuffling and train mode as the usual causes where the two differ."""
    first = value(interpolate(a, b, at[0]))
    if value(interpolate(a, b, at[0])) != first:
        raise RuntimeError(
            "the value of one net differs between two calls; usual causes: dropout, a shuffled or augmented loader, train mode"
        )
    return [first, *(value(interpolate(a, b, t)) for t in at[1:])]


def path(model: nn.Module, a: State, b: State, train: Split, test: Split, points: int = 11) -> dict[str, Any]:
    """The curves between two states of `model` (which is not changed), and how far recalibration moves the ends.

    Returns {"alphas": [...], "interpolated": {"train_loss": [...], "train_error", "test_loss", "test_error"}, "recalibrated": {...}}:
    loss in nats, error in [0, 1]. Statistics are recalibrated on `train`, un-augmented, at every point and at both ends. A net without
    batch norm has equal curves.
    """
    probe = copy.deepcopy(model).to(memory_format=torch.channels_last)
    at = alphas(points)

    def interpolated(state: State) -> dict[str, float]:
        probe.load_state_dict(state)
        return _both(probe, train, test)

    def recalibrated(state: State) -> dict[str, float]:
        probe.load_state_dict(state)
        nets.recalibrate(probe, train.images)
        return _both(probe, train, test)

    curves = {"interpolated": path_values(interpolated, a, b, at)}
    curves["recalibrated"] = path_values(recalibrated, a, b, at) if nets.has_batch_norm(probe) else curves["interpolated"]
    return {"alphas": at, **{name: {k: [p[k] for p in curve] for k in curve[0]} for name, curve in curves.items()}}


def _both(model: nn.Module, train: Split, test: Split) -> dict[str, float]:
    return {f"{name}_{k}": v for name, split in (("train", train), ("test", test)) for k, v in evaluate(model, split).items()}


@cached(version=1, uses=(trained,))
def segment(line: Segment) -> Product:
    """The path between two children as a product; where a child is not trained (dead, diverged), there is none."""
    return _walk(line)


@cached(version=1, uses=(trained,))
def matched_segment(line: Segment) -> Product:
    """The same with the second child's channels permuted to match the first's (`permute.matched`): is it another basin, or the same one
    up to symmetry? Masks that differ, as a permuted one does, leave the path in their union."""
    return _walk(line, up_to_permutation=True)


def _walk(line: Segment, up_to_permutation: bool = False) -> Product:
    ends = [trained(line.a), trained(line.b)]
    states = [e.metrics["state"] for e in ends]
    if any(s in ("dead", "diverged") for s in states):
        return Product({"states": states, "alphas": alphas(line.points)})
    real = data.load(line.a.ticket.setup.data)
    a, b = ({n: t.to(parallel.device()) for n, t in e.tensors.items()} for e in ends)
    model = network(line.a.ticket.setup)
    if up_to_permutation:
        b = permute.matched(a, b, permute.symmetries(model))
    curves = path(model, a, b, real.train.first(line.train_images), real.test, line.points)
    return Product({"states": states, **curves})


def pairs(study: Study, method: str, at: int, seed: int) -> list[Segment]:
    """All pairs of children of one ticket."""
    children = [study.training(method, at, seed, child) for child in range(1, study.children + 1)]
    return [Segment(a=a, b=b, points=study.points, train_images=study.path_images) for a, b in itertools.combinations(children, 2)]


def prepare(studies: Sequence[Study]) -> None:
    """Compute the searches, children and paths of several studies in one go, so that no worker waits between one and the next."""
    search(*studies)
    parallel.compute(trained, [s.training(*child) for s in studies for child in _children(s)], "train tickets")
    parallel.compute(segment, [pair for s in studies for *_, pair in _pairs(s)], "walk paths")


def children(study: Study) -> list[tuple[str, int, int, int, Product]]:
    """Every child of the study, computed or read: (method, level, seed, child, product)."""
    search(study)
    what = _children(study)
    runs: list[Training] = [study.training(*w) for w in what]
    return [(*w, p) for w, p in zip(what, parallel.compute(trained, runs, "train tickets"), strict=True)]


def _children(study: Study) -> list[tuple[str, int, int, int]]:
    return [(m, at, seed, child) for m, at in arms_at(study) for seed in study.initialisations for child in range(1, study.children + 1)]


def accuracies(study: Study):
    """Table of the tickets: a row a (method, level, seed), children averaged; accuracy in points, `state` the worst of theirs, `steps`
    those of the dense training up to step k and of the ticket's, together."""
    import pandas as pd

    rows = []
    for (m, at, seed), group in itertools.groupby(children(study), key=lambda r: r[:3]):
        products = [r[4] for r in group]
        states = [p.metrics["state"] for p in products]
        ticket = level(study.ticket(m, at, seed)).metrics
        tested = [p.metrics["test"] for p in products if p.metrics.get("test")]
        rows.append(
            dict(
                method=m,
                level=at,
                seed=seed,
                state=_worst(states),
                density=ticket["live"] / ticket["prunable"],
                live=ticket["live"],
                steps=study.rewind * ARMS[m].from_k + products[0].metrics.get("steps", study.steps - study.rewind * ARMS[m].from_k),
                collapsed=len(ticket["collapsed"]),
                accuracy=100 * (1 - sum(t["error"] for t in tested) / len(tested)) if tested else None,
                test_loss=_mean([t["loss"] for t in tested]),
                train_loss=_mean([p.metrics["train"]["loss"] for p in products if p.metrics.get("train")]),
            )
        )
    return pd.DataFrame(rows)


def _worst(states: list[str]) -> str:
    return next((s for s in ("dead", "diverged", "failed") if s in states), "trained")


def _mean(values: list[float | None]) -> float | None:
    return sum(values) / len(values) if values and None not in values else None


def paths(study: Study):
    """Table of the curves: a row a (method, level, seed, pair, statistics, alpha), with train and test loss (nats) and error (points)."""
    import pandas as pd

    rows = []
    for method, at, seed, number, product in _segments(study):
        for statistics in ("interpolated", "recalibrated"):
            curve = product.metrics.get(statistics)
            for i, alpha in enumerate(product.metrics["alphas"] if curve else []):
                rows.append(
                    dict(
                        method=method,
                        level=at,
                        seed=seed,
                        pair=number,
                        statistics=statistics,
                        alpha=alpha,
                        train_loss=curve["train_loss"][i],
                        test_loss=curve["test_loss"][i],
                        train_error=100 * curve["train_error"][i],
                        test_error=100 * curve["test_error"][i],
                    )
                )
    return pd.DataFrame(rows)


def barriers(study: Study):
    """Table of the barriers: a row a (method, level, seed), pairs averaged; test-error barriers in points of error.

    `barrier` is the headline: recalibrated statistics, above the mean of the ends. Beside it `interpolated` statistics, the `chord`
    baseline, the `midpoint` alone (None for an even number of points), the barrier in training loss (nats), and `moved`: how far
    recalibrating moves the ends' error (points).
    None where the net did not train: a dead net has no barrier.
    """
    import pandas as pd

    rows = []
    for (m, at, seed), group in itertools.groupby(_segments(study), key=lambda r: r[:3]):
        found = [p.metrics for *_, p in group]
        states = [s for f in found for s in f["states"]]
        state = _worst(states)
        row = dict(method=m, level=at, seed=seed, state=state, **dict.fromkeys(HEIGHTS))
        if state == "trained":
            each = [_heights(f) for f in found]
            row |= {k: _mean([e[k] for e in each]) for k in each[0]}
        rows.append(row)
    return pd.DataFrame(rows)


def between(study: Study):
    """Table of paths that leave a ticket: a row a (kind, method, other, level, seed), with `barrier` and, up to permutation, `matched`.

    Over `study.match_methods`. Kind "children": two children of one ticket, as everywhere (`other` is the method itself); "levels": a
    child of a level and one of the level before (`other`); "methods": children of two methods at one level. Child 1 and child 2, so the
    noise differs always. `matched` is None where the net's symmetries are not known. Dense nets stand at every level.
    """
    import pandas as pd

    one = study.but(methods=study.match_methods)
    children(one)
    arms, lines = one.arms, []
    for seed in one.initialisations:
        for before, at in itertools.pairwise((0, *one.levels)):
            ends = {m: [one.training(m, 0 if ARMS[m].dense else at, seed, child) for child in (1, 2)] for m in arms}
            lines += [("children", m, m, at, seed, *ends[m]) for m in arms]
            lines += [("methods", m, n, at, seed, ends[m][0], ends[n][1]) for m, n in itertools.combinations(arms, 2)]
            above = {m: one.training(m, before, seed, 1) for m in arms if before and not ARMS[m].dense}
            lines += [("levels", m, str(before), at, seed, start, ends[m][1]) for m, start in above.items()]
    what = [Segment(a=a, b=b, points=one.points, train_images=one.path_images) for *_, a, b in lines]
    plain = parallel.compute(segment, what, "walk paths")
    matched = parallel.compute(matched_segment, what, "match and walk") if permute.known(network(one.setup(0))) else [None] * len(what)
    rows = []
    for (kind, method, other, at, seed, *_), p, q in zip(lines, plain, matched, strict=True):
        state = _worst(p.metrics["states"])
        row = dict(kind=kind, method=method, other=other, level=at, seed=seed, state=state, barrier=None, matched=None)
        if state == "trained":
            row["barrier"] = _heights(p.metrics)["barrier"]
            row["matched"] = _heights(q.metrics)["barrier"] if q else None
        rows.append(row)
    return pd.DataFrame(rows, columns=["kind", "method", "other", "level", "seed", "state", "barrier", "matched"])


def switched(study: Study):
    """Table of the hybrid over its switch point: a row a (method, switch, level, seed), with `state`, `accuracy` and `barrier`.

    `method`: hybrid (and hybrid-real where it is among the study's). Switch 0 is IMP; from the level on, it is the short search alone.
    """
    methods = ("hybrid", *(m for m in study.arms if m == "hybrid-real"))
    return swept({(switch,): study.but(switch=switch, methods=methods) for switch in study.switches}, ("switch",))


def measured(study: Study):
    """`accuracies` with the column `barrier`."""
    return accuracies(study).merge(barriers(study)[["method", "level", "seed", "barrier"]], on=["method", "level", "seed"])


def swept(studies: dict[tuple, Study], names: tuple[str, ...]):
    """`measured` of several studies below each other; columns `names`, after `method`, hold what each differs in (its key)."""
    import pandas as pd

    prepare(list(studies.values()))
    parts = []
    for key, one in studies.items():
        part = measured(one).drop(columns=list(names), errors="ignore")  # what varies stands once
        for at, (name, value) in enumerate(zip(names, key, strict=True), 1):
            part.insert(at, name, value)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


HEIGHTS = ("barrier", "interpolated", "chord", "midpoint", "train_loss_barrier", "moved")
"""Columns of `barriers`."""


def _heights(f: dict[str, Any]) -> dict[str, float | None]:
    at, new, old = f["alphas"], f["recalibrated"], f["interpolated"]
    finite = None not in new["train_loss"]
    return dict(
        barrier=100 * barrier(new["test_error"], at),
        interpolated=100 * barrier(old["test_error"], at),
        chord=100 * barrier(new["test_error"], at, "chord"),
        midpoint=100 * barrier([new["test_error"][i] for i in (0, len(at) // 2, -1)], (0, 0.5, 1)) if len(at) % 2 else None,
        train_loss_barrier=barrier(new["train_loss"], at) if finite else None,
        moved=100 * (new["test_error"][0] + new["test_error"][-1] - old["test_error"][0] - old["test_error"][-1]) / 2,
    )


def _pairs(study: Study) -> list[tuple[str, int, int, int, Segment]]:
    return [
        (m, at, seed, n, pair)
        for m, at in arms_at(study)
        for seed in study.initialisations
        for n, pair in enumerate(pairs(study, m, at, seed))
    ]


def _segments(study: Study) -> list[tuple[str, int, int, int, Product]]:
    children(study)
    what = _pairs(study)
    return [(*w[:4], p) for w, p in zip(what, parallel.compute(segment, [w[4] for w in what], "walk paths"), strict=True)]
