"""Tables of high sparsity: how far each method goes, and when a hybrid should switch."""

from __future__ import annotations

import itertools
import math

import pandas as pd

from lotto.lab import sources
from lotto.lab.arms import ARMS
from lotto.lab.stability.tables import swept
from lotto.lab.study import Study
from lotto.lab.tables import by_seed
from lotto.lab.tickets.tables import accuracies
from lotto.stats import resolution


def matching(study: Study) -> pd.DataFrame:
    """Table of how far each method goes: one row per (method, seed).

    `rounds`: the highest of the study's levels up to which, without a gap, the ticket's accuracy is not below the dense
    net's (same initialisation) by more than the resolution of the test set; 0 where the first level already is.
    `sparsity` in percent is that level's. Only as fine as the levels are. Initialisations whose dense net did not train
    are left out.
    """
    table, margin = accuracies(study.but(methods=_with_dense(study))), resolution(len(sources.load(study.data).test))
    dense = by_seed(table[table.state == "trained"], "dense", 0, "accuracy")
    rows = []
    for method in study.arms:
        if ARMS[method].dense:
            continue
        found = {at: by_seed(table, method, at, "accuracy") for at in study.levels}
        for seed, goal in dense.items():
            matches = [found[at].get(seed, -math.inf) >= goal - margin - 1e-9 for at in study.levels]
            rounds = max(
                (at for at, _ in itertools.takewhile(lambda m: m[1], zip(study.levels, matches, strict=True))),
                default=0,
            )
            rows.append(
                dict(method=method, level=0, seed=seed, rounds=rounds, sparsity=100 * (1 - study.density(rounds)))
            )
    return pd.DataFrame(rows, columns=["method", "level", "seed", "rounds", "sparsity"])


def _with_dense(study: Study) -> tuple[str, ...]:
    return study.arms if "dense" in study.arms else ("dense", *study.arms)


def switched(study: Study) -> pd.DataFrame:
    """Table of the hybrid over its switch point: one row per (method, switch, level, seed), with `state`, `accuracy`
    and `barrier`.

    `method`: hybrid (and hybrid-real where it is among the study's). Switch 0 is IMP; from the level on, it is the
    short search alone.
    """
    methods = ("hybrid", *(m for m in study.arms if m == "hybrid-real"))
    return swept(
        {(switch,): study.but(switch=switch, methods=methods) for switch in study.sweeps.switches}, ("switch",)
    )
