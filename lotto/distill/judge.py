"""What a small set is worth to a learner: fresh nets trained on it, in equal steps; last epoch, test images."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from lotto import nets
from lotto.config import Net, Recipe
from lotto.data import DataError, RealData, Split
from lotto.distill.synset import SynSet, check_classes
from lotto.streams import generator
from lotto.train import evaluate_splits, outcome, train


def taught(small: Split, real: RealData, net: Net, recipe: Recipe, seed: int = 0) -> dict[str, Any]:
    """One fresh net trained on `small` by `recipe`, after its last step: `state`, `images` and, unless it diverged,
    `train`, `held_out` and `test`, each with loss (nats) and error (in [0, 1]) on the real images, which have to be
    seen as `small` is (`SynSet.view`). The test images choose nothing."""
    seed = generator(seed, "judge").initial_seed()
    device = real.train.images.device
    fresh = nets.build(net, real.shape, len(real.classes), seed).to(device)
    end = train(fresh, small.images.to(device), small.labels.to(device), recipe, seed=seed)
    if not end.finite:
        return {"state": "diverged"}
    fresh.load_state_dict(end.state)
    results = evaluate_splits(fresh, real)
    state = outcome(results["test"]["error"], real.test.labels.cpu(), finite=True, dead=False)
    return {"state": state, "images": len(small), **results}


def evaluate(
    small: SynSet | Split,
    real: RealData,
    nets: Mapping[str, Net],
    recipes: Mapping[str, Recipe],
    repeats: int = 5,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """What any set in hand is worth, such as one that `SynSet.load` read: one row per (net, recipe, repeat), with the
    test and the held-out accuracy in points (None where the net diverged). Nothing is stored; pandas makes a table of
    the rows as they are.

    Each repeat is a fresh net; the same repeat of another set has the same initial weights. Nets trained on a SynSet
    see the real images as they saw the set: in its normalisation, and whitened where it is. A Split goes with the real
    data as they are given. DataError where set and real data do not fit.
    """
    if isinstance(small, SynSet):
        if tuple(small.images.shape[1:]) != real.shape or len(small.classes) != len(real.classes):
            raise DataError(
                f"the set has images of shape {tuple(small.images.shape[1:])} and {len(small.classes)} classes, the "
                f"real data {real.shape} and {len(real.classes)}; judge it on the data it was made for"
            )
        check_classes(small, real)
        small, real = small.split(), small.view(real)
    rows = []
    for (on, net), (name, recipe), k in itertools.product(nets.items(), recipes.items(), range(repeats)):
        found = taught(small, real, net, recipe, 1000 * seed + k)
        errors = {split: found.get(split, {}).get("error") for split in ("test", "held_out")}
        test, held_out = (None if e is None else 100 * (1 - e) for e in errors.values())
        rows.append(dict(net=on, recipe=name, repeat=k, accuracy=test, held_out=held_out, state=found["state"]))
    return rows
