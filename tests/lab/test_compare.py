"""A grid's table, compared: pairs differ in one parameter only, repetitions are averaged, and sentences say what the numbers say."""

import pandas as pd
import pytest

from lotto.config import ConfigError
from lotto.lab.compare import figures, tables
from lotto.stats import interval


def grid(cells, estimates, **facts):
    """A table of cells (parameters) with one estimate each: column -> values."""
    rows = [
        {"cell": str(i), **cell, "status": "ok", "error": "", "seconds": 1.0, "core_seconds": 1.0, **facts}
        for i, cell in enumerate(cells)
    ]
    return pd.DataFrame(rows).assign(**estimates)


def crossed():
    """Two values of ipc, two of lr, three seeds: barrier = 10 * (ipc == 5) + 100 * lr + noise of the pair."""
    cells = [dict(ipc=i, lr=lr, first_seed=s) for i in (10, 5) for lr in (0.1, 0.2) for s in (0, 1, 2)]
    values = [10 * (c["ipc"] == 5) * (1 + 0.1 * c["first_seed"]) + 100 * c["lr"] for c in cells]
    return grid(
        cells, {"barrier/distilled/4": [0.0] * 12, "barrier/distilled/8": values, "barrier/dense/0": [1.0] * 12}
    )


def test_barriers_are_shown_first_and_a_table_without_estimates_says_so():
    table = crossed().assign(**{"P3/barrier/distilled/imp": 1.0})
    assert tables.shows(table) == ["barrier", "P3"]
    assert (
        tables.shows(grid([dict(ipc=5)], {"teaches/distilled/10": [1.0], "D1/teaches/distilled": [1.0]}))[0]
        == "teaches"
    )
    with pytest.raises(ConfigError, match="the table has no estimates"):
        tables.shows(grid([dict(ipc=5)], {}))


def test_an_axis_is_a_parameter_with_two_values_or_several_that_change_together():
    zipped = [dict(lr=lr, steps=s, ipc=i, first_seed=0, width=8) for lr, s in ((1, 9), (2, 7)) for i in (5, 10)]
    assert tables.axes(grid(zipped, {})) == {"lr, steps": ["lr", "steps"], "ipc": ["ipc"]}
    assert tables.axes(grid([dict(first_seed=s) for s in (0, 1)], {})) == {"first_seed": ["first_seed"]}
    assert tables.axes(grid([dict(ipc=5)], {})) == {"cell": ["cell"]}


def test_estimates_are_those_of_the_highest_level_or_the_one_asked_for():
    table = crossed()
    assert set(tables.estimates(table, "barrier").series) == {"barrier/dense/0", "barrier/distilled/8"}
    assert set(tables.estimates(table, "barrier", 4).series) == {"barrier/dense/0", "barrier/distilled/4"}
    assert set(tables.estimates(table, "barrier", arms=["dense"]).series) == {"barrier/dense/0"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (dict(show="barier"), "show = 'barier': the table has no such estimate; did you mean 'barrier'?"),
        (dict(show="barrier", level=5), r"level = 5: the table has no barrier there; give one of \[0, 4, 8\]"),
        (dict(show="barrier", arms=["imp"]), r"arms = \['imp'\]: the table has none of them; it has distilled, dense"),
    ],
)
def test_what_the_table_does_not_have(asked, said):
    with pytest.raises(ConfigError, match=said):
        tables.estimates(crossed(), **asked)


def test_a_difference_is_paired_by_all_other_parameters():
    table = crossed()
    found = tables.differences(table, tables.estimates(table, "barrier", arms=["distilled"]))
    ipc, lr = found.to_dict("records")
    assert (ipc["axis"], ipc["from"], ipc["to"]) == ("ipc", "5", "10"), "numbers rise, whatever their order"
    assert (ipc["pairs"], ipc["n"]) == (6, 3), "two pairs of one initialisation are no two initialisations"
    assert ipc["mean"] == pytest.approx(-11) and ipc["low"] == pytest.approx(interval([-10, -11, -12]).low)
    assert (lr["axis"], lr["n"]) == ("lr", 3) and lr["mean"] == pytest.approx(10)
    assert lr["low"] == pytest.approx(10) == lr["high"], "paired: what both cells share does not widen the interval"


def test_of_one_initialisation_a_difference_has_an_interval_over_what_else_varies():
    table = crossed()
    table = table[table.first_seed == table.first_seed.min()]
    ipc, _ = tables.differences(table, tables.estimates(table, "barrier", arms=["distilled"])).to_dict("records")
    assert (ipc["pairs"], ipc["n"]) == (2, 2)


def test_arms_that_cells_do_not_share_face_each_other():
    cells = [dict(methods=m, first_seed=s) for m in ('["dense", "imp"]', '["dense", "subset"]') for s in (0, 1, 2)]
    nan = float("nan")
    table = grid(
        cells,
        {
            "barrier/dense/0": [5.0] * 6,
            "barrier/imp/8": [1.0, 2.0, 3.0, nan, nan, nan],
            "barrier/subset/8": [nan, nan, nan, 2.0, 4.0, 6.0],
        },
    )
    found = tables.differences(table, tables.estimates(table, "barrier"))
    assert dict(zip(found.series, found["mean"], strict=True)) == {"dense": 0, "random real against IMP": 2}
    assert list(found["from"]) == ["dense, imp"] * 2 and list(found.n) == [3, 3]


def test_zipped_parameters_are_compared_as_one():
    table = grid([dict(lr=0.1, steps=9), dict(lr=0.2, steps=7)], {"P3/barrier/distilled/imp": [1.0, 4.0]})
    (found,) = tables.differences(table, tables.estimates(table, "P3")).to_dict("records")
    assert (found["axis"], found["to"], found["mean"], found["n"]) == ("lr, steps", "lr 0.2, steps 7", 3, 1)
    assert found["series"] == "barrier: distilled minus IMP"


def test_sentences():
    table = crossed()
    table.loc[0, ["status", "error"]] = "failed", "why"
    assert tables.finished(table) == "11 of 12 cells were run to their end; 1 failed."
    assert tables.failed(table).to_dict("records") == [{"status": "failed", "error": "why"}]
    told = tables.largest(tables.differences(table, tables.estimates(table, "barrier", arms=["distilled"])))
    assert told == (
        "Of 2 differences the largest is that of *distilled* from ipc 5 to 10: -11.0 [-13.5, -8.5], over 6 pairs of "
        "cells of 3 initialisations. 2 of the 2 with an interval exclude 0, uncorrected for their number."
    )
    zipped = grid([dict(lr=0.1, steps=9), dict(lr=0.2, steps=7)], {"barrier/imp/8": [1.0, 4.0]})
    assert tables.largest(tables.differences(zipped, tables.estimates(zipped, "barrier"))) == (
        "The only difference is that of *IMP* from lr 0.1, steps 9 to lr 0.2, steps 7: 3.0, over 1 pair of cells."
    )
    alone = grid([dict(ipc=5)], {"barrier/imp/8": [1.0]})
    none = tables.differences(alone, tables.estimates(alone, "barrier"))
    assert tables.largest(none) == "No two cells differ in one parameter only, other than the initialisation."


def test_a_figure_has_a_dot_a_cell_and_a_mean_of_repetitions():
    table = crossed()
    found = tables.estimates(table, "barrier", arms=["distilled"])
    fig = figures.against(table, found, "ipc", "barrier")
    dots = [t for t in fig.data if t.mode == "markers" and t.x[0] is not None]
    means = [t for t in fig.data if t.mode == "lines+markers"]
    assert sum(len(t.x) for t in dots) == 12 and sum(len(t.x) for t in means) == 4, "two values of ipc, two of lr"
    assert means[0].y == pytest.approx((21, 10)) and means[0].error_y.array[0] == pytest.approx(
        interval([20, 21, 22]).half
    )
    assert fig.layout.xaxis.title.text == "ipc" and fig.layout.xaxis.ticktext == ("5", "10")
    with pytest.raises(ConfigError, match="by = 'ipcs': does not vary in this grid; did you mean 'ipc'"):
        figures.against(table, found, "ipcs", "barrier")


def test_a_single_cell_shows_its_own_interval():
    own = {"barrier/imp/8": [3.0, 4.0], "barrier/imp/8/low": [1.0, None], "barrier/imp/8/high": [6.0, None]}
    table = grid([dict(ipc=5), dict(ipc=10)], own)
    (mean,) = [
        t for t in figures.against(table, tables.estimates(table, "barrier"), None, "barrier").data if t.error_y.array
    ]
    assert mean.error_y.array == (3.0, 0) and mean.error_y.arrayminus == (2.0, 0)


def test_every_difference_is_a_row_of_the_figure():
    table = crossed()
    found = tables.differences(table, tables.estimates(table, "barrier", arms=["distilled"]))
    fig = figures.changes(found, "barrier")
    assert [t.x[0] for t in fig.data] == pytest.approx([-11, 10]) and all(t.marker.color == "#1f5fbf" for t in fig.data)


def test_a_table_is_read_back_and_other_files_are_refused(tmp_path):
    table = crossed()
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet", index=False)
    for name in ("t.csv", "t.parquet"):
        pd.testing.assert_frame_equal(tables.read(str(tmp_path / name)), table)
    (tmp_path / "bad.parquet").write_text("no table")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for name, said in (
        ("none.csv", "no such file; give the table.csv or table.parquet of a grid"),
        ("bad.parquet", "cannot be read"),
        ("other.csv", "has no column 'cell'; give the table.csv"),
    ):
        with pytest.raises(ConfigError, match=said):
            tables.read(str(tmp_path / name))
