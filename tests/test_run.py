import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import numpy as np
import pytest

from lotto import run
from lotto.config import ConfigError
from lotto.data import DataError
from lotto.distill.coresets import subset
from lotto.lab import batch, committed, notebooks, options, sources, stills

ENV = {**os.environ, "LOTTO_DEVICE": "cpu"}


@pytest.fixture
def books(tmp_path, monkeypatch):
    """A folder of small notebooks in place of the study's."""
    folder = tmp_path / "note books"
    folder.mkdir()
    monkeypatch.setattr(notebooks, "NOTEBOOKS", folder)

    def write(name, *cells, parameters='preset: str = "digits"  # preset\nseeds: int = None  # how many'):
        nb = committed.strip(nbformat.v4.new_notebook())
        nb.cells = [nbformat.v4.new_code_cell(c) for c in (parameters, *cells)]
        nb.cells[0].metadata["tags"] = ["parameters"]
        nbformat.write(nb, folder / f"{name}.ipynb")

    return write


END = "from lotto.lab.notebooks import finish; finish({!r})"


def statuses(out):
    """notebook -> first word of its status, from the closing table."""
    rows = [line.split() for line in out.split("\nnotebook ")[-1].splitlines()]
    return {r[0]: r[1] for r in rows if len(r) > 2 and r[0][:2].isdigit()}


def go(tmp_path, *args):
    return run.main(["--out", str(tmp_path / "out put"), *args])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("0.001", 0.001), ("1e-3", "1e-3"), ("3", 3), ("true", True), ("None", None), ("null", None), ("[4, 8]", [4, 8]),
        ("['imp']", ["imp"]),
        ('["imp"]', ["imp"]),
        ("4,8", "4,8"), ("resnet18", "resnet18"),
    ],
)  # fmt: skip
def test_what_a_value_on_the_command_line_means(text, meant):
    assert options.value(text) == meant and type(options.value(text)) is type(meant)


@pytest.mark.slow
def test_a_run_its_table_and_being_up_to_date(books, tmp_path, capsys):
    books("01_a", "print(seeds)", END.format("01_a"))
    books("02_b", END.format("02_b"), parameters='preset: str = "digits"')
    assert go(tmp_path, "--seeds", "2") == 0
    out = capsys.readouterr().out
    assert (
        statuses(out) == {"01_a": "ok", "02_b": "ok"}
        and "index.html" in out
        and (tmp_path / "out put" / "01_a.html").exists()
    )
    result = nbformat.read(tmp_path / "out put" / "01_a.ipynb", 4)
    assert result.metadata.papermill.parameters == {"preset": "digits", "seeds": 2}
    assert (
        "seeds" not in nbformat.read(tmp_path / "out put" / "02_b.ipynb", 4).metadata.papermill.parameters
    )  # goes to those that have it
    assert go(tmp_path, "--seeds", "2") == 0 and capsys.readouterr().out.count("up to date") == 2
    assert go(tmp_path, "--seeds", "2", "--dry-run") == 0 and capsys.readouterr().out.count("up to date") == 2
    books("01_a", "print(seeds + 1)", END.format("01_a"))  # another source
    assert go(tmp_path, "--seeds", "2", "--dry-run") == 0 and "01_a: would run" in capsys.readouterr().out
    assert go(tmp_path, "--force", "--only", "2") == 0 and statuses(capsys.readouterr().out) == {"02_b": "ok"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [
        "raise ValueError('this is why')", "import sys; sys.exit(0)", "import sys; sys.exit(3)", "import os; os._exit(1)",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    ],
)  # fmt: skip
def test_failures_of_every_kind_are_failures(books, tmp_path, capsys, cell):
    books("01_bad", "print('before')", cell, END.format("01_bad"))
    books("02_next", END.format("02_next"))
    assert go(tmp_path) == 1
    out = capsys.readouterr().out
    assert statuses(out) == {"01_bad": "FAILED", "02_next": "not"} and "01_bad.partial.ipynb" in out
    assert not (tmp_path / "out put" / "01_bad.ipynb").exists()
    if "why" in cell:
        assert "ValueError: this is why" in out
    assert go(tmp_path, "--keep-going") == 1 and statuses(capsys.readouterr().out) == {
        "01_bad": "FAILED",
        "02_next": "ok",
    }


@pytest.mark.slow
@pytest.mark.parametrize("times, trouble", [(2, None), (3, "Kernel died before replying to kernel_info")])
def test_a_kernel_that_dies_at_birth_is_started_again(books, tmp_path, monkeypatch, times, trouble):
    """Its ports were taken by another that started at the same time; nothing of the notebook was executed yet."""
    import papermill
    from jupyter_client import client

    assert notebooks.STILLBORN in inspect.getsource(client)
    books("01_a", END.format("01_a"))
    real, calls = papermill.execute_notebook, []

    def execute(*args, **named):
        calls.append(args)
        if len(calls) <= times:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return real(*args, **named)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    job = batch.plan(notebooks.choose("01", None), {"preset": "digits"}, str(tmp_path / "out"))[0][0]
    assert notebooks.execute(job) == trouble
    assert len(calls) == 3 and job.result.exists() == (trouble is None)


def test_a_notebook_without_its_end_mark_has_failed(books, tmp_path, capsys):
    books("01_cut", "1 + 1")
    books("02_other", END.format("01_cut"))
    assert go(tmp_path, "--keep-going") == 1
    assert capsys.readouterr().out.count("without its end mark") == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-p", "preset", "cifar10"], "write --preset cifar10"), (["-p", "variant", "tour"], "each notebook has its own"),
        (["-p", "seads", "3"], "'seads' is not a parameter of the study; did you mean 'seeds'"), (["--seeds", "0"], "seeds = 0"),
        (["--seeds", "3", "-p", "seeds", "1"], "--seeds 3 and -p seeds 1: the same parameter twice"),
        (["--seeds", "many"], "seeds = 'many'"), (["--preset", "digit"], "did you mean 'digits'"),
        (["--only", "07"], "notebook '07' does not exist"),
        (["--from", "x"], "notebook 'x' does not exist; there are: 01_a"), (["--jobs", "0"], "jobs = '0'"),
        *[(["--time-limit", v], f"time-limit = '{v}': give a number of seconds above 0") for v in ("-5", "0", "nan", "inf", "soon")],
    ],
)  # fmt: skip
def test_wrong_calls_are_refused_before_anything_runs(books, tmp_path, capsys, monkeypatch, args, said):
    monkeypatch.setenv("LOTTO_JOBS", "1")
    books("01_a", END.format("01_a"))
    assert go(tmp_path, *args) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out put").exists()


def test_a_folder_that_cannot_be_made_is_refused(books, tmp_path, capsys):
    books("01_a", END.format("01_a"))
    (tmp_path / "file").touch()
    for place in ("/proc/x", str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        assert run.main(["--out", place]) == 2
        said = capsys.readouterr().err
        assert (
            said.count("\n") == 1
            and f"out = {place!r}: cannot be written to (" in said
            and "give --out another folder" in said
        )


@pytest.mark.slow
def test_no_browser_is_said_once_for_all_notebooks(books, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(stills, "_state", {})
    monkeypatch.setenv("LOTTO_STILLS", "1")
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chromium")
    figure = (
        "import plotly.graph_objects as go; from lotto.lab import plots; plots.show(go.Figure(go.Scatter(y=[1, 2])))"
    )
    books("01_a", figure, END.format("01_a"))
    books("02_b", figure, END.format("02_b"))
    assert go(tmp_path) == 0
    out = capsys.readouterr()
    assert (out.out + out.err).count("BROWSER_PATH = '/nowhere/chromium' is not a program") == 1
    for name in ("01_a", "02_b"):
        assert "still pictures" not in (tmp_path / "out put" / f"{name}.ipynb").read_text()


def test_argparse_errors_are_usage_too():
    for args in (["--bogus"], ["--device", "tpu"], ["-p", "x"]):
        with pytest.raises(SystemExit) as stop:
            run.main(args)
        assert stop.value.code == 2


def test_missing_data_is_told_before_anything_runs(books, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LOTTO_DATA", str(tmp_path / "nowhere"))
    books("01_a", END.format("01_a"))
    assert go(tmp_path, "--preset", "cifar10") == 2
    assert "data_batch_1 is missing; run again with --download" in capsys.readouterr().err


def test_choose(books):
    for name in ("01_a", "02_b", "03_c", notebooks.COMPARE):
        books(name)
    assert [p.stem for p in notebooks.choose(None, None, every=True)] == ["01_a", "02_b", "03_c", "07_compare"]
    assert [p.stem for p in notebooks.choose("3,01", None)] == ["01_a", "03_c"]
    assert [p.stem for p in notebooks.choose(None, "02")] == ["02_b", "03_c"]
    for none in ("04", "02,", ""):
        with pytest.raises(ConfigError, match="does not exist; there are: 01_a, 02_b, 03_c"):
            notebooks.choose(none, None)
    with pytest.raises(ConfigError, match="--only 01 and --from 02 each say which notebooks run"):
        notebooks.choose("01", "02")


def test_files_are_those_of_the_callers_folder_wherever_they_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"data": "my.npz", "ipc": 5, "more": {"data": "other.npz", "own_set": "set-{seed}.pt"}}
    assert options.absolute(given) == {
        "data": f"{tmp_path}/my.npz",
        "ipc": 5,
        "more": {"data": f"{tmp_path}/other.npz", "own_set": f"{tmp_path}/set-{{seed}}.pt"},
    }
    assert options.absolute({"data": "digits", "own_set": None}) == {"data": "digits", "own_set": None}


def test_a_file_s_name_that_is_none_is_told_in_words(books, tmp_path):
    books("02_b")
    with pytest.raises(ConfigError, match="own_set = 5"):
        batch.plan(notebooks.choose("02", None), {"own_set": 5}, str(tmp_path))


def test_other_bytes_of_one_s_own_file_are_another_run(books, tmp_path):
    books("02_b")
    keys = []
    for first in (0, 1):
        labels = np.roll(np.arange(200) % 2, first)
        images = np.random.default_rng(0).integers(0, 256, (200, 1, 8, 8), dtype=np.uint8)
        np.savez(tmp_path / "my.npz", images=images, labels=labels)
        given = {"data": str(tmp_path / "my.npz"), "held_out": 10}
        keys.append(batch.plan(notebooks.choose("02", None), given, str(tmp_path))[0][0].key)
    assert keys[0] != keys[1]


def test_the_index_tells_what_a_run_found_of_each_arm(tiny):
    study = tiny(levels=[1, 2])
    told = {"accuracy/dense/0": 98.0, "barrier/dense/0": 20.04, "accuracy/imp/2": 97.0, "accuracy/imp/1": 1.0}
    numbers = {"accuracy": "test accuracy (%)", "barrier": "error barrier (points; stable: below 2)"}
    dense, imp = batch.arms([{}, {"numbers": told}], study)
    assert (dense["arm"], dense["sparsity"], dense[numbers["accuracy"]], dense[numbers["barrier"]]) == (
        *("dense", "0.0 %", "98.0", "20.0"),
    )
    assert (imp["arm"], imp[numbers["accuracy"]], imp[numbers["barrier"]]) == ("IMP", "97.0", "-")


def test_the_index_tells_no_notebook_of_another_run(books, tmp_path):
    for name in ("02_b", "03_c"):
        books(name)
    jobs, described = batch.plan(notebooks.choose("03", None), {"lr": 0.9}, str(tmp_path))
    board = [{"claim": "P1", "here": "of another run", "reference": "-", "word": "not run", "agrees": "-", "but": "-"}]
    told = {"board": board, "seconds": 1.0, "core_seconds": 1.0}
    (tmp_path / "02_b.json").write_text(json.dumps({**told, "parameters": {"more": {"lr": 0.1}}}))
    (tmp_path / "04_x.json").write_text("[]")
    assert "of another run" not in batch._index(jobs, described).read_text()
    (tmp_path / "02_b.json").write_text(json.dumps({**told, "parameters": {"more": {"lr": 0.9}}}))
    assert "of another run" in batch._index(jobs, described).read_text()


def test_sets_that_cannot_be_made_are_refused_where_they_are_judged(books, tmp_path):
    for name in ("01_a", "02_b"):
        books(name)
    many = {"ipcs": [1, 200]}
    with pytest.raises(DataError, match="ipcs = 200: the smallest class has .* and one stored holds 4; give at most"):
        batch.plan(notebooks.choose("01", None), many, str(tmp_path))
    assert batch.plan(notebooks.choose("02", None), many, str(tmp_path))


@pytest.mark.slow
def test_a_run_whose_time_is_up_is_paused_and_goes_on(books, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LOTTO_DEADLINE", "inf")  # put back after the test, whatever the run sets
    save = (
        "import pathlib, tempfile; from lotto.lab import store; kept = "
        "store.checkpoint(pathlib.Path(tempfile.mkdtemp()))"
    )
    books("01_a", save, "kept.due() and kept.save({}, {}); print('on')", END.format("01_a"))
    books("02_b", END.format("02_b"))
    assert go(tmp_path, "--time-limit", "0.001") == run.PAUSED == 75
    out = capsys.readouterr().out
    assert statuses(out) == {"01_a": "paused", "02_b": "waiting"} and "paused; what was finished is kept" in out
    assert go(tmp_path, "--time-limit", "600") == 0
    assert statuses(capsys.readouterr().out) == {"01_a": "ok", "02_b": "ok"}


def test_a_card_on_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LOTTO_DEVICE", "cpu")
    small = [p for n, v in (("train_size", "100"), ("judge_steps", "3"), ("judge_nets", "1")) for p in ("-p", n, v)]
    made = subset(sources.load(sources.Data(train_size=100)), 2)
    made.save(tmp_path / "mine.safetensors")
    assert run.main(["card", str(tmp_path / "mine.safetensors"), *small]) == 0
    assert json.loads(capsys.readouterr().out)["set"]["checksums"] == [made.checksum]
    assert run.main(["card", "--estimate", "-p", "distill_method", "traj", *small]) == 0
    assert [e["images a class"] for e in json.loads(capsys.readouterr().out)] == [1, 10]
    assert run.main(["card", str(tmp_path / "absent.pt"), *small]) == 2 and "no such file" in capsys.readouterr().err


def descendants(pid):
    out = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True).stdout.split()
    pairs = list(zip(map(int, out[::2]), map(int, out[1::2]), strict=True))
    found = {pid}
    for _ in range(8):
        found |= {c for c, p in pairs if p in found}
    return found - {pid}


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_kernel_and_goes_on_afterwards(tmp_path, sent):
    clone = tmp_path / "a clone"
    shutil.copytree(
        notebooks.CLONE, clone, ignore=shutil.ignore_patterns(".git", "runs", ".lotto", ".venv", "__pycache__")
    )
    for old in (clone / "notebooks").glob("*.ipynb"):
        old.unlink()
    nb = committed.strip(nbformat.v4.new_notebook())
    slow = f"import time, os; time.sleep(0 if os.path.exists({str(tmp_path / 'go')!r}) else 99)"
    nb.cells = [nbformat.v4.new_code_cell(c) for c in ('preset: str = "digits"', slow, END.format("01_slow"))]
    nb.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nb, clone / "notebooks" / "01_slow.ipynb")
    call = dict(
        cwd=tmp_path, env={**ENV, "PYTHONPATH": str(clone)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    process = subprocess.Popen([sys.executable, "-m", "lotto.run"], **call)
    for _ in range(400):
        if (clone / "runs/digits/01_slow.partial.ipynb").exists() and len(descendants(process.pid)) >= 1:
            break
        time.sleep(0.1)
    time.sleep(2)
    kernels = descendants(process.pid)
    assert kernels
    process.send_signal(sent)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and statuses(out) == {"01_slow": "interrupted"} and "goes on from there" in out, (
        out
    )
    time.sleep(1)
    assert not [
        k for k in kernels if os.path.exists(f"/proc/{k}") and "Z" not in open(f"/proc/{k}/stat").read().split()[2]
    ]
    (tmp_path / "go").touch()
    again = subprocess.run([sys.executable, "-m", "lotto.run"], **call)
    assert again.returncode == 0 and json.loads((clone / "runs/digits/01_slow.json").read_text())["parameters"] == {
        "preset": "digits"
    }
