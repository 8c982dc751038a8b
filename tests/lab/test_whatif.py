"""What a study would cost, what is missing of it, and computing it in the background: the store is asked, nothing is
trained but where a test says so."""

import json
import os
import signal
import sys
import time

import pytest

import lotto
from lotto.lab import parallel
from lotto.lab.explore import background, costs, whatif
from lotto.lab.stability.products import segments
from lotto.lab.store import root
from lotto.lab.tickets.products import trained


class NoRates(costs.Rates):
    """One second a unit, so that no test waits for a trial."""

    def __init__(self):
        self.device, self.seconds = "none", {}

    def of(self, need):
        known = costs.size(need.function.stage, need.description.model_dump(mode="json"))
        return known[0] if known else 0.0


@pytest.fixture
def study(tiny, own_store, monkeypatch):
    monkeypatch.setenv("LOTTO_JOBS", "1")  # workers that other tests began would write to those tests' store
    return tiny(methods=["dense", "imp"], levels=[1], ipc=1)


def test_what_is_needed_is_what_is_computed(study):
    """The list of needs, made without computing, names exactly the products that computing leaves in the store."""
    found = costs.needs(study)
    assert not root().exists() or not list(root().glob("*/*/done.json")), "nothing is computed by asking"
    assert not any(need.stored for need in found)
    segments(study)
    made = {f.parent for f in root().glob("*/*/done.json")}
    assert {need.folder for need in found} == made
    assert all(need.stored for need in found)


def test_a_cost_is_split_into_what_is_there_and_what_is_missing(study):
    before = costs.totals(costs.needs(study), NoRates())
    # 12 steps: two children of the dense net and two of the ticket, one inner loop; 3 points a path
    assert before == {
        "inner loops": (0.0, 12.0, 1),
        "trainings of tickets": (0.0, 48.0, 4),
        "paths": (0.0, 6.0, 2),
    }
    parallel.compute(trained, [study.training("dense", 0, study.first_seed, 1)])
    after = costs.totals(costs.needs(study), NoRates())
    assert after["trainings of tickets"] == (12.0, 36.0, 3)


def test_rates_are_those_of_like_products(study):
    parallel.compute(trained, [study.training("dense", 0, study.first_seed, 1)])
    rates, (need,) = costs.Rates(), [n for n in costs.needs(study) if n.stored and n.function is trained]
    took = trained(need.description).info["seconds"]
    assert rates.of(need) == pytest.approx(took)
    longer = need._replace(description=need.description.but(recipe=need.description.recipe.but(steps=120)))
    assert rates.of(longer) == pytest.approx(10 * took)
    other = need._replace(description=need.description.but(recipe=need.description.recipe.but(batch=16)))
    assert rates.of(other) > 0, "a training like none before is tried for a few steps"


def test_a_figure_of_costs_and_curves(study):
    cost = {"paths": (60.0, 120.0, 3)}
    fig = whatif.figure(study, cost, [(0, [20.0]), (1, [3.0])], [(0, [21.0, 23.0])], "barrier", 2)
    there, missing, reference, own = fig.data
    assert (list(there.x), list(missing.x)) == ([0, 0, 0, 1], [0, 0, 0, 2])
    assert list(own.y) == [20, 3] and list(reference.y) == [22]
    assert "3 products to compute, about a minute on 2 cores" in fig.layout.title.text
    done = whatif.figure(study, {"paths": (60.0, 0.0, 0)}, [], [], "accuracy", 2)
    assert "all is in the store" in done.layout.title.text and len(done.data) == len(fig.data)


def test_the_reference_stands_at_its_own_sparsities():
    """Whatever share of the weights a round of the study that is meant removes."""
    meant = lotto.study("digits", methods=["dense", "imp"], fraction=0.5)
    left = [x for x, _ in whatif.Plans(meant).reference(meant, "barrier")]
    assert left[0] == 100 and left[-1] == pytest.approx(0.47, abs=0.01)


def test_a_curve_grows_with_the_store(study):
    plans = whatif.Plans(study)
    meant = plans.meant("imp", {})
    assert plans.curve(meant, "accuracy") == []
    segments(study.but(methods=("dense",)))
    assert [left for left, _ in plans.curve(meant, "accuracy")] in ([100], []), "a net that fails has no point"
    segments(meant)
    whatif.Plans(study).curve(meant, "accuracy")
    assert all(need.stored for need in plans.needs(meant))


def test_headless_it_is_a_figure_by_method(study, monkeypatch):
    shown = []
    monkeypatch.setattr("lotto.lab.explore.controls.show", shown.append)
    monkeypatch.setattr(whatif, "Rates", NoRates)
    assert whatif.explorer(study.but(methods=("dense", "imp", "distilled"))) is None
    assert [f.name for f in shown[0].frames] == ["IMP", "distilled"]


class Pretended:
    """Stands for a computation in the background: it runs until the test ends it."""

    begun = []

    def __init__(self, study):
        self.running = True
        self.begun.append(self)

    def told(self):
        return "at work" if self.running else "finished"

    def stop(self):
        self.running = False


def test_a_choice_that_cannot_be_does_not_lose_the_work_that_runs(study, monkeypatch):
    monkeypatch.setattr(whatif, "Rates", NoRates)
    monkeypatch.setattr(whatif, "Background", Pretended)
    monkeypatch.setattr(Pretended, "begun", [])
    shortly = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: shortly(min(seconds, 0.05)))
    monkeypatch.delenv("LOTTO_HEADLESS", raising=False)
    box = whatif.explorer(study, rewind=[3, 10**6])
    *controls, buttons, _, message = box.children
    go_on, stop, line = buttons.children
    rewind = next(c for c in controls if c.description == "rewind")
    rewind.value = 3
    go_on.click()
    go_on.disabled = False
    go_on.click()  # a second click that was on its way
    assert len(Pretended.begun) == 1 and line.value in ("starting", "at work")
    rewind.value = 10**6  # beyond the steps of a training
    time.sleep(0.2)
    rewind.value = 3
    Pretended.begun[0].running = False
    until(lambda: stop.disabled, limit=10)
    assert line.value == "finished" and not go_on.disabled


def test_products_of_an_older_lotto_have_no_rate(study):
    parallel.compute(trained, [study.training("dense", 0, study.first_seed, 1)])
    (made,) = (root() / "trained").iterdir()
    old = json.loads((made / "config.json").read_text())
    del old["config"]["recipe"]["precision"]
    (made / "config.json").write_text(json.dumps(old))
    assert costs.Rates().seconds == {}


def until(there, limit=240.0):
    end = time.monotonic() + limit
    while not there():
        assert time.monotonic() < end, f"waited {limit:g} s"
        time.sleep(0.2)


@pytest.mark.slow
def test_the_background_computes_the_study_that_is_meant(study):
    work = background.Background(study)
    until(lambda: not work.running)
    assert work.told() == "finished"
    assert all(need.stored for need in costs.needs(study)), "its parameters reach the other process unchanged"


@pytest.mark.slow
def test_stopping_ends_all_processes_and_keeps_what_is_finished(study, monkeypatch):
    monkeypatch.setenv("LOTTO_JOBS", "2")
    long = study.but(steps=100_000, rewind=3)
    work = background.Background(long)
    until(
        lambda: list(root().glob("*/.*.partial")) or list(root().glob("rewind_point/*/done.json")) or not work.running
    )
    assert work.running, work.told()
    began = time.monotonic()
    work.stop(limit=5.0)
    assert time.monotonic() - began < 30
    assert work.told() == "stopped; what was finished is kept"
    if sys.platform == "linux":
        with pytest.raises(ProcessLookupError):
            os.killpg(work.process.pid, signal.SIGTERM)
    assert all(need.stored for need in costs.needs(long) if need.folder.exists()), "nothing half-written is there"


@pytest.mark.slow
def test_an_error_in_the_background_is_one_sentence(study, monkeypatch):
    monkeypatch.setenv("LOTTO_JOBS", "0")
    work = background.Background(study)
    work.process.wait(240)
    assert work.told() == "failed: jobs = '0': give a whole number from 1"
    folder = work.folder
    del work
    assert not folder.exists(), "what it was told in is left behind"
