from lotto import distill
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
