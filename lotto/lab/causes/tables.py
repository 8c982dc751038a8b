"""What stability may be owed to: masks themselves, the ways and signs of their weights, and the recipe they were found
with."""

from __future__ import annotations

import itertools

import pandas as pd
import torch

from lotto import masks
from lotto.lab import parallel
from lotto.lab.arms import ARMS
from lotto.lab.causes.products import journey, settling
from lotto.lab.describe import Ticket
from lotto.lab.stability.tables import measured, swept
from lotto.lab.study import Study
from lotto.lab.tables import ALL, rows
from lotto.lab.tickets.products import inner_loop, levels, rewind_point
from lotto.stats import rank_correlation


def overlaps(study: Study, within: str = "seed") -> pd.DataFrame:
    """Table of overlaps in percent: one row per (method, other, level, seed), with `overlap`, `chance` and `excess`,
    their difference.

    Pairs of methods over one initialisation (`within` "seed"), or one method over pairs of initialisations ("method";
    `seed` is then the first, `other` the second's number). At the same level both masks keep equally many weights.
    """
    kept = dict(zip(study.cells(dense=False), (p.tensors for p in levels(study, dense=False)), strict=True))
    arms, cells, found = [m for m in study.arms if not ARMS[m].dense], [], []
    for level in study.levels:
        if within == "seed":
            pairs = [((a, s), (b, s), b) for a, b in itertools.combinations(arms, 2) for s in study.initialisations]
        else:
            pairs = [((m, s), (m, t), t) for m in arms for s, t in itertools.combinations(study.initialisations, 2)]
        for (m, s), (n, t), other in pairs:
            a, b = kept[m, level, s], kept[n, level, t]
            shared, chance = 100 * masks.overlap(a, b), 100 * masks.chance(a, b)
            cells.append(dict(method=m, other=other, level=level, seed=s))
            found.append(dict(overlap=shared, chance=chance, excess=shared - chance))
    return rows(cells, found, ["method", "other", "level", "seed", "overlap", "chance", "excess"])


def survival(study: Study, bins: int = 10) -> pd.DataFrame:
    """Table of who survives: one row per (method, level, seed, bin), with `survived`, the percentage of the weights
    that are kept.

    Bins hold equally many weights of a layer each, by the magnitude they have at the rewind point: 0 the smallest.
    """
    cells = study.cells(dense=False)
    found = [
        _survived(study.ticket(*cell), mask.tensors, bins)
        for cell, mask in zip(cells, levels(study, dense=False), strict=True)
    ]
    return rows(cells, found, ["method", "level", "seed", "bin", "survived"])


def _survived(ticket: Ticket, mask: masks.Mask, bins: int) -> list[dict[str, float]]:
    start = rewind_point(ticket.setup).tensors
    kept, total = torch.zeros(bins, dtype=torch.float64), torch.zeros(bins, dtype=torch.float64)
    for n, m in mask.items():
        rank = start[n].abs().flatten().argsort(stable=True).argsort()
        place = rank * bins // len(rank)
        kept.index_add_(0, place, m.flatten().double())
        total.index_add_(0, place, torch.ones(len(rank), dtype=torch.float64))
    return [dict(bin=b, survived=100 * float(kept[b] / total[b])) for b in range(bins)]


def journeys(study: Study) -> pd.DataFrame:
    """Table of ways: one row per (method, level, seed), with `dead_channels` (percent), `inner`, the distance that the
    live weights go in the inner loop that made the mask, and `distance`, that of the first child's training, both
    relative to where they start.

    Signs of the live weights, in percent: `turned` by that inner loop; of the child's, how many `agree` with the loop's
    end, and how many it has `kept` from its own start."""
    runs = [study.training(*cell, 1) for cell in study.cells()]
    found = [p.metrics for p in parallel.compute(journey, runs)]
    columns = ["state", "dead_channels", "inner", "distance", "turned", "agree", "kept"]
    return rows(study.cells(), found, ["method", "level", "seed", *columns])


def explained(study: Study) -> pd.DataFrame:
    """`stability.measured` with the columns of `journeys`: what a barrier may be explained by."""
    return measured(study).merge(journeys(study).drop(columns="state"), on=["method", "level", "seed"])


def settled(study: Study, methods: tuple[str, ...] = ("imp", "distilled", "subset")) -> pd.DataFrame:
    """Table of how early masks are settled: one row per (method, seed, share of the first inner loop), with `overlap`
    and `chance` (percent).

    `overlap`: of the mask found by stopping there (same schedule) with that of the whole loop.
    """
    cells = [dict(method=m, seed=s) for m in methods if m in study.arms for s in study.initialisations]
    found = parallel.compute(settling, [inner_loop(study.ticket(c["method"], 1, c["seed"])) for c in cells])

    def percent(row: dict[str, float]) -> dict[str, float]:
        return dict(share=row["share"], overlap=100 * row["overlap"], chance=100 * row["chance"])

    return rows(
        cells,
        [[percent(row) for row in p.metrics["rows"]] for p in found],
        ["method", "seed", "share", "overlap", "chance"],
    )


def inner(study: Study) -> pd.DataFrame:
    """Table over the inner recipe: one row per (method, lr, steps, level, seed), with the columns of
    `stability.measured`.

    Every method of `study.sweeps.map_methods`, whose inner loops are short and gentle, at every peak learning rate of
    `map_lrs` and number of steps of `map_steps`.
    """
    cells = {
        (lr, steps): study.but(inner_lr=lr, inner_steps=steps, methods=study.sweeps.map_methods)
        for lr in study.sweeps.map_lrs
        for steps in study.sweeps.map_steps
    }
    return swept(cells, ("lr", "steps"))


def outer(study: Study) -> pd.DataFrame:
    """Table over the outer recipe: one row per (method, lr, steps, level, seed) for the dense net."""
    cells = {
        (lr, steps): study.but(lr=lr, steps=steps, rewind=min(study.rewind, steps), methods=("dense",))
        for lr in study.sweeps.outer_lrs
        for steps in study.sweeps.outer_steps
    }
    return swept(cells, ("lr", "steps"))


def over_time(study: Study) -> pd.DataFrame:
    """Table over the step k from which nets train anew: one row per (method, k, level, seed); k = 0 is the
    initialisation.

    The rewound methods of `study.sweeps.rewind_methods` at each k of `study.sweeps.rewinds`, and at 0 the same methods
    without rewinding, under whose names all rows stand.
    """
    cells = {(0,): study.but(methods=tuple(map(unrewound, study.sweeps.rewind_methods)))}
    cells |= {
        (k,): study.but(rewind=k, methods=study.sweeps.rewind_methods)
        for k in study.sweeps.rewinds
        if k <= study.outer.steps
    }
    table = swept(cells, ("k",))
    table["method"] = table.method.map(unrewound)
    return table


def unrewound(method: str) -> str:
    """The method that starts at the initialisation and does otherwise the same as a rewound one."""
    return method.replace("-rewound", "") if ARMS[method].from_k else method


def stable_from(table, limit: float = 2.0) -> pd.DataFrame:
    """The first k of `over_time` from which on the barrier stays below `limit` points: one row per (method, level,
    seed); None where none does.

    A net that did not train is not stable.
    """
    found = []
    for (method, level, seed), group in table.groupby(["method", "level", "seed"], sort=False):
        group = group.sort_values("k", ascending=False)
        stable = (group.state == "trained") & (group.barrier < limit)
        kept = group.k[stable.cumprod().astype(bool)]
        found.append(dict(method=method, level=level, seed=seed, k=int(kept.min()) if len(kept) else None))
    return pd.DataFrame(found)


def capacity(table) -> pd.DataFrame:
    """Whether stability is lost capacity, or a short way: one row per seed, with rank correlations over that
    initialisation's trained tickets.

    table: rows with `seed`, `state`, `barrier`, `train_loss`, `distance`. Returned: `loss`, barrier with final training
    loss; `way`, barrier with the distance travelled; `loss_given_way` and `way_given_loss`, the partial ones;
    `tickets`, how many.
    """
    found = []
    for seed, group in (
        table[table.state == "trained"].dropna(subset=["barrier", "train_loss", "distance"]).groupby("seed")
    ):
        b, loss, way = (group[c].tolist() for c in ("barrier", "train_loss", "distance"))
        row = dict(
            method=ALL,
            level=0,
            seed=seed,
            tickets=len(group),
            loss=rank_correlation(b, loss),
            way=rank_correlation(b, way),
        )
        found.append(
            row | dict(loss_given_way=rank_correlation(b, loss, way), way_given_loss=rank_correlation(b, way, loss))
        )
    return pd.DataFrame(
        found, columns=["method", "level", "seed", "tickets", "loss", "way", "loss_given_way", "way_given_loss"]
    )
