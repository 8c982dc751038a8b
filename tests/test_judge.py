import json
import math

import pandas as pd
import pytest

from lotto import data, distill
from lotto.config import ConfigError
from lotto.distill import judge


def test_every_set_is_judged_in_equal_steps(tiny):
    study = tiny(seeds=2)
    table = judge.judgements(study)
    assert set(map(tuple, table[["method", "level"]].values)) == {(k, i) for k in study.judge_kinds for i in (1, 2)} | {("real", 0)}
    assert len(table) == 2 * (2 * 3 + 1) and table.accuracy.between(0, 100).all()
    assert sorted(set(table.images)) == [10, 20, 100]
    recipes = {judge.judging(study, k, i, s, 0).recipe for k in study.judge_kinds for i in (1, 2) for s in (0, 1)}
    assert len(recipes) == 1 and recipes.pop().steps == study.judge_steps


def test_fresh_nets_differ_and_the_same_one_is_the_same(tiny):
    study = tiny(judge_steps=30)
    a, b, c = (judge.judged.function(judge.judging(study, "subset", 2, 0, net)).metrics for net in (0, 1, 0))
    assert a == c and a["test"]["loss"] != b["test"]["loss"]


def test_stages_lead_from_real_images_to_the_set(tiny):
    study = tiny(distill_steps=20)
    assert judge.stages(study) == (0, 2, 20) and judge.stages(tiny(distill_steps=3)) == (0, 3)
    first, last = (distill.small_set(judge.stage(study, 2, 0, n)) for n in (0, 20))
    assert first.labels.equal(last.labels) and not first.images.equal(last.images)
    assert last.images.equal(distill.small_set(distill.SetOf(data=study.dataset, images=study.images("distilled", 0))).images)


def test_costs_are_counted(tiny):
    study = tiny(distill_steps=3, distill_batch=5)
    table = judge.costs(study)
    assert (
        table["real images seen"].tolist() == [3 * 5 * 10] * 2 and table.stored.tolist() == [10, 20] and table.epochs.tolist() == [1.5] * 2
    )


def test_a_net_that_diverges_leaves_its_set_without_an_accuracy(tiny):
    table = judge.judgements(tiny(judge_lr=1e30, ipcs=[1]))
    assert table.accuracy.isna().all() and len(table) == 4


def worth(**accuracies):
    """A table of `robustness` with one set of one size."""
    rows = []
    for name, accuracy in accuracies.items():
        method, recipe = name.split("_")
        rows.append(dict(method=method, level=0 if method == "real" else 10, seed=0, net="convnet", recipe=recipe, accuracy=accuracy))
    return pd.DataFrame(rows)


def test_scores_by_hand():
    plain = dict(distilled_plain=80.0, subset_plain=60.0, real_plain=90.0)
    found = judge.scored(worth(**plain, distilled_augmented=85.0, subset_augmented=75.0, real_augmented=92.0)).iloc[0]
    squash = lambda a: (math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1))  # noqa: E731
    assert found.LRS == pytest.approx(squash(0.5 * 0.2 - 0.5 * 0.1)) and found.ARS == pytest.approx(squash(0.5 * 0.1 + 0.5 * 0.2))
    # the best that can be: all that the real images give, and nothing from random ones; the worst, the other way round
    best = dict(distilled_plain=100.0, subset_plain=0.0, real_plain=100.0, distilled_augmented=100.0, subset_augmented=0.0)
    assert judge.scored(worth(**best)).iloc[0].ARS == pytest.approx(1)
    worst = dict(distilled_plain=0.0, subset_plain=100.0, real_plain=100.0, distilled_augmented=0.0, subset_augmented=100.0)
    assert judge.scored(worth(**worst)).iloc[0][["LRS", "ARS"]].tolist() == pytest.approx([0, 0])
    found = judge.scored(worth(**plain)).iloc[0]
    assert found.LRS == pytest.approx(squash(0.05)) and math.isnan(found.ARS)
    assert judge.scored(worth(**{**plain, "subset_plain": None})).iloc[0].isna().LRS


def test_robustness_judges_every_set_in_every_net_and_recipe_by_equal_steps(tiny):
    study = tiny(ipcs=[1], judge_on=["convnet", "resnet10"], distill_method="grad", distill_factor=2)
    table = judge.robustness(study)
    arms = {("distilled", 1), ("subset", 1), ("subset", 4), ("real", 0)}  # one image stored, four real ones in its place
    cells = {(m, i, n, r) for m, i in arms for n in study.judge_on for r in study.judge_recipes}
    assert set(table[["method", "level", "net", "recipe"]].itertuples(index=False, name=None)) == cells and len(table) == len(cells)
    assert {r.steps for r in judge.recipes(study).values()} == {study.judge_steps}
    assert judge.described(study, "pruned") == study.setup(0).net and judge.described(study, "resnet10").name == "resnet10"


def test_the_card_is_plain_data_and_says_what_the_set_is(tiny):
    study = tiny(seeds=2)
    found = judge.card(study, 2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["set"]["images stored"] == found["set"]["images decoded"] == 20 and found["set"]["shape"] == [1, 8, 8]
    sets = [distill.small_set(distill.SetOf(data=study.dataset, images=study.images("distilled", s))) for s in (0, 1)]
    assert found["set"]["checksums"] == [s.checksum for s in sets] and len(found["cost"]["seconds"]) == 2
    table = judge.robustness(study.but(ipcs=(2,)))
    here = next(r for r in found["worth"]["accuracy"] if r["set"] == "distilled" and r["recipe"] == "plain")
    rows = table[(table.method == "distilled") & (table.recipe == "plain")]
    assert here["mean"] == pytest.approx(rows.accuracy.mean(), abs=1e-4) and here["n"] == 2


def test_any_set_in_hand_is_judged_as_the_studys_are(tiny):
    study = tiny(judge_steps=30)
    real = data.load(study.dataset)
    small = distill.small_set(distill.SetOf(data=study.dataset, images=study.but(ipc=2).images("subset", 0)))
    table = judge.evaluate(small, real, {"convnet": judge.described(study, "convnet")}, judge.recipes(study), repeats=2)
    product = judge.judged(judge.judging(study, "subset", 2, 0, 1)).metrics
    assert len(table) == 4 and table[table.recipe == "plain"].accuracy.iloc[1] == pytest.approx(100 * (1 - product["test"]["error"]))
    with pytest.raises(data.DataError, match=r"the set has images of shape \(1, 8, 8\) and 10 classes, the real data \(1, 6, 6\) and 10"):
        judge.evaluate(small, data.load(data.Data(train_size=100, image_size=6)), {}, {})


def test_what_judges_is_named(tiny):
    with pytest.raises(ConfigError, match="judge_on: 'resnet99' is not a net; use pruned, resnet18"):
        tiny(judge_on=["resnet99"])
    with pytest.raises(ConfigError, match="judge_recipes: 'hard' is not known; use plain, augmented"):
        tiny(judge_recipes=["hard"])


def test_the_card_of_a_set_in_hand(tiny, tmp_path):
    study = tiny(judge_nets=2)
    small = distill.subset(data.load(study.dataset), 2, seed=5)
    small.save(tmp_path / "mine.safetensors")
    found = judge.card_of(distill.SynSet.load(tmp_path / "mine.safetensors"), study)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["set"]["checksums"] == [small.checksum]
    assert {(r["set"], r["recipe"]) for r in found["worth"]["accuracy"]} == {
        (m, r) for m in ("distilled", "subset", "real") for r in study.judge_recipes
    }
    assert found["worth"]["scores"][0]["LRS"]["n"] == 1
