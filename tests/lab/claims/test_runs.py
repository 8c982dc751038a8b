"""Reference runs with tables that cost nothing, and one small real one."""

import json
import re
import shutil

import pandas as pd
import pytest

from lotto.config import ConfigError
from lotto.lab import presets
from lotto.lab.arms import ARMS, FACTORIAL
from lotto.lab.claims import board, judge, page, plans, rules, runs
from lotto.lab.claims.plans import Batch, Plan
from lotto.lab.claims.rules import CLAIMS, MEASURES, REGIMES

PLAN = Plan(
    "digits",
    {
        "first": Batch(("dense", "imp", "imp-rewound", "distilled"), (8,)),
        "second": Batch(("dense", "random-layerwise", "noise"), (8,), ("accuracy",)),
        "sets": Batch((), (), ("judged",)),
    },
)


class Stopped(Exception):
    pass


class Tables:
    """Stands in for what makes the tables: numbers that follow from (arm, level, seed), a list of what was asked, and a
    stop."""

    def __init__(self):
        self.asked, self.stop_after = [], None

    def make(self, name):
        def table(study):
            if self.stop_after is not None and len(self.asked) >= self.stop_after:
                raise Stopped
            self.asked.append((name, study.arms, study.levels, tuple(study.initialisations), study.children))
            cells = (
                list(dict.fromkeys((c.method, c.level) for c in study.cells()))
                if name != "judged"
                else [(k, i) for k in ("distilled", "subset") for i in (1, 10)]
            )
            rows = [
                dict(
                    method=m,
                    level=at,
                    seed=s,
                    state="trained",
                    **{name if name != "judged" else "accuracy": 50 + len(m) + s % 7 / 3},
                )
                for m, at in cells
                for s in study.initialisations
            ]
            return pd.DataFrame(rows)

        return table

    def __call__(self):
        return {t: self.make(t) for t in ("accuracy", "barrier", "judged")}


@pytest.fixture
def fake(monkeypatch, tmp_path):
    made = Tables()
    monkeypatch.setattr(runs, "tables", made)
    monkeypatch.setattr(runs, "PLANS", {"digits": PLAN})
    monkeypatch.setattr(runs, "FOLDER", tmp_path / "reference")
    return made


def written(folder):
    return {f.name: pd.read_csv(f) for f in sorted(folder.glob("*.csv"))}


def same(a, b):
    by = ["method", "level", "seed"]
    return a.keys() == b.keys() and all(
        a[n].sort_values(by, ignore_index=True).equals(b[n].sort_values(by, ignore_index=True)) for n in a
    )


def test_the_rules_are_recorded_before_anything_is_computed(fake, tmp_path):
    fake.stop_after = 0
    with pytest.raises(Stopped):
        runs.make("digits", folder=tmp_path)
    facts = json.loads((tmp_path / "digits.json").read_text())
    assert facts["rules"] == judge.digest() and facts["begun"] and not fake.asked and not written(tmp_path)
    assert [b["done"] for b in facts["batches"].values()] == [[], [], []] and facts["core_hours"] == 0
    kept = runs.reference("digits", tmp_path)
    assert (
        kept.tables == {} and "first (0 of 10 done)" in kept.origin and {j.word for j in kept.judged()} == {"not run"}
    )


def test_a_whole_run(fake):
    file = runs.make("digits")
    kept = runs.reference("digits")
    assert (
        file == runs.FOLDER / "digits.json"
        and kept.confirmatory
        and runs.known("digits").facts == kept.facts
        and runs.known("cifar10") is None
    )
    seeds = list(range(100, 110))
    assert [b["done"] for b in kept.facts["batches"].values()] == [seeds] * 3
    accuracy = kept.tables["accuracy"]
    assert sorted(accuracy.seed.unique()) == seeds and len(accuracy) == 10 * 6
    assert len(accuracy[accuracy.method == "dense"]) == 10  # two batches have it, and it stands once
    assert len(kept.tables["barrier"]) == 10 * 4 and len(kept.tables["judged"]) == 10 * 4
    assert set(kept.study.arms) == {"dense", "imp", "imp-rewound", "distilled", "random-layerwise", "noise"}
    assert kept.view("second").arms == ("dense", "noise", "random-layerwise") and kept.study.levels == (8,)
    assert kept.view("first", methods=["imp"]).arms == ("imp",)
    words = {j.claim.id: j.word for j in kept.judged()}
    assert words["P1"] in ("holds", "fails", "undecided", "cannot tell") and words["P3"] in (
        "holds",
        "fails",
        "undecided",
    )
    assert (
        words["P2"] in ("holds", "fails", "undecided")
        and words["P4"] == words["C1"] == "not run"
        and words["D1"] == "exploratory"
    )
    assert (
        f"rules {judge.digest()[:12]}, rule fixed before this run" in kept.origin
        and "initialisations 100 to 109" in kept.origin
    )


def test_initialisations_are_computed_as_many_at_once_as_planned(fake, monkeypatch):
    monkeypatch.setattr(
        runs, "PLANS", {"digits": Plan("digits", {"one": Batch(("imp",), (8,), ("accuracy",), children=3)}, at_once=4)}
    )
    runs.make("digits")
    assert [(seeds, children) for *_, seeds, children in fake.asked] == [
        ((100, 101, 102, 103), 3),
        ((104, 105, 106, 107), 3),
        ((108, 109), 3),
    ]


@pytest.mark.parametrize("stop", [1, 2, 3, 7, 19, 20, 21, 29, 30, 34])
def test_a_stopped_run_goes_on_and_asks_for_nothing_that_is_there(fake, tmp_path, stop):
    runs.make("digits", folder=tmp_path / "whole")
    everything, fake.asked = fake.asked, []
    fake.stop_after = stop
    with pytest.raises(Stopped):
        runs.make("digits", folder=tmp_path / "cut")
    done = written(tmp_path / "cut")
    there = {
        (name.split("-")[1].removesuffix(".csv"), *cell)
        for name, t in done.items()
        for cell in zip(t.method, t.level, t.seed, strict=True)
        if cell[0] != "dense"
    }
    first, fake.asked, fake.stop_after = fake.asked, [], None
    runs.make("digits", folder=tmp_path / "cut")
    asked_again = {
        (t, m, at, s)
        for t, arms, levels, seeds, _ in fake.asked
        if t != "judged"
        for m in arms
        for at in levels
        for s in seeds
    }
    assert not there & asked_again
    assert not {(s) for t, *_, seeds, _ in fake.asked if t == "judged" for s in seeds} & {
        s for t, *_, s in there if t == "judged"
    }
    assert (
        same(written(tmp_path / "cut"), written(tmp_path / "whole"))
        and len(first) + len(fake.asked) <= len(everything) + 1
    )
    fake.asked = []
    runs.make("digits", folder=tmp_path / "cut")
    assert fake.asked == []


def test_tables_of_one_initialisation_are_written_together(fake, tmp_path):
    fake.stop_after = 1  # the accuracies of the first are made, its barriers are not
    with pytest.raises(Stopped):
        runs.make("digits", folder=tmp_path)
    assert written(tmp_path) == {}


def test_the_number_of_initialisations_is_said_at_the_beginning(fake, tmp_path):
    runs.make("digits", seeds=5, folder=tmp_path)
    kept = runs.reference("digits", tmp_path)
    assert (
        kept.facts["batches"]["first"]["done"] == [100, 101, 102, 103, 104]
        and kept.planned == 5
        and kept.origin.endswith("Its plan is done.")
    )
    fake.asked = []
    runs.make("digits", folder=tmp_path)
    assert fake.asked == []
    with pytest.raises(
        ConfigError, match="seeds = 10: reference 'digits' was begun for 5, and its number may not follow its results"
    ):
        runs.make("digits", seeds=10, folder=tmp_path)


def test_some_batches_now_and_the_others_later(fake, tmp_path):
    runs.make("digits", only=["second"], folder=tmp_path)
    assert {t for t, *_ in fake.asked} == {"accuracy"} and set(written(tmp_path)) == {"digits-accuracy.csv"}
    fake.asked = []
    runs.make("digits", folder=tmp_path)
    assert {arms for _, arms, *_ in fake.asked if "herding" in arms} == {a for t, a, *_ in fake.asked if t == "judged"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(name="digit"), r"reference 'digit' is not planned; did you mean 'digits'\?"),
        (dict(name="digits", only=["first", "secnd"]), r"batch 'secnd' is not in digits; did you mean 'second'\?"),
        (dict(name="digits", seeds=4), "seeds = 4: a verdict needs 5 initialisations, and digits has 10; give 5 to 10"),
        (dict(name="digits", seeds=11), "seeds = 11: .* give 5 to 10"),
        (dict(name="digits", seeds=0), "seeds = 0"),
    ],
)
def test_wrong_calls_are_refused_and_leave_nothing(fake, given, said):
    with pytest.raises(ConfigError, match=said):
        runs.make(**given)
    assert not runs.FOLDER.exists() and not fake.asked


def test_a_run_of_fewer_than_a_verdict_needs_says_so_rightly(fake, monkeypatch):
    monkeypatch.setattr(
        runs,
        "PLANS",
        {"small": Plan("digits", {"one": Batch(("imp",), (8,))}, more=(("steps", 100),), seeds=2, first_seed=200)},
    )
    with pytest.raises(ConfigError, match="small has 2; give 2 to 2"):
        runs.make("small", seeds=1)
    runs.make("small")
    kept = runs.reference("small")
    assert list(kept.study.initialisations) == [200, 201] and not kept.confirmatory
    assert "Other than in the preset *digits*: steps = 100. " in kept.origin


def test_another_digest_is_refused_with_both_and_the_fix(fake, tmp_path, monkeypatch):
    runs.make("digits", only=["second"], folder=tmp_path)
    before, asked = {f.name: f.read_bytes() for f in tmp_path.iterdir()}, list(fake.asked)
    old = judge.digest()
    monkeypatch.setattr(judge, "digest", lambda: "f" * 64)
    with pytest.raises(
        ConfigError,
        match=f"begun under rules {old[:12]}, and today's are {'f' * 12}.*or delete digits.json and its tables",
    ):
        runs.make("digits", folder=tmp_path)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before and fake.asked == asked


def test_a_run_under_other_rules_gives_no_word_and_says_so(fake, monkeypatch):
    runs.make("digits")
    old = judge.digest()
    assert any(j.word == "holds" or j.word == "fails" for j in runs.reference("digits").judged())
    monkeypatch.setattr(judge, "digest", lambda: "f" * 64)
    kept = runs.reference("digits")
    assert not kept.current and not kept.confirmatory
    assert {j.word for j in kept.judged()} <= {"estimate", "exploratory", "not run"} and {
        j.p for j in kept.judged()
    } == {None}
    assert (
        f"rules have changed since (it began under {old[:12]}): exploratory" in kept.origin
        and "fixed before" not in kept.origin
    )
    text, short = page.page(), board.short()
    headings = re.findall(r"^### .*: (.*)$", text, re.M)
    (absent,) = re.findall(r"^Not run: (.*)\.$", text, re.M)
    assert set(headings) == {"estimate", "exploratory", "estimate, as not all of it was run"}
    assert len(headings) + len(re.findall(r"\b[PCDA]\d+ \(", absent)) == len(CLAIMS)
    assert (
        "rules have changed since" in text
        and "digits, n = 10" in short
        and "| estimate<br>" in short
        and not re.search("holds|fails|undecided", short)
    )


def test_a_change_of_the_rules_file_changes_the_digest(tmp_path, monkeypatch):
    file = tmp_path / "rules.py"
    file.write_bytes(open(rules.__file__, "rb").read() + b"\n")
    monkeypatch.setattr(rules, "__file__", str(file))
    before = judge.digest()
    judge.digest.cache_clear()
    assert judge.digest() != before
    judge.digest.cache_clear()


def test_a_run_of_another_study_is_refused(fake, tmp_path, monkeypatch):
    runs.make("digits", only=["second"], folder=tmp_path)
    monkeypatch.setattr(runs, "PLANS", {"digits": Plan("digits", PLAN.batches, more=(("steps", 100),))})
    with pytest.raises(ConfigError, match="begun with another study; delete digits.json"):
        runs.make("digits", folder=tmp_path)


def test_a_batch_that_was_begun_stays_what_it_was(fake, tmp_path, monkeypatch):
    runs.make("digits", only=["second"], folder=tmp_path)
    more = Batch(("dense", "random-layerwise", "noise", "herding"), (8,), ("accuracy",))
    monkeypatch.setattr(runs, "PLANS", {"digits": Plan("digits", {**PLAN.batches, "second": more})})
    with pytest.raises(
        ConfigError, match=r"batch 'second' of reference 'digits' was begun as \['dense', 'random-layerwise', 'noise'\]"
    ):
        runs.make("digits", folder=tmp_path)
    # a batch more, or one not begun, is no matter
    new = {**PLAN.batches, "first": more, "third": Batch(("herding",), (8,), ("accuracy",))}
    monkeypatch.setattr(runs, "PLANS", {"digits": Plan("digits", new)})
    runs.make("digits", folder=tmp_path)
    assert "herding" in set(written(tmp_path)["digits-accuracy.csv"].method)


def test_a_reference_that_is_not_there(fake):
    with pytest.raises(ConfigError, match="reference 'digits' is not there; .* has: none"):
        runs.reference("digits")


def test_a_small_real_run_goes_on_without_its_store(own_store, tmp_path, monkeypatch, tiny_parameters):
    """Its tables end bit-equal to those of a run that was never stopped, though nothing was left of the store."""
    small = {n: v for n, v in tiny_parameters.items() if n not in ("levels", "seeds")}
    plan = Plan("digits", {"one": Batch(("dense", "random"), (1,))}, more=tuple(small.items()), seeds=2, first_seed=7)
    monkeypatch.setattr(runs, "PLANS", {"small": plan})
    monkeypatch.setenv("LOTTO_JOBS", "1")
    runs.make("small", folder=tmp_path / "whole")
    shutil.rmtree(own_store)
    seen, stop, real = [], 3, runs.tables()

    def told(name):
        def table(study):
            if len(seen) == stop:
                raise Stopped
            seen.append(list(study.initialisations))
            return real[name](study)

        return table

    monkeypatch.setattr(runs, "tables", lambda: {n: told(n) for n in real})
    with pytest.raises(Stopped):
        runs.make("small", folder=tmp_path / "cut")
    shutil.rmtree(own_store)
    seen, stop = [], None
    runs.make("small", folder=tmp_path / "cut")
    assert seen == [[8], [8]]
    for name in ("small-accuracy.csv", "small-barrier.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_every_arm_of_every_plan_exists():
    for plan in plans.PLANS.values():
        for b in plan.batches.values():
            assert (
                set(b.methods) <= set(ARMS)
                and set(b.tables) <= set(runs.tables())
                and bool(b.methods) == bool(b.levels)
            )
        assert plan.preset in REGIMES or (plan.seeds is not None and plan.first_seed is not None)
    assert set(FACTORIAL) <= {m for b in plans.PLANS["digits"].batches.values() for m in b.methods if 8 in b.levels}


def planned(plan):
    """(table, arm, level) that a plan computes."""
    return {
        (t, m, 0 if ARMS[m].dense else at)
        for b in plan.batches.values()
        for t in b.tables
        for m in b.methods
        for at in b.levels
    }


@pytest.mark.parametrize("preset", REGIMES)
def test_every_primary_claim_can_be_judged_by_its_regimes_plan(preset):
    there, kept = planned(plans.PLANS[preset]), REGIMES[preset]
    assert not plans.PLANS[preset].more and plans.PLANS[preset].seeds is None and plans.PLANS[preset].first_seed is None
    for claim in (c for c in CLAIMS if c.primary):
        for part in (*claim.parts, *claim.controls, claim.twin):
            at = {"dense": 0, "main": kept.main, "fine": kept.fine, "high": kept.high}[part.at]
            for arm in (part.arm, *([part.than] if isinstance(part.than, str) else [])):
                assert (MEASURES[part.measure].table, arm, 0 if ARMS[arm].dense else at) in there, (claim.id, part)


@pytest.mark.parametrize("name", plans.PLANS)
def test_what_a_plan_lacks_is_said_not_to_have_been_run(name, monkeypatch, tmp_path):
    """A run whose tables have all that is planned and nothing else."""
    plan = plans.PLANS[name]
    values = dict(state="trained", accuracy=50.0, barrier=1.0, trace=3.0, trace_excess=1.0, point="trained")
    seeds = range(plan.seeds or REGIMES[plan.preset].seeds)
    found = {
        t: pd.DataFrame(
            [dict(method=m, level=at, seed=s, **values) for table, m, at in planned(plan) for s in seeds if table == t]
        )
        for t in {t for t, *_ in planned(plan)}
    }
    if any("judged" in b.tables for b in plan.batches.values()):
        rows = [
            dict(method=m, level=i, seed=s, accuracy=50.0)
            for m in ("distilled", "subset", "herding")
            for i in (1, 10)
            for s in seeds
        ]
        found["judged"] = pd.DataFrame(rows)
    study = presets.study(plan.preset, levels=sorted({at for b in plan.batches.values() for at in b.levels}))
    for j in judge.judge(found, study, 10):
        lacking = [p for p in j.claim.parts if judge.estimate(p, found, judge.regime(study), 10.0) is None]
        assert (j.word == "not run") == bool(lacking), (j.claim.id, j.word)
        if name in ("digits", "cifar10") and (j.claim.primary or name == "digits"):
            assert not lacking and j.twin and len(j.controls) == len(j.claim.controls), j.claim.id


def test_batches_can_be_named_on_the_command_line():
    assert not [b for plan in plans.PLANS.values() for b in plan.batches if "," in b or b != b.strip()]


def test_what_is_said_of_a_run_that_goes_on_is_of_the_initialisations_done():
    """A figure over one of five initialisations once said "8 initialisations" and "1 of 8 trained"."""
    kept = runs.known("digits")
    facts = {**kept.facts, "batches": {n: dict(b) for n, b in kept.facts["batches"].items()}}
    names = list(facts["batches"])
    for name, done in zip(names, ([100, 101, 102], [100], *[[]] * len(names)), strict=False):
        facts["batches"][name]["done"] = done
    going = runs.Reference("digits", facts, kept.tables)
    assert going.view(names[0]).seeds == 3
    assert going.view(names[0], names[1]).seeds == 1
    assert going.view(names[0], names[2]).seeds == 3  # a batch that has not begun says nothing
    assert going.study.seeds == 3  # the run as a whole has come as far as its furthest batch
    assert going.confirmatory == kept.confirmatory
    assert going.planned == kept.planned


def test_one_initialisation_through_all_batches_where_the_plan_says_so(fake, monkeypatch):
    """And a preset without a regime in the rules, as CIFAR-10's, whose numbers the plan gives itself."""
    plan = Plan("cifar10", {**PLAN.batches}, seeds=2, first_seed=200, seed_first=True)
    monkeypatch.setattr(runs, "PLANS", {"big": plan})
    monkeypatch.setattr(runs, "_facts", lambda plan, described: facts | {"study": described.model_dump(mode="json")})
    facts = dict(preset="cifar10", rules=judge.digest(), begun="", commit="", core_hours=0.0, device="", torch="")
    facts |= dict(python="", classes=10, batches={n: {**vars(b), "done": []} for n, b in plan.batches.items()})
    runs.make("big")
    assert [seeds for name, *_, seeds, _ in fake.asked if name != "barrier"] == [(200,)] * 3 + [(201,)] * 3
    assert not runs.reference("big").confirmatory


def test_claims_are_judged_at_the_level_that_a_plan_names(fake, monkeypatch):
    """Also where later batches go higher, done or not, as those of the curves of full-size CIFAR-10."""
    batches = {"first": Batch(("imp", "distilled"), (8,)), "curves": Batch(("imp", "distilled"), (4, 12))}
    for main, only, levels in ((None, [], {12}), (8, [], {8}), (8, ["first"], {8})):
        monkeypatch.setattr(runs, "PLANS", {"big": Plan("digits", batches, main=main, seeds=5, first_seed=200)})
        monkeypatch.setattr(judge.rules, "REGIMES", {})
        runs.make("big", only=only)
        kept = runs.reference("big")
        parts = [e for j in kept.judged() for e in j.parts if e.part.at in ("main", "fine", "high")]
        assert parts and {e.level for e in parts} == levels == {kept.regime.main}
        shutil.rmtree(runs.FOLDER)
    assert plans.PLANS["cifar10"].main == 8


def test_a_run_tells_all_machines_that_it_is_of_and_does_not_mix_devices(fake, monkeypatch):
    here = runs._facts

    def on(**machine):
        monkeypatch.setattr(runs, "_facts", lambda *given: here(*given) | machine)

    on(device="H200", torch="2.11", python="3.12")
    runs.make("digits", only=["second"])
    on(device="H100", torch="2.12", python="3.12")
    runs.make("digits", only=["second"])  # nothing is left of it
    facts = runs.reference("digits").facts
    assert (facts["device"], facts["torch"], facts["python"]) == ("H200", "2.11", "3.12")
    runs.make("digits", only=["first"])
    facts = runs.reference("digits").facts
    assert (facts["device"], facts["torch"], facts["python"]) == ("H200, H100", "2.11, 2.12", "3.12")
    on(device="cpu", torch="2.11", python="3.12")
    before = {f.name: f.read_bytes() for f in runs.FOLDER.iterdir()}
    with pytest.raises(ConfigError, match="was begun on H200, H100, and products are computed on cpu here"):
        runs.make("digits")
    assert {f.name: f.read_bytes() for f in runs.FOLDER.iterdir()} == before
