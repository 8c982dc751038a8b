import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lotto import anatomy, masks, scores, tickets


def test_chance_by_hand():
    a = {"x": torch.tensor([True, True, False, False]), "y": torch.tensor([True, True])}
    b = {"x": torch.tensor([True, False, False, False]), "y": torch.tensor([True, False])}
    # shared by chance: 4 * 1/2 * 1/4 + 2 * 1 * 1/2 = 1.5 of 4 + 2 - 1.5
    assert anatomy.chance(a, b) == pytest.approx(1.5 / 4.5)
    assert anatomy.chance({"x": torch.zeros(3).bool()}, {"x": torch.zeros(3).bool()}) == 1.0


@given(st.integers(0, 1000), st.floats(0.05, 0.9))
def test_a_shuffled_mask_keeps_its_layer_counts_and_has_chance_overlap(seed, density):
    draw = torch.Generator().manual_seed(seed)
    mask = {n: torch.rand(size, generator=draw) < density for n, size in (("a", 20_000), ("b", 30_000))}
    shuffled = masks.match_layers(mask, scores.random(mask, seed, "shuffle"))
    assert {n: int(m.sum()) for n, m in mask.items()} == {n: int(m.sum()) for n, m in shuffled.items()}
    assert masks.overlap(mask, shuffled) == pytest.approx(anatomy.chance(mask, shuffled), abs=0.02)


def test_dead_channels_by_hand():
    weight = torch.zeros(3, 2, 1, 1).bool()
    weight[0, 1] = True
    assert anatomy.channels({"conv": weight, "head": torch.tensor([[True, False]])}) == (2, 4)


def test_distance_is_that_of_the_live_weights():
    start, end = {"w": torch.tensor([3.0, 4.0, 5.0])}, {"w": torch.tensor([3.0, 9.0, 500.0])}
    assert anatomy.travelled(start, end, {"w": torch.tensor([True, True, False])}) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def study():
    import lotto
    from tests.conftest import TINY

    methods = ["dense", "imp", "distilled", "initial", "random-layerwise", "reinit"]
    return lotto.study("digits", **{**TINY, "seeds": 2, "methods": methods, "lr": 0.05, "inner_lr": 0.05})


def test_overlaps_of_a_tiny_study(study):
    table = anatomy.overlaps(study)
    assert len(table) == 2 * 2 * (5 * 4 // 2) and table[["overlap", "chance"]].stack().between(0, 100).all()
    pair = table[(table.method == "distilled") & (table.level == 1)].set_index("other")
    assert (pair.loc["reinit"].overlap == 100).all()  # the same mask over other weights
    assert pair.loc["random-layerwise"].excess.abs().max() < 5  # the same layer densities at random places
    seeds = anatomy.overlaps(study, "method")
    assert set(seeds.other) == {1} and (seeds[seeds.method == "initial"].excess.abs() < 5).all()


def test_survival_adds_up_and_initial_magnitude_keeps_the_largest(study):
    table = anatomy.survival(study, 5)
    assert len(table) == 5 * 2 * 2 * 5 and table.survived.between(0, 100).all()
    by = table.groupby(["method", "level"]).survived.mean()
    assert all(by[m, at] == pytest.approx(100 * study.density(at), abs=1.5) for m, at in by.index)
    initial = table[(table.method == "initial") & (table.level == 1)].groupby("bin").survived.mean()
    assert initial.is_monotonic_increasing and initial[4] > 85 > 10 > initial[0]


def test_journeys_of_a_tiny_study(study):
    table = anatomy.journeys(study).set_index(["method", "level", "seed"])
    assert (table.loc["dense"].dead_channels == 0).all() and table.loc["dense"].inner.isna().all()
    assert (table.loc["imp"].inner > 0).all() and table.loc[["initial", "reinit"]].inner.isna().all()
    assert (table.distance.dropna() > 0).all() and len(table) == 2 + 5 * 2 * 2


def test_a_mask_is_settled_at_the_end_of_its_loop(study, monkeypatch):
    monkeypatch.setattr(anatomy, "SHARES", (0.5, 1.0))
    run = tickets.inner_loop(study.ticket("imp", 1, 0))
    rows = anatomy.settling.function(run).metrics["rows"]
    assert rows[-1]["overlap"] == 1.0 > rows[0]["overlap"] > rows[0]["chance"] > 0.4
