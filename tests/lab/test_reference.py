import dataclasses

import pandas as pd
import pytest

import lotto
from lotto.lab import answers, plots, reference
from lotto.lab.arms import ARMS, FACTORIAL
from lotto.lab.claims import contrasts, runs
from lotto.lab.claims.contrasts import main_effects as effects


@pytest.fixture
def shown(monkeypatch):
    """What was shown: figures and sentences, in order."""
    found = []
    monkeypatch.setattr(plots, "show", found.append)
    monkeypatch.setattr(answers, "say", lambda *told, listed=False: found.extend(told))
    monkeypatch.setattr(answers, "fold", lambda table, summary, words=False: found.append(table.reset_index()))
    return found


def kept(**arms):
    """A reference run with one barrier an initialisation for each arm."""
    whole = runs.known("digits")
    rows = [
        {"method": m, "level": 0 if ARMS[m].dense else 8, "seed": 100 + i, "state": "trained", "barrier": float(v)}
        for m, values in arms.items()
        for i, v in enumerate(values)
    ]
    return dataclasses.replace(whole, tables={"barrier": pd.DataFrame(rows)})


def test_masks_and_norms_are_pulled_apart_where_both_arms_were_run(shown):
    arms = {"dense": [20, 21, 22], "imp": [3, 4, 5], "imp-mask": [9, 9, 9], "distilled": [8, 9, 10]}
    reference.pulled_apart(kept(**arms))
    before, figure, table = shown
    assert before == contrasts.AFTER_THE_WORDS
    assert {t.y[0] for t in figure.data if t.y} >= {"IMP", "IMP, mask alone"}
    assert table.to_dict("split")["data"] == [
        ["IMP minus IMP, mask alone", "4.0, 9.0: -5.0 [-7.5, -2.5]", "-", "-"],
        ["IMP, mask alone minus dense", "9.0, 21.0: -12.0 [-14.5, -9.5]", "-", "-"],
    ]
    assert list(table) == ["arms", "barrier", "barrier, interpolated", "accuracy"]


def test_nothing_is_pulled_apart_before_it_was_run(shown):
    reference.pulled_apart(kept(dense=[20, 21, 22], imp=[3, 4, 5], distilled=[8, 9, 10]))
    assert shown == []


# untrained weights and norms under some mask, or none
MASKS = {m for m in ARMS if m.endswith("-mask")} | {"dense", "initial"}
PAIRS = [pair for pair in contrasts.PULLED_APART if not set(pair) <= MASKS]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_arms_that_are_pulled_apart_differ_in_what_follows_alone(a, b):
    factors = [f.name for f in dataclasses.fields(ARMS[a]) if f.name not in ("title", "colour", "main")]
    assert {f for f in factors if getattr(ARMS[a], f) != getattr(ARMS[b], f)} == {"then"}


def test_main_effects_by_hand(shown, monkeypatch):
    """Distilled images add 4 points in long loops and 2 in short ones, and short loops at the gentle rate take 2: a
    factor's effect is a mean over the others, and that of the images is told for each length too."""
    whole = runs.known("digits")
    facts = {**whole.facts, "batches": {"factorial": {"levels": [8], "done": [100, 101, 102], "methods": FACTORIAL}}}

    def barrier(arm, i):
        distilled, hasty = arm.images == "distilled", (arm.length, arm.rate) == ("short", "gentle")
        return 10 + distilled * (4 if arm.length == "long" else 2) - 2 * hasty + (1 + i) * (arm.rewinding == "all")

    rows = [
        {"method": m, "level": 8, "seed": 100 + i, "state": "trained", "barrier": barrier(ARMS[m], i)}
        for m in FACTORIAL
        for i in range(3)
    ]
    run = dataclasses.replace(whole, facts=facts, tables={"barrier": pd.DataFrame(rows)})
    found = {r["first minus second"]: (r["pairs"], r["97.2 %"], r["97.2 %, interpolated"]) for r in effects(run)}
    assert found == {
        "all real minus distilled": ("8", "-3.0 [-3.0, -3.0]", "-"),
        "all real minus random real": ("8", "0.0 [0.0, 0.0]", "-"),
        "distilled minus random real": ("8", "3.0 [3.0, 3.0]", "-"),
        **{
            f"{first} minus {second}, {length} loops": ("4", f"{by:.1f} [{by:.1f}, {by:.1f}]", "-")
            for length, more in (("short", 2), ("long", 4))
            for first, second, by in (
                ("all real", "distilled", -more),
                ("all real", "random real", 0),
                ("distilled", "random real", more),
            )
        },
        "long minus short": ("12", "1.7 [1.7, 1.7]", "-"),
        "long minus short, all real images": ("4", "1.0 [1.0, 1.0]", "-"),
        "long minus short, distilled images": ("4", "3.0 [3.0, 3.0]", "-"),
        "long minus short, random real images": ("4", "1.0 [1.0, 1.0]", "-"),
        "outer minus gentle": ("12", "1.0 [1.0, 1.0]", "-"),
        "weights minus all": ("12", "-2.0 [-4.5, 0.5]", "-"),
        **{
            f"weights minus all, {i} images": ("4", "-2.0 [-4.5, 0.5]", "-")
            for i in ("all real", "distilled", "random real")
        },
    }
    reference.main_effects(run)
    said, table = shown
    assert said == contrasts.EFFECTS and table.to_dict("records") == effects(run)
    monkeypatch.setattr(runs, "known", lambda preset: run)
    assert "by: **images**, all real minus distilled -3.0 [-3.0, -3.0], " in (told := reference.effects(run.study))
    assert "long minus short" in told and "loops" not in told, "each factor over all others, and no part of it"
    facts["batches"]["factorial"]["done"] = [100, 101]
    assert effects(run) == [] and reference.effects(run.study) == ""


@pytest.fixture
def tickets():
    """A reference run of three initialisations; at level 4 one of them has not come to IMP, at 12 one net died."""
    whole = runs.known("digits")
    facts = {**whole.facts, "planned": 3}
    facts["batches"] = {"main level": {**facts["batches"]["main level"], "levels": [4, 8, 12], "done": [100, 101, 102]}}
    values = {("dense", 0): 3, ("imp", 4): 2, ("imp", 8): 3, ("distilled", 4): 3, ("distilled", 8): 3, ("imp", 12): 3}
    rows = [
        {"method": m, "level": at, "seed": 100 + i, "state": "dead" if (at, i) == (12, 2) else "trained"}
        for (m, at), n in values.items()
        for i in range(n)
    ]
    table = pd.DataFrame(rows).assign(accuracy=90.0, barrier=3.0)
    table.loc[table.state == "dead", ["accuracy", "barrier"]] = None
    return dataclasses.replace(whole, facts=facts, tables={"accuracy": table, "barrier": table})


def test_curves_have_no_point_of_some_initialisations_and_tell_what_died(shown, tickets):
    reference.over_sparsity(tickets)
    figure, caution, told = shown
    found = {
        t.name: [x for (_, _, x), y in zip(t.customdata, t.y, strict=True) if y is not None]
        for t in figure.data
        if t.customdata is not None and t.showlegend
    }
    left = [f"{100 * tickets.study.density(at):.2f}" for at in (4, 8, 12)]
    assert found == {"IMP": ["100.00", left[1], left[2]], "distilled": ["100.00", left[0], left[1]]}
    assert told == (
        "Behind hollow marks are nets that did not train, whose barriers are not in the means: 1 of IMP (99.5 % "
        "sparse)."
    )
    assert caution.startswith("A barrier hardly exceeds")


def test_a_preset_without_a_reference_run_says_so(shown):
    assert (
        reference.shown(lotto.study("cifar100"), "02") is None and reference.factorial(lotto.study("cifar100")) is None
    )
    assert shown == ["No reference run of this preset is kept yet."]
