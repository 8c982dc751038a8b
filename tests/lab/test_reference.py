import dataclasses

import pandas as pd
import pytest

import lotto
from lotto.lab import answers, plots, reference
from lotto.lab.arms import ARMS
from lotto.lab.claims import runs


@pytest.fixture
def shown(monkeypatch):
    """What was shown: figures and sentences, in order."""
    found = []
    monkeypatch.setattr(plots, "show", found.append)
    monkeypatch.setattr(answers, "say", lambda *told, listed=False: found.extend(told))
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
    figure, *told = shown
    assert {t.y[0] for t in figure.data if t.y} >= {"IMP", "IMP, mask alone"} and len(told) == 2
    assert "*IMP* minus that of *IMP, mask alone* is -5.0 [-7.5, -2.5] points over 3 initialisations" in told[0]
    assert "*IMP, mask alone* minus that of *dense* is -12.0 [-14.5, -9.5]" in told[1]


def test_nothing_is_pulled_apart_before_it_was_run(shown):
    reference.pulled_apart(kept(dense=[20, 21, 22], imp=[3, 4, 5], distilled=[8, 9, 10]))
    assert shown == []


PAIRS = [pair for pair in reference.PULLED_APART if "dense" not in pair and pair != ("distilled-mask", "subset-mask")]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_arms_that_are_pulled_apart_differ_in_what_follows_alone(a, b):
    factors = [f.name for f in dataclasses.fields(ARMS[a]) if f.name not in ("title", "colour", "main")]
    assert {f for f in factors if getattr(ARMS[a], f) != getattr(ARMS[b], f)} == {"then"}


def test_a_preset_without_a_reference_run_says_so(shown):
    assert (
        reference.shown(lotto.study("cifar100"), "02") is None and reference.factorial(lotto.study("cifar100")) is None
    )
    assert shown == ["No reference run of this preset is kept yet."]
