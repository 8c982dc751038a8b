import pandas as pd

from lotto.lab import tables


def table(states=("trained",) * 3):
    values = dict(accuracy=[90.0, 92.0, 10.0], barrier=[1.0, 3.0, 0.0])
    return pd.DataFrame(dict(method="imp", level=4, seed=[0, 1, 2], state=list(states), **values))


def test_what_did_not_train_is_in_means_of_accuracy_and_in_no_other():
    t = table(("trained", "trained", "failed"))
    assert tables.by_seed(t, "imp", 4, "accuracy") == {0: 90.0, 1: 92.0, 2: 10.0}
    assert tables.by_seed(t, "imp", 4, "barrier") == {0: 1.0, 1: 3.0}
    assert tables.failures(t, "imp", 4) == (1, 3) and tables.failures(t, "imp", 8) == (0, 0)
    for column, mean, n in (("accuracy", 64, 3), ("barrier", 2, 2)):
        row = tables.summary(t, column).iloc[0]
        assert (row.trained, row["mean"], row.n) == ("2 of 3", mean, n)


def test_correlations_are_those_within_an_initialisation():
    # within each seed y rises with x, across seeds it falls: what initialisations differ in does not count
    rows = [dict(seed=s, state="trained", x=10.0 * s + i, y=-100.0 * s + i**2) for s in range(3) for i in range(1, 6)]
    rows += [dict(seed=0, state="failed", x=1e9, y=-1e9), dict(seed=1, state="trained", x=None, y=3.0)]
    found = tables.correlations(pd.DataFrame(rows), ["x"], "y").iloc[0]
    assert found.correlation == 1.0
    assert found.low == found.high == 1.0
    assert found.n == 3
