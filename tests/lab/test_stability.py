import json

import pytest

from lotto.lab.describe import Segment
from lotto.lab.stability import figures, products, tables
from lotto.lab.tickets.products import trained
from lotto.lab.tickets.tables import accuracies
from lotto.stability import barrier


def test_tables_of_a_small_study(tiny):
    study = tiny(methods=["dense", "imp", "random"], seeds=2, children=3)
    accuracy, barrier, paths = accuracies(study), tables.barriers(study), tables.paths(study)
    assert len(accuracy) == len(barrier) == 2 * (1 + 2 + 2)
    assert set(accuracy.columns) >= {
        "method",
        "level",
        "seed",
        "state",
        "density",
        "accuracy",
    }
    assert set(paths.pair) == {0, 1, 2}
    assert set(paths.statistics) == {"interpolated", "recalibrated"}
    trained = barrier[barrier.state == "trained"]
    assert (trained.barrier.astype(float) >= 0).all()
    assert barrier[barrier.state != "trained"].barrier.isna().all()


def test_a_net_that_did_not_train_has_no_barrier(tiny):
    study = tiny(methods=["random"], fraction=0.9, levels=[3])
    barrier, accuracy = tables.barriers(study), accuracies(study)
    assert barrier.state.tolist() == accuracy.state.tolist() == ["dead"]
    assert barrier.barrier.isna().all()
    assert accuracy.accuracy.tolist() == pytest.approx([10.0]), "it guesses"
    assert len(tables.paths(study)) == 0


def test_a_child_and_itself_through_the_store(tiny):
    study = tiny()
    child = study.training("imp", 1, 0, 1)
    found = products.segment(Segment(a=child, b=child, points=3)).metrics
    assert barrier(found["recalibrated"]["test_loss"], found["alphas"]) == 0
    assert found["interpolated"]["test_error"][0] == trained(child).metrics["test"]["error"]


def test_paths_that_leave_a_ticket(tiny):
    study = tiny(match_methods=["dense", "imp"], levels=[1, 2])
    table = tables.between(study)
    assert [(r.kind, r.method, r.other, r.level) for r in table.itertuples()] == [
        ("children", "dense", "dense", 1),
        ("children", "imp", "imp", 1),
        ("methods", "dense", "imp", 1),
        ("children", "dense", "dense", 2),
        ("children", "imp", "imp", 2),
        ("methods", "dense", "imp", 2),
        ("levels", "imp", "1", 2),
    ]


def test_channels_are_matched_before_the_walk(tiny):
    """Between nets of two initialisations, whose channels no CPU finds in one order; children may agree in theirs."""
    one, other = (tiny(seeds=2).training("dense", 0, seed, 1) for seed in (0, 1))
    line = Segment(a=one, b=other, points=3, train_images=50)
    plain, matched = products.segment(line).metrics, products.matched_segment(line).metrics
    for end in (0, -1):  # a net in another order of its channels is the same net
        assert plain["recalibrated"]["test_error"][end] == pytest.approx(
            matched["recalibrated"]["test_error"][end], abs=0.003
        )
    assert plain["recalibrated"]["test_loss"][1] != matched["recalibrated"]["test_loss"][1]


def test_nets_without_known_symmetries_are_not_matched(tiny):
    table = tables.between(tiny(match_methods=["dense"], norm="group", width=16, levels=[1]))
    assert table.matched.isna().all()
    assert len(table) == 1


def test_all_paths_are_json(compared):
    assert len(json.loads(figures.all_paths(compared.paths, compared.study, 1).to_json())["data"]) >= 1


def test_a_tour_draws_as_much_for_every_round_and_marks_the_one_that_is_meant(compared):
    study = compared.study.but(methods=["dense", "imp"])
    barrier = tables.barriers(study)
    made = {at: figures.rounds(compared.paths, barrier, study, at) for at in (0, *study.levels)}
    assert len({len(f.data) for f in made.values()}) == 1
    imp = {at: f.data[1] for at, f in made.items()}
    assert imp[0].y == made[0].data[0].y  # before the first round every arm is the dense net
    for at, fig in made.items():
        heights = fig.data[2]
        assert heights.x == (0, *study.levels)
        assert [x for x, size in zip(heights.x, heights.marker.size, strict=True) if size > 10] == [at]
    empty = figures.rounds(compared.paths[:0], barrier[:0], study, 1)
    assert len(empty.data) == len(made[1].data)


def test_a_pair_that_did_not_train_is_in_no_curve(tiny):
    study = tiny(methods=["imp"], lr=1e-9)  # it learns nothing
    assert set(tables.barriers(study).state) == {"failed"} and len(tables.paths(study)) == 0
