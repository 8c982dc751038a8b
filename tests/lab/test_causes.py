import dataclasses

import pandas as pd
import pytest

from lotto.lab.arms import ARMS
from lotto.lab.causes import figures, products, tables
from lotto.lab.causes.products import settling
from lotto.lab.stability.figures import matched
from lotto.lab.stability.tables import between, measured
from lotto.lab.tickets.products import inner_loop, rewind_point


@pytest.fixture(scope="module")
def study(tiny):
    methods = ["dense", "imp", "distilled", "initial", "random-layerwise", "reinit"]
    return tiny(seeds=2, methods=methods, lr=0.05, inner_lr=0.05)


def test_overlaps_of_a_tiny_study(study):
    table = tables.overlaps(study)
    assert len(table) == 2 * 2 * (5 * 4 // 2)
    assert table[["overlap", "chance"]].stack().between(0, 100).all()
    pair = table[(table.method == "distilled") & (table.level == 1)].set_index("other")
    assert (pair.loc["reinit"].overlap == 100).all()  # the same mask over other weights
    assert pair.loc["random-layerwise"].excess.abs().max() < 5  # the same layer densities at random places
    seeds = tables.overlaps(study, "method")
    assert set(seeds.other) == {1}
    assert (seeds[seeds.method == "initial"].excess.abs() < 5).all()


def test_survival_adds_up_and_initial_magnitude_keeps_the_largest(study):
    table = tables.survival(study, 5)
    assert len(table) == 5 * 2 * 2 * 5
    assert table.survived.between(0, 100).all()
    by = table.groupby(["method", "level"]).survived.mean()
    assert all(by[m, at] == pytest.approx(100 * study.density(at), abs=1.5) for m, at in by.index)
    initial = table[(table.method == "initial") & (table.level == 1)].groupby("bin").survived.mean()
    assert initial.is_monotonic_increasing
    assert initial[4] > 85 > 10 > initial[0]


def test_journeys_of_a_tiny_study(study):
    table = tables.journeys(study).set_index(["method", "level", "seed"])
    assert (table.loc["dense"].dead_channels == 0).all()
    assert table.loc["dense"].inner.isna().all()
    assert (table.loc["imp"].inner > 0).all()
    assert table.loc[["initial", "reinit", "random-layerwise"]].inner.isna().all()  # no loop made these masks
    assert (table.distance.dropna() > 0).all()
    assert len(table) == 2 + 5 * 2 * 2


def test_a_mask_is_settled_at_the_end_of_its_loop(study, monkeypatch):
    monkeypatch.setattr(products, "SHARES", (0.5, 1.0))
    run = inner_loop(study.ticket("imp", 1, 0))
    rows = products.settling.function(run).metrics["rows"]
    assert rows[-1]["overlap"] == 1.0 > rows[0]["overlap"] > rows[0]["chance"] > 0.4


def test_a_loop_from_step_k_is_stopped_after_it(study):
    rows = products.settling.function(inner_loop(study.ticket("imp-rewound", 1, 0))).metrics["rows"]
    assert [r["share"] for r in rows] == list(products.SHARES) and rows[-1]["overlap"] <= 1


def test_a_cell_is_the_study_with_that_recipe(tiny):
    study = tiny(
        methods=["imp"],
        map_methods=["distilled-gentle", "imp-short-gentle"],
        map_lrs=[0.1, 0.4],
        map_steps=[6, 12],
        levels=[1],
    )
    table = tables.inner(study)
    assert len(table) == 2 * 2 * 2
    assert list(table.columns[:5]) == ["method", "lr", "steps", "level", "seed"]
    # at IMP's rate and length the real images' cell is IMP itself: the same search, found once
    same = study.but(inner_lr=study.outer.lr, inner_steps=study.outer.steps, inner_batch=study.outer.batch)
    assert same.ticket("imp-short-gentle", 1, 0) == study.ticket("imp", 1, 0)
    assert same.ticket("distilled-gentle", 1, 0) == study.ticket("distilled-long", 1, 0)


def test_the_named_cells_are_cells(tiny):
    study = tiny()
    assert study.ticket("distilled", 1, 0) == study.but(inner_lr=study.outer.lr).ticket("distilled-gentle", 1, 0)
    assert study.ticket("distilled-all", 1, 0) == study.but(inner_lr=study.outer.lr).ticket(
        "distilled-gentle-all", 1, 0
    )
    assert study.ticket("distilled-long-gentle", 1, 0) == study.but(inner_steps=study.outer.steps).ticket(
        "distilled-gentle", 1, 0
    )
    assert study.ticket("imp-gentle", 1, 0) == study.but(inner_steps=study.outer.steps).ticket("imp-short-gentle", 1, 0)


def test_the_outer_recipe_of_the_dense_net(tiny):
    table = tables.outer(tiny(outer_lrs=[0.1], outer_steps=[2, 4]))  # shorter than the rewind point
    assert list(table.steps) == [2, 4]
    assert set(table.method) == {"dense"}


def test_over_time_starts_at_the_initialisation(tiny):
    study = tiny(rewinds=[3, 6, 500], rewind_methods=["dense-rewound", "distilled-rewound"], levels=[1])
    table = tables.over_time(study)
    assert set(table.method) == {"dense", "distilled"}
    assert sorted(set(table.k)) == [0, 3, 6]  # 500 lies beyond the training
    assert rewind_point.folder(study.but(rewind=6).ticket("distilled-rewound", 1, 0).setup).exists()


def test_every_rewound_method_has_its_unrewound_self():
    names = {m: tables.unrewound(m) for m in ARMS if ARMS[m].from_k}
    assert names == {
        "dense-rewound": "dense",
        "imp-rewound": "imp",
        "distilled-rewound": "distilled",
        "imp-rewound-all": "imp-all",
    }
    for m, start in names.items():
        look = {n: getattr(ARMS[start], n) for n in ("title", "colour", "main")}
        assert ARMS[start] == dataclasses.replace(ARMS[m], from_k=False, **look)
    assert [m for m in ARMS if m not in names and tables.unrewound(m) != m] == []


def test_arms_that_rewind_everything_start_over_time_at_the_initialisation_too(tiny):
    table = tables.over_time(tiny(rewinds=[3], rewind_methods=["imp-rewound-all"], levels=[1], methods=["imp-all"]))
    assert set(table.method) == {"imp-all"}
    assert sorted(table.k) == [0, 3]
    start = measured(tiny(methods=["imp-all"], levels=[1]))
    assert table[table.k == 0].accuracy.tolist() == start.accuracy.tolist()


@pytest.mark.parametrize(
    ("barriers", "states", "k"),
    [
        ((40, 5, 1, 0.5), "tttt", 10),
        ((40, 1, 5, 0.5), "tttt", 20),  # stable once is not stable from there on
        ((1, 1, 1, 1), "tttt", 0),
        ((40, 5, 3, 2), "tttt", None),
        ((40, 5, 1, 0.5), "tttf", None),
    ],
)
def test_stable_from(barriers, states, k):
    names = {"t": "trained", "f": "failed"}
    rows = [
        dict(method="dense", level=0, seed=0, k=at, barrier=b, state=names[s])
        for at, b, s in zip((0, 5, 10, 20), barriers, states, strict=True)
    ]
    found = tables.stable_from(pd.DataFrame(rows)).k[0]
    assert (found is None or found != found) if k is None else found == k


def test_lost_capacity_and_a_short_way_are_told_apart():
    # the barrier follows the way; the loss follows the way too, but for two tickets: at equal way it says nothing
    rows = [
        dict(seed=s, state="trained", barrier=b, train_loss=loss, distance=b / 10)
        for s in range(3)
        for b, loss in zip(range(1, 9), (9, 7, 8, 6, 5, 3, 4, 2), strict=True)
    ]
    rows += [dict(seed=0, state="failed", barrier=None, train_loss=2.3, distance=99.0)]
    found = tables.capacity(pd.DataFrame(rows))
    assert found.tickets.tolist() == [8, 8, 8]
    assert (found.way == 1.0).all()
    assert (found.loss < -0.9).all()
    assert found.loss_given_way.isna().all()  # the way explains all of the barrier


def test_figures_of_what_makes_it_stable(tiny):
    study = tiny(seeds=2, methods=["dense", "imp", "distilled"], match_methods=["dense", "imp"])
    inner = tables.inner(study.but(map_lrs=[0.1, 0.4])).assign(state="trained", barrier=5.0)
    inner.loc[(inner.lr == 0.1) & (inner.seed == 1), "state"] = "failed"
    fig = figures.regime_map({m: rows for m, rows in inner.groupby("method")}, study, 2)
    assert [t.type for t in fig.data] == ["heatmap"] * 1
    assert list(fig.data[0].text[0]) == [
        "5.0<br>1 of 2<br><b>gentle</b>",
        "5.0",
    ]
    assert {t.zmax for t in fig.data} == {5.0}
    time = tables.over_time(study).assign(state="trained", barrier=3.0)
    assert tuple(figures.over_time(time, study, 2).data[0].x) == (0, 3, 6)
    shared = tables.overlaps(study)
    matrix = figures.overlap_matrix(shared, study, 2).data[0].z
    assert matrix[0][0] is None
    assert matrix[0][1] == matrix[1][0] == pytest.approx(shared[shared.level == 2].excess.mean())
    assert len(figures.survivors(tables.survival(study), study, 2).data) == 2
    assert len(figures.settled(tables.settled(study), study).data) == 2 * 2
    paths = between(study).assign(state="trained", barrier=4.0, matched=1.0)
    rows = matched(paths, study, 2)
    assert [t.x[0] for t in rows.data[:2]] == [4.0, 1.0]
    assert f"{ARMS['imp'].title}: child of level 1" in {t.y[0] for t in rows.data}


def test_a_loop_that_diverged_has_no_mask_to_settle(tiny):
    study = tiny(methods=["imp"], lr=1e30)
    found = settling(inner_loop(study.ticket("imp", 1, 0)))
    assert found.metrics == {"state": "diverged", "rows": []}
    assert len(tables.settled(study)) == 0


def test_the_factorial_says_how_many_trained(tiny):
    study = tiny(methods=["dense", "imp", "distilled"], seeds=3)
    rows = [
        {"method": m, "level": study.levels[-1], "seed": s, "state": "trained" if s == 0 else "failed", "barrier": 1.0}
        for m in ("imp", "distilled")
        for s in range(3)
    ]
    fig = figures.factorial(pd.DataFrame(rows), study.but(levels=study.levels[-1:]), "barrier", "points", "title")
    assert [t.text for t in fig.data if t.mode == "markers+text" and t.x] == [("1 of 3", "1 of 3")]
