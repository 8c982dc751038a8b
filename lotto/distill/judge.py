"""What a small set is worth to a learner: fresh nets trained on it, and on its controls, in equal steps; last epoch, test images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from lotto import data, nets, parallel
from lotto.config import Config, Data, Images, Int, Net, Recipe, Study
from lotto.data import DataError, RealData, Split
from lotto.distill.sets import SetOf, distilled, make_sets, small_set, subset
from lotto.distill.synset import SynSet
from lotto.store import Product, cached
from lotto.streams import generator
from lotto.train import evaluate_splits, outcome, train


class Judging(Config):
    """One fresh net trained on one small set (or, for `real`, on all training images: the ceiling)."""

    data: Data
    images: Images
    net: Net
    recipe: Recipe
    seed: Annotated[Int, Field(ge=0)] = 0
    """Of the fresh net: its initialisation and its noise."""


@cached(version=1, uses=(distilled,))
def judged(what: Judging) -> Product:
    """Loss and error of that net on all three splits after its last step, and how it came out."""
    real = data.load(what.data)
    if what.images.kind == "real":
        return Product(taught(real.train, real, what.net, what.recipe, what.seed))
    small = small_set(SetOf(data=what.data, images=what.images))
    return Product(taught(small.split(), small.view(real), what.net, what.recipe, what.seed))


def taught(small: Split, real: RealData, net: Net, recipe: Recipe, seed: int = 0) -> dict[str, Any]:
    """One fresh net trained on `small` by `recipe`, after its last step: `state`, `images` and, unless it diverged, `train`, `held_out` and
    `test`, each with loss (nats) and error (in [0, 1]) on the real images, which have to be seen as `small` is (`SynSet.view`). The test
    images choose nothing."""
    seed = generator(seed, "judge").initial_seed()
    fresh = nets.build(net, real.shape, len(real.classes), seed).to(parallel.device())
    end = train(fresh, small.images.to(parallel.device()), small.labels.to(parallel.device()), recipe, seed=seed)
    if not end.finite:
        return {"state": "diverged"}
    fresh.load_state_dict(end.state)
    results = evaluate_splits(fresh, real)
    state = outcome(results["test"]["error"], real.test.labels.cpu(), finite=True, dead=False)
    return {"state": state, "images": len(small), **results}


def evaluate(
    small: SynSet | Split, real: RealData, nets: Mapping[str, Net], recipes: Mapping[str, Recipe], repeats: int = 5, seed: int = 0
):
    """Table of what any set in hand is worth, such as one that `SynSet.load` read: a row a (net, recipe, repeat), with the test and the
    held-out accuracy in points (None where the net diverged). Nothing is stored.

    Each repeat is a fresh net; the same repeat of another set has the same initial weights. Nets trained on a SynSet see the real images
    as they saw the set: in its normalisation, and whitened where it is. A Split goes with the real data as they are given. DataError where
    set and real data do not fit.
    """
    import pandas as pd

    if isinstance(small, SynSet):
        if tuple(small.images.shape[1:]) != real.shape or len(small.classes) != len(real.classes):
            raise DataError(
                f"the set has images of shape {tuple(small.images.shape[1:])} and {len(small.classes)} classes, the real data {real.shape} "
                f"and {len(real.classes)}; judge it on the data it was made for"
            )
        small, real = small.split(), small.view(real)
    rows = []
    for (on, net), (name, recipe), k in itertools.product(nets.items(), recipes.items(), range(repeats)):
        found = taught(small, real, net, recipe, 1000 * seed + k)
        errors = {split: found.get(split, {}).get("error") for split in ("test", "held_out")}
        test, held_out = (None if e is None else 100 * (1 - e) for e in errors.values())
        rows.append(dict(net=on, recipe=name, repeat=k, accuracy=test, held_out=held_out, state=found["state"]))
    return pd.DataFrame(rows)


def judging(study: Study, kind: str, ipc: int, seed: int, net: int, on: str = "convnet", recipe: str = "plain") -> Judging:
    """Net number `net` on the set of that kind and size that belongs to initialisation `seed`; `on` and `recipe` as in `study.judge_on` and
    `study.judge_recipes`."""
    return Judging(
        data=study.dataset,
        images=study.but(ipc=ipc).images(kind, seed),
        net=described(study, on),
        recipe=recipes(study)[recipe],
        seed=1000 * seed + net,
    )


def described(study: Study, on: str) -> Net:
    """The net that `on`, one of `study.judge_on`, names."""
    match = study.distillation
    if on == "convnet":
        return Net(name="convnet", width=match.width, depth=match.depth, norm="instance")
    return study.setup(0).net if on == "pruned" else Net(name=on, width=study.width, norm=study.norm)


def recipes(study: Study) -> dict[str, Recipe]:
    """The judges' recipes: equally many steps in each."""
    plain = study.outer.but(steps=study.judge_steps, lr=study.judge_lr, batch=study.judge_batch)
    return {"plain": plain, "augmented": plain.but(ops=("color", "scale", "rotate", "cutout"), cutmix=0.5)}


def make(study: Study) -> None:
    """Compute the distilled sets of all sizes, and their first tenth (what the notebook shows of the way)."""
    sets = [SetOf(data=study.dataset, images=study.but(ipc=i).images("distilled", s)) for i in study.ipcs for s in study.initialisations]
    sets += [stage(study, i, 0, steps) for i in study.ipcs for steps in stages(study)[:-1]]
    make_sets(sets)


def stages(study: Study) -> tuple[int, ...]:
    """Steps of the distillation at which it is shown: its start (real images), a tenth of the way, the end."""
    return tuple(dict.fromkeys((0, study.distill_steps // 10, study.distill_steps)))


def stage(study: Study, ipc: int, seed: int, steps: int) -> SetOf:
    """The distilled set as it is after so many steps."""
    return SetOf(data=study.dataset, images=study.but(ipc=ipc, distill_steps=steps).images("distilled", seed))


def judgements(study: Study):
    """Table of what sets are worth: a row a (method, level, seed), nets averaged; test accuracy in points (None where a net diverged).

    `method` is the kind of set, one of `study.judge_kinds`, or `real`: the same net on all training images, the ceiling; `level` the
    images a class (0 for `real`). Each seed has sets of its own; all nets take equally many steps. A net that only guesses counts: that
    is what its set is worth.
    """
    import pandas as pd

    make(study)
    cells = [dict(method=kind, level=i, seed=s) for kind in study.judge_kinds for i in study.ipcs for s in study.initialisations]
    cells += [dict(method="real", level=0, seed=s) for s in study.initialisations]
    return pd.DataFrame(_averaged(study, cells, "judge sets"))


def robustness(study: Study):
    """Table of what sets are worth in other nets and recipes: a row a (method, level, seed, net, recipe), fresh nets averaged; accuracy in
    points.

    Sets: `distilled`; `subset`, equally many real images stored, and, where a stored image holds several, as many real ones as it holds;
    and `real`, all training images. The first three are what the scores of `scored` are made of.
    """
    import pandas as pd

    make(study)
    sizes = sorted({i for ipc in study.ipcs for i in (ipc, ipc * study.distill_factor**2)})
    arms = [("distilled", i) for i in study.ipcs] + [("subset", i) for i in sizes] + [("real", 0)]
    cells = [
        dict(method=kind, level=i, seed=s, net=on, recipe=recipe)
        for kind, i in arms
        for s in study.initialisations
        for on in study.judge_on
        for recipe in study.judge_recipes
    ]
    return pd.DataFrame([{n: v for n, v in row.items() if n != "images"} for row in _averaged(study, cells, "judge robustness")])


def _averaged(study: Study, cells: list[dict[str, Any]], label: str) -> list[dict[str, Any]]:
    """The cells with the test accuracy in points, mean over the nets (None where one diverged), and how many images these saw."""
    what = [
        judging(study, c["method"], max(c["level"], 1), c["seed"], n, c.get("net", "convnet"), c.get("recipe", "plain"))
        for c in cells
        for n in range(study.judge_nets)
    ]
    found = iter(parallel.compute(judged, what, label))
    rows = []
    for cell in cells:
        each = [next(found).metrics for _ in range(study.judge_nets)]
        tested = [m["test"]["error"] for m in each if "test" in m]
        accuracy = 100 * (1 - sum(tested) / len(tested)) if len(tested) == len(each) else None
        rows.append({**cell, "accuracy": accuracy, "images": each[0].get("images")})
    return rows


def scored(table, weight: float = 0.5):
    """Label- and augmentation-robust scores of distilled sets (as the benchmark DD-Ranking defines them), from a table of `robustness`: a
    row a (level, net, seed).

    HLR = accuracy of all real images - of the distilled ones; IOR = of the distilled - of equally many real ones stored, in the same
    recipe, accuracies as shares. LRS = squash(weight x IOR - (1 - weight) x HLR), in the plain recipe; ARS = squash(weight x IOR augmented
    + (1 - weight) x IOR plain), where squash(a) = (e^a - e^-1) / (e - e^-1) maps -1 to 0 and 1 to 1. Higher is better. Labels here are hard
    and the recipe is the judge's own for all, so of the original's two accuracies of a set (hard labels, its own recipe) there is one.
    NaN where an accuracy is missing.
    """
    import pandas as pd

    shares = {(r.method, r.level, r.net, r.seed, r.recipe): r.accuracy / 100 for r in table.itertuples() if pd.notna(r.accuracy)}

    def share(method: str, level: int, *where) -> float:
        return shares.get((method, level, *where), math.nan)

    def squash(a: float) -> float:
        return (math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1))

    rows = []
    for level, net, seed in table[table.method == "distilled"][["level", "net", "seed"]].drop_duplicates().itertuples(index=False):
        plain, augmented = (share("distilled", level, net, seed, r) - share("subset", level, net, seed, r) for r in ("plain", "augmented"))
        lost = share("real", 0, net, seed, "plain") - share("distilled", level, net, seed, "plain")
        label, both = weight * plain - (1 - weight) * lost, weight * augmented + (1 - weight) * plain
        rows.append(dict(level=level, net=net, seed=seed, LRS=squash(label), ARS=squash(both)))
    return pd.DataFrame(rows, columns=["level", "net", "seed", "LRS", "ARS"])


def card(study: Study, ipc: int) -> dict[str, Any]:
    """All that is to be said of the study's distilled sets of `ipc` images a class, as plain data for JSON: what they are, what they cost
    here, and what they are worth beside real images, with intervals over the distillations."""
    here = study.but(ipcs=(ipc,))
    table = robustness(here)
    sets = [SetOf(data=here.dataset, images=here.but(ipc=ipc).images("distilled", s)) for s in here.initialisations]
    made, products = [small_set(w) for w in sets], [distilled(w) for w in sets]
    return {
        "set": {**_about(made[0]), "checksums": [m.checksum for m in made]},
        "cost": {
            "real images seen": products[0].metrics["real_passes"],
            "seconds": [round(p.info["seconds"], 1) for p in products],
            "device": products[0].info["device"],
            "torch": products[0].info["torch"],
        },
        "worth": {"distillations": here.seeds, "nets each": here.judge_nets, "steps": here.judge_steps, **_worth(table)},
    }


def card_of(small: SynSet, study: Study) -> dict[str, Any]:
    """The same for any set in hand (`SynSet.load` reads those of others), on the study's data, by its judges; one set, so no interval.

    The real images beside it, in equal number and all, are seen as the set is: whitened, where it is, in training and in tests.
    """
    import pandas as pd

    real = data.load(study.dataset)
    asked = {name: recipes(study)[name] for name in study.judge_recipes}
    ipc = max(1, len(small.images) // len(small.classes))
    seen, some = small.view(real), subset(real, ipc)
    equal = Split(small.normalise(some.images), some.labels)
    arms = {("distilled", ipc): (small, real), ("subset", ipc): (equal, seen), ("real", 0): (seen.train, seen)}
    tables = []
    for (method, level), pair in arms.items():
        found = evaluate(*pair, {on: described(study, on) for on in study.judge_on}, asked, study.judge_nets)
        means = found.groupby(["net", "recipe"], sort=False).accuracy.mean().reset_index()
        tables.append(means.assign(method=method, level=level, seed=0))
    about = {**_about(small), "checksums": [small.checksum]}
    return {"set": about, "worth": {"nets": study.judge_nets, "steps": study.judge_steps, **_worth(pd.concat(tables))}}


def _about(small: SynSet) -> dict[str, Any]:
    return {
        "classes": list(small.classes),
        "images stored": len(small.images),
        "images decoded": len(small.split()),
        "shape": list(small.images.shape[1:]),
        "factor": small.factor,
        "labels": "soft" if small.labels.is_floating_point() else "hard",
        "pixels": "ZCA-whitened, and so are the real images beside them" if small.whitening else "in [0, 1], not whitened",
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
        {"net": net, **{name: _interval(rows[name]) for name in ("LRS", "ARS")}} for net, rows in scored(table).groupby("net", sort=False)
    ]
    return {"accuracy": means, "scores": scores}


def _interval(values) -> dict[str, Any]:
    from lotto.stats import interval

    found = interval(list(values))
    return {name: None if v is None else round(v, 4) for name, v in (("mean", found.mean), ("low", found.low), ("high", found.high))} | {
        "n": found.n
    }


def costs(study: Study):
    """Table of what the distilled sets cost: a row a size, mean over distillations.

    `stored`: images; `real images seen` by the distillation, each time counted; `epochs`: the same in units of the training set;
    `updates` of the pixels.
    """
    import pandas as pd

    make(study)
    rows, whole = [], len(data.load(study.dataset).train)
    for i in study.ipcs:
        made = [distilled(stage(study, i, s, study.distill_steps)).metrics for s in study.initialisations]
        seen = sum(m["real_passes"] for m in made) // len(made)
        stored = i * len(made[0]["classes"])
        rows.append(
            {
                "images a class": i,
                "stored": stored,
                "real images seen": seen,
                "epochs": round(seen / whole, 1),
                "updates": study.distill_steps,
            }
        )
    return pd.DataFrame(rows)
