"""Cards of sets: what they are, what they cost and what they are worth, as plain data for JSON."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lotto.data import Split
from lotto.distill.coresets import subset
from lotto.distill.judge import evaluate
from lotto.distill.synset import SynSet
from lotto.lab import sources
from lotto.lab.describe import SetOf
from lotto.lab.sets.products import distilled, small_set
from lotto.lab.sets.tables import described, recipes, robustness, scored
from lotto.lab.study import Study
from lotto.stats import interval


def card(study: Study, ipc: int) -> dict[str, Any]:
    """All that is to be said of the study's distilled sets of `ipc` images a class, as plain data for JSON: what they
    are, what they cost here, and what they are worth beside real images, with intervals over the distillations."""
    here = study.but(ipcs=(ipc,))
    table = robustness(here)
    sets = [SetOf(data=here.data, images=here.but(ipc=ipc).images("distilled", s)) for s in here.initialisations]
    made, products = [small_set(w) for w in sets], [distilled(w) for w in sets]
    return {
        "set": {**_about(made[0]), "checksums": [m.checksum for m in made]},
        "cost": {
            "real images seen": products[0].metrics["real_passes"],
            "seconds": [round(p.info["seconds"], 1) for p in products],
            "device": products[0].info["device"],
            "torch": products[0].info["torch"],
        },
        "worth": {
            "distillations": here.seeds,
            "nets each": here.judge.nets,
            "steps": here.judge.steps,
            **_worth(table),
        },
    }


def card_of(small: SynSet, study: Study) -> dict[str, Any]:
    """The same for any set in hand (`SynSet.load` reads those of others), on the study's data, by its judges; one set,
    so no interval.

    The real images beside it, in equal number and all, are seen as the set is: whitened, where it is, in training and
    in tests.
    """
    real = sources.load(study.data)
    asked = {name: recipes(study)[name] for name in study.judge.recipes}
    ipc = max(1, len(small.images) // len(small.classes))
    seen, some = small.view(real), subset(real, ipc)
    equal = Split(small.normalise(some.images), some.labels)
    arms = {("distilled", ipc): (small, real), ("subset", ipc): (equal, seen), ("real", 0): (seen.train, seen)}
    tables = []
    for (method, level), pair in arms.items():
        found = pd.DataFrame(
            evaluate(*pair, {on: described(study, on) for on in study.judge.on}, asked, study.judge.nets)
        )
        means = (
            found.groupby(["net", "recipe"], sort=False)
            .accuracy.agg(lambda each: each.mean(skipna=False))
            .reset_index()
        )
        tables.append(means.assign(method=method, level=level, seed=0))
    about = {**_about(small), "checksums": [small.checksum]}
    return {"set": about, "worth": {"nets": study.judge.nets, "steps": study.judge.steps, **_worth(pd.concat(tables))}}


def _about(small: SynSet) -> dict[str, Any]:
    return {
        "classes": list(small.classes),
        "images stored": len(small.images),
        "images decoded": len(small.split()),
        "shape": list(small.images.shape[1:]),
        "factor": small.factor,
        "labels": "soft" if small.labels.is_floating_point() else "hard",
        "pixels": "ZCA-whitened, and so are the real images beside them"
        if small.whitening
        else "in [0, 1], not whitened",
        "mean": [round(x, 6) for x in small.mean.tolist()],
        "std": [round(x, 6) for x in small.std.tolist()],
        "recipe": {k: v for k, v in small.recipe.items() if k not in ("seed", "learned_lr")},
    }


def _worth(table) -> dict[str, Any]:
    means = [
        dict(zip(("set", "images a class", "net", "recipe"), key, strict=True)) | _interval(rows.accuracy)
        for key, rows in table.groupby(["method", "level", "net", "recipe"], sort=False)
    ]
    scores = [
        {"net": net, **{name: _interval(rows[name]) for name in ("LRS", "ARS")}}
        for net, rows in scored(table).groupby("net", sort=False)
    ]
    return {"accuracy": means, "scores": scores}


def _interval(values) -> dict[str, Any]:

    found = interval(list(values))
    return {
        name: None if v is None else round(v, 4)
        for name, v in (("mean", found.mean), ("low", found.low), ("high", found.high))
    } | {"n": found.n}
