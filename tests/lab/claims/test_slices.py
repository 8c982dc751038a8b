"""slices: what a planned run costs, by hand; in order, whole products a slice, and only what is missing."""

import pytest

from lotto import run
from lotto.config import ConfigError
from lotto.distill import loop
from lotto.lab import presets, timing
from lotto.lab.arms import ARMS
from lotto.lab.claims import plans, slices
from lotto.lab.claims.plans import Batch, Plan
from lotto.lab.claims.rules import CLAIMS
from lotto.lab.sets.products import stand_in
from lotto.lab.tickets.products import level, rewind_point, trained

SMALL = Plan(
    "digits",
    {"first": Batch(("dense",), (1,)), "second": Batch(("dense", "imp"), (2,))},
    more=(("width", 2), ("points", 3), ("path_images", 50)),
    seeds=2,
    first_seed=200,
    seed_first=True,
)


@pytest.fixture
def small(monkeypatch, own_store):
    monkeypatch.setattr(slices, "PLANS", {"small": SMALL})
    return slices.study_of("small")


def test_the_headline_has_every_arm_of_the_primary_claims():
    parts = [p for c in CLAIMS if c.primary for p in (*c.parts, *c.controls, *((c.twin,) if c.twin else ()))]
    arms = {a for p in parts for a in (p.arm, p.than) if isinstance(a, str)}
    plan = plans.PLANS["cifar10"]
    assert arms <= {m for b in plan.batches.values() for m in b.methods}
    assert {at for b in plan.batches.values() for at in b.levels} == {4, 8, 12}
    study = slices.study_of("cifar10")
    assert [round(100 * (1 - study.density(at)), 1) for at in (4, 8, 12)] == [83.2, 97.2, 99.5]
    assert study.outer.steps * study.outer.batch / 45_000 == pytest.approx(30, abs=0.2), "epochs"
    assert {study.loop(ARMS[m]).lr for m in ("imp", "distilled", "imp-short")} == {0.01}, "one rate"


def test_work_in_order_by_hand(small):
    found = list(slices.steps("small"))
    seeds = [s.seed for s in found]
    assert seeds == sorted(seeds), "one initialisation is complete before the next begins"
    assert [(s.batch, s.arm, s.work) for s in found if s.seed == 200] == [
        *[("first", "dense", "train tickets")] * 2,
        ("first", "dense", "walk paths"),
        *[("second", "imp", "inner loops")] * 2,
        *[("second", "imp", "train tickets")] * 2,
        ("second", "imp", "walk paths"),
    ]
    real, recipe = 1200, small.outer
    each = slices._each(small.net, recipe.but(batch=2, steps=1), small.data)
    images = recipe.steps * recipe.batch + (real + 97 + 500) / 3
    assert found[0].flops == pytest.approx(each * images)
    # 3 points and the first once more, 50 training and 500 test images, statistics as they are and found anew
    assert found[2].flops == pytest.approx(each / 3 * 4 * (2 * 550 + 50))
    assert slices.flops(small, rewind_point, small.setup(0, 40)) == pytest.approx(each * 40 * 64)


def test_minutes_are_images_over_the_rate(small):
    table = slices.plan("small", images_per_second=100, seeds=1)
    dense = table[(table.arm == "dense") & (table.work == "train tickets")]
    assert dense.products.sum() == 2
    assert dense.minutes.sum() == pytest.approx(2 * (200 * 64 + 1797 / 3) / 100 / 60)
    assert table["in all"].iloc[-1] == pytest.approx(table.minutes.sum())
    half = slices.plan("small", images_per_second=200, seeds=1)
    assert half.minutes.sum() == pytest.approx(table.minutes.sum() / 2)


def test_what_is_stored_is_not_counted(small):
    everything = list(slices.steps("small"))
    stored = trained.key(small.training("imp", 2, 200, 1))
    left = list(slices.steps("small", there=lambda f, d: "there" if f is trained and f.key(d) == stored else None))
    assert len(left) == len(everything) - 1
    masks = {level.key(small.ticket("imp", at, 200)) for at in (1, 2)}
    left = list(slices.steps("small", there=lambda f, d: "there" if f is level and f.key(d) in masks else None))
    assert len(left) == len(everything) - 2, "a mask that is there needs no inner loop"


def test_a_slice_ends_with_something_whole():
    assert slices.in_slices([3, 3, 3], 8) == [1, 1, 2]
    assert slices.in_slices([8, 8], 8) == [1, 2]
    assert slices.in_slices([3, 20, 3, 2], 8) == [1, 4, 4, 5], "one that is longer than a slice goes on in the next"


@pytest.mark.parametrize("method", ["dist", "grad"])
def test_a_step_of_a_distillation_grows_by_so_much_an_image(method):
    study = presets.study("digits", distill_width=4, distill_batch=7, ipc=3, distill_method=method, distill_factor=2)
    real = slices._some(study.data, 12)
    whole = timing.step_flops(stand_in(real, study.distill), loop.start(real, study.distill, 0).requires_grad_())
    assert slices._distilling(study.distill, study.data) == pytest.approx(whole, rel=0.02)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (dict(name="cifar11"), "no reference run is planned"),
        (dict(name="digits"), "table 'curvature'|table 'judged'"),
        (dict(name="cifar10", images_per_second=0), "img-per-s = 0: give a number above 0"),
        (dict(name="cifar10", slice_minutes=-1), "slice = -1"),
        (dict(name="cifar10", seeds=0), "seeds = 0"),
    ],
)
def test_what_cannot_be_planned_is_refused(given, says):
    with pytest.raises(ConfigError, match=says):
        slices.plan(**{"images_per_second": 1.0, **given})


def test_the_command_names_the_one_that_a_slice_runs(small, capsys):
    assert run.main(["gpu-plan", "--preset", "small", "--img-per-s", "50", "--slice", "5", "--seeds", "1"]) == 0
    said = capsys.readouterr().out
    assert "python -m lotto.run reference small --time-limit 300" in said
    assert "inner loops (imp 1)" in said and "minutes by arm" in said
    assert run.main(["gpu-plan", "--img-per-s", "-3"]) == 2
    assert "img-per-s = -3.0" in capsys.readouterr().err
