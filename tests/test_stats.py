import math

import pandas as pd
import pytest

import lotto
from lotto import stats


def test_interval_by_hand():
    found = stats.interval([1.0, 2.0, 3.0])  # s = 1, t(0.975, 2) = 4.3027
    assert found.mean == 2 and found.high - 2 == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4) and found.n == 3


def test_one_value_has_no_interval_and_none_has_nothing():
    assert str(stats.interval([3.0])) == "3.0 [no interval]" and stats.interval([3.0]).low is None
    assert str(stats.interval([])) == "none" and stats.interval([None, float("nan")]).n == 0


def test_equal_values_give_a_point_and_no_minus_zero():
    assert str(stats.interval([0.0, -0.0, 0.0])) == "0.0 [0.0, 0.0]" and str(stats.interval([-0.01] * 3)) == "0.0 [0.0, 0.0]"


def test_pairing_removes_what_the_initialisations_share():
    a, b = {0: 10.0, 1: 20.0, 2: 30.0, 3: 5.0}, {0: 9.0, 1: 19.0, 2: 29.0}
    assert stats.paired(a, b)[:3] == (1, 1, 1)


def table(states=("trained",) * 3):
    return pd.DataFrame(dict(method="imp", level=4, seed=[0, 1, 2], state=list(states), accuracy=[90.0, 92.0, 10.0]))


def test_what_did_not_train_is_counted_not_averaged():
    t = table(("trained", "trained", "failed"))
    assert stats.by_seed(t, "imp", 4, "accuracy") == {0: 90.0, 1: 92.0}
    row = stats.summary(t, "accuracy").iloc[0]
    assert row.trained == "2 of 3" and row["mean"] == 91 and row.n == 2


def test_resolution():
    assert stats.resolution(500) == 1.0 and stats.resolution(10_000) == 0.2


def test_matching_stops_at_the_first_gap(monkeypatch):
    study = lotto.study(methods=["dense", "imp", "random"], levels=[2, 4, 6])
    values = {
        ("imp", 2): (96.5, 90.0),
        ("imp", 4): (96.0, 97.0),
        ("imp", 6): (95.0, 97.0),
        ("random", 2): (97.5, 97.0),
        ("random", 6): (97, 97),
    }
    rows = [dict(method="dense", level=0, seed=s, state="trained", accuracy=97.0) for s in (0, 1)]
    rows += [dict(method=m, level=at, seed=s, state="trained", accuracy=v) for (m, at), vs in values.items() for s, v in enumerate(vs)]
    monkeypatch.setattr(stats, "accuracies", lambda _: pd.DataFrame(rows))
    found = {(r.method, r.seed): (r.rounds, round(r.sparsity, 1)) for r in stats.matching(study).itertuples()}
    # digits have 500 test images, so 1 point: imp 0 matches at 96.5 and 96.0, not at 95.0; imp 1 fails at once; random has nothing at 4
    assert found == {("imp", 0): (4, 83.2), ("imp", 1): (0, 0.0), ("random", 0): (2, 59.0), ("random", 1): (2, 59.0)}


def test_rank_correlations_by_hand():
    x = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert stats.rank_correlation(x, [v**3 for v in x]) == 1.0 and stats.rank_correlation(x, [-v for v in x]) == -1.0
    assert stats.rank_correlation(x, [2.0, 1.0, 4.0, 3.0, 5.0]) == pytest.approx(0.8)  # 1 - 6 * 4 / (5 * 24)
    assert stats.rank_correlation(x, [1.0] * 5) is None and stats.rank_correlation(x[:3], x[:3]) is None


def test_partial_rank_correlation_by_its_formula():
    x, y, z = [3, 1, 4, 1.5, 5, 9, 2.6], [2, 7, 1, 8, 2.8, 1.8, 4], [1, 4, 1.4, 2, 1.3, 5, 6]
    xy, xz, yz = (stats.rank_correlation(a, b) for a, b in ((x, y), (x, z), (y, z)))
    assert stats.rank_correlation(x, y, z) == pytest.approx((xy - xz * yz) / ((1 - xz**2) * (1 - yz**2)) ** 0.5)
    assert stats.rank_correlation(z, y, z) is None  # nothing is left of z once z is known


def test_lost_capacity_and_a_short_way_are_told_apart():
    # the barrier follows the way; the loss follows the way too, but for two tickets: at equal way it says nothing
    rows = [
        dict(seed=s, state="trained", barrier=b, train_loss=loss, distance=b / 10)
        for s in range(3)
        for b, loss in zip(range(1, 9), (9, 7, 8, 6, 5, 3, 4, 2), strict=True)
    ]
    rows += [dict(seed=0, state="failed", barrier=None, train_loss=2.3, distance=99.0)]
    found = stats.capacity(pd.DataFrame(rows))
    assert found.tickets.tolist() == [8, 8, 8] and (found.way == 1.0).all() and (found.loss < -0.9).all()
    assert found.loss_given_way.isna().all()  # the way explains all of the barrier


def test_intervals_are_printed_with_the_decimals_asked_for():
    assert stats.Interval(-0.001, -0.5, 0.25, 3).text(2) == "0.00 [-0.50, 0.25]"


def test_correlations_are_those_within_an_initialisation():
    # within each seed y rises with x, across seeds it falls: what initialisations differ in does not count
    rows = [dict(seed=s, state="trained", x=10.0 * s + i, y=-100.0 * s + i**2) for s in range(3) for i in range(1, 6)]
    rows += [dict(seed=0, state="failed", x=1e9, y=-1e9), dict(seed=1, state="trained", x=None, y=3.0)]
    found = stats.correlations(pd.DataFrame(rows), ["x"], "y").iloc[0]
    assert found.correlation == 1.0 and found.low == found.high == 1.0 and found.n == 3


def test_two_values_have_a_mean_and_no_interval():
    found = stats.interval([1.0, 3.0])
    assert found == (2.0, None, None, 2) and found.half is None and str(found) == "2.0 [no interval]"
