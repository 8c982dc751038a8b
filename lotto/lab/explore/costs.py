"""What a study would cost here: which of its products are not in the store, and how long similar ones took. Nothing is
computed, except a few timed steps if the store has no similar product."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lotto.lab import sources
from lotto.lab.describe import Setup
from lotto.lab.device import device_name, single_thread
from lotto.lab.product import _read
from lotto.lab.sets.products import estimate
from lotto.lab.stability.products import pairs, segment
from lotto.lab.store import Cached, root
from lotto.lab.study import Study
from lotto.lab.tickets.products import inner_loop, level, network, trained
from lotto.lab.timing import seconds_of
from lotto.stability import path
from lotto.train import train


class Need(NamedTuple):
    """One product that a study asks for."""

    function: Cached
    description: Any
    folder: Path

    @property
    def stored(self) -> bool:
        """Whether it is in the store."""
        return (self.folder / "done.json").exists()

    @property
    def part(self) -> str:
        """The part of a study's cost that it counts to, one of `ORDER`."""
        if self.function is trained:
            return "inner loops" if self.description.child == 0 else "trainings of tickets"
        return PARTS.get(self.function.stage, "other")


PARTS = {"distilled": "distillation", "segment": "paths"}
ORDER = ("distillation", "inner loops", "trainings of tickets", "paths", "other")
"""The parts of a study's cost, in the order in which they are computed."""


Known = dict[tuple[str, Any], Need]
"""(stage, description) -> the need: a product's folder takes a while to compute, so it is computed once."""


def needs(study: Study, known: Known | None = None) -> list[Need]:
    """All products that the curves of a study (accuracy, barrier) are made from, each once, in the store or not.

    known: needs found before; new ones are added to it.
    """
    known = {} if known is None else known
    found: Known = {}
    waiting = [(segment, pair) for cell in study.cells() for pair in pairs(study, cell)]
    while waiting:
        function, what = waiting.pop()
        name = function.stage, what
        if name not in found:
            if name not in known:
                known[name] = Need(function, what, function.folder(what))
            found[name] = known[name]
            waiting += _made_from(function, what)
    return list(found.values())


def _made_from(function: Cached, what: Any) -> Iterable[tuple[Cached, Any]]:
    yield from function.plan.needs(what)
    if (before := function.plan.through(what)) is not None:
        yield function, before
    if function is level and not what.then and what.rounds and what.rounds[-1].recipe:
        yield trained, inner_loop(what)  # the search trains it itself, on the way to its mask


def size(stage: str, what: Mapping[str, Any]) -> tuple[float, str] | None:
    """(units of work, a text that products with the same time per unit share) of a product, from its description as
    plain data; None for one whose own time is negligible beside that of what it is made from."""
    if stage == "trained":
        setup, recipe = what["ticket"]["setup"], what["recipe"]
        like = [setup["net"], setup["data"], recipe["batch"], recipe["precision"]]
        return recipe["steps"] - recipe["first"], json.dumps([stage, like], sort_keys=True)
    if stage == "segment":
        setup = what["a"]["ticket"]["setup"]
        return what["points"], json.dumps([stage, setup["net"], setup["data"], what["train_images"]], sort_keys=True)
    if stage == "distilled":
        recipe = dict(what["images"]["distill"])
        return recipe.pop("steps"), json.dumps([stage, what["data"], recipe], sort_keys=True)
    if stage in ("level", "rewind_point"):
        return None  # a level's time holds that of its inner loops, which are counted themselves
    return 1.0, json.dumps([stage, {n: v for n, v in what.items() if n not in ("seed", "number")}], sort_keys=True)


class Rates:
    """Seconds per unit of work: the median of the stored products that a device of this name made (on another machine
    too, where a store is shared), or a trial if there is none."""

    def __init__(self) -> None:
        self.device, took = device_name(), {}
        self.asked: dict[Need, float] = {}
        for folder in root().glob("*/*") if root().exists() else ():
            try:
                done, what = _read(folder / "done.json"), _read(folder / "config.json")
                known = size(folder.parent.name, what["config"]) if done.get("device") == self.device else None
            except (OSError, ValueError, KeyError, TypeError):  # damaged, or described as an older lotto did
                continue
            if known and known[0]:
                took.setdefault(known[1], []).append(done["seconds"] / known[0])
        self.seconds: dict[str, float] = {like: statistics.median(each) for like, each in took.items()}

    def of(self, need: Need) -> float:
        """Seconds that a product takes, alone on one core."""
        if need not in self.asked:
            known = size(need.function.stage, need.description.model_dump(mode="json"))
            units, like = known or (0.0, "")
            if known and like not in self.seconds:
                self.seconds[like] = trial(need)
            self.asked[need] = units * self.seconds.get(like, 0.0)
        return self.asked[need]


STEPS = 4
"""Steps of a trial: enough to see how long one takes, few enough not to be noticed."""


def trial(need: Need) -> float:
    """Seconds per unit of work, from a few units computed here and thrown away; 0 for products that cannot be tried."""
    what = need.description
    with single_thread():
        if need.function is trained:
            model, real = network(_start(what.ticket.setup)), sources.load(what.ticket.setup.data).train
            recipe = what.recipe.but(first=0, steps=max(what.recipe.steps, STEPS))

            def steps(number: int) -> None:
                train(model, real.images, real.labels, recipe, child=0, stop=number)

            steps(1)
            return seconds_of(lambda: steps(STEPS)) / STEPS
        if need.function is segment:
            setup = what.a.ticket.setup
            model, real = network(_start(setup)), sources.load(setup.data)
            state, some = model.state_dict(), real.train.first(what.train_images)
            return seconds_of(lambda: path(model, state, state, some, real.test, 3)) / 3
        if need.function.stage == "distilled":
            return estimate(what)["step_seconds"]
    return 0.0


def _start(setup: Setup) -> Setup:
    return setup.but(rewind=0)


def totals(found: Iterable[Need], rates: Rates) -> dict[str, tuple[float, float, int]]:
    """Part -> (seconds on one core of the stored products, seconds of those to be computed, number of those to be
    computed)."""
    parts = {part: (0.0, 0.0, 0) for part in ORDER}
    for need in found:
        kept, more, count = parts[need.part]
        seconds = rates.of(need)
        parts[need.part] = (
            (kept + seconds, more, count) if need.stored else (kept, more + seconds, count + bool(seconds))
        )
    return {part: v for part, v in parts.items() if v[0] or v[1]}
