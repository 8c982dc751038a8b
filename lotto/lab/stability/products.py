"""Paths between two children of one ticket, as they are and up to permutation."""

from __future__ import annotations

import itertools
import math

from lotto import symmetry
from lotto.lab import parallel, sources
from lotto.lab.describe import Segment, Training
from lotto.lab.device import device
from lotto.lab.product import Product
from lotto.lab.store import Cached, cached
from lotto.lab.study import Cell, Study
from lotto.lab.tables import batches
from lotto.lab.tickets.products import network, trained
from lotto.stability import alphas, path


def _ends(line: Segment) -> list[tuple[Cached, Training]]:
    return [(trained, line.a), (trained, line.b)]


@cached(version=2, uses=(trained,), label="walk paths", needs=_ends)
def segment(line: Segment) -> Product:
    """The path between two children as a product; where a child is not trained (dead, diverged), there is none."""
    return _walk(line)


@cached(version=2, uses=(trained,), label="match and walk", needs=_ends)
def matched_segment(line: Segment) -> Product:
    """The same with the second child's channels permuted to match the first's (`symmetry.matched`): is it another
    basin, or the same one up to symmetry? Masks that differ, as a permuted one does, leave the path in their union."""
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


def pairs(study: Study, cell: Cell) -> list[Segment]:
    """All pairs of children of one ticket."""
    children = [study.training(*cell, child) for child in range(1, study.children + 1)]
    return [
        Segment(a=a, b=b, points=study.points, train_images=study.path_images)
        for a, b in itertools.combinations(children, 2)
    ]


def segments(study: Study) -> list[list[Product]]:
    """The paths between the children of each of `study.cells()`, computed or read."""
    found = parallel.compute(segment, [pair for cell in study.cells() for pair in pairs(study, cell)])
    return batches(found, math.comb(study.children, 2))
