"""Sentences are made from numbers: what they name is what the table holds, and what was not measured is not told."""

import dataclasses
import re

import pandas as pd
import pytest

from lotto.lab import answers, index, presets
from lotto.lab.claims import runs

STUDY = presets.study("digits", levels=[8], methods=["dense", "imp", "distilled", "subset"])


def table(column="barrier", **arms):
    """Arm -> values over initialisations, as a table of its level."""
    rows = [
        dict(method=m, level=0 if m == "dense" else 8, seed=s, state="trained" if v is not None else "dead")
        | {column: v}
        for m, values in arms.items()
        for s, v in enumerate(values)
    ]
    return pd.DataFrame(rows).astype({column: float})


def test_the_ends_are_named_with_their_intervals():
    told = answers.ends(table(imp=[1, 2, 3], distilled=[7, 8, 9], subset=[4, 5, 6]), "barrier", 8, "barrier")
    assert told == (
        "The barrier is highest for *distilled* (8.0 [5.5, 10.5] points) and lowest for *IMP* (2.0 [-0.5, "
        "4.5] points), of 3 compared."
    )


def test_ties_are_named_together_without_the_interval_of_one_of_them():
    told = answers.ends(table(imp=[8, 8, 8], distilled=[8, 8, 8], subset=[4, 4, 4]), "barrier", 8, "barrier", "%")
    assert told.startswith(
        "The barrier is highest for *IMP* and *distilled* (8.0 %) and lowest for *random real* (4.0 [4.0, 4.0] %)"
    )
    assert answers.ends(table(imp=[8], distilled=[8]), "barrier", 8, "barrier", "") == (
        "The barrier is 8.0 for *IMP* and *distilled*."
    )


def test_no_share_is_told_to_be_above_the_whole_or_below_nothing():
    told = answers.ends(table("accuracy", imp=[95, 99, 100], distilled=[0, 90, 90]), "accuracy", 8, "accuracy", "%")
    assert told.startswith(
        "The accuracy is highest for *IMP* (98.0 [91.4, 100.0] %) and lowest for *distilled* (60.0 [0.0"
    )


def test_what_did_not_train_is_not_averaged_and_nothing_measured_is_not_told():
    assert answers.means(table(imp=[1, None, 3]), "barrier")["IMP"].n == 2
    assert answers.ends(table(imp=[None]), "barrier", 8, "barrier") == ""
    assert answers.beside(table(imp=[1, 2, 3]), "barrier", "distilled", "imp", 8, "barrier") == ""


def test_several_rows_of_an_initialisation_count_once():
    twice = pd.concat([table(imp=[1, 2, 3])] * 2)
    assert answers.means(twice, "barrier", 8)["IMP"].n == 3


def test_nets_that_did_not_train_are_told_where_they_are_left_out():
    lost = table(imp=[1, None, 3, 4], distilled=[7, 8, 9, None])
    every = answers.ends(table(imp=[1], distilled=[7]).drop(columns="state"), "barrier", 8, "barrier")
    assert every.endswith(", of 2 compared."), "of sets no state is known"
    assert answers.ends(lost, "barrier", 8, "barrier").endswith(", of 2 compared. Without 2 nets that did not train.")
    told = answers.beside(lost, "barrier", "distilled", "imp", 8, "barrier")
    assert "over 2 initialisations (of 4) where both trained: too few" in told


def test_a_word_of_another_sparsity_says_which():
    row = {"here": "accuracy imp 90.0 (97.2 % sparse)", "reference": "accuracy imp 90.0 (98.8 % sparse)"}
    assert answers._elsewhere(row) == " (98.8 % sparse)"
    assert answers._elsewhere(row | {"reference": row["here"]}) == ""
    assert answers._elsewhere(row | {"reference": "none yet"}) == answers._elsewhere(row | {"here": "not run"}) == ""


def test_a_board_says_what_the_reference_beside_it_is():
    kept, tables = runs.known("digits"), {"barrier": table(imp=[1])}
    told, none = {"P3": {"reference": "barrier 1"}}, {"P3": {"reference": "not run"}}
    pairs = (
        "Reference: 10 others. Its barriers are means over up to 3 pairs of children and vary less than those here, "
        "over 1."
    )
    assert answers._reference_note(kept, told, STUDY, tables) == pairs
    assert answers._reference_note(kept, told, STUDY.but(children=3), tables) == "Reference: 10 others."
    assert answers._reference_note(kept, told, STUDY, {}) == "Reference: 10 others."
    assert "has not come to these claims" in answers._reference_note(kept, none, STUDY, tables)
    assert answers._reference_note(None, told, STUDY, tables) == "No reference run of this preset is kept yet."


@pytest.mark.parametrize(("other", "word"), [([7, 8.5, 9], "excludes"), ([1, 0, 5], "contains"), ([3], "too few")])
def test_a_difference_says_whether_its_interval_holds_zero(other, word):
    told = answers.beside(table(imp=[1, 2, 3], distilled=other), "barrier", "distilled", "imp", 8, "barrier")
    assert told.startswith("The barrier of *distilled* minus that of *IMP* is") and word in told


def test_stable_arms_are_counted_and_dense_networks_named_apart():
    told = answers.stable(table(dense=[1], imp=[0.5], distilled=[5], subset=[None]), STUDY, 8)
    assert told == (
        "At 97.2 % sparsity 1 of 3 pruned arms has a mean barrier below 2 points: *IMP*; so has, of the dense "
        "networks, *dense*."
    )
    other = table(imp=[0.5], distilled=[1.5]).assign(interpolated=[40.0, 1.0])
    assert answers.stable(other, STUDY, 8, "interpolated") == (
        "With interpolated statistics 1 of 3 pruned arms has a mean barrier below 2 points: *distilled*."
    )


@pytest.mark.parametrize(
    ("fewer", "told"), [(2.5, "2.5 times fewer images than IMP"), (0.5, "2.0 times as many images as IMP")]
)
def test_times(fewer, told):
    assert answers.times(fewer, "IMP") == told


def test_a_comparison_a_line_and_what_is_in_brackets_stays():
    assert index.lines("a 1 (x: 1 of 3 did not train; y: 2 of 3 did not train); b < 2") == (
        "a 1 (x: 1 of 3 did not train; y: 2 of 3 did not train)<br>b &lt; 2"
    )


def test_a_tour_says_of_each_arm_whether_it_is_stable_and_below_the_dense_network():
    study = STUDY.but(methods=["dense", "imp", "distilled"])
    assert answers.tour(table(dense=[40], imp=[1.5], distilled=[50]), study, 8) == [
        "*The dense network*: a barrier of 40.0 points; unstable by the 2-point rule.",
        "*IMP, 97.2 % sparse*: a barrier of 1.5 points, below the dense network's; stable by the 2-point rule.",
        "*distilled, 97.2 % sparse*: a barrier of 50.0 points, not below the dense network's; unstable by the 2-point "
        "rule.",
    ]
    assert answers.tour(table(dense=[40], imp=[None], distilled=[3]), study, 8)[1] == (
        "*IMP, 97.2 % sparse*: no two trainings to walk between."
    )


def test_a_tour_is_set_beside_how_far_the_reference_spreads():
    kept = dataclasses.replace(runs.reference("digits"), tables={"barrier": table(dense=[40, 10, 19], imp=[None])})
    assert answers.spread(kept, STUDY, 8) == [
        "*dense*: 23.0 points on average, 10.0 to 40.0 over 3 initialisations.",
        "*IMP*, 97.2 % sparse: 90.0 points on average, 90.0 to 90.0 over 1 initialisation.",
    ], "a net that did not train has the highest barrier there can be; arms that were not run are not told"
    assert answers.spread(dataclasses.replace(kept, tables={}), STUDY, 8) == []


def test_nothing_is_shown_where_there_is_nothing_to_say(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    answers.say("", "")
    answers.say("", listed=True)
    assert shown == []
    answers.say("One.", "", "Two.")
    assert [s.data for s in shown] == ["One. Two."]


def test_a_tour_without_the_dense_network_or_with_another(compared):
    arms = ["dense-rewound", "imp"]
    rows = [{"method": m, "level": 0 if m != "imp" else 2, "seed": 0, "state": "trained", "barrier": 0.5} for m in arms]
    told = answers.tour(pd.DataFrame(rows), compared.study.but(methods=arms), 2)
    assert told[0].startswith("*dense, from step k*: a barrier of 0.5 points; stable") and len(told) == 2


def test_a_stable_arm_says_how_many_of_its_nets_trained(compared):
    rows = [
        {"method": "imp", "level": 2, "seed": s, "state": "trained" if s else "dead", "barrier": 1.0} for s in range(3)
    ]
    told = answers.stable(pd.DataFrame(rows), compared.study.but(methods=["imp"]), 2)
    assert "*IMP (2 of 3 trained)*" in told


def test_what_a_table_lacks_is_a_dash(monkeypatch):
    """With one initialisation there is no interval: "None" stood in every row of it."""
    shown = []
    monkeypatch.setattr(answers, "html", shown.append)
    answers.fold(pd.DataFrame([dict(low=None, mean=1.5, all=[1, 2]), dict(low=None, mean=None, all=None)]), "title")
    assert re.findall("<td>(.*?)</td>", shown[0]) == ["-", "1.5", "[1, 2]", "-", "-", "-"]
