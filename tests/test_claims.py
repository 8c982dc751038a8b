import pandas as pd
import pytest

import lotto
from lotto import claims
from lotto.config import METHODS, ConfigError
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
        for at in (0,) if METHODS[name].dense else study.levels:
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
        "at 83.2 % sparsity, the distilled subnetwork is more stable than IMP's: holds here: error barrier 6.0 [3.5, 8.5] over 3 "
        "initialisations, against IMP, k=0 21.0 [18.5, 23.5]."
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
    assert v.value.n == 2 and v.verdict == "undecided" and "over 2 initialisations (1 more did not train)" in v.sentence


def test_one_initialisation_decides_nothing(study):
    one = study.but(seeds=1)
    t = table(one, distilled=(96.0,), random=(50.0,))
    v = judge(one, "02", t, "global random")[0]
    assert v.verdict == "undecided" and "96.0 [no interval] over 1 initialisation," in v.sentence


def test_claims_about_absent_methods_are_left_out(study):
    assert judge(study, "02", table(study, distilled=(1.0, 2.0, 3.0)), "") == []


def test_every_claim_names_known_methods_a_source_and_a_control():
    for c in claims.CLAIMS:
        assert c.method in METHODS and c.control in METHODS and c.source and c.notebook in ("02", "03")
    deciding = {(c.method, c.control) for c in claims.CLAIMS}
    assert ("distilled", "real-gentle") in deciding and ("distilled", "distilled-harsh") in deciding


def test_reference_round_trip(tiny, tmp_path):
    study = tiny(methods=["dense", "imp", "distilled"], seeds=2)
    claims.save_reference(study, "small", tmp_path)
    t, about, images = claims.reference("small", tmp_path)
    assert about == study and images == 500 and len(t) == 2 * 5
    with pytest.raises(ConfigError, match="'absent' is not there; .* has: small"):
        claims.reference("absent", tmp_path)


def test_a_table_of_no_verdicts_has_its_columns():
    assert "decided_by" in claims.as_table([]).columns


def test_regime_is_told(study):
    t = table(study, dense=(96.0, 97.0, 98.0))
    assert "180 steps of SGD on batches of 64 at peak learning rate 0.4" in claims.regime(study, t) and "accuracy 97.0 %" in claims.regime(
        study, t
    )
