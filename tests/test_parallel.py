import os
import subprocess
import sys
import textwrap

import pytest
import torch

from lotto import parallel
from lotto.config import ConfigError
from lotto.tickets import level


def test_products_come_in_order_and_equal_descriptions_once(own_store, monkeypatch, tiny):
    study = tiny()
    tickets = [study.ticket(m, 1, 0) for m in ("random", "initial", "random")]
    monkeypatch.setenv("LOTTO_JOBS", "1")
    one = parallel.compute(level, tickets)
    assert one[0].path == one[2].path != one[1].path
    monkeypatch.setenv("LOTTO_STORE", str(own_store) + "-2")
    monkeypatch.setenv("LOTTO_JOBS", "2")
    two = parallel.compute(level, tickets)
    for a, b in zip(one, two, strict=True):
        assert a.metrics == b.metrics and all(torch.equal(a.tensors[n], b.tensors[n]) for n in a.tensors)


def test_one_thread_inside_and_the_callers_after():
    torch.set_num_threads(2)
    with parallel.single_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("LOTTO_DEVICE", "gpu", "device = 'gpu'"), ("LOTTO_JOBS", "0", "jobs = '0'"), ("LOTTO_JOBS", "two", "jobs = 'two'")],
)
def test_bad_settings(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        parallel.jobs()


def test_cuda_that_is_not_there(monkeypatch):
    monkeypatch.setenv("LOTTO_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        parallel.device()


def test_progress_is_written_for_the_runner(tmp_path, monkeypatch, own_store, tiny):
    monkeypatch.setenv("LOTTO_PROGRESS", str(tmp_path / "progress"))
    parallel.compute(level, [tiny().ticket("random", 1, 0)], "prune")
    assert (tmp_path / "progress").read_text() == "prune 0/1\nprune 1/1\n"


def test_workers_die_with_a_killed_parent(tmp_path):
    code = textwrap.dedent(f"""
        import joblib, os, time
        from lotto.parallel import _die_with_parent
        def task(i):
            _die_with_parent()
            open({str(tmp_path)!r} + f"/{{os.getpid()}}", "w").close()
            time.sleep(600)
        joblib.Parallel(2)(joblib.delayed(task)(i) for i in range(2))
    """)
    parent = subprocess.Popen([sys.executable, "-c", code])
    import time

    for _ in range(300):
        if len(list(tmp_path.iterdir())) == 2:
            break
        time.sleep(0.1)
    workers = [int(p.name) for p in tmp_path.iterdir()]
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not any(_alive(w) for w in workers):
            break
        time.sleep(0.1)
    assert not any(_alive(w) for w in workers)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().split()[2] != "Z"
    except FileNotFoundError:
        return False
    except OSError:
        os.kill(pid, 0)
        return True


def test_the_steps_of_one_long_product_are_told(tmp_path, monkeypatch):
    file = tmp_path / "progress"
    monkeypatch.setenv("LOTTO_PROGRESS", str(file))
    steps = parallel.Steps("distil (dist)", 100, first=10)
    steps.at(25, 1.5)
    steps.at(50, 1.2)  # at once after: not worth a line
    assert file.read_text() == "distil (dist) 10/100\ndistil (dist) 25/100\n"
    steps.close()
    assert file.read_text().splitlines()[2:] == ["distil (dist) 100/100"]
    monkeypatch.setattr(parallel, "_worker", True)  # in a worker, products are what is counted
    parallel.Steps("distil (dist)", 100).at(75, 1.0)
    assert len(file.read_text().splitlines()) == 3


def test_what_is_being_done_and_for_how_long():
    stages = parallel.Stages(0)
    assert stages.line(7) == "no counted computation now (imports, tables, figures), for 7 s"
    stages.read(text := "distil 0/3\ndisti", 10)  # the last line is not whole yet
    assert stages.line(15) == "distil 0/3, for 5 s"
    stages.read(text := text + "l (dist) 0/100\n", 16)
    stages.read(text := text + "distil (dist) 50/100\n", 40)  # a sixth of all
    assert stages.line(40) == "distil 0/3, distil (dist) 50/100, about 2 min left"
    assert stages.line(100) == "distil 0/3, distil (dist) 50/100, about 90 s left"
    stages.read(text := text + "distil (dist) 100/100\ndistil 1/3\n", 70)
    assert stages.line(70) == "distil 1/3, about 2 min left" and stages.line(300) == "distil 1/3"
    stages.read(text := text + "distil 3/3\n", 90)  # finished: not told as if it ran
    assert stages.line(95) == "no counted computation now (imports, tables, figures), for 5 s"
    stages.read(text := text + "walk paths 0/4\nwalk paths 1/4\n", 100)
    assert stages.line(110) == "walk paths 1/4"
    stages.read(text, 120)
    assert stages.line(120) == "walk paths 1/4"


def test_a_stage_left_open_within_another_is_forgotten():
    stages = parallel.Stages(0)
    stages.read("outer 0/2\ninner 3/9\nouter 1/2\n", 1)
    assert list(stages.open) == ["outer"]


@pytest.mark.parametrize(("seconds", "said"), [(-3, "0 s"), (99, "99 s"), (170, "3 min"), (7800, "2 h 10 min")])
def test_spans(seconds, said):
    assert parallel._span(seconds) == said


def test_a_bar_with_loss_and_memory_where_somebody_looks(monkeypatch, capsys):
    monkeypatch.delenv("LOTTO_HEADLESS")
    monkeypatch.delenv("LOTTO_PROGRESS", raising=False)
    steps = parallel.Steps("distil (dist)", 100, first=10)
    steps.at(60, 0.1234)
    steps.bar.refresh()
    steps.close()
    said = capsys.readouterr().err
    assert "distil (dist)" in said and "60/100" in said and "loss=0.123" in said and "GiB" in said
