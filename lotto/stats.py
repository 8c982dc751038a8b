"""Means with intervals over initialisations: n is small, so Student's t, and differences are paired by
initialisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


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

    def within(self, low: float, high: float) -> Interval:
        """The same with its ends inside the bounds of what is measured, which Student's t does not know."""
        return self if self.low is None else self._replace(low=max(low, self.low), high=min(high, self.high))

    def __str__(self) -> str:
        return self.text()

    def text(self, digits: int = 1) -> str:
        """Mean and, where there is one, interval, with so many decimals: "2.0 [1.5, 2.5]", "2.0". A bound just below 0
        keeps its sign, "-0.0": on which side of 0 it lies is what it is read for."""
        if self.mean is None:
            return "none"
        mean = f"{round(self.mean, digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.0"
        if self.low is None:
            return mean
        return f"{mean} [{self.low + 0.0:.{digits}f}, {self.high + 0.0:.{digits}f}]"


def interval(values: Sequence[float | None], level: float = 0.95) -> Interval:
    """Mean and t-interval of the values that are there (None and NaN left out).

    >>> str(interval([1.0, 2.0, 3.0]))
    '2.0 [-0.5, 4.5]'
    """
    found = [float(v) for v in values if v is not None and not math.isnan(v)]
    n = len(found)
    if n == 0:
        return Interval(None, None, None, 0)
    mean = (
        math.fsum(found) / n
    )  # fsum: `sum` rounds otherwise from Python 3.12 on, and a table must read the same everywhere
    if n < 3:
        return Interval(mean, None, None, n)
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, n - 1)) * math.sqrt(math.fsum((v - mean) ** 2 for v in found) / (n - 1) / n)
    return Interval(mean, mean - half, mean + half, n)


def paired(a: dict[int, float], b: dict[int, float]) -> Interval:
    """Interval of the differences a - b over the initialisations that both have."""
    return interval([a[s] - b[s] for s in sorted(a.keys() & b.keys())])


def resolution(test_images: int) -> float:
    """Points of accuracy below which two nets count as equal: five test images, at least 0.2 points (1 point on 500
    images)."""
    return max(0.2, 500 / test_images)


def rank_correlation(x: Sequence[float], y: Sequence[float], given: Sequence[float] | None = None) -> float | None:
    """Spearman's rank correlation of x and y, in [-1, 1]; with `given`, the partial one: what is left once both follow
    `given` in rank.

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
