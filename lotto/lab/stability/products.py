"""Paths between two children of one ticket, as they are and up to permutation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lotto import symmetry
from lotto.lab import parallel, sources
from lotto.lab.describe import Segment
from lotto.lab.device import device
from lotto.lab.store import Product, cached
from lotto.lab.study import Study
from lotto.lab.tables import arms_at
from lotto.lab.tickets.products import children, enumerate_children, network, search, trained
from lotto.stability import alphas, path


@cached(version=1, uses=(trained,))
def segment(line: Segment) -> Product:
    """The path between two children as a product; where a child is not trained (dead, diverged), there is none."""
    return _walk(line)


@cached(version=1, uses=(trained,))
def matched_segment(line: Segment) -> Product:
    """The same with the second child's channels permuted to match the first's (`symmetry.matched`): is it another basin, or the same one
    up to symmetry? Masks that differ, as a permuted one does, leave the path in their union."""
    return _walk(line, up_to_permutation=True)


def _walk(line: Segment, up_to_permutation: bool = False) -> Product:
    ends = [trained(line.a), trained(line.b)]
    states = [e.metrics["state"] for e in ends]
    if any(s in ("dead", "diverged") for s in states):
        return Product({"states": states, "alphas": alphas(line.points)})
    real = sources.load(line.a.ticket.setup.data)
    a, b = ({n: t.to(device()) for n, t in e.tensors.items()} for e in ends)
    model = network(line.a.ticket.setup)
    if up_to_permutation:
        b = symmetry.matched(a, b, symmetry.symmetries(model))
    curves = path(model, a, b, real.train.first(line.train_images), real.test, line.points)
    return Product({"states": states, **curves})


def pairs(study: Study, method: str, at: int, seed: int) -> list[Segment]:
    """All pairs of children of one ticket."""
    children = [study.training(method, at, seed, child) for child in range(1, study.children + 1)]
    return [Segment(a=a, b=b, points=study.points, train_images=study.path_images) for a, b in itertools.combinations(children, 2)]


def prepare(studies: Sequence[Study]) -> None:
    """Compute the searches, children and paths of several studies in one go, so that no worker waits between one and the next."""
    search(*studies)
    parallel.compute(trained, [s.training(*child) for s in studies for child in enumerate_children(s)], "train tickets")
    parallel.compute(segment, [pair for s in studies for *_, pair in _pairs(s)], "walk paths")


def _pairs(study: Study) -> list[tuple[str, int, int, int, Segment]]:
    return [
        (m, at, seed, n, pair)
        for m, at in arms_at(study)
        for seed in study.initialisations
        for n, pair in enumerate(pairs(study, m, at, seed))
    ]


def segments(study: Study) -> list[tuple[str, int, int, int, Product]]:
    children(study)
    what = _pairs(study)
    return [(*w[:4], p) for w, p in zip(what, parallel.compute(segment, [w[4] for w in what], "walk paths"), strict=True)]
