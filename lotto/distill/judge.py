"""What a small set is worth to a learner: fresh nets trained on it, and on its controls, in equal steps; last epoch, test images."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lotto import data, nets, parallel
from lotto.config import Config, Data, Images, Int, Net, Recipe, Study
from lotto.distill.sets import SetOf, distilled, inner_images, make_sets
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
    real, small = data.load(what.data), inner_images(what.data, what.images)
    seed = generator(what.seed, "judge").initial_seed()
    net = nets.build(what.net, real.shape, len(real.classes), seed).to(parallel.device())
    end = train(net, small.images, small.labels, what.recipe, seed=seed)
    if not end.finite:
        return Product({"state": "diverged"})
    net.load_state_dict(end.state)
    results = evaluate_splits(net, real)
    state = outcome(results["test"]["error"], real.test.labels.cpu(), finite=True, dead=False)
    return Product({"state": state, "images": len(small), **results})


def judging(study: Study, kind: str, ipc: int, seed: int, net: int) -> Judging:
    """Net number `net` on the set of that kind and size that belongs to initialisation `seed`."""
    recipe = study.outer.but(steps=study.judge_steps, lr=study.judge_lr, batch=study.judge_batch)
    match = study.distillation
    return Judging(
        data=study.dataset,
        images=study.but(ipc=ipc).images(kind, seed),
        net=Net(name="convnet", width=match.width, depth=match.depth, norm="instance"),
        recipe=recipe,
        seed=1000 * seed + net,
    )


def make(study: Study) -> None:
    """Compute the distilled sets of all sizes, and their first tenth (what the notebook shows of the way)."""
    sets = [SetOf(data=study.dataset, images=study.but(ipc=i).images("distilled", s)) for i in study.ipcs for s in range(study.seeds)]
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
    arms = [(kind, i, s) for kind in study.judge_kinds for i in study.ipcs for s in range(study.seeds)] + [
        ("real", 0, s) for s in range(study.seeds)
    ]
    what = [judging(study, kind, max(i, 1), s, n) for kind, i, s in arms for n in range(study.judge_nets)]
    found = iter(parallel.compute(judged, what, "judge sets"))
    rows = []
    for kind, i, s in arms:
        nets_ = [next(found).metrics for _ in range(study.judge_nets)]
        tested = [m["test"]["error"] for m in nets_ if "test" in m]
        accuracy = 100 * (1 - sum(tested) / len(tested)) if len(tested) == len(nets_) else None
        rows.append(dict(method=kind, level=i, seed=s, accuracy=accuracy, images=nets_[0].get("images")))
    return pd.DataFrame(rows)


def costs(study: Study):
    """Table of what the distilled sets cost: a row a size, mean over distillations.

    `stored`: images; `real images seen` by the distillation, each time counted; `epochs`: the same in units of the training set;
    `updates` of the pixels.
    """
    import pandas as pd

    make(study)
    rows, whole = [], len(data.load(study.dataset).train)
    for i in study.ipcs:
        made = [distilled(stage(study, i, s, study.distill_steps)).metrics for s in range(study.seeds)]
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
