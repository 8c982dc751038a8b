"""Grids: the cells are those that were asked for, bad files are refused before anything runs, only what is new is
computed, failures are rows, and the table is whole and of the right types wherever the run was stopped."""

import json
import math
import os
import pickle
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lotto import run
from lotto.checkpoint import Paused
from lotto.config import ConfigError
from lotto.lab import batch, cells, committed, gather, grid, notebooks
from lotto.lab.claims.board import Board
from lotto.lab.compare import tables

FAST = {"levels": [1, 2], "methods": ["dense", "distilled"]}


# what is asked


def test_lists_are_crossed_then_zipped_then_seeds_change_fastest():
    asked = {
        "cross": {"ipc": [5, 10], "distill_method": ["dist", "grad"]},
        "zip": {"lr": [0.4, 0.8], "steps": [300, 200]},
        "seeds": [0, 7],
        "base": {"levels": [4, 8]},
    }
    found = grid.expand(asked, "g")
    assert len(found.cells) == 2 * 2 * 2 * 2
    assert found.cells[0] == dict(ipc=5, distill_method="dist", lr=0.4, steps=300, first_seed=0)
    assert found.cells[1] == dict(ipc=5, distill_method="dist", lr=0.4, steps=300, first_seed=7)
    assert found.cells[2] == dict(ipc=5, distill_method="dist", lr=0.8, steps=200, first_seed=0)
    assert found.cells[-1] == dict(ipc=10, distill_method="grad", lr=0.8, steps=200, first_seed=7)
    assert found.base == {"levels": [4, 8], "seeds": 1}, "a list of seeds is one initialisation a cell"


def test_a_number_of_seeds_is_shared_by_all_cells():
    found = grid.expand({"cross": {"ipc": [5, 10]}, "seeds": 3}, "g")
    assert found.base == {"seeds": 3} and found.cells == [{"ipc": 5}, {"ipc": 10}]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 3))
def test_as_many_cells_as_the_product_of_the_lists_no_two_alike(lengths, zipped, seeds):
    asked = {"cross": {f"a{i}": list(range(n)) for i, n in enumerate(lengths)}}
    asked |= {"zip": {"b": list(range(zipped)), "c": list(range(zipped))}} if zipped else {}
    asked |= {"seeds": list(range(seeds))} if seeds else {}
    cells = grid.expand(asked, "g").cells
    assert len(cells) == math.prod(lengths) * max(zipped, 1) * max(seeds, 1)
    assert len({grid.named(c) for c in cells}) == len(cells)


BAD = {
    "": "None is not a grid",
    "- 5": "[5] is not a grid",
    "{}": "{} is not a grid",
    "cross: [": "is not valid YAML",
    "cross: {ipc: [2024-13-01]}": "is not valid YAML",
    "cross: {lr: [!!binary aGVsbG8=]}": "holds what is no parameter",
    "cross: {levels: [&a [*a]]}": "grid = ",
    "corss: {ipc: [5]}": "'corss' is not a part of a grid; did you mean 'cross'?",
    "ipc: [5, 10]": "'ipc' is not a part of a grid; put it under cross, zip or base",
    "cross: [5]": "cross = [5]: give names with values",
    "cross: {ipc: 5}": "cross: ipc = 5: give a list of values; a value for all cells belongs under base",
    "cross: {ipc: []}": "cross: ipc = []: give at least one value",
    "zip: {lr: [0.4, 0.8], steps: [100]}": "zip: lr has 2, steps has 1; give lists of one length",
    "seeds: []": "seeds = []: give at least one initialisation",
    "seeds: 3": "nothing varies; give lists of values under cross or zip, or a list of seeds",
    "{cross: {ipc: [5]}, zip: {ipc: [10]}}": "'ipc' is given under cross and by zip; give it once",
    "{cross: {ipc: [5]}, base: {ipc: 10}}": "'ipc' is given under cross and by base; give it once",
    "{cross: {seeds: [2, 3]}, seeds: 3}": "'seeds' is given under cross and by seeds; give it once",
    "{cross: {first_seed: [0]}, seeds: [0]}": "'first_seed' is given under cross and by seeds; give it once",
    "cross: {ipc: [5], ipc: [10]}": "'ipc' appears twice in one mapping (line 1); give it once",
    f"cross: {{a: &l {list(range(30))}, b: *l, c: *l}}": "27,000 cells are more than 10,000",
    # what only the study can say
    "cross: {ipcc: [5, 10]}": "cell ipcc=5: 'ipcc' is not a parameter of the study; did you mean 'ipc'?",
    "cross: {outer: [{lr: 0.4}, {lr: 0.8}]}": "'outer' is a group of parameters; vary single ones of it",
    "cross: {variant: [causes]}": "'variant' is not a parameter of the study",
    "cross: {ipc: [5, 0]}": "cell ipc=0: ipc = 0: ",
    "cross: {ipc: [5, 5000]}": "cell ipc=5000: ipc = 5000: the smallest class has",
    "cross: {levels: [4, 8]}": "Each value of levels is a list itself: write [[4], ...].",
    "cross: {preset: [digits, digit]}": "cell preset=digit: preset = 'digit': not known; did you mean 'digits'?",
    "cross: {first_seed: [0, 100]}": "cell first_seed=100: first_seed = 100",
    "cross: {ipc: [5, 5]}": "cells ipc=5 and ipc=5 are one study; drop one of their values",
    "cross: {ipc: [10, null]}": "cells ipc=10 and ipc=None are one study",
    "{cross: {ipc: [5]}, notebooks: '09'}": "notebook '09' does not exist",
    "{cross: {ipc: [5]}, base: {lr: no}}": "lr = False: is true or false, but a number belongs here",
}


@pytest.fixture
def books(tmp_path, monkeypatch):
    """Notebooks 01_a and 02_b in place of the study's, with the one that compares."""
    folder = tmp_path / "books"
    (folder / "reference").mkdir(parents=True)
    monkeypatch.setattr(notebooks, "NOTEBOOKS", folder)
    for name, cell in (("01_a", 'preset: str = "digits"'), ("02_b", "ipc: int = None"), (notebooks.COMPARE, 't = ""')):
        nb = committed.strip(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)]))
        nb.cells[0].metadata["tags"] = ["parameters"]
        nbformat.write(nb, folder / f"{name}.ipynb")


@pytest.fixture
def call(books, tmp_path, capsys):
    """call(yaml text or data, options) -> exit code, what was printed."""

    def made(asked, *options):
        file = tmp_path / "g.yaml"
        file.write_text(asked if isinstance(asked, str) else yaml.safe_dump(asked, sort_keys=False))
        code = run.main(["--grid", str(file), "--out", str(tmp_path / "out"), *options])
        found = capsys.readouterr()
        return code, found.out + found.err

    return made


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_bad_grids_are_refused_in_one_sentence_before_anything_runs(call, tmp_path, text):
    code, said = call(text)
    assert code == 2 and BAD[text] in said and said.count("\n") == 1, said
    assert not (tmp_path / "out").exists()


def test_bad_calls(call, tmp_path, capsys):
    small = {"cross": {"ipc": [5, 10]}, "seeds": [0, 1]}
    for options, said in (
        (("-p", "ipc", "3"), "'ipc' is given by grid g and on the command line; drop one of them"),
        (("--seeds", "3"), "'seeds' is given by grid g and on the command line"),
        (("--shard", "3/2"), "shard = '3/2': give a part and the number of parts"),
        (("--only", "09"), "notebook '09' does not exist"),
    ):
        code, told = call(small, *options)
        assert code == 2 and said in told, told
    assert run.main(["--grid", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml': cannot be read (No such file or directory); give a file" in capsys.readouterr().err
    assert run.main(["--shard", "1/2"]) == 2 and "give --grid too" in capsys.readouterr().err


def test_a_notebook_without_a_board_adds_no_numbers(books, tmp_path):
    asked = grid.expand({"cross": {"ipc": [5, 10]}}, "g")
    cells = grid.plan(asked, {"preset": None}, notebooks.choose("01", None), str(tmp_path))
    (job,) = cells[0].jobs
    job.out.mkdir(parents=True)
    job.result.touch()
    job.manifest.write_text(json.dumps({"key": job.key, "seconds": 1.5, "core_seconds": 2.0}))  # as the tour leaves it
    assert gather.table(cells).status.tolist() == ["ok", "not run"]


def test_networks_and_data_sets_can_be_varied(books, tmp_path):
    asked = grid.expand({"cross": {"net": ["resnet18", "resnet20"]}}, "g")
    cells = grid.plan(asked, {"preset": None}, notebooks.choose(None, None), str(tmp_path))
    assert [c.study.net.name for c in cells] == ["resnet18", "resnet20"]


def test_the_command_line_takes_the_place_of_the_base(books, tmp_path):
    asked = grid.expand({"cross": {"ipc": [5]}, "seeds": 3, "base": {"lr": 0.1, "preset": "digits"}}, "g")
    (cell,) = grid.plan(asked, {"preset": None, "seeds": 2, "lr": 0.4}, notebooks.choose(None, None), str(tmp_path))
    assert (cell.study.seeds, cell.study.outer.lr, cell.study.distill.ipc) == (2, 0.4, 5)
    assert [j.parameters for j in cell.jobs] == [
        {"preset": "digits", "more": {"seeds": 2, "lr": 0.4, "ipc": 5}},
        {"ipc": 5, "more": {"preset": "digits", "seeds": 2, "lr": 0.4}},
    ]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"ipc": 5, "lr": 0.4}, "ipc=5,lr=0.4"),
        ({"methods": ["dense", "imp"]}, "methods=dense+imp"),
        ({"own_set": "../x/y.pt"}, "own_set=.._x_y.pt-"),
        ({"methods": ["dense"] * 40}, "methods=dense+dense"),
    ],
)
def test_a_cell_is_named_by_its_own_parameters(values, name):
    found = grid.named(values)
    assert found.startswith(name) and "/" not in found and len(found) <= 100


# what is done


class Executor:
    """Stands for papermill: leaves what a finished notebook leaves, or fails, or is stopped, as told by cell."""

    def __init__(self):
        self.seen, self.trouble, self.stop = [], {}, {}

    def __call__(self, job):
        cell = job.out.name
        self.seen.append((cell, job.name))
        for old in (job.partial, job.manifest):
            old.unlink(missing_ok=True)
        if (error := self.stop.get(cell)) is not None:
            if isinstance(error, Paused):
                os.environ["LOTTO_DEADLINE"] = "0"
            raise error
        if job.name == "02_b" and cell in self.trouble:
            return self.trouble[cell]
        ipc = job.parameters.get("ipc") or job.parameters.get("more", {}).get("ipc", 0)
        numbers = {
            "barrier/distilled/8": int(ipc) / 3,
            "barrier/distilled/8/low": None,
            "barrier/distilled/8/untrained": 1,
        }
        made = {"key": job.key, "seconds": 1.5, "core_seconds": 2.0, "board": [], "numbers": numbers}
        job.out.mkdir(parents=True, exist_ok=True)
        job.result.touch()
        job.manifest.write_text(json.dumps(made))
        return None

    @property
    def cells(self):
        return list(dict.fromkeys(cell for cell, name in self.seen if name != notebooks.COMPARE))


@pytest.fixture
def executor(monkeypatch):
    made = Executor()
    monkeypatch.setattr(batch, "execute", made)
    monkeypatch.setattr(notebooks, "execute", made)
    monkeypatch.setattr(batch, "look_for_a_browser", lambda: None)
    monkeypatch.setenv("LOTTO_DEADLINE", "inf")
    monkeypatch.setenv("LOTTO_JOBS", "1")  # in this process, where it stands for papermill
    return made


def rows(tmp_path):
    return pd.read_csv(tmp_path / "out" / "table.csv").set_index("cell")


def test_adding_a_value_computes_only_the_new_cells(call, executor, tmp_path):
    assert call({"cross": {"ipc": [5, 10]}})[0] == 0
    assert executor.cells == ["ipc=5", "ipc=10"] and list(rows(tmp_path).index) == ["ipc=5", "ipc=10"]
    assert executor.seen[-1] == ("out", notebooks.COMPARE), "the comparison comes last, in the grid's folder"
    executor.seen.clear()
    code, said = call({"cross": {"ipc": [5, 10]}})
    assert code == 0 and executor.seen == [] and said.count(": up to date") == 2, "a second run computes nothing"
    assert call({"cross": {"ipc": [5, 7, 10]}})[0] == 0
    assert executor.cells == ["ipc=7"] and list(rows(tmp_path).ipc) == [5, 7, 10]
    assert executor.seen[-1] == ("out", notebooks.COMPARE), "another table is compared anew"
    executor.seen.clear()
    assert call({"cross": {"ipc": [5, 7]}}, "-p", "lr", "0.4")[0] == 0
    assert executor.cells == ["ipc=5", "ipc=7"], "another base is another study"


def test_failures_are_rows_with_their_error_and_are_tried_again(call, executor, tmp_path):
    executor.trouble["ipc=5"] = "----> 1 f()\n\nValueError: this is\n  why"
    code, said = call({"cross": {"ipc": [5, 10]}})
    assert code == 1 and executor.cells == ["ipc=5", "ipc=10"], "the next cell goes on"
    found = rows(tmp_path)
    assert list(found.status) == ["failed", "ok"]
    assert found.error["ipc=5"] == "02_b: ValueError: this is why" and pd.isna(found.error["ipc=10"])
    assert found["barrier/distilled/8"]["ipc=5"] == 5 / 3, "what its other notebooks say is kept"
    assert "failed" in said and "ValueError: this is why" in said
    executor.seen.clear()
    executor.trouble.clear()
    assert call({"cross": {"ipc": [5, 10]}})[0] == 0
    assert executor.cells == ["ipc=5"] and list(rows(tmp_path).status) == ["ok", "ok"]


@pytest.mark.parametrize(
    ("error", "code", "status"), [(Paused(), 75, "paused"), (KeyboardInterrupt(), 130, "interrupted")]
)
def test_a_stopped_grid_has_its_table_and_goes_on_where_it_was(call, executor, tmp_path, error, code, status):
    executor.stop["ipc=7"] = error
    executor.trouble["ipc=5"] = "ValueError: why"
    asked = {"cross": {"ipc": [3, 5, 7, 9]}}
    found, said = call(asked)
    assert found == code and "the same command goes on from there" in said
    assert list(rows(tmp_path).status) == ["ok", "failed", status, "not run"], "a failure before the stop is kept"
    assert ("out", notebooks.COMPARE) not in executor.seen
    executor.seen.clear()
    executor.stop.clear()
    executor.trouble.clear()
    os.environ["LOTTO_DEADLINE"] = "inf"
    assert call(asked)[0] == 0
    assert executor.cells == ["ipc=5", "ipc=7", "ipc=9"] and set(rows(tmp_path).status) == {"ok"}


@pytest.mark.parametrize("stopped", ["", "this process", "a child"])
def test_of_several_cells_at_once_each_has_its_row_in_whatever_order_they_end(
    call, executor, tmp_path, monkeypatch, stopped
):
    """Two of four begin, the second ends first and fails, and the third takes its place; then the run is interrupted, or
    the others end."""
    executor.trouble["ipc=5"] = "ValueError: why"
    shares = []

    def unordered(function, tasks, at_once, **settings):
        shares.append((at_once, settings, [task[-1] for task in tasks]))
        for i in (1, 3, 2, 0):  # in processes of their own: what comes back is a copy
            name, found, jobs = pickle.loads(pickle.dumps(function(*pickle.loads(pickle.dumps(tasks[i])))))
            yield name, 130 if stopped == "a child" and i == 3 else found, jobs
            if stopped == "this process" and i == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(cells.parallel, "unordered", unordered)
    monkeypatch.setattr(cells.parallel, "jobs", lambda: 2)
    code, said = call({"cross": {"ipc": [3, 5, 7, 9]}})
    told = {"LOTTO_SCHEDULER": "", "LOTTO_PLACE": "cpu, 2 processes at a time"}
    assert shares == [(2, told, ["1", "1", "1", "1"])]
    assert code == (130 if stopped else 1)
    others = {
        "": ["ok"] * 3,
        "this process": ["interrupted", "interrupted", "not run"],
        "a child": ["interrupted", "interrupted", "ok"],
    }
    assert list(rows(tmp_path).status) == [others[stopped][0], "failed", *others[stopped][1:]]
    assert rows(tmp_path).error["ipc=5"] == "02_b: ValueError: why"
    assert "ipc=5 | 02_b failed" in said and "ipc=5 | ValueError: why" in said, "whose line it is"


def test_cells_that_are_left_over_have_all_processes_for_themselves(call, executor, monkeypatch):
    shares = []
    monkeypatch.setattr(cells.parallel, "jobs", lambda: 4)

    def unordered(function, tasks, *_, **__):
        shares.extend(task[-1] for task in tasks)
        yield from ()

    monkeypatch.setattr(cells.parallel, "unordered", unordered)
    call({"cross": {"ipc": [2, 3, 4, 5, 6]}})
    call({"cross": {"ipc": [2, 3, 4]}})
    assert shares == ["1", "1", "1", "1", "4"] + ["2"] * 3


def test_a_process_that_is_killed_ends_the_run_in_one_sentence_and_the_table_stands(
    call, executor, tmp_path, monkeypatch
):
    def unordered(function, tasks, *_, **__):
        yield function(*tasks[0])
        raise ConfigError("jobs = 2: one of as many processes was ended from outside")

    monkeypatch.setattr(cells.parallel, "unordered", unordered)
    monkeypatch.setattr(cells.parallel, "jobs", lambda: 2)
    code, said = call({"cross": {"ipc": [3, 5, 7]}})
    assert code == 2 and said.endswith("jobs = 2: one of as many processes was ended from outside\n")
    assert list(rows(tmp_path).status) == ["ok", "not run", "not run"]


def test_a_time_limit_that_passes_while_several_run_leaves_the_others_not_run(call, executor, tmp_path, monkeypatch):
    executor.stop["ipc=5"] = Paused()
    monkeypatch.setattr(cells.parallel, "unordered", lambda function, tasks, *_, **__: (function(*t) for t in tasks))
    monkeypatch.setattr(cells.parallel, "jobs", lambda: 2)
    assert call({"cross": {"ipc": [3, 5, 7]}})[0] == 75
    assert list(rows(tmp_path).status) == ["ok", "paused", "not run"]


def test_no_cell_begins_when_the_time_is_up(call, executor, tmp_path):
    code, said = call({"cross": {"ipc": [5, 10]}}, "--time-limit", "0.000001")
    assert code == 75 and executor.seen == [] and "paused" in said
    assert list(rows(tmp_path).status) == ["not run", "not run"]


@pytest.mark.parametrize("error, code", [(None, 0), (Paused(), 75), (KeyboardInterrupt(), 130), (ValueError("odd"), 0)])
def test_tickets_of_all_cells_are_computed_together_before_any_notebook(
    books, executor, tmp_path, monkeypatch, error, code
):
    from lotto.lab import parallel

    asked = []

    def compute(function, descriptions):
        asked.append((function.stage, len(descriptions), len(executor.seen)))
        if error:
            raise error

    monkeypatch.setattr(parallel, "compute", compute)
    named = {"01_a": cells.TICKETS, "02_b": cells.PATHS}
    sources = [
        p.rename(p.with_stem(named[p.stem])) for p in sorted(notebooks.NOTEBOOKS.glob("*.ipynb")) if p.stem in named
    ]
    found = grid.plan(grid.expand({"cross": {"ipc": [5, 10]}, "seeds": 2}, "g"), {}, sources, str(tmp_path / "out"))
    assert cells.run(found, found, "g") == code
    runs = len(found[0].study.cells()) * found[0].study.children
    paths = len(found[0].study.cells())
    assert asked[0] == ("trained", 2 * runs, 0) and (error or asked[1:] == [("segment", 2 * paths, 0)])
    assert len(executor.cells) == (0 if code else 2)
    asked.clear()
    cells.run(found, found, "g")
    assert code or not asked, "nothing is missing"
    one = found[0].jobs[0]
    one.manifest.unlink(missing_ok=True)
    asked.clear()
    assert code or (cells.ahead(found), asked) == (0, []), "a single cell computes what it needs by itself"


def test_a_scheduler_that_is_lost_ends_the_run_and_fails_no_cell(call, executor, tmp_path, monkeypatch):
    """Each cell would wait for it in vain, and be told as failed."""
    left = iter([None, None, ConfigError("scheduler = 'tcp://host:1': no Dask scheduler answered")])

    def check():
        if error := next(left):
            raise error

    monkeypatch.setattr(cells.scheduler, "check", check)  # of the call, then of each cell
    code, said = call({"cross": {"ipc": [3, 5, 7]}})
    assert code == 2 and "no Dask scheduler answered" in said and executor.cells == ["ipc=3"]
    assert list(rows(tmp_path).status) == ["ok", "not run", "not run"]


def test_shards_share_a_table_and_the_last_one_compares(call, executor, tmp_path):
    asked = {"cross": {"ipc": [3, 5, 7]}}
    executor.trouble["ipc=5"] = "ValueError: why"
    assert call(asked, "--shard", "2/2")[0] == 1 and executor.cells == ["ipc=5"]
    assert ("out", notebooks.COMPARE) not in executor.seen
    assert call(asked, "--shard", "1/2")[0] == 0 and executor.cells == ["ipc=5", "ipc=3", "ipc=7"]
    assert list(rows(tmp_path).status) == ["ok", "failed", "ok"] and executor.seen[-1] == ("out", notebooks.COMPARE)


def test_a_dry_run_lists_the_cells(call, executor, tmp_path):
    call({"cross": {"ipc": [5]}})
    code, said = call({"cross": {"ipc": [5, 10]}}, "--dry-run")
    assert code == 0 and executor.cells == ["ipc=5"]
    assert "ipc=5: up to date" in said and "ipc=10: would run" in said and "2 cells of 01_a, 02_b" in said


def test_types_of_the_table_survive_parquet_and_csv(call, executor, tmp_path):
    executor.trouble["flip=False,levels=4+8,lr=0.4,ipc=5"] = 'ValueError: a, "b"\nc'
    asked = {
        "cross": {"flip": [False, True], "levels": [[4, 8]], "lr": [0.4, "1e-3"], "ipc": ["5"]},
        "base": {"methods": ["dense", "distilled"]},
    }
    call(asked)
    folder = tmp_path / "out"
    found = pd.read_parquet(folder / "table.parquet")
    kinds = {n: str(t) for n, t in found.dtypes.items()}
    assert {n: kinds[n] for n in ("cell", "flip", "levels", "lr", "ipc", "status", "error", "seconds")} == {
        "cell": "str", "flip": "bool", "levels": "str", "lr": "float64", "ipc": "int64", "status": "str", "error": "str",
        "seconds": "float64",
    }  # fmt: skip
    assert kinds["barrier/distilled/8"] == kinds["barrier/distilled/8/low"] == "float64"
    assert kinds["barrier/distilled/8/untrained"] == "Int64"
    assert list(found.lr) == [0.4, 0.001] * 2 and set(found.levels) == {"[4, 8]"}
    assert np.isnan(found["barrier/distilled/8/low"]).all()
    text = tables.read(str(folder / "table.csv"))
    pd.testing.assert_frame_equal(text, found, check_dtype=False, check_exact=True)
    whole = json.loads((folder / "table.json").read_text())
    assert list(whole) == list(found.cell) and whole[found.cell[0]]["momentum"] == 0.9
    assert not list(folder.glob("*.part"))


def test_the_page_over_a_grid_links_cells_table_and_comparison(call, executor, tmp_path):
    executor.trouble["ipc=5"] = "ValueError: a < b"
    call({"cross": {"ipc": [5, 10]}})
    (tmp_path / "out" / f"{notebooks.COMPARE}.html").touch()
    call({"cross": {"ipc": [5, 10]}})
    text = (tmp_path / "out" / "index.html").read_text()
    for link in (
        "ipc%3D5/index.html",
        "ipc%3D10/index.html",
        "table.csv",
        "table.parquet",
        f"{notebooks.COMPARE}.html",
    ):
        assert f'href="{link}"' in text
    assert "a &lt; b" in text and '<span class="chip bad">failed</span>' in text and "1 failed, 1 ok" in text


def test_a_notebook_hands_on_its_estimates_as_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LOTTO_END_MARK", str(tmp_path / "mark"))
    notebooks.finish("03_c", board=Board([{"claim": "P3"}], {"barrier/imp/8": 1 / 3, "barrier/imp/8/low": None}))
    told = json.loads((tmp_path / "mark").read_text())
    assert told["numbers"] == {"barrier/imp/8": 1 / 3, "barrier/imp/8/low": None} and told["board"] == [{"claim": "P3"}]
    notebooks.finish("07_d")
    assert capsys.readouterr().out == "03_c: finished, 1 claims judged\n07_d: finished\n"


def test_a_parameter_is_told_as_the_study_has_it(tiny):
    study = tiny(distill_method="traj", distill_lr="0.5", experts=2, ipc=3)
    found = {n: gather.value(study, n) for n in ("experts", "ipc", "lr", "levels", "net", "data", "distill_method")}
    assert found == dict(experts=2, ipc=3, lr=0.8, levels=(1, 2), net="resnet18", data="digits", distill_method="traj")
    with pytest.raises(ConfigError):
        gather.value(study, "unknown")


@pytest.mark.slow
def test_a_real_grid_of_two_cells(tmp_path, tiny_parameters):
    """Notebook 03 in two cells of one initialisation, both at once, then 07 over their table."""
    base = {n: v for n, v in tiny_parameters.items() if n not in ("seeds", "ipc")} | {"methods": ["dense", "distilled"]}
    asked = {"notebooks": "03", "cross": {"ipc": [2, 3]}, "seeds": 1, "base": base}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(asked))
    call = [sys.executable, "-m", "lotto.run", "--grid", "tiny.yaml", "--out", "out"]
    where = {**os.environ, "LOTTO_DEVICE": "cpu", "LOTTO_JOBS": "2", "PYTHONPATH": str(notebooks.CLONE)}
    first = subprocess.run(call, cwd=tmp_path, env=where, capture_output=True, text=True)
    assert first.returncode == 0, first.stdout + first.stderr
    assert all(f"ipc={n} | 03_stability  ok" in first.stdout for n in (2, 3)), "both at once, each told by its name"
    found = tables.read(str(tmp_path / "out" / "table.parquet"))
    assert list(found.ipc) == [2, 3] and list(found.status) == ["ok", "ok"] and (found.core_seconds > 0).all()
    assert {"barrier/dense/0", "accuracy/distilled/2", "P2/barrier/distilled"} <= set(found)
    assert found["barrier/dense/0"].nunique() == 1, "the dense net is the same product in both cells"
    page = (tmp_path / "out" / "07_compare.html").read_text()
    assert page.count('class="spec"') == 3 and "2 of 2 cells were run to their end." in page
    for cell in ("ipc=2", "ipc=3"):
        assert (tmp_path / "out" / cell / "03_stability.html").exists()
    again = subprocess.run(call, cwd=tmp_path, env=where, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout.count(": up to date") == 2 and " ...\n" not in again.stdout
