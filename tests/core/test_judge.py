import dataclasses

import pytest
import torch

from lotto.config import Net, Recipe
from lotto.data import DataError, Split
from lotto.distill import judge
from lotto.distill.coresets import subset

NET, RECIPE = Net(name="convnet", width=4, depth=2, norm="instance"), Recipe(steps=4, lr=0.1, batch=8)


@pytest.fixture(scope="module")
def real(digits):
    return digits(100)


def test_a_row_for_each_net_recipe_and_repeat(real):
    nets = {"small": NET, "wide": NET.but(width=6)}
    rows = judge.evaluate(subset(real, 1), real, nets, {"plain": RECIPE}, repeats=2)
    assert [(r["net"], r["recipe"], r["repeat"]) for r in rows] == [(n, "plain", k) for n in nets for k in (0, 1)]
    assert all(0 <= r["accuracy"] <= 100 and 0 <= r["held_out"] <= 100 for r in rows)


def test_a_repeat_is_a_fresh_net_and_the_same_each_time(real):
    small = subset(real, 2).split()
    a, b, c = (judge.taught(small, real, NET, RECIPE.but(steps=30), seed) for seed in (0, 1, 0))
    assert a == c
    assert a["test"]["loss"] != b["test"]["loss"]


def test_what_diverged_has_no_accuracy(real):
    (row,) = judge.evaluate(subset(real, 1), real, {"small": NET}, {"steep": RECIPE.but(lr=1e30)}, repeats=1)
    assert row["state"] == "diverged"
    assert row["accuracy"] is None


def test_a_set_for_other_data_is_refused(real):
    small, narrow = subset(real, 1), dataclasses.replace(real, train=Split(torch.zeros(10, 1, 6, 6), torch.arange(10)))
    with pytest.raises(
        DataError, match=r"the set has images of shape \(1, 8, 8\) and 10 classes, the real data \(1, 6, 6\) and 10"
    ):
        judge.evaluate(small, narrow, {}, {})
