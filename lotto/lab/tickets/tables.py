"""Tables of tickets: what they reach, where their weights are, what finding them costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lotto.lab import sources
from lotto.lab.arms import ARMS
from lotto.lab.describe import Judges, SetOf, Ticket
from lotto.lab.product import Product
from lotto.lab.sets.products import made_of, small_set
from lotto.lab.study import Cell, Study
from lotto.lab.tables import batches, mean, rows, worst
from lotto.lab.tickets.products import children, inner_loop, levels, trained


def accuracies(study: Study) -> pd.DataFrame:
    """Table of the tickets: one row per (method, level, seed), children averaged; accuracy in points, where a child
    that has none counts as guessing, `state` the worst of theirs, `steps` those of the dense training up to step k and
    of the ticket's, together."""
    runs = children(study)
    masks = [p.metrics for p in levels(study)]
    return rows(study.cells(), [_reached(study, *each) for each in zip(study.cells(), masks, runs, strict=True)])


def _reached(study: Study, cell: Cell, mask: dict[str, Any], runs: Sequence[Product]) -> dict[str, Any]:
    before = study.rewind * ARMS[cell.method].from_k
    tested = [p.metrics["test"] for p in runs if p.metrics.get("test")]
    errors = [t["error"] for t in tested] + [1 - 1 / len(sources.load(study.data).classes)] * (len(runs) - len(tested))
    return dict(
        state=worst([p.metrics["state"] for p in runs]),
        density=mask["live"] / mask["prunable"],
        live=mask["live"],
        steps=before + runs[0].metrics.get("steps", study.outer.steps - before),
        collapsed=len(mask["collapsed"]),
        accuracy=100 * (1 - sum(errors) / len(errors)),
        test_loss=mean([t["loss"] for t in tested]),
        train_loss=mean([p.metrics["train"]["loss"] for p in runs if p.metrics.get("train")]),
    )


def costs(study: Study) -> pd.DataFrame:
    """Table of what a search costs: one row per (method, level), mean over initialisations, from the first round to
    that level.

    `stored` and `decoded`: images of the largest set that a round looks at, as they are kept and as nets see them (one
    stored image may hold several); `passes`: images that inner loops or gradient scores see, each time counted; `with
    distillation`: plus the real images that making the set looked at, by distillation or by the nets that score images
    for a coreset; and IMP's passes over these two ("x fewer"). `core-seconds`: what the inner loops and the set took
    when they were made, on the machine that made them; what scoring without a training takes is not in it. Training the
    ticket afterwards costs every method the same and is not in it.
    """
    levels(study)
    found = []
    for cells in batches(study.cells(dense=False), study.seeds):
        each = [_cost(study.ticket(*cell)) for cell in cells]
        mean = {k: sum(e[k] for e in each) / len(each) for k in ("passes", "making", "seconds")}
        imp = cells[0].level * study.outer.steps * min(study.outer.batch, len(sources.load(study.data).train))
        row = {
            "method": cells[0].method,
            "level": cells[0].level,
            "stored": max(e["stored"] for e in each),
            "decoded": max(e["decoded"] for e in each),
            "passes": round(mean["passes"]),
        }
        row |= {"with distillation": round(mean["passes"] + mean["making"]), "core-seconds": round(mean["seconds"], 1)}
        for column in ("passes", "with distillation"):
            row[f"x fewer {column}"] = round(imp / row[column], 2) if row[column] else None
        found.append(row)
    return pd.DataFrame(found)


def _cost(ticket: Ticket) -> dict[str, float]:
    ticket = ticket.but(then=None)
    runs = [trained(inner_loop(ticket.upto(r + 1))) for r, part in enumerate(ticket.rounds) if part.recipe]
    looks = [(part.score, SetOf(data=ticket.setup.data, images=part.images)) for part in ticket.rounds if part.images]
    sizes = {what: _sizes(what) for what in dict.fromkeys(what for _, what in looks)}
    made = {pair: pair[0](pair[1]) for what in sizes for pair in made_of(what)}
    gradients = sum(_GRADIENTS.get(score, 0) * sizes[what][1] for score, what in looks)
    return {
        "stored": max((stored for stored, _ in sizes.values()), default=0),
        "decoded": max((decoded for _, decoded in sizes.values()), default=0),
        "passes": sum(r.metrics["passes"] for r in runs) + gradients,
        "making": sum(_looked_at(what, product) for (_, what), product in made.items()),
        "seconds": sum(p.info["seconds"] for p in [*runs, *made.values()]),
    }


_GRADIENTS = {"snip": 1, "grasp": 2}
"""Score -> backward passes that it takes over its images."""


def _sizes(what: SetOf) -> tuple[int, int]:
    """(stored, decoded) images of a set."""
    if what.images.kind == "real":
        return (n := len(sources.load(what.data).train), n)
    small = small_set(what)
    return len(small.images), len(small.images) * small.factor**2


def _looked_at(what: SetOf | Judges, made: Product) -> int:
    """Real images that a product looked at which small sets are made of, each time counted."""
    if isinstance(what, SetOf):
        return made.metrics["real_passes"]
    every = made.metrics["images"]
    return what.nets * (what.recipe.steps * min(what.recipe.batch, every) + every)
