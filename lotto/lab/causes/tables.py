"""What stability may be owed to: masks themselves, the ways and signs of their weights, and the recipe they were found with."""

from __future__ import annotations

import itertools

import pandas as pd
import torch

from lotto import masks
from lotto.lab import parallel
from lotto.lab.arms import ARMS
from lotto.lab.causes.products import settling
from lotto.lab.stability.tables import measured, swept
from lotto.lab.study import Study
from lotto.lab.tables import ALL, arms_at
from lotto.lab.tickets.products import children, inner_loop, level, rewind_point, search, start_of, trained
from lotto.stats import rank_correlation


def overlaps(study: Study, within: str = "seed"):
    """Table of overlaps in percent: a row a (method, other, level, seed), with `overlap`, `chance` and `excess`, their difference.

    Pairs of methods over one initialisation (`within` "seed"), or one method over pairs of initialisations ("method"; `seed` is then
    the first, `other` the second's number). At the same level both masks keep equally many weights.
    """

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
            got, lucky = 100 * masks.overlap(found[a], found[b]), 100 * masks.chance(found[a], found[b])
            rows.append(dict(method=a[0], other=other, level=at, seed=a[1], overlap=got, chance=lucky, excess=got - lucky))
    return pd.DataFrame(rows, columns=["method", "other", "level", "seed", "overlap", "chance", "excess"])


def survival(study: Study, bins: int = 10):
    """Table of who survives: a row a (method, level, seed, bin), with `survived`, the percentage of the weights that are kept.

    Bins hold equally many weights of a layer each, by the magnitude they have at the rewind point: 0 the smallest.
    """

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


def journeys(study: Study):
    """Table of ways: one row per (method, level, seed), with `dead_channels` (percent), `inner`, the distance that the live weights go in
    the inner loop that made the mask, and `distance`, that of the first child's training, both relative to where they start.

    Signs of the live weights, in percent: `turned` by that inner loop; of the child's, how many `agree` with the loop's end, and how many
    it has `kept` from its own start."""

    rows = []
    for method, at, seed, child, product in children(study):
        if child > 1:
            continue
        ticket = study.ticket(method, at, seed)
        mask, start = start_of(ticket)
        dead, every = masks.channels(mask)
        row = dict(method=method, level=at, seed=seed, state=product.metrics["state"], dead_channels=100 * dead / every)
        if ticket.rounds and ticket.rounds[-1].recipe and ticket.then != "new weights":
            before, end = start_of(ticket.parent), trained(inner_loop(ticket))
            if end.metrics["state"] in ("trained", "failed"):
                row["inner"] = masks.travelled(before.state, end.tensors, before.mask)
                row["turned"] = 100 - 100 * masks.same_signs(before.state, end.tensors, mask)
                if product.tensors:
                    row["agree"] = 100 * masks.same_signs(end.tensors, product.tensors, mask)
        if product.metrics["state"] in ("trained", "failed"):
            row["distance"] = masks.travelled(start, product.tensors, mask)
            row["kept"] = 100 * masks.same_signs(start, product.tensors, mask)
        rows.append(row)
    return pd.DataFrame(rows, columns=["method", "level", "seed", "state", "dead_channels", "inner", "distance", "turned", "agree", "kept"])


def explained(study: Study):
    """`stability.measured` with the columns of `journeys`: what a barrier may be explained by."""
    return measured(study).merge(journeys(study).drop(columns="state"), on=["method", "level", "seed"])


def settled(study: Study, methods: tuple[str, ...] = ("imp", "distilled", "subset")):
    """Table of how early masks are settled: a row a (method, seed, share of the first inner loop), with `overlap` and `chance` (percent).

    `overlap`: of the mask found by stopping there (same schedule) with that of the whole loop.
    """

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


def inner(study: Study):
    """Table over the inner recipe: a row a (method, lr, steps, level, seed), with the columns of `stability.measured`.

    Every method of `study.map_methods`, whose inner loops are short and gentle, at every peak learning rate of `map_lrs` and number
    of steps of `map_steps`.
    """
    cells = {
        (lr, steps): study.but(inner_lr=lr, inner_steps=steps, methods=study.map_methods)
        for lr in study.map_lrs
        for steps in study.map_steps
    }
    return swept(cells, ("lr", "steps"))


def outer(study: Study):
    """Table over the outer recipe: a row a (method, lr, steps, level, seed) for the dense net."""
    cells = {
        (lr, steps): study.but(lr=lr, steps=steps, rewind=min(study.rewind, steps), methods=("dense",))
        for lr in study.outer_lrs
        for steps in study.outer_steps
    }
    return swept(cells, ("lr", "steps"))


def over_time(study: Study):
    """Table over the step k from which nets train anew: a row a (method, k, level, seed); k = 0 is the initialisation.

    The rewound methods of `study.rewind_methods` at each k of `study.rewinds`, and at 0 the same methods without rewinding, under whose
    names all rows stand.
    """
    cells = {(0,): study.but(methods=tuple(map(unrewound, study.rewind_methods)))}
    cells |= {(k,): study.but(rewind=k, methods=study.rewind_methods) for k in study.rewinds if k <= study.steps}
    table = swept(cells, ("k",))
    table["method"] = table.method.map(unrewound)
    return table


def unrewound(method: str) -> str:
    """The method that starts at the initialisation and does otherwise the same as a rewound one."""
    return method.replace("-rewound", "") if ARMS[method].from_k else method


def stable_from(table, limit: float = 2.0):
    """The first k of `over_time` from which on the barrier stays below `limit` points: a row a (method, level, seed); None where none does.

    A net that did not train is not stable.
    """

    rows = []
    for (method, at, seed), group in table.groupby(["method", "level", "seed"], sort=False):
        group = group.sort_values("k", ascending=False)
        stable = (group.state == "trained") & (group.barrier < limit)
        kept = group.k[stable.cumprod().astype(bool)]
        rows.append(dict(method=method, level=at, seed=seed, k=int(kept.min()) if len(kept) else None))
    return pd.DataFrame(rows)


def capacity(table):
    """Whether stability is lost capacity, or a short way: a row a seed, with rank correlations over that initialisation's trained tickets.

    table: rows with `seed`, `state`, `barrier`, `train_loss`, `distance`. Returned: `loss`, barrier with final training loss; `way`,
    barrier with the distance travelled; `loss_given_way` and `way_given_loss`, the partial ones; `tickets`, how many.
    """

    rows = []
    for seed, group in table[table.state == "trained"].dropna(subset=["barrier", "train_loss", "distance"]).groupby("seed"):
        b, loss, way = (group[c].tolist() for c in ("barrier", "train_loss", "distance"))
        row = dict(method=ALL, level=0, seed=seed, tickets=len(group), loss=rank_correlation(b, loss), way=rank_correlation(b, way))
        rows.append(row | dict(loss_given_way=rank_correlation(b, loss, way), way_given_loss=rank_correlation(b, way, loss)))
    return pd.DataFrame(rows, columns=["method", "level", "seed", "tickets", "loss", "way", "loss_given_way", "way_given_loss"])
