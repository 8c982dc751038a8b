import json
import math

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from lotto import nets
from lotto.config import ConfigError, Net
from lotto.data import DataError
from lotto.distill import export, judge, loop, trajectories
from lotto.distill.coresets import subset
from lotto.distill.recipes import Distill, Gradient, Trajectory
from lotto.distill.synset import SynSet
from lotto.lab import sources
from lotto.lab.check import check
from lotto.lab.describe import Data, Judges, SetOf
from lotto.lab.sets import cards, figures, products, tables
from lotto.lab.tickets.products import level


@pytest.fixture(scope="module")
def real(digits):
    return digits(200)


@pytest.mark.parametrize("kind", ["easy", "herding", "kcenter", "patches"])
def test_sets_through_the_study(tiny, kind):
    study = tiny()
    small = products.small_set(SetOf(data=study.data, images=study.images(kind, 0)))
    assert len(small.images) == 20
    assert small.recipe["method"] == kind
    inner = products.inner_images(study.data, study.images(kind, 0))
    assert len(inner) == (80 if kind == "patches" else 20)
    other = products.small_set(SetOf(data=study.data, images=study.images(kind, 1)))
    assert not torch.equal(other.images, small.images)  # fresh nets of another seed


def test_inner_images_are_normalised_like_the_real_ones(real, tiny):
    study = tiny(train_size=200)
    small = products.small_set(SetOf(data=study.data, images=study.images("subset", 0)))
    split = products.inner_images(study.data, study.images("subset", 0))
    assert torch.allclose(split.images.cpu(), real.normalise(small.images.to(real.mean.device)).cpu(), atol=1e-5)
    assert torch.equal(products.inner_images(study.data, study.images("real", 0)).images, real.train.images)


def test_difficulty_finds_a_wrong_label(tiny):
    study = tiny(train_size=None)
    scores = products.difficulty(Judges(data=study.data, nets=1)).tensors["el2n"]
    assert scores.shape == (1200,)
    assert 0 <= float(scores.min()) <= float(scores.max()) <= 2**0.5 + 1e-6
    # what the nets of another seed get wrong is what these find hard
    other = products.difficulty(Judges(data=study.data, nets=1, seed=1)).tensors["el2n"]
    assert float(scores[other.argsort()[-60:]].mean()) > 2 * float(scores.mean())


def test_a_set_of_ones_own_is_an_arm(tiny, tmp_path):
    plain = tiny(train_size=200)
    made = products.small_set(SetOf(data=plain.data, images=plain.images("distilled", 0)))
    made.save(tmp_path / "set-0.safetensors")
    study = plain.but(own_set=str(tmp_path / "set-{seed}.safetensors"), methods=("own", "distilled"))
    check(study)
    masks = [level(study.ticket(m, 2, 0)).tensors for m in ("own", "distilled")]
    assert masks[0].keys() == masks[1].keys()
    assert all(masks[0][n].equal(masks[1][n]) for n in masks[0])
    before = level.key(study.ticket("own", 2, 0))
    subset(sources.load(plain.data), 2).save(tmp_path / "set-0.safetensors")  # another set under the same name
    assert level.key(study.ticket("own", 2, 0)) != before
    with pytest.raises(DataError, match="set-1.safetensors: no such file"):
        check(study.but(seeds=2))
    other = subset(sources.load(Data(train_size=200, image_size=6)), 2)
    other.save(tmp_path / "set-0.safetensors")
    with pytest.raises(
        DataError,
        match=r"images of shape \(1, 6, 6\) and 10 classes, the real data \(1, 8, 8\) and 10; use it with the data",
    ):
        check(study)
    with pytest.raises(ConfigError, match="own_set = None: the arm 'own' needs the file of its images"):
        plain.but(methods=("own",))


def test_what_others_have_published_is_an_arm_too(tiny, tmp_path):
    plain = tiny(train_size=200)
    export.export(subset(sources.load(plain.data), 2), tmp_path, "mtt")
    study = plain.but(own_set=str(tmp_path / "images_best.pt"), methods=("own",))
    check(study)
    before = level.key(study.ticket("own", 1, 0))
    assert products.inner_images(study.data, study.images("own", 0)).images.shape == (20, 1, 8, 8)
    torch.save(torch.arange(20) % 10, tmp_path / "labels_best.pt")  # the labels alone are other ones
    assert level.key(study.ticket("own", 1, 0)) != before


def test_gradients_through_the_study(tiny):
    study = tiny(distill_method="grad", distill_factor=2, distill_life=2)
    product = products.distilled(SetOf(data=study.data, images=study.images("distilled", 0)))
    assert product.metrics["real_passes"] == 3 * (32 * 10 + 64)
    assert product.metrics["recipe"]["method"] == "grad"
    assert len(products.inner_images(study.data, study.images("distilled", 0))) == 80
    assert study.ticket("distilled", 1, 0) != tiny().ticket("distilled", 1, 0)


def test_experts_ways_are_one_training_each_and_they_differ(real):
    recipe = Trajectory(width=4, experts=2, epochs=3, span=1, batch=8)
    what = products.experts(Data(train_size=200), len(real.train), recipe)
    ways = [products.expert.function(e).tensors["weights"] for e in what]
    assert ways[0].shape == ways[1].shape
    assert len(ways[0]) == 4
    assert not torch.equal(ways[0][0], ways[1][0])
    for way in ways:
        assert ((way[1:] - way[:-1]).norm(dim=1) > 0).all()
    net = nets.build(Net(name="convnet", width=4, depth=2, norm="instance"), real.shape, 10, 0)
    net.load_state_dict(trajectories.shaped(ways[0][-1], net))
    assert torch.equal(trajectories.flat(net), ways[0][-1])
    before, after = (
        F.cross_entropy(
            torch.func.functional_call(net, trajectories.shaped(ways[0][k], net), real.train.images), real.train.labels
        )
        for k in (0, -1)
    )
    assert after < before


def test_trajectories_through_the_study(tiny):
    study = tiny(distill_method="traj", experts=2, expert_epochs=2, expert_span=1, student_steps=2, distill_factor=2)
    product = products.distilled(SetOf(data=study.data, images=study.images("distilled", 0)))
    assert product.metrics["real_passes"] == 2 * 2 * 100
    assert product.metrics["recipe"]["learned_lr"] > 0
    assert len(products.inner_images(study.data, study.images("distilled", 0))) == 80


@pytest.mark.parametrize(
    "recipe", [Distill(pool=3), Gradient(factor=2), Trajectory(student_steps=2)], ids=lambda r: r.method
)
def test_an_estimate_beforehand(real, recipe):
    recipe = recipe.but(ipc=2, width=4, batch=8)
    cost = loop.estimate(products.stand_in(real, recipe), real, recipe.but(steps=1000))
    assert cost["seconds"] == pytest.approx(1000 * cost["step_seconds"])
    assert cost["step_seconds"] > 0
    assert cost["memory_mib"] >= 0


def test_every_set_is_judged_in_equal_steps(tiny):
    study = tiny(seeds=2)
    table = tables.judgements(study)
    assert set(map(tuple, table[["method", "level"]].values)) == {(k, i) for k in study.judge.kinds for i in (1, 2)} | {
        ("real", 0)
    }
    assert len(table) == 2 * (2 * 3 + 1)
    assert table.accuracy.between(0, 100).all()
    assert sorted(set(table.images)) == [10, 20, 100]
    recipes = {tables.judging(study, k, i, s, 0).recipe for k in study.judge.kinds for i in (1, 2) for s in (0, 1)}
    assert len(recipes) == 1
    assert recipes.pop().steps == study.judge.steps


def test_fresh_nets_differ_and_the_same_one_is_the_same(tiny):
    study = tiny(judge_steps=30)
    a, b, c = (products.judged.function(tables.judging(study, "subset", 2, 0, net)).metrics for net in (0, 1, 0))
    assert a == c
    assert a["test"]["loss"] != b["test"]["loss"]


def test_stages_lead_from_real_images_to_the_set(tiny):
    study = tiny(distill_steps=20)
    assert tables.stages(study) == (0, 2, 20)
    assert tables.stages(tiny(distill_steps=3)) == (0, 3)
    first, last = (products.small_set(tables.stage(study, 2, 0, n)) for n in (0, 20))
    assert first.labels.equal(last.labels)
    assert not first.images.equal(last.images)
    assert last.images.equal(products.small_set(SetOf(data=study.data, images=study.images("distilled", 0))).images)


def test_costs_are_counted(tiny):
    study = tiny(distill_steps=3, distill_batch=5)
    table = tables.costs(study)
    assert table["real images seen"].tolist() == [3 * 5 * 10] * 2
    assert table.stored.tolist() == [10, 20]
    assert table.epochs.tolist() == [1.5] * 2


def test_a_net_that_diverges_leaves_its_set_without_an_accuracy(tiny):
    table = tables.judgements(tiny(judge_lr=1e30, ipcs=[1]))
    assert table.accuracy.isna().all()
    assert len(table) == 4


def worth(**accuracies):
    """A table of `robustness` with one set of one size."""
    rows = []
    for name, accuracy in accuracies.items():
        method, recipe = name.split("_")
        rows.append(
            dict(
                method=method,
                level=0 if method == "real" else 10,
                seed=0,
                net="convnet",
                recipe=recipe,
                accuracy=accuracy,
            )
        )
    return pd.DataFrame(rows)


def test_scores_by_hand():
    plain = dict(distilled_plain=80.0, subset_plain=60.0, real_plain=90.0)
    found = tables.scored(worth(**plain, distilled_augmented=85.0, subset_augmented=75.0, real_augmented=92.0)).iloc[0]
    squash = lambda a: (math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1))  # noqa: E731
    assert found.LRS == pytest.approx(squash(0.5 * 0.2 - 0.5 * 0.1))
    assert found.ARS == pytest.approx(squash(0.5 * 0.1 + 0.5 * 0.2))
    # the best that can be: all that the real images give, and nothing from random ones; the worst, the other way round
    best = dict(
        distilled_plain=100.0, subset_plain=0.0, real_plain=100.0, distilled_augmented=100.0, subset_augmented=0.0
    )
    assert tables.scored(worth(**best)).iloc[0].ARS == pytest.approx(1)
    worst = dict(
        distilled_plain=0.0, subset_plain=100.0, real_plain=100.0, distilled_augmented=0.0, subset_augmented=100.0
    )
    assert tables.scored(worth(**worst)).iloc[0][["LRS", "ARS"]].tolist() == pytest.approx([0, 0])
    found = tables.scored(worth(**plain)).iloc[0]
    assert found.LRS == pytest.approx(squash(0.05))
    assert math.isnan(found.ARS)
    assert tables.scored(worth(**{**plain, "subset_plain": None})).iloc[0].isna().LRS


def test_robustness_judges_every_set_in_every_net_and_recipe_by_equal_steps(tiny):
    study = tiny(ipcs=[1], judge_on=["convnet", "resnet10"], distill_method="grad", distill_factor=2)
    table = tables.robustness(study)
    arms = {
        ("distilled", 1),
        ("subset", 1),
        ("subset", 4),
        ("real", 0),
    }  # one image stored, four real ones in its place
    cells = {(m, i, n, r) for m, i in arms for n in study.judge.on for r in study.judge.recipes}
    assert set(table[["method", "level", "net", "recipe"]].itertuples(index=False, name=None)) == cells
    assert len(table) == len(cells)
    assert {r.steps for r in tables.recipes(study).values()} == {study.judge.steps}
    assert tables.described(study, "pruned") == study.setup(0).net
    assert tables.described(study, "resnet10").name == "resnet10"


def test_the_card_is_plain_data_and_says_what_the_set_is(tiny):
    study = tiny(seeds=2)
    found = cards.card(study, 2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["set"]["images stored"] == found["set"]["images decoded"] == 20
    assert found["set"]["shape"] == [1, 8, 8]
    sets = [products.small_set(SetOf(data=study.data, images=study.images("distilled", s))) for s in (0, 1)]
    assert found["set"]["checksums"] == [s.checksum for s in sets]
    assert len(found["cost"]["seconds"]) == 2
    table = tables.robustness(study.but(ipcs=(2,)))
    here = next(r for r in found["worth"]["accuracy"] if r["set"] == "distilled" and r["recipe"] == "plain")
    rows = table[(table.method == "distilled") & (table.recipe == "plain")]
    assert here["mean"] == pytest.approx(rows.accuracy.mean(), abs=1e-4)
    assert here["n"] == 2


def test_any_set_in_hand_is_judged_as_the_studys_are(tiny):
    study = tiny(judge_steps=30)
    real = sources.load(study.data)
    small = products.small_set(SetOf(data=study.data, images=study.but(ipc=2).images("subset", 0)))
    table = pd.DataFrame(
        judge.evaluate(small, real, {"convnet": tables.described(study, "convnet")}, tables.recipes(study), repeats=2)
    )
    product = products.judged(tables.judging(study, "subset", 2, 0, 1)).metrics
    assert len(table) == 4
    assert table[table.recipe == "plain"].accuracy.iloc[1] == pytest.approx(100 * (1 - product["test"]["error"]))
    with pytest.raises(
        DataError, match=r"the set has images of shape \(1, 8, 8\) and 10 classes, the real data \(1, 6, 6\) and 10"
    ):
        judge.evaluate(small, sources.load(Data(train_size=100, image_size=6)), {}, {})


def test_what_judges_is_named(tiny):
    with pytest.raises(ConfigError, match="judge_on: 'resnet99' is not a net; use pruned, resnet18"):
        tiny(judge_on=["resnet99"])
    with pytest.raises(ConfigError, match="judge_recipes: 'hard' is not known; use plain, augmented"):
        tiny(judge_recipes=["hard"])


def test_the_card_of_a_set_in_hand(tiny, tmp_path):
    study = tiny(judge_nets=2)
    small = subset(sources.load(study.data), 2, seed=5)
    small.save(tmp_path / "mine.safetensors")
    found = cards.card_of(SynSet.load(tmp_path / "mine.safetensors"), study)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["set"]["checksums"] == [small.checksum]
    assert {(r["set"], r["recipe"]) for r in found["worth"]["accuracy"]} == {
        (m, r) for m in ("distilled", "subset", "real") for r in study.judge.recipes
    }
    assert found["worth"]["scores"][0]["LRS"]["n"] == 1


def test_sets_and_losses(compared):
    study = compared.study
    fig = figures.judged(tables.judgements(study), study)
    assert len(fig.data) == 2 * 3 * len(study.judge.ipcs)
    lines = figures.losses({"a": [[4.0, 2.0, 0.0]], "b": [[1.0], [2.0]]}, "t").data
    assert list(lines[0].y) == [4, 2, 0]
    assert [t.showlegend for t in lines] == [True, True, False]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_of_images_is_json(channels):
    fig = figures.grid(torch.rand(6, channels, 4, 4), torch.arange(3).repeat(2), 2, "t")
    assert len(json.loads(fig.to_json())["data"]) >= 1
