"""Tables of tickets: what they reach, where their weights are, what finding them costs."""

from __future__ import annotations

import itertools

import pandas as pd

from lotto.lab.arms import ARMS
from lotto.lab.describe import SetOf, Ticket
from lotto.lab.sets.products import distilled
from lotto.lab.study import Study
from lotto.lab.tables import arms_at, mean, worst
from lotto.lab.tickets.products import children, inner_loop, level, search, trained


def accuracies(study: Study):
    """Table of the tickets: a row a (method, level, seed), children averaged; accuracy in points, `state` the worst of theirs, `steps`
    those of the dense training up to step k and of the ticket's, together."""

    rows = []
    for (m, at, seed), group in itertools.groupby(children(study), key=lambda r: r[:3]):
        products = [r[4] for r in group]
        states = [p.metrics["state"] for p in products]
        ticket = level(study.ticket(m, at, seed)).metrics
        tested = [p.metrics["test"] for p in products if p.metrics.get("test")]
        rows.append(
            dict(
                method=m,
                level=at,
                seed=seed,
                state=worst(states),
                density=ticket["live"] / ticket["prunable"],
                live=ticket["live"],
                steps=study.rewind * ARMS[m].from_k + products[0].metrics.get("steps", study.outer.steps - study.rewind * ARMS[m].from_k),
                collapsed=len(ticket["collapsed"]),
                accuracy=100 * (1 - sum(t["error"] for t in tested) / len(tested)) if tested else None,
                test_loss=mean([t["loss"] for t in tested]),
                train_loss=mean([p.metrics["train"]["loss"] for p in products if p.metrics.get("train")]),
            )
        )
    return pd.DataFrame(rows)


def densities(study: Study):
    """Table of live weights: a row a (method, level, seed, layer), with `live`, `size` and `density`."""

    search(study)
    # in the model's order, which the dense level keeps; a mask read from its file comes sorted by name
    layers = list(level(study.ticket("dense", 0, 0)).metrics["layer_live"])
    rows = []
    for method, at in arms_at(study):
        for seed in study.initialisations:
            m = level(study.ticket(method, at, seed)).metrics
            rows += [
                dict(
                    method=method,
                    level=at,
                    seed=seed,
                    layer=n,
                    live=m["layer_live"][n],
                    size=m["layer_size"][n],
                    density=m["layer_live"][n] / m["layer_size"][n],
                )
                for n in layers
            ]
    return pd.DataFrame(rows)


def costs(study: Study):
    """Table of what a search costs: a row a (method, level), mean over initialisations, from the first round to that level.

    `stored` and `decoded`: different images its inner loops train on (equal here: an image is stored as it is used); `passes`: images
    seen in the inner loops, each time counted; `with distillation`: plus the real images that making the set looked at; and IMP's passes
    over these two ("x fewer"). `core-seconds`: what the products of the search took when they were made (distillation included), on the
    machine that made them. Training the ticket afterwards costs every method the same and is not in it.
    """

    search(study)
    rows = []
    for m in study.arms:
        if ARMS[m].dense:
            continue
        for at in study.levels:
            found = [_cost(study.ticket(m, at, seed)) for seed in study.initialisations]
            mean = {k: sum(f[k] for f in found) / len(found) for k in ("passes", "making", "seconds")}
            stored, imp = max(f["stored"] for f in found), at * study.outer.steps * study.outer.batch
            row = {"method": m, "level": at, "stored": stored, "decoded": stored, "passes": round(mean["passes"])}
            row |= {"with distillation": round(mean["passes"] + mean["making"]), "core-seconds": round(mean["seconds"], 1)}
            for column in ("passes", "with distillation"):
                row[f"x fewer {column}"] = round(imp / row[column], 2) if row[column] else None
            rows.append(row)
    return pd.DataFrame(rows)


def _cost(ticket: Ticket) -> dict[str, float]:
    ticket = ticket.but(then=None)
    runs = [trained(inner_loop(ticket.upto(r + 1))) for r, part in enumerate(ticket.rounds) if part.recipe]
    sets = {part.images.but(kind="distilled") for part in ticket.rounds if part.images and part.images.distill}
    made = [distilled(SetOf(data=ticket.setup.data, images=i)) for i in sets]
    return {
        "stored": max((r.metrics["images"] for r in runs), default=0),
        "passes": sum(r.metrics["passes"] for r in runs),
        "making": sum(p.metrics["real_passes"] for p in made),
        "seconds": sum(p.info["seconds"] for p in [*runs, *made]),
    }
