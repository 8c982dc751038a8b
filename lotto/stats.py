"""Means with intervals over initialisations: n is small, so Student's t, and differences are paired by initialisation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from lotto import data
from lotto.config import Study
from lotto.lab.arms import ARMS
from lotto.stability import accuracies


class Interval(NamedTuple):
    """A mean and its 95 % interval; `low` and `high` are None below three values: of two, it says next to nothing."""

    mean: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def half(self) -> float | None:
        """Half the interval's width: what an error bar shows."""
        return None if self.high is None else self.high - self.mean

    def __str__(self) -> str:
        return self.text()

    def text(self, digits: int = 1) -> str:
        """Mean and interval with so many decimals: "2.0 [1.5, 2.5]"."""
        if self.mean is None:
            return "none"
        mean, low, high = (None if v is None else f"{round(v, digits) + 0.0:.{digits}f}" for v in self[:3])  # + 0.0: no "-0.0"
        return f"{mean} [{low}, {high}]" if low is not None else f"{mean} [no interval]"


def interval(values: Sequence[float | None], level: float = 0.95) -> Interval:
    """Mean and t-interval of the values that are there (None and NaN left out).

    >>> str(interval([1.0, 2.0, 3.0]))
    '2.0 [-0.5, 4.5]'
    """
    found = [float(v) for v in values if v is not None and not math.isnan(v)]
    n = len(found)
    if n == 0:
        return Interval(None, None, None, 0)
    mean = math.fsum(found) / n  # fsum: `sum` rounds otherwise from Python 3.12 on, and a table must read the same everywhere
    if n < 3:
        return Interval(mean, None, None, n)
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, n - 1)) * math.sqrt(math.fsum((v - mean) ** 2 for v in found) / (n - 1) / n)
    return Interval(mean, mean - half, mean + half, n)


def by_seed(table, method: str, level: int, column: str) -> dict[int, float]:
    """seed -> value of the runs that trained; what failed, died or diverged (by `state`, where the table has it) is not averaged in."""
    rows = table[(table.method == method) & (table.level == level)]
    rows = rows[rows.state == "trained"] if "state" in rows else rows
    return {int(s): float(v) for s, v in zip(rows.seed, rows[column], strict=True) if v is not None and not math.isnan(v)}


def paired(a: dict[int, float], b: dict[int, float]) -> Interval:
    """Interval of the differences a - b over the initialisations that both have."""
    return interval([a[s] - b[s] for s in sorted(a.keys() & b.keys())])


def resolution(test_images: int) -> float:
    """Points of accuracy below which two nets count as equal: five test images, at least 0.2 points (1 point on 500 images)."""
    return max(0.2, 500 / test_images)


def summary(table, column: str):
    """A row a (method, level): `trained` as "2 of 3", then mean and interval of `column` over those that trained."""
    import pandas as pd

    rows = []
    for (method, level), group in table.groupby(["method", "level"], sort=False):
        found = interval(list(by_seed(table, method, level, column).values()))
        rows.append(
            dict(
                method=method,
                level=level,
                trained=f"{int((group.state == 'trained').sum()) if 'state' in group else found.n} of {len(group)}",
                mean=found.mean,
                low=found.low,
                high=found.high,
                n=found.n,
            )
        )
    return pd.DataFrame(rows)


def matching(study: Study):
    """Table of how far each method goes: a row a (method, seed).

    `rounds`: the highest of the study's levels up to which, without a gap, the ticket's accuracy is not below the dense net's (same
    initialisation) by more than the resolution of the test set; 0 where the first level already is. `sparsity` in percent is that
    level's. Only as fine as the levels are. Initialisations whose dense net did not train are left out.
    """
    import pandas as pd

    table, margin = accuracies(study.but(methods=_with_dense(study))), resolution(len(data.load(study.dataset).test))
    dense = by_seed(table, "dense", 0, "accuracy")
    rows = []
    for method in study.arms:
        if ARMS[method].dense:
            continue
        found = {at: by_seed(table, method, at, "accuracy") for at in study.levels}
        for seed, goal in dense.items():
            matches = [found[at].get(seed, -math.inf) >= goal - margin for at in study.levels]
            rounds = max((at for at, _ in itertools.takewhile(lambda m: m[1], zip(study.levels, matches, strict=True))), default=0)
            rows.append(dict(method=method, level=0, seed=seed, rounds=rounds, sparsity=100 * (1 - study.density(rounds))))
    return pd.DataFrame(rows, columns=["method", "level", "seed", "rounds", "sparsity"])


def rank_correlation(x: Sequence[float], y: Sequence[float], given: Sequence[float] | None = None) -> float | None:
    """Spearman's rank correlation of x and y, in [-1, 1]; with `given`, the partial one: what is left once both follow `given` in rank.

    None below 4 values, or where one of them (or what is left of it) is constant.

    >>> rank_correlation([1, 2, 3, 4], [1, 4, 9, 16])
    1.0
    """
    import numpy as np
    from scipy.stats import rankdata

    if len(x) < 4:
        return None
    ranks = [rankdata(v) for v in (x, y)]
    if given is not None:
        base = np.stack([np.ones(len(x)), rankdata(given)], 1)
        ranks = [r - base @ np.linalg.lstsq(base, r, rcond=None)[0] for r in ranks]
    a, b = (r - r.mean() for r in ranks)
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return round(float(a @ b) / scale, 12) if scale > 1e-9 * len(x) ** 3 else None


def correlations(table, measures: Sequence[str], against: str):
    """How each measure goes with another over an initialisation's trained tickets: a row a (measure), with the mean rank correlation
    over initialisations and its 95 % interval, and `n`, the initialisations.

    table: rows with `seed`, `state` and the named columns.
    """
    import pandas as pd

    rows = []
    for name in measures:
        known = table[table.state == "trained"].dropna(subset=[name, against])
        found = interval([rank_correlation(g[name].tolist(), g[against].tolist()) for _, g in known.groupby("seed")])
        rows.append(dict(measure=name, correlation=found.mean, low=found.low, high=found.high, n=found.n))
    return pd.DataFrame(rows)


ALL = "all arms"
"""Stands for a method in tables with one row for all of a study's tickets."""


def capacity(table):
    """Whether stability is lost capacity, or a short way: a row a seed, with rank correlations over that initialisation's trained tickets.

    table: rows with `seed`, `state`, `barrier`, `train_loss`, `distance`. Returned: `loss`, barrier with final training loss; `way`,
    barrier with the distance travelled; `loss_given_way` and `way_given_loss`, the partial ones; `tickets`, how many.
    """
    import pandas as pd

    rows = []
    for seed, group in table[table.state == "trained"].dropna(subset=["barrier", "train_loss", "distance"]).groupby("seed"):
        b, loss, way = (group[c].tolist() for c in ("barrier", "train_loss", "distance"))
        row = dict(method=ALL, level=0, seed=seed, tickets=len(group), loss=rank_correlation(b, loss), way=rank_correlation(b, way))
        rows.append(row | dict(loss_given_way=rank_correlation(b, loss, way), way_given_loss=rank_correlation(b, way, loss)))
    return pd.DataFrame(rows, columns=["method", "level", "seed", "tickets", "loss", "way", "loss_given_way", "way_given_loss"])


def _with_dense(study: Study) -> tuple[str, ...]:
    return study.arms if "dense" in study.arms else ("dense", *study.arms)
