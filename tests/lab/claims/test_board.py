import dataclasses

import pandas as pd
import pytest

from lotto.lab.claims import board, figures, judge, page, plans, runs
from lotto.lab.claims.rules import CLAIMS, Claim, Part

BASE = [90.0, 80.0, 70.0, 85.0, 75.0]
X = Claim(
    "X1",
    "02",
    "it is better",
    "the distilled ticket is better",
    "a source",
    (Part("accuracy", "distilled", "better", "imp"),),
    twin=Part("barrier", "distilled", "better", "imp"),
    primary=True,
)


def raised(by):
    return [b + by + d for b, d in zip(BASE, (-0.2, -0.1, 0, 0.1, 0.2), strict=True)]


@pytest.fixture
def reference(study, tables, monkeypatch):
    """A reference run of one claim, ten points ahead."""
    monkeypatch.setattr(judge, "CLAIMS", (X,))
    monkeypatch.setattr(board, "CLAIMS", (X,))
    made = tables(accuracy={"distilled": raised(10), "imp": BASE}, barrier={"distilled": [5.0] * 5, "imp": [3.0] * 5})
    batch = {"methods": ["imp", "distilled"], "levels": [8], "done": [100, 101, 102, 103, 104]}
    batch |= {"tables": ["accuracy", "barrier"], "children": 3}
    facts = {
        "preset": "digits",
        "study": study.but(seeds=10).model_dump(mode="json"),
        "rules": judge.digest(),
        "classes": 10,
    }
    facts |= {"batches": {"primary": batch}, "device": "cpu", "torch": "2", "core_hours": 1.25, "planned": 5}
    kept = runs.Reference("digits", facts, made)
    monkeypatch.setattr(runs, "known", lambda preset: kept if preset == "digits" else None)
    return kept


def test_a_board_stands_beside_the_reference(study, tables, reference):
    mine = tables(accuracy={"distilled": raised(10.05)[:2], "imp": BASE[:2]})
    (row,) = board.rows(mine, study, 10, "02")
    (compared,) = board.comparisons(mine, study, 10, "02")
    assert [round(x, 2) for x in (compared["here"][0], *compared["reference"])] == [9.9, 10.0, 9.8, 10.2, 5]
    assert compared["agrees"] is True and compared["here"][1:] == [None, None, 2] and compared["line"] == 0
    assert row == {
        "claim": "X1 it is better",
        "here": "accuracy distilled 94.9, IMP 85.0: 9.9 (97.2 % sparse)",
        "reference": "accuracy distilled 90.0, IMP 80.0: 10.0 [9.8, 10.2] (97.2 % sparse)",
        "word": "holds",
        "agrees": "yes",
        "but": "-",
    }
    (other,) = board.rows(tables(accuracy={"distilled": raised(2)[:2], "imp": BASE[:2]}), study, 10, "02")
    assert other["agrees"] == "no" and other["word"] == "holds"  # the reference's word: a run of two has none
    assert board.rows(mine, study, 10, "03") == []


def test_estimates_at_another_level_are_not_compared(study, tables, reference):
    (row,) = board.rows(tables(4, accuracy={"distilled": raised(10), "imp": BASE}), study.but(levels=[4]), 10)
    assert row["here"].startswith("accuracy") and row["agrees"] == "-"


def test_estimates_at_another_sparsity_are_not_compared_for_having_the_same_level(study, tables, reference):
    mine, other = tables(accuracy={"distilled": raised(10), "imp": BASE}), study.but(fraction=0.2)
    (row,), (compared,) = board.rows(mine, other, 10), board.comparisons(mine, other, 10)
    assert "(83.2 % sparse)" in row["here"] and "(97.2 % sparse)" in row["reference"] and row["agrees"] == "-"
    assert compared["reference"] is None and compared["agrees"] is None


def test_without_a_reference_there_is_no_word(study, tables, reference):
    (row,) = board.rows(tables(accuracy={"distilled": raised(10), "imp": BASE}), study.but(preset="cifar10"), 10)
    assert (row["reference"], row["word"], row["agrees"]) == ("none yet", "not run", "-")


def test_numbers_have_a_name_each_and_count_what_did_not_train(study, tables, reference):
    found = board.numbers(
        tables(accuracy={"distilled": [90.0, 92.0, None], "imp": [80.0, 81.0, 82.0]}), study, 10, "02"
    )
    assert found["accuracy/imp/8"] == 81 and found["accuracy/imp/8/untrained"] == 0
    assert found["accuracy/distilled/8"] == (90 + 92 + 10) / 3, "a net without an accuracy has that of guessing"
    assert found["accuracy/distilled/8/untrained"] == 1
    assert found["X1/accuracy/distilled/imp"] == pytest.approx((10 + 11 - 72) / 3), "the claim's difference, paired"
    assert found["accuracy/imp/8/low"] < 81 < found["accuracy/imp/8/high"]
    two = board.numbers(tables(accuracy={"distilled": BASE[:2]}), study, 10, "02")
    assert two == {
        "accuracy/distilled/8": 85.0,
        "accuracy/distilled/8/low": None,
        "accuracy/distilled/8/high": None,
        "accuracy/distilled/8/untrained": 0,
    }
    assert board.numbers({}, study, 10) == {}


def test_what_was_not_run_here(study, tables, reference):
    (row,) = board.rows(tables(accuracy={"imp": BASE}), study, 10)
    assert (row["here"], row["agrees"], row["word"]) == ("not run", "-", "holds")


def test_sentences_are_made_from_this_runs_numbers(study, tables, reference, monkeypatch):
    made = tables(accuracy={"distilled": raised(10), "imp": BASE})
    assert board.sentences(made, study, 10, "02") == (
        "- X1, the distilled ticket is better: accuracy distilled 90.0, IMP 80.0: 10.0 [9.8, 10.2] (97.2 % sparse). "
        "Over 5 initialisations the means are on the claim's side."
    )
    assert board.sentences({}, study, 10, "02") == "- X1, the distilled ticket is better: its arms were not run here."
    none = {"accuracy": made["accuracy"].assign(accuracy=float("nan"))}
    assert (
        board.sentences(none, study, 10, "02") == "- X1, the distilled ticket is better: its nets have no such values."
    )
    two = Claim(
        *("X2", "02", "s", "twice", "source"),
        (*X.parts, Part("accuracy", "distilled", "better", "subset")),
        primary=True,
    )
    monkeypatch.setattr(judge, "CLAIMS", (two,))
    told = board.sentences(made, study, 10, "02")
    assert told.endswith(
        "Over 5 initialisations the means are on the claim's side; 1 of its 2 comparisons were not run here."
    )
    lesser = [Part("accuracy", arm, "worse", "imp", margin=1.0) for arm in ("random-layerwise", "noise", "subset")]
    monkeypatch.setattr(judge, "CLAIMS", (dataclasses.replace(X, controls=tuple(lesser)),))
    with_controls = (
        made["accuracy"],
        tables(accuracy={"random-layerwise": raised(-5), "noise": raised(-0.5)})["accuracy"],
    )
    assert board.sentences({"accuracy": pd.concat(with_controls)}, study, 10, "02").endswith(
        "on the claim's side; for it to count, controls must be worse by more: *random, layer-matched* is, *noise "
        "images* is not, *random real* was not run here."
    )
    monkeypatch.setattr(judge, "CLAIMS", (two,))
    one = tables(accuracy={"distilled": [80.0], "imp": [90.0], "subset": [70.0]})
    assert board.sentences(one, study, 10, "02").endswith(
        "Over 1 initialisation the means are not all on the claim's side."
    )


def test_the_short_board_has_a_row_a_primary_claim_and_a_column_a_regime(reference):
    lines = board.short().splitlines()
    assert lines[0] == "| claim | digits, n = 5 | cifar10-small |" and len(lines) == 5
    assert lines[2] == "| X1 it is better | **holds**<br>accuracy 90.0 against 80.0 (IMP) | not run yet |"
    assert lines[4] == (
        "P2 is judged for distilled tickets alone. Pruned arms with a mean barrier below 2 points at its level: "
        "none (digits)."
    )


def test_a_row_of_the_short_board_shows_the_comparison_that_speaks_least_for_the_claim(reference, monkeypatch):
    stable = Part("barrier", "distilled", "below", 2.0)
    worse = Part("barrier", "distilled", "better", "imp")
    for parts, told in (
        ((*X.parts, stable), "**fails**<br>barrier of distilled 5.0 (to be below 2)"),
        ((worse, *X.parts), "**fails**<br>barrier 5.0 against 3.0 (IMP), worse"),
    ):
        monkeypatch.setattr(judge, "CLAIMS", (dataclasses.replace(X, parts=parts),))
        assert board.short().splitlines()[2].split(" | ")[1] == told


def test_of_two_initialisations_a_row_shows_the_comparison_that_is_farthest_from_the_claim(
    reference, tables, monkeypatch
):
    barriers = {"distilled": [5.8, 5.8], "subset": [5.0, 5.0], "imp-short": [0.8, 1.3]}
    reference.tables.update(tables(barrier=barriers))
    parts = tuple(Part("barrier", "distilled", "better", than) for than in ("subset", "imp-short"))
    monkeypatch.setattr(judge, "CLAIMS", (dataclasses.replace(X, parts=parts),))
    steady, far = reference.judged()[0].parts
    assert steady.p() > far.p(), "by p the steadiest comparison speaks least for it"
    told = "estimate, n = 2<br>barrier 5.8 against 1.1 (IMP, short)"
    assert board.short().splitlines()[2].split(" | ")[1] == told


def test_the_short_board_names_another_sparsity_and_lacking_initialisations(reference, monkeypatch):
    some = reference.tables["accuracy"]
    reference.tables["accuracy"] = pd.concat([some, some[some.seed < 102].assign(level=12)], ignore_index=True)
    reference.facts["batches"]["primary"]["levels"] = [8, 12]
    monkeypatch.setattr(judge, "CLAIMS", (dataclasses.replace(X, parts=(dataclasses.replace(X.parts[0], at="high"),)),))
    told = "estimate, n = 2<br>accuracy 94.8 against 85.0 (IMP) (99.5 % sparse)"
    assert board.short().splitlines()[2].split(" | ")[1] == told


def test_the_page_tells_every_comparison_with_its_twin(reference, monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "FOLDER", tmp_path)
    (tmp_path / "digits.json").touch()
    monkeypatch.setattr(runs, "reference", lambda name: reference)
    text = page.page()
    assert (
        "### X1 it is better: holds, p = " in text
        and "*a source; primary.*" in text
        and "rule fixed before this run" in text
    )
    assert "- accuracy distilled 90.0, IMP 80.0: 10.0 [9.8, 10.2] (97.2 % sparse), n = 5" in text
    assert "- beside it: barrier distilled 5.0, IMP 3.0: 2.0 [2.0, 2.0] (worse) (97.2 % sparse), n = 5" in text
    assert text.count("Not run yet.") == len(plans.PLANS) - 1
    assert (
        "A barrier is the highest of 11 points on the straight line between two children, above the mean of its ends, "
        "and the mean over the pairs of a ticket: 3 pairs of children (primary). Tickets of several batches are" in text
    )
    assert "| arm | accuracy, 97.2 % | barrier, 97.2 % |" in text and "| distilled | 90.0 | 5.0 |" in text
    assert all(f"- **{w}**:" in text for w in board.WORDS) and set(board.WORDS) == set(board.CHIPS)


def test_the_page_reads_barriers_with_interpolated_statistics_too(reference, monkeypatch, tmp_path):
    claim = dataclasses.replace(X, parts=(Part("barrier", "distilled", "better", "imp"),), twin=None)
    monkeypatch.setattr(judge, "CLAIMS", (claim,))
    both = [7.0, 8.0, 9.0, 7.5, 8.5]
    table = reference.tables["barrier"]
    reference.tables["barrier"] = table.assign(interpolated=[*both, *(b + 1 for b in both)])
    (tmp_path / "digits.json").touch()
    monkeypatch.setattr(runs, "FOLDER", tmp_path)
    monkeypatch.setattr(runs, "reference", lambda name: reference)
    text = page.page()
    assert "- barrier distilled 5.0, IMP 3.0: 2.0 [2.0, 2.0] (worse) (97.2 % sparse), n = 5" in text
    assert "- statistics interpolated: barrier distilled 8.0, IMP 9.0: -1.0 [-1.0, -1.0] (97.2 % sparse), n = 5" in text
    assert "| barrier, 97.2 % | barrier, 97.2 %, interpolated |" in text and "| 5.0 | 8.0 |" in text


def test_the_page_has_curves_as_numbers(reference, monkeypatch, tmp_path):
    curves = {**reference.facts["batches"]["primary"], "levels": [4, 8]}
    some = reference.tables["accuracy"]
    more = some[(some.method == "imp") & (some.seed < 103)].assign(level=4, accuracy=[70.0, 71.0, 72.0])
    reference.tables["accuracy"] = pd.concat([some, more], ignore_index=True)
    assert page.over_sparsity(reference) == []
    reference.facts["batches"]["curves"] = curves
    head, accuracy, barrier = page.over_sparsity(reference)
    assert head.startswith("### Over sparsity")
    assert accuracy.splitlines() == [
        "| accuracy | 83.2 % | 97.2 % |",
        "|---|---|---|",
        "| IMP | 71.0 [68.5, 73.5] (3) | 80.0 [70.2, 89.8] |",
        "| distilled |  | 90.0 [80.3, 99.7] |",
    ]
    assert barrier.splitlines()[2:] == ["| IMP |  | 3.0 [3.0, 3.0] |", "| distilled |  | 5.0 [5.0, 5.0] |"]
    (tmp_path / "digits.json").touch()
    monkeypatch.setattr(runs, "FOLDER", tmp_path)
    monkeypatch.setattr(runs, "reference", lambda name: reference)
    text = page.page()
    assert accuracy in text and "| arm | accuracy, 97.2 % | barrier, 97.2 % |" in text


def test_markdown_keeps_every_cell():
    assert board.markdown([]) == "No claim is judged here."
    text = board.markdown([{"claim": "a | b", "word": "holds"}, {"claim": "c", "word": "undecided"}])
    assert text == "| claim | word |\n|---|---|\n| a \\| b | **holds** |\n| c | undecided |\n"


def test_today_every_claim_has_a_place_without_any_run(monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "FOLDER", tmp_path)
    text = board.short()
    assert text.count("not run yet") == 2 * sum(c.primary for c in CLAIMS)
    assert page.page().count("Not run yet.") == len(plans.PLANS)


def test_comparisons_stand_in_a_panel_for_each_measure(study, tables, reference, monkeypatch):
    parts = (*X.parts, Part("barrier", "distilled", "better", "imp"), Part("accuracy", "imp", "above", 2.0))
    monkeypatch.setattr(judge, "CLAIMS", (dataclasses.replace(X, parts=parts),))
    fig = figures.forest(reference.judged(), "title")
    assert fig.layout.yaxis.ticktext == ("X1  distilled | IMP", "X1  IMP above 2")
    assert fig.layout.yaxis2.ticktext == ("X1  distilled | IMP",)
    assert fig.layout.xaxis2.title.text == "difference in barrier (points), claimed to the right"
    accuracy, _, barrier, *_ = fig.data
    assert (accuracy.x[0], accuracy.xaxis, barrier.x[0], barrier.xaxis) == (pytest.approx(10), "x", -2.0, "x2")
    told = board.comparisons(reference.tables, study, 10, "02")
    both = figures.beside(told, "title")
    assert [t.showlegend for t in both.data] == [True] * 3 + [False] * 3
    assert len(figures.forest([], "nothing").data) == len(figures.beside([], "nothing").data) == 0
