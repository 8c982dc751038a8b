"""Masks looked at directly: what they share, what they keep, how far the weights behind them went, how early they were settled."""

from __future__ import annotations

import itertools

import torch

from lotto import masks, parallel, scores
from lotto.config import Study, Training
from lotto.distill.sets import difficulty, distilled, inner_images
from lotto.lab.arms import ARMS
from lotto.stability import children, measured
from lotto.store import Product, cached
from lotto.tickets import SEARCH, arms_at, inner_loop, level, network, rewind_point, search, start_of, trained
from lotto.train import train


def chance(a: masks.Mask, b: masks.Mask) -> float:
    """The overlap (Jaccard) that two masks of these layer densities have on average if their places are independent.

    A ratio of means, which for layers of many weights is the mean of the ratio.
    """
    both = sum(float(a[n].double().mean() * b[n].double().mean()) * a[n].numel() for n in a)
    either = masks.count(a) + masks.count(b) - both
    return both / either if either else 1.0


def overlaps(study: Study, within: str = "seed"):
    """Table of overlaps in percent: a row a (method, other, level, seed), with `overlap`, `chance` and `excess`, their difference.

    Pairs of methods over one initialisation (`within` "seed"), or one method over pairs of initialisations ("method"; `seed` is then
    the first, `other` the second's number). At the same level both masks keep equally many weights.
    """
    import pandas as pd

    search(study)
    arms = [m for m in study.arms if not ARMS[m].dense]
    rows = []
    for at in study.levels:
        found = {(m, s): level(study.ticket(m, at, s)).tensors for m in arms for s in study.initialisations}
        if within == "seed":
            pairs = [((a, s), (b, s), b) for a, b in itertools.combinations(arms, 2) for s in study.initialisations]
        else:
            pairs = [((m, s), (m, t), t) for m in arms for s, t in itertools.combinations(study.initialisations, 2)]
        for a, b, other in pairs:
            got, lucky = 100 * masks.overlap(found[a], found[b]), 100 * chance(found[a], found[b])
            rows.append(dict(method=a[0], other=other, level=at, seed=a[1], overlap=got, chance=lucky, excess=got - lucky))
    return pd.DataFrame(rows, columns=["method", "other", "level", "seed", "overlap", "chance", "excess"])


def survival(study: Study, bins: int = 10):
    """Table of who survives: a row a (method, level, seed, bin), with `survived`, the percentage of the weights that are kept.

    Bins hold equally many weights of a layer each, by the magnitude they have at the rewind point: 0 the smallest.
    """
    import pandas as pd

    search(study)
    rows = []
    for method, at in arms_at(study):
        for seed in study.initialisations if at else ():
            ticket = study.ticket(method, at, seed)
            start, mask = rewind_point(ticket.setup).tensors, level(ticket).tensors
            kept, total = torch.zeros(bins, dtype=torch.float64), torch.zeros(bins, dtype=torch.float64)
            for n, m in mask.items():
                rank = start[n].abs().flatten().argsort(stable=True).argsort()
                place = rank * bins // len(rank)
                kept.index_add_(0, place, m.flatten().double())
                total.index_add_(0, place, torch.ones(len(rank), dtype=torch.float64))
            rows += [dict(method=method, level=at, seed=seed, bin=b, survived=100 * float(kept[b] / total[b])) for b in range(bins)]
    return pd.DataFrame(rows, columns=["method", "level", "seed", "bin", "survived"])


def channels(mask: masks.Mask) -> tuple[int, int]:
    """(dead, all): output channels of the layers, and those of them without a live weight.

    >>> channels({"a": torch.tensor([[True, False], [False, False]])})
    (1, 2)
    """
    alive = [m.flatten(1).any(1) for m in mask.values()]
    return sum(int((~a).sum()) for a in alive), sum(len(a) for a in alive)


def travelled(start: dict[str, torch.Tensor], end: dict[str, torch.Tensor], mask: masks.Mask) -> float:
    """|end - start| / |start| over the live weights."""
    moved, was = (
        torch.cat([t[m] for t, m in zip(ts, mask.values(), strict=True)]).double()
        for ts in ([end[n] - start[n] for n in mask], [start[n] for n in mask])
    )
    return float(moved.norm() / was.norm())


def journeys(study: Study):
    """Table of ways: a row a (method, level, seed), with `dead_channels` (percent), `inner`, the distance that the live weights go in
    the inner loop that made the mask, and `distance`, that of the first child's training, both relative to where they start."""
    import pandas as pd

    rows = []
    for method, at, seed, child, product in children(study):
        if child > 1:
            continue
        ticket = study.ticket(method, at, seed)
        mask, start = start_of(ticket)
        dead, every = channels(mask)
        row = dict(method=method, level=at, seed=seed, state=product.metrics["state"], dead_channels=100 * dead / every)
        if ticket.rounds and ticket.rounds[-1].recipe and ticket.then != "new weights":
            before, end = start_of(ticket.parent), trained(inner_loop(ticket))
            if end.metrics["state"] in ("trained", "failed"):
                row["inner"] = travelled(before.state, end.tensors, before.mask)
        if product.metrics["state"] in ("trained", "failed"):
            row["distance"] = travelled(start, product.tensors, mask)
        rows.append(row)
    return pd.DataFrame(rows, columns=["method", "level", "seed", "state", "dead_channels", "inner", "distance"])


def explained(study: Study):
    """`stability.measured` with the columns of `journeys`: what a barrier may be explained by."""
    return measured(study).merge(journeys(study).drop(columns="state"), on=["method", "level", "seed"])


SHARES = (0.1, 0.25, 0.5)
"""Where in an inner loop `settling` stops to look."""


@cached(version=SEARCH + 1, uses=(rewind_point, distilled, difficulty))
def settling(run: Training) -> Product:
    """The mask of one round, had its inner loop been stopped at each of SHARES: overlap with the mask of the whole loop, and chance."""
    mask, state = start_of(run.ticket)
    setup, images = run.ticket.setup, inner_images(run.ticket.setup.data, run.images)
    final = masks.prune(mask, scores.magnitude(trained(run).tensors, mask), run.ticket.fraction)
    rows = []
    for share in SHARES:
        stop = max(1, round(share * run.recipe.steps))
        end = train(network(setup, state), images.images, images.labels, run.recipe, mask, seed=setup.seed, child=run.child, stop=stop)
        early = masks.prune(mask, scores.magnitude({n: t.cpu() for n, t in end.state.items()}, mask), run.ticket.fraction)
        rows.append({"share": share, "overlap": masks.overlap(early, final), "chance": chance(early, final)})
    return Product({"rows": rows})


def settled(study: Study, methods: tuple[str, ...] = ("imp", "distilled", "real-gentle")):
    """Table of how early masks are settled: a row a (method, seed, share of the first inner loop), with `overlap` and `chance` (percent).

    `overlap`: of the mask found by stopping there (same schedule) with that of the whole loop.
    """
    import pandas as pd

    search(study)
    what = [(m, s) for m in methods if m in study.arms for s in study.initialisations]
    runs = [inner_loop(study.ticket(m, 1, s)) for m, s in what]
    found = parallel.compute(settling, runs, "stop early")
    rows = [
        dict(method=m, seed=s, share=r["share"], overlap=100 * r["overlap"], chance=100 * r["chance"])
        for (m, s), product in zip(what, found, strict=True)
        for r in product.metrics["rows"]
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "share", "overlap", "chance"])
