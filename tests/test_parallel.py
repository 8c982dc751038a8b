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
    assert (tmp_path / "progress").read_text() == "prune 1/1\n"


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
    steps = parallel.Steps("distil (dist)", 100)
    steps.at(25, 1.5)
    steps.at(50, 1.2)  # at once after: not worth a line
    steps.close()
    assert file.read_text() == "distil (dist) 25/100\n"
    monkeypatch.setattr(parallel, "_worker", True)  # in a worker, products are what is counted
    parallel.Steps("distil (dist)", 100).at(75, 1.0)
    assert file.read_text() == "distil (dist) 25/100\n"


def test_a_bar_with_loss_and_memory_where_somebody_looks(monkeypatch, capsys):
    monkeypatch.delenv("LOTTO_HEADLESS")
    monkeypatch.delenv("LOTTO_PROGRESS", raising=False)
    steps = parallel.Steps("distil (dist)", 100, first=10)
    steps.at(60, 0.1234)
    steps.bar.refresh()
    steps.close()
    said = capsys.readouterr().err
    assert "distil (dist)" in said and "60/100" in said and "loss=0.123" in said and "GiB" in said
