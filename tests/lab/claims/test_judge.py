"""Decisions against numbers worked out by hand: 5 initialisations have 4 degrees of freedom, where Student's t has a
closed form."""

import dataclasses
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lotto.lab.claims import judge
from lotto.lab.claims.rules import Claim, Part, Regime

LEVELS = Regime(main=8, fine=8, high=8, first_seed=100, seeds=5)
BASE = [90.0, 80.0, 70.0, 85.0, 75.0]
"""Values of the arm beside, which pairing takes out again."""
SPREAD = math.sqrt(2.5 / 5)
"""Standard error of five numbers that are one apart."""


def tail(t):
    """P(T > t) for Student's t with 4 degrees of freedom."""
    u = t * t / (1 + t * t / 4)
    return 0.5 - math.copysign(3 / 8 * math.sqrt(u) * (1 - u / 12), t)


def beside(differences):
    return [b + d for b, d in zip(BASE, differences, strict=True)]


def apart(t):
    """Five differences, one apart, whose mean lies `t` standard errors from 0."""
    return [t * SPREAD + d for d in (-2, -1, 0, 1, 2)]


def claim(*parts, name="X", primary=True, **more):
    return Claim(name, "02", "short", "what is claimed", "source", parts, primary=primary, **more)


BETTER = Part("accuracy", "distilled", "better", "imp")


@pytest.fixture
def decide(study, monkeypatch):
    """The claims given, judged from tables in a run that may give words: id -> Judged."""

    def made(tables, *claims, confirmatory=True):
        monkeypatch.setattr(judge, "CLAIMS", claims)
        return {j.claim.id: j for j in judge.judge(tables, study, 10, confirmatory=confirmatory)}

    return made


def test_the_closed_form_is_students():
    from scipy.stats import t

    assert [tail(x) for x in (-3.0, 0.0, 2.1318, 2.7764)] == pytest.approx(
        [float(t.sf(x, 4)) for x in (-3.0, 0.0, 2.1318, 2.7764)]
    )


@pytest.mark.parametrize(
    ("t", "word"),
    # one claim alone: two-sided at 5 %, so beyond 2.7764
    [
        (2.80, "holds"),
        (2.75, "undecided"),
        (0.0, "undecided"),
        (-2.75, "undecided"),
        (-2.80, "fails"),
        (9.0, "holds"),
        (-9.0, "fails"),
    ],
)
@pytest.mark.parametrize("rule", ["better", "worse", "above", "below"])
@pytest.mark.parametrize("measure", ["accuracy", "barrier"])
def test_words_by_known_t_values(decide, tables, t, word, rule, measure):
    up = rule == "above" or (rule == "better") == (measure == "accuracy") and rule != "below"
    values = apart(t if up else -t)
    if rule in ("above", "below"):
        made, part = (
            tables(**{measure: {"distilled": [2.0 + v for v in values]}}),
            Part(measure, "distilled", rule, 2.0),
        )
    else:
        made, part = (
            tables(**{measure: {"distilled": beside(values), "imp": BASE}}),
            Part(measure, "distilled", rule, "imp"),
        )
    found = decide(made, claim(part))["X"]
    assert found.word == word and found.p == pytest.approx(2 * tail(abs(t))) and found.n == 5
    assert found.fits == (t > 0)


@pytest.mark.parametrize(
    ("mean", "word"), [(1.0 + 2.8 * SPREAD, "holds"), (1.0 + 2.75 * SPREAD, "undecided"), (1.0 - 2.8 * SPREAD, "fails")]
)
def test_better_by_more_than_a_margin(decide, tables, mean, word):
    made = tables(accuracy={"distilled": beside([mean + d for d in (-2, -1, 0, 1, 2)]), "imp": BASE})
    assert decide(made, claim(dataclasses.replace(BETTER, margin=1.0)))["X"].word == word


@pytest.mark.parametrize(
    ("mean", "word"),
    [
        (-1.0 + 2.8 * SPREAD, "holds"),
        (-1.0 + 2.75 * SPREAD, "undecided"),
        (-1.0 - 2.75 * SPREAD, "undecided"),
        (-1.0 - 2.8 * SPREAD, "fails"),
        (0.0, "undecided"),  # equal means: 1.4 standard errors from the margin
    ],
)
def test_not_worse_is_a_test_against_the_margin(decide, tables, mean, word):
    made = tables(accuracy={"distilled": beside([mean + d for d in (-2, -1, 0, 1, 2)]), "imp-rewound": BASE})
    assert decide(made, claim(Part("accuracy", "distilled", "not worse", "imp-rewound", 1.0)))["X"].word == word


@pytest.mark.parametrize(("measure", "sign"), [("accuracy", -1), ("barrier", 1)])
def test_worse_within_the_margin_is_told_as_both(decide, tables, measure, sign):
    part = Part(measure, "distilled", "not worse", "imp-rewound", 1.0)
    # standard error sqrt(0.005 / 5) = 0.0316, so the interval is +- 0.088
    made = tables(
        **{measure: {"distilled": beside([sign * (0.5 + d) for d in (-0.1, 0, 0, 0, 0.1)]), "imp-rewound": BASE}}
    )
    found = decide(made, claim(part))["X"]
    assert found.word == "holds" and found.parts[0].text().endswith(" (worse, within the margin)")
    about = tables(
        **{measure: {"distilled": beside([sign * (0.05 + d) for d in (-0.1, 0, 0, 0, 0.1)]), "imp-rewound": BASE}}
    )
    assert "within the margin" not in decide(about, claim(part))["X"].parts[0].text()
    beyond = tables(
        **{measure: {"distilled": beside([sign * (3 + d) for d in (-0.1, 0, 0, 0, 0.1)]), "imp-rewound": BASE}}
    )
    found = decide(beyond, claim(part))["X"]
    assert found.word == "fails" and found.parts[0].text().endswith(" (worse)")
    # standard error 0.316, so the interval, +- 0.88, crosses the margin though the mean does not
    across = tables(
        **{measure: {"distilled": beside([sign * (0.9 + d) for d in (-1, 0, 0, 0, 1)]), "imp-rewound": BASE}}
    )
    assert decide(across, claim(part))["X"].parts[0].text().endswith(" (worse, its mean within the margin)")


def three(*ts, others=("imp", "subset", "noise", "herding")):
    """A table and a claim of several comparisons, whose t values are given."""
    arms = {name: [b - d for b, d in zip(BASE, apart(t), strict=True)] for name, t in zip(others, ts, strict=False)}
    parts = [Part("accuracy", "distilled", "better", name) for name in arms]
    return {"distilled": BASE, **arms}, claim(*parts)


@pytest.mark.parametrize(
    ("ts", "word", "p"),
    [
        ((9.0, 5.0, 3.0), "holds", 2 * tail(3.0)),  # all must: the largest
        ((9.0, 9.0, 1.0), "undecided", 2 * tail(1.0)),
        ((9.0, 9.0, -4.5), "fails", 6 * tail(4.5)),  # one is enough, of three
        ((9.0, 9.0, -3.9), "undecided", 6 * tail(3.9)),
        ((-3.0, 9.0), "undecided", 4 * tail(3.0)),
        ((-3.4, 9.0), "undecided", 4 * tail(3.4)),
        ((-3.5, 9.0), "fails", 4 * tail(3.5)),
    ],
)
def test_all_comparisons_must_come_out(decide, tables, ts, word, p):
    values, what = three(*ts)
    found = decide(tables(accuracy=values), what)["X"]
    assert found.p == pytest.approx(p) and found.word == word
    assert found.fits == (min(ts) > 0)


def test_holm_by_hand():
    found = judge.holm({"c": 0.03, "a": 0.005, "d": 0.04, "b": 0.012})
    assert list(found) == ["a", "b", "c", "d"]
    assert found == pytest.approx(
        {"a": 0.02, "b": 0.036, "c": 0.06, "d": 0.06}
    )  # 4 x, 3 x, 2 x, and no less than the one before
    assert judge.holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0} and judge.holm({}) == {}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms())
def test_holm_is_monotone_bounded_and_blind_to_order(ps, random):
    given_ = {str(i): p for i, p in enumerate(ps)}
    found, names = judge.holm(given_), list(given_)
    random.shuffle(names)
    other = judge.holm({n: given_[n] for n in names})
    assert sorted(found.values()) == pytest.approx(sorted(other.values()))
    assert all(given_[n] <= found[n] <= min(1, len(ps) * given_[n]) for n in given_)
    ranked = sorted(given_, key=given_.get)
    assert [found[n] for n in ranked] == sorted(found.values())


def test_words_are_corrected_over_the_primary_claims(decide, tables):
    others = ("imp", "subset", "noise")
    arms = {
        n: [b - d for b, d in zip(BASE, apart(t), strict=True)] for n, t in zip(others, (4.2, 2.9, 0.5), strict=True)
    }
    made = tables(accuracy={"distilled": BASE, **arms})
    a, b, c = (claim(Part("accuracy", "distilled", "better", n), name=n) for n in others)
    two = decide(made, b, a)
    assert two["imp"].p == pytest.approx(4 * tail(4.2)) and two["subset"].p == pytest.approx(2 * tail(2.9))
    assert {n: j.word for n, j in two.items()} == {"imp": "holds", "subset": "holds"}
    three = decide(made, b, a, c)
    assert [three[n].p for n in others] == pytest.approx([6 * tail(4.2), 4 * tail(2.9), 2 * tail(0.5)])
    assert [three[n].word for n in others] == ["holds", "undecided", "undecided"]
    # an exploratory claim is not of the family, and has no word; a primary one that was not run is of it all the same
    more = decide(
        made,
        b,
        a,
        dataclasses.replace(c, primary=False),
        claim(Part("accuracy", "herding", "better", "imp"), name="absent"),
    )
    assert more["imp"].p == pytest.approx(6 * tail(4.2)) and (more["noise"].word, more["noise"].p) == (
        "exploratory",
        None,
    )
    assert (more["absent"].word, more["absent"].p) == ("not run", None)


def test_the_family_is_the_regimes_not_the_notebooks(study, tables, monkeypatch):
    others = ("imp", "subset")
    arms = {n: [b - d for b, d in zip(BASE, apart(4.2), strict=True)] for n in others}
    both = [
        dataclasses.replace(claim(Part("accuracy", "distilled", "better", n), name=n), notebook=f"0{i}")
        for i, n in enumerate(others, 2)
    ]
    monkeypatch.setattr(judge, "CLAIMS", both)
    (alone,) = judge.judge(tables(accuracy={"distilled": BASE, **arms}), study, 10, notebook="02", confirmatory=True)
    assert alone.claim.id == "imp" and alone.p == pytest.approx(4 * tail(4.2))


def test_no_word_before_all_planned_initialisations_are_done(study, tables, monkeypatch):
    one = claim(Part("accuracy", "distilled", "better", "imp"), name="imp")
    monkeypatch.setattr(judge, "CLAIMS", [one])
    made = tables(accuracy={"distilled": BASE, "imp": [b - d for b, d in zip(BASE, apart(9.0), strict=True)]})
    words = [judge.judge(made, study, 10, confirmatory=True, planned=n)[0].word for n in (5, 6)]
    assert words == ["holds", "estimate"]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_no_word_below_five_initialisations(decide, tables, n):
    made = tables(accuracy={"distilled": [95.0 + i / 10 for i in range(n)], "imp": [50.0] * n})
    found = decide(made, claim(BETTER))["X"]
    assert (found.word, found.p, found.n) == ("estimate", None, n) and found.fits


def test_the_scarcest_comparison_counts(decide, tables):
    made = tables(accuracy={"distilled": beside([20, 20.5, 21, 21.5, 22]), "imp": BASE, "subset": BASE[:4]})
    found = decide(made, claim(BETTER, Part("accuracy", "distilled", "better", "subset")))["X"]
    assert (found.word, found.n) == ("estimate", 4)


def test_no_word_outside_a_run_kept_for_it(decide, tables):
    made = tables(accuracy={"distilled": beside([20, 20.5, 21, 21.5, 22]), "imp": BASE})
    found = decide(made, claim(BETTER), claim(BETTER, name="E", primary=False), confirmatory=False)
    assert {(j.word, j.p) for j in found.values()} == {("estimate", None), ("exploratory", None)}


MATCHES = Part("accuracy", "distilled", "not worse", "imp-rewound", 1.0)
CONTROL = Part("accuracy", "random-layerwise", "worse", "imp-rewound", 1.0)


@pytest.mark.parametrize(
    ("distilled", "control", "word"),
    [
        (0.0, -9.0, "holds"),
        (0.0, 0.0, "cannot tell"),  # a random mask does as well
        (0.0, -1.0 - 2.1 * SPREAD / 10, "cannot tell"),  # one-sided at 5 %: 2.1318 standard errors
        (0.0, -1.0 - 2.2 * SPREAD / 10, "holds"),
        (-9.0, 0.0, "fails"),  # a control does not help against failing
        (-1.0, 0.0, "undecided"),
    ],
)
def test_matching_counts_only_where_the_controls_do_not(decide, tables, distilled, control, word):
    spread = [d / 10 for d in (-2, -1, 0, 1, 2)]
    values = {a: beside([m + s for s in spread]) for a, m in (("distilled", distilled), ("random-layerwise", control))}
    found = decide(tables(accuracy={**values, "imp-rewound": BASE}), claim(MATCHES, controls=(CONTROL,)))["X"]
    assert found.word == word


def test_without_its_control_a_claim_has_no_word(decide, tables):
    made = tables(accuracy={"distilled": beside([0.1, 0, 0, 0, -0.1]), "imp-rewound": BASE})
    assert decide(made, claim(MATCHES, controls=(CONTROL,)))["X"].word == "estimate"


def test_the_twin_decides_nothing(decide, tables):
    twin = Part("barrier", "distilled", "better", "imp")
    made = tables(
        accuracy={"distilled": beside(apart(9.0)), "imp": BASE}, barrier={"distilled": BASE, "imp": [0.0] * 5}
    )
    found = decide(made, claim(BETTER, twin=twin))["X"]
    assert (
        found.word == "holds"
        and found.p == pytest.approx(2 * tail(9.0))
        and not found.twin.fits
        and found.twin.difference.mean == 80.0
    )


def failing(**columns):
    rows = dict(method="distilled", level=8, seed=[0, 1, 2, 3], state=["trained", "failed", "dead", "diverged"])
    return pd.DataFrame({**rows, **columns})


def test_nets_that_did_not_train_are_counted():
    accuracy = failing(accuracy=[97.0, 12.0, None, float("nan")])
    assert judge.counted(accuracy, "accuracy", "distilled", 8, 10.0) == {
        0: 97.0,
        1: 12.0,
        2: 10.0,
        3: 10.0,
    }  # as it is, or guessing
    barrier = failing(barrier=[1.5, None, None, None])
    assert judge.counted(barrier, "barrier", "distilled", 8, 10.0) == {0: 1.5, 1: 90.0, 2: 90.0, 3: 90.0}
    assert judge.counted(barrier, "barrier", "distilled", 8, 1.0)[1] == 99.0  # a hundred classes
    assert judge.counted(barrier, "barrier", "distilled", 8, 10.0, worst=0.0) == {0: 1.5, 1: 0.0, 2: 0.0, 3: 0.0}
    assert judge.failures(accuracy, "distilled", 8) == (3, 4) and judge.failures(accuracy, "imp", 8) == (0, 0)
    assert judge.counted(accuracy, "accuracy", "distilled", 4, 10.0) == {}


def test_an_untrained_net_is_neither_stable_nor_unstable(decide, tables):
    made = tables(barrier={"dense": [None, 30.0, 31.0, 32.0, 33.0], "distilled": [None, 0.1, 0.2, 0.3, 0.4]})
    above, below = (
        decide(made, claim(p))["X"]
        for p in (Part("barrier", "dense", "above", 2.0, at="dense"), Part("barrier", "distilled", "below", 2.0))
    )
    assert above.parts[0].value.mean == pytest.approx(126 / 5) and below.parts[0].value.mean == pytest.approx(91 / 5)
    assert below.word == "undecided" and not below.fits
    assert below.parts[0].text().endswith("(distilled: 1 of 5 did not train)")


def test_failures_of_both_arms_are_told(decide, tables):
    made = tables(barrier={"distilled": [1.0, 1.0, 1.0, 1.0, None], "imp": [None, None, 5.0, 5.0, 5.0]})
    (part,) = decide(made, claim(Part("barrier", "distilled", "better", "imp")))["X"].parts
    assert (
        part.text().endswith("(distilled: 1 of 5 did not train; IMP: 2 of 5 did not train)") and part.difference.n == 5
    )
    assert part.difference.mean == pytest.approx((-89 - 89 - 4 - 4 + 85) / 5)


def test_curvature_is_compared_on_a_log_scale(decide):
    rows = [
        dict(method=m, level=8, seed=s, state="trained", trace=v * 10.0**s)
        for m, v in (("distilled", 1.0), ("imp", 1000.0))
        for s in range(3)
    ]
    rows.append(dict(method="distilled", level=8, seed=3, state="trained", trace=-2.0))  # has no logarithm
    (part,) = decide({"curvature": pd.DataFrame(rows)}, claim(Part("curvature", "distilled", "better", "imp")))[
        "X"
    ].parts
    assert part.value.mean == pytest.approx(1.0) and part.other.mean == pytest.approx(4.0) and part.difference.n == 3
    assert (
        part.difference.mean == pytest.approx(-3.0)
        and part.fits
        and part.text() == "log10 trace distilled 1.00, IMP 4.00: -3.00 [-3.00, -3.00]"
    )


def test_shares_of_curvature_are_read_at_their_point(decide):
    rows = [
        dict(point=p, method="distilled", level=8, seed=s, trace=50.0, trace_excess=e + s)
        for p, e in (("init", -30.0), ("trained", 3.0))
        for s in range(5)
    ]
    found = decide({"discarded": pd.DataFrame(rows)}, claim(Part("excess", "distilled", "above", 0.0)))["X"]
    assert (
        found.parts[0].value.mean == 5.0 and found.word == "holds" and found.p == pytest.approx(2 * tail(5.0 / SPREAD))
    )


@pytest.mark.parametrize("absent", ["distilled", "imp", "table", "level"])
def test_what_was_not_run_is_said(decide, tables, absent):
    arms = {n: BASE for n in ("distilled", "imp") if n != absent}
    made = {} if absent == "table" else tables(4 if absent == "level" else 8, accuracy=arms)
    found = decide(made, claim(BETTER))["X"]
    assert (found.word, found.parts, found.p, found.n) == ("not run", (), None, 0)


def test_one_comparison_of_two_is_no_verdict(decide, tables):
    made = tables(accuracy={"distilled": beside(apart(9.0)), "imp": BASE})
    found = decide(made, claim(BETTER, Part("accuracy", "distilled", "better", "subset")))["X"]
    assert (found.word, found.p, len(found.parts)) == ("not run", None, 1)


def test_levels_are_the_regimes_where_the_study_has_them():
    import lotto

    both = judge.regime(lotto.study("digits", levels=[4, 8, 12]))
    assert (both.main, both.high) == (8, 12)
    other = judge.regime(lotto.study("digits", levels=[2, 4]))
    assert (other.main, other.high) == (4, 4)
    assert judge.regime(lotto.study("cifar10", levels=[4, 8])).main == 8


def test_equal_values_are_as_sure_as_can_be(decide, tables):
    ps = [
        decide(tables(accuracy={"distilled": beside([d] * 5), "imp": BASE}), claim(BETTER))["X"]
        for d in (1.0, 0.0, -1.0)
    ]
    assert [(j.word, j.p) for j in ps] == [("holds", 0.0), ("undecided", 1.0), ("fails", 0.0)]


@given(st.lists(st.integers(-20, 20), min_size=5, max_size=9))
def test_a_comparison_and_its_opposite(differences):
    rows = [
        dict(method=m, level=8, seed=i, accuracy=float(v))
        for i, d in enumerate(differences)
        for m, v in (("distilled", d), ("imp", 0))
    ]
    made = {"accuracy": pd.DataFrame(rows)}
    one = judge.estimate(BETTER, made, LEVELS, 10.0)
    other = judge.estimate(Part("accuracy", "imp", "better", "distilled"), made, LEVELS, 10.0)
    worse = judge.estimate(Part("accuracy", "distilled", "worse", "imp"), made, LEVELS, 10.0)
    assert one.p() == pytest.approx(other.p(holds=False)) and one.p() == pytest.approx(worse.p(holds=False))
    assert one.fits + other.fits <= 1


def run(n, mean, spread=2.5**0.5):
    from lotto.stats import Interval

    return judge.Estimate(BETTER, 8, Interval(mean, None, None, n), None, Interval(mean, None, None, n), spread, (0, n))


def test_agreement_by_the_prediction_interval():
    # t(0.975, 4) = 2.7764; 2.7764 * sqrt(2.5) * sqrt(1/5 + 1/3) = 3.2060
    theirs = run(5, 3.0)
    assert [judge.agrees(run(3, m), theirs) for m in (3.0, 6.20, 6.21, -0.20, -0.21)] == [
        True,
        True,
        False,
        True,
        False,
    ]
    assert judge.agrees(run(1, 3 + 4.80), theirs) and not judge.agrees(
        run(1, 3 + 4.82), theirs
    )  # sqrt(1/5 + 1) instead: 4.8088
    assert judge.agrees(run(3, 3.0), run(2, 3.0)) is None and judge.agrees(run(1, 3.0, 0.0), run(3, 3.0)) is True
