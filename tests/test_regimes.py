import dataclasses

import pandas as pd
import pytest

from lotto import regimes, stability, tickets
from lotto.lab.arms import ARMS


def test_a_cell_is_the_study_with_that_recipe(tiny):
    study = tiny(methods=["imp"], map_methods=["distilled-gentle", "imp-short-gentle"], map_lrs=[0.1, 0.4], map_steps=[6, 12], levels=[1])
    table = regimes.inner(study)
    assert len(table) == 2 * 2 * 2 and list(table.columns[:5]) == ["method", "lr", "steps", "level", "seed"]
    # at IMP's rate and length the real images' cell is IMP itself: the same search, found once
    same = study.but(inner_lr=study.lr, inner_steps=study.steps, inner_batch=study.batch)
    assert same.ticket("imp-short-gentle", 1, 0) == study.ticket("imp", 1, 0)
    assert same.ticket("distilled-gentle", 1, 0) == study.ticket("distilled-long", 1, 0)


def test_the_named_cells_are_cells(tiny):
    study = tiny()
    assert study.ticket("distilled", 1, 0) == study.but(inner_lr=study.lr).ticket("distilled-gentle", 1, 0)
    assert study.ticket("distilled-all", 1, 0) == study.but(inner_lr=study.lr).ticket("distilled-gentle-all", 1, 0)
    assert study.ticket("distilled-long-gentle", 1, 0) == study.but(inner_steps=study.steps).ticket("distilled-gentle", 1, 0)
    assert study.ticket("imp-gentle", 1, 0) == study.but(inner_steps=study.steps).ticket("imp-short-gentle", 1, 0)


def test_the_outer_recipe_of_the_dense_net(tiny):
    table = regimes.outer(tiny(outer_lrs=[0.1], outer_steps=[2, 4]))  # shorter than the rewind point
    assert list(table.steps) == [2, 4] and set(table.method) == {"dense"}


def test_over_time_starts_at_the_initialisation(tiny):
    study = tiny(rewinds=[3, 6, 500], rewind_methods=["dense-rewound", "distilled-rewound"], levels=[1])
    table = regimes.over_time(study)
    assert set(table.method) == {"dense", "distilled"}
    assert sorted(set(table.k)) == [0, 3, 6]  # 500 lies beyond the training
    assert tickets.rewind_point.folder(study.but(rewind=6).ticket("distilled-rewound", 1, 0).setup).exists()


def test_every_rewound_method_has_its_unrewound_self():
    names = {m: regimes.unrewound(m) for m in ARMS if ARMS[m].from_k}
    assert names == {
        "dense-rewound": "dense",
        "imp-rewound": "imp",
        "distilled-rewound": "distilled",
        "imp-rewound-all": "imp-all",
    }
    for m, start in names.items():
        look = {n: getattr(ARMS[start], n) for n in ("title", "colour", "main")}
        assert ARMS[start] == dataclasses.replace(ARMS[m], from_k=False, **look)
    assert [m for m in ARMS if m not in names and regimes.unrewound(m) != m] == []


def test_arms_that_rewind_everything_start_over_time_at_the_initialisation_too(tiny):
    table = regimes.over_time(tiny(rewinds=[3], rewind_methods=["imp-rewound-all"], levels=[1], methods=["imp-all"]))
    assert set(table.method) == {"imp-all"} and sorted(table.k) == [0, 3]
    start = stability.measured(tiny(methods=["imp-all"], levels=[1]))
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
    found = regimes.stable_from(pd.DataFrame(rows)).k[0]
    assert (found is None or found != found) if k is None else found == k
