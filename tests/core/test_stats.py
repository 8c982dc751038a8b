import math

import pytest

from lotto import stats


def test_interval_by_hand():
    found = stats.interval([1.0, 2.0, 3.0])  # s = 1, t(0.975, 2) = 4.3027
    assert found.mean == 2
    assert found.high - 2 == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert found.n == 3


def test_one_value_has_no_interval_and_none_has_nothing():
    assert str(stats.interval([3.0])) == "3.0"
    assert stats.interval([3.0]).low is None
    assert str(stats.interval([])) == "none"
    assert stats.interval([None, float("nan")]).n == 0


def test_equal_values_give_a_point_and_only_a_bound_below_zero_says_so():
    assert str(stats.interval([0.0, -0.0, 0.0])) == "0.0 [0.0, 0.0]"
    assert str(stats.interval([-0.01] * 3)) == "0.0 [-0.0, -0.0]"


def test_pairing_removes_what_the_initialisations_share():
    a, b = {0: 10.0, 1: 20.0, 2: 30.0, 3: 5.0}, {0: 9.0, 1: 19.0, 2: 29.0}
    assert stats.paired(a, b)[:3] == (1, 1, 1)


def test_resolution():
    assert stats.resolution(500) == 1.0
    assert stats.resolution(10_000) == 0.2


def test_rank_correlations_by_hand():
    x = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert stats.rank_correlation(x, [v**3 for v in x]) == 1.0
    assert stats.rank_correlation(x, [-v for v in x]) == -1.0
    assert stats.rank_correlation(x, [2.0, 1.0, 4.0, 3.0, 5.0]) == pytest.approx(0.8)  # 1 - 6 * 4 / (5 * 24)
    assert stats.rank_correlation(x, [1.0] * 5) is None
    assert stats.rank_correlation(x[:3], x[:3]) is None


def test_partial_rank_correlation_by_its_formula():
    x, y, z = [3, 1, 4, 1.5, 5, 9, 2.6], [2, 7, 1, 8, 2.8, 1.8, 4], [1, 4, 1.4, 2, 1.3, 5, 6]
    xy, xz, yz = (stats.rank_correlation(a, b) for a, b in ((x, y), (x, z), (y, z)))
    assert stats.rank_correlation(x, y, z) == pytest.approx((xy - xz * yz) / ((1 - xz**2) * (1 - yz**2)) ** 0.5)
    assert stats.rank_correlation(z, y, z) is None  # nothing is left of z once z is known


def test_intervals_are_printed_with_the_decimals_asked_for():
    assert stats.Interval(-0.001, -0.5, 0.25, 3).text(2) == "0.00 [-0.50, 0.25]"


def test_two_values_have_a_mean_and_no_interval():
    found = stats.interval([1.0, 3.0])
    assert found == (2.0, None, None, 2)
    assert found.half is None
    assert str(found) == "2.0"


def test_an_interval_ends_where_its_quantity_does():
    found = stats.interval([95.0, 99.0, 100.0])
    assert found.high > 100 and found.within(0, 100) == (98.0, found.low, 100.0, 3)
    assert stats.interval([-0.9, -1.0, -0.2]).within(-1, 1).low == -1
    assert stats.interval([3.0]).within(0, 1) == stats.interval([3.0]), "no interval, and no bound for a mean"
