import shlex

import pandas as pd
import pytest

import lotto
from lotto import claims, run, stats
from lotto.config import ConfigError
from lotto.lab.arms import ARMS
from lotto.stats import Interval


@pytest.mark.parametrize(
    ("rule", "low", "high", "n", "verdict"),
    [
        ("higher", 0.1, 2, 3, "holds"),
        ("higher", -2, -0.1, 3, "does not hold"),
        ("higher", -1, 1, 3, "undecided"),
        ("higher", 1, 2, 2, "undecided"),
        ("lower", -2, -0.1, 3, "holds"),
        ("lower", 0.1, 2, 3, "does not hold"),
        ("higher", None, None, 1, "undecided"),
        ("above", 1, 2, 3, "holds"),
        ("below", 1, 2, 3, "does not hold"),
        ("higher", 0.0, 1, 3, "undecided"),
    ],
)
def test_rules(rule, low, high, n, verdict):
    assert claims.decide(rule, Interval(0.0, low, high, n), 0.0) == verdict


def table(study, **columns):
    """Rows for three initialisations: method -> values at its level."""
    rows = []
    for method, values in columns.items():
        name = method.replace("_", "-")
        for at in (0,) if ARMS[name].dense else study.levels:
            rows += [
                dict(method=name, level=at, seed=s, state="trained" if v is not None else "failed", accuracy=v, barrier=v, train_loss=0.01)
                for s, v in enumerate(values)
            ]
    return pd.DataFrame(rows)


@pytest.fixture
def study():
    return lotto.study(levels=[4])


def judge(study, notebook, t, what):
    return [v for v in claims.judge_all(notebook, {"accuracy": t, "barrier": t}, study, 500) if what in v.text]


def test_matching_has_the_resolution_of_the_test_set(study):
    near, far, wide = ((96.0, 97.0, 98.0), (94.0, 95.0, 96.0), (90.0, 97.0, 99.0))
    verdicts = [
        judge(study, "02", table(study, distilled=d, imp_rewound=(96.5, 97.5, 98.5)), "matches")[0].verdict for d in (near, far, wide)
    ]
    assert verdicts == ["holds", "does not hold", "undecided"]  # 0.5 points below: within 1.0; 2.5 below: not; scattered: undecided


def test_the_sentence_says_all_that_it_must(study):
    v = judge(study, "03", table(study, distilled=(5.0, 6.0, 7.0), imp=(20.0, 21.0, 22.0)), "more stable than IMP's")[0]
    assert v.sentence == (
        "at 83.2 % sparsity, the distilled subnetwork is more stable than IMP's: **holds** here. Error barrier 6.0 [3.5, 8.5], against "
        "IMP, k=0 21.0 [18.5, 23.5]; difference -15.0 [-15.0, -15.0]; n = 3."
    )


def test_thresholds_stand_alone_and_show_their_control(study):
    t = table(study, dense=(30.0, 31.0, 32.0), dense_rewound=(0.5, 0.6, 0.7), distilled=(5.0, 6.0, 7.0))
    found = {v.text: v.verdict for v in claims.judge_all("03", {"barrier": t}, study, 500)}
    assert found["the dense initialisation is unstable (barrier above 2 points)"] == "holds"
    assert found["the dense net is stable from step 20 on (barrier below 2 points)"] == "holds"
    assert (
        found["at 83.2 % sparsity, the distilled subnetwork of the same initialisation is stable (barrier below 2 points)"]
        == "does not hold"
    )


def test_what_did_not_train_is_told(study):
    v = judge(study, "02", table(study, distilled=(96.0, 97.0, 96.5), random=(50.0, 51.0, None)), "global random")[0]
    assert v.value.n == 2 and v.verdict == "undecided" and "96.5 [no interval]" in v.sentence
    assert v.sentence.endswith("n = 2 of 3 (1 did not train).") and "n = 2 of 3 (1 did not train)" in claims.markdown(claims.as_table([v]))


def test_one_initialisation_decides_nothing(study):
    one = study.but(seeds=1)
    t = table(one, distilled=(96.0,), random=(50.0,))
    v = judge(one, "02", t, "global random")[0]
    assert v.verdict == "undecided" and "96.0 [no interval]," in v.sentence and v.sentence.endswith("n = 1.")


def test_claims_about_absent_methods_are_left_out(study):
    assert judge(study, "02", table(study, distilled=(1.0, 2.0, 3.0)), "") == []


def test_every_claim_names_known_methods_a_source_and_a_control():
    for c in claims.CLAIMS:
        assert (
            c.method in {*ARMS, stats.ALL}
            and c.control in {*ARMS, None}
            and c.source
            and c.notebook in ("01", "02", "03", "04", "05", "06")
        )
        assert c.control or c.rule in ("above", "below")
        assert claims.MEASURES[c.measure].table in claims.TABLES
    deciding = {(c.method, c.control) for c in claims.CLAIMS}
    assert ("distilled", "real-gentle") in deciding and ("distilled", "distilled-harsh") in deciding


def test_reference_round_trip(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("LOTTO_JOBS", "1")
    study = tiny(methods=["dense", "imp", "distilled"], seeds=2)
    files = claims.save_reference(study, "small", ["accuracy", "barrier", "judged"], tmp_path)
    assert [f.name for f in files] == ["small-accuracy.csv", "small-barrier.csv", "small-judged.csv"]
    kept = claims.reference("small", tmp_path)
    assert kept.study == study and kept.test_images == 500 and set(kept.tables) == {"accuracy", "barrier", "judged"}
    assert len(kept.tables["accuracy"]) == 2 * 5 and len(kept.verdicts("01")) == 4
    with pytest.raises(ConfigError, match="'absent' is not there; .* has: small"):
        claims.reference("absent", tmp_path)
    with pytest.raises(ConfigError, match="table 'barier' is not known; did you mean 'barrier'?"):
        claims.save_reference(study, "small", ["barier"], tmp_path)


def test_excess_is_judged_against_zero_at_its_point(study):
    rows = [
        dict(point=p, method=m, level=4, seed=s, trace=50.0, trace_excess=e + s / 10)
        for p, e in (("init", -3.0), ("rewind", 9.0), ("trained", 2.0))
        for m in ("distilled", "initial", "imp")
        for s in range(3)
    ]
    found = {v.claim.measure: v.verdict for v in claims.judge_all("04", {"discarded": pd.DataFrame(rows)}, study, 500)}
    assert found["excess init"] == "does not hold" and found["excess trained"] == "holds" and found["removed init"] == "undecided"


def test_claims_over_all_levels_and_over_sizes(study):
    rounds = pd.DataFrame([dict(method=m, level=0, seed=s, rounds=r) for m, r in (("hybrid", 8), ("imp", 4)) for s in range(3)])
    (v,) = claims.judge_all("05", {"matching": rounds}, study, 500)
    assert v.verdict == "holds" and "(of 4) than IMP" in v.text and "Rounds of pruning 8.0 [8.0, 8.0]," in v.sentence
    judged = pd.DataFrame(
        [
            dict(method=m, level=i, seed=s, accuracy=a + s)
            for m, a in (("distilled", 90), ("subset", 70))
            for i in study.ipcs
            for s in range(3)
        ]
    )
    assert [v.text[:12] for v in claims.judge_all("01", {"judged": judged}, study, 500)] == ["at 1 a class", "at 10 a clas"]


def test_markdown_keeps_every_word(study):
    found = claims.judge_all("03", {"barrier": table(study, distilled=(5.0, 6.0, 7.0), imp=(20.0, 21.0, 22.0))}, study, 500)
    text = claims.markdown(claims.as_table(found))
    assert text.count("\n") == 2 + len(found) and all(v.text in text and f"**{v.verdict}**" in text for v in found)


def test_the_overview_says_which_run_a_row_comes_from(monkeypatch, study):
    kept = claims.Reference("r", study, 500, {"barrier": table(study, distilled=(5.0, 6.0, 7.0), imp=(20.0, 21.0, 22.0))})
    monkeypatch.setattr(claims, "RUNS", {"r": ("03",)})
    monkeypatch.setattr(claims, "reference", lambda name: kept)
    rows = claims.overview({"this run": kept.verdicts("03")})
    assert rows.run.tolist() == ["this run"] * 1 + ["r (reference)"] * 1
    assert len(claims.overview(headlines=True)) == 1


def test_a_table_of_no_verdicts_has_its_columns():
    assert "decided_by" in claims.as_table([]).columns


def test_regime_is_told(study):
    t = table(study, dense=(96.0, 97.0, 98.0))
    assert "180 steps of SGD on batches of 64 at peak learning rate 0.4" in claims.regime(study, t) and "accuracy 97.0 %" in claims.regime(
        study, t
    )


def test_what_stability_needs_is_judged_both_ways(study):
    arms = dict(
        distilled=(8.0, 9.0, 10.0), distilled_fast=(30.0, 32.0, 34.0), real_gentle=(2.0, 2.5, 3.0), distilled_weights=(8.0, 10.0, 9.0)
    )
    found = {
        v.brief.removeprefix("the lower barrier of distilled masks "): v.verdict for v in judge(study, "06", table(study, **arms), "masks")
    }
    assert found["needs a small learning rate: at the outer rate, in as many steps, it is higher"] == "holds"
    assert found["needs the distilled images: all real images, in the same recipe, have a higher one"] == "does not hold"
    assert found["is lower still with norms and biases left as the inner loop made them"] == "undecided"
    assert (
        found["distilled masks are stable with norms and biases left as the inner loop made them (barrier below 2 points)"]
        == "does not hold"
    )


def test_a_claim_over_all_arms_has_no_control(study):
    t = pd.DataFrame(
        [
            dict(method="all arms", level=0, seed=s, loss=v, way=-v, loss_given_way=None, way_given_loss=v)
            for s, v in enumerate((-0.6, -0.5, -0.7))
        ]
    )
    found = claims.judge_all("06", {"capacity": t}, study, 500)
    assert [v.verdict for v in found] == ["holds", "undecided", "holds", "does not hold"]  # a way that loss explains is no cause
    assert found[0].sentence.endswith("Rank correlation of barrier and final training loss -0.60 [-0.85, -0.35]; n = 3.")
    row = claims.markdown(claims.as_table(found)).splitlines()[2]
    assert "-0.60 [-0.85, -0.35], n = 3 | 0 |" in row


def test_the_digest_has_a_row_a_claim_with_all_its_levels():
    study = lotto.study(levels=[4, 8])
    found = claims.judge_all("03", {"barrier": table(study, distilled=(5.0, 6.0, 7.0), imp=(20.0, 21.0, 22.0))}, study, 500)
    rows = claims.as_table(found)
    rows.insert(0, "run", "this run")
    lines = claims.digest(rows).splitlines()
    decided = "6.0 against 21.0: -15.0 [-15.0, -15.0], n = 3"
    assert lines[2] == (
        f"| the distilled subnetwork is more stable than IMP's | error barrier | {claims.READING} | "
        f"*this run*<br>83.2 % sparsity: **holds**, {decided}<br>97.2 % sparsity: **holds**, {decided} |"
    )
    assert len(lines) == 2 + len(set(rows.brief))
    twice = claims.digest(pd.concat([rows, rows.assign(run="another run")])).splitlines()  # a second run adds to the row
    assert len(twice) == len(lines) and twice[2].count("**holds**") == 4 and "<br>*another run*<br>83.2" in twice[2]


def test_one_sentence_of_two_sources_has_two_rows(study):
    found = claims.judge_all("03", {"barrier": table(study, distilled=(5.0, 6.0, 7.0), imp=(20.0, 21.0, 22.0))}, study, 500)
    rows = claims.as_table(found).assign(run="a")
    assert claims.digest(pd.concat([rows, rows.assign(source="somebody else")])).count("\n") == 2 + 2 * len(rows)


def test_the_command_of_a_reference_run_is_its_study():
    for name in claims.RUNS:
        kept = claims.reference(name)
        call = shlex.split(kept.origin.split("```")[1])
        given = [i + 1 for i, word in enumerate(call) if word == "-p"]
        preset = call[call.index("--preset") + 1] if "--preset" in call else "digits"
        assert call[:5] == ["python", "-m", "lotto.run", "reference", name]
        assert lotto.study(preset, **{call[i]: run.value(call[i + 1]) for i in given}) == kept.study
