import inspect
import os
import subprocess
import sys
import textwrap
import time
import warnings

import pytest
import torch

from lotto.config import ConfigError
from lotto.lab import parallel
from lotto.lab.notebooks import CLONE
from lotto.lab.tickets.products import level, trained
from tests.lab.counted import counted


@pytest.mark.slow
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
        assert a.metrics == b.metrics
        assert all(torch.equal(a.tensors[n], b.tensors[n]) for n in a.tensors)


def test_that_a_worker_ended_while_idle_is_an_error_nowhere():
    """As one, it ends the thread that hands out work: a test run waited for ever in a process that computed nothing."""
    from joblib.externals.loky import process_executor

    assert parallel.WORKER_ENDED.removesuffix("executor") in inspect.getsource(process_executor)
    warnings.warn(f"{parallel.WORKER_ENDED}.", UserWarning, stacklevel=1)  # here, where warnings are errors
    code = "import warnings; from lotto.lab import parallel; warnings.warn(parallel.WORKER_ENDED, UserWarning)"
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], check=True, timeout=60)


def _told(number: int) -> tuple[int, str | None, int]:
    return number, os.environ.get("LOTTO_JOBS"), os.getpid()


def test_tasks_in_processes_of_their_own_have_the_settings_given(monkeypatch):
    monkeypatch.setenv("LOTTO_JOBS", "4")
    here = list(parallel.unordered(_told, [(1,), (2,)], 1))
    assert here == [(1, "4", os.getpid()), (2, "4", os.getpid())]
    there = sorted(parallel.unordered(_told, [(n,) for n in range(4)], 2, LOTTO_JOBS="2"))
    assert [t[:2] for t in there] == [(n, "2") for n in range(4)] and os.getpid() not in {t[2] for t in there}


def _killed(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), 9)
    return number


def test_a_process_that_is_killed_is_told_in_one_sentence():
    with pytest.raises(ConfigError, match="jobs = 2: one of as many processes was ended from outside"):
        list(parallel.unordered(_killed, [(n,) for n in range(4)], 2))


def test_an_iterator_that_is_closed_ends_its_processes_and_warns_of_nothing():
    """Warnings are errors here."""
    some = parallel.unordered(time.sleep, [(0,), (60,), (60,)], 2)
    next(some)
    started = time.monotonic()
    some.close()
    assert time.monotonic() - started < 30


SHARED = """
import sys, time
from lotto.lab import parallel
from tests.lab.counted import Work, square
while time.time() < float(sys.argv[2]): pass
found = parallel.compute(square, [Work(number=n, log=sys.argv[1], seconds=0.5) for n in range(9)])
assert [p.metrics["number"] for p in found] == list(range(9))
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_runs_that_want_the_same_products_share_the_work(own_store, tmp_path, jobs):
    """Waiting for each other at every one, the one that was first would compute all."""
    log = tmp_path / "log"
    env = {**os.environ, "LOTTO_STORE": str(own_store), "LOTTO_JOBS": jobs}
    call = [sys.executable, "-c", SHARED, str(log), str(time.time() + 15)]
    runs = [subprocess.Popen(call, env=env, cwd=CLONE) for _ in range(2)]
    assert [run.wait(120) for run in runs] == [0, 0]
    made = [line.split() for line in counted(log)]
    assert sorted(int(number) for number, _ in made) == list(range(9)), "each once"
    workers = {pid for _, pid in made}
    assert len(workers) == 2 * int(jobs), "all of them had something to do"


@pytest.mark.slow
def test_workers_follow_their_caller_to_another_store(tmp_path, monkeypatch, own_store, tiny):
    tickets = [tiny().ticket(m, 1, 0) for m in ("random", "initial")]
    monkeypatch.setenv("LOTTO_JOBS", "2")
    for name in ("first", "second"):  # the workers of the first call serve the second one too
        monkeypatch.setenv("LOTTO_STORE", str(tmp_path / name))
        found = parallel.compute(level, tickets)
        assert all(p.path.is_relative_to(tmp_path / name) for p in found)


def test_as_many_processes_as_a_container_may_use(monkeypatch):
    monkeypatch.setenv("LOTTO_DEVICE", "cpu")
    monkeypatch.delenv("LOTTO_JOBS", raising=False)
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    assert parallel.jobs() == 3


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LOTTO_DEVICE", "gpu", "device = 'gpu'"),
        ("LOTTO_JOBS", "0", "jobs = '0'"),
        ("LOTTO_JOBS", "two", "jobs = 'two'"),
    ],
)
def test_bad_settings(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        parallel.jobs()


def test_progress_is_written_for_the_runner(tmp_path, monkeypatch, own_store, tiny):
    monkeypatch.setenv("LOTTO_PROGRESS", str(tmp_path / "progress"))
    parallel.compute(level, [tiny().ticket("random", 1, 0)])
    stages = [f"{name} {done}/1" for name in ("train to the rewind point", "search masks") for done in (0, 1)]
    assert (tmp_path / "progress").read_text().splitlines() == stages


def test_what_a_product_builds_on_is_computed_first_and_what_lies_on_the_way_once(own_store, tiny):
    study = tiny(methods=["distilled"])
    asked = [study.training("distilled", at, 0, 1) for at in (1, 2)]
    parallel.compute(trained, asked)
    for at in (0, 1, 2):
        assert level.read(study.ticket("distilled", at, 0)) is not None
    assert len(list((own_store / "distilled").glob("[0-9a-f]*"))) == 1


@pytest.mark.slow
def test_workers_die_with_a_killed_parent(tmp_path):
    code = textwrap.dedent(f"""
        import joblib, os, time
        from lotto.lab.parallel import _die_with_parent
        def task(i):
            _die_with_parent()
            open({str(tmp_path)!r} + f"/{{os.getpid()}}", "w").close()
            time.sleep(600)
        joblib.Parallel(2)(joblib.delayed(task)(i) for i in range(2))
    """)
    parent = subprocess.Popen([sys.executable, "-c", code])
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
