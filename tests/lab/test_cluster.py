"""Products on a Dask cluster: what is asked before anything is computed, and what happens when something dies."""

import contextlib
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lotto import run
from lotto.checkpoint import Paused
from lotto.config import ConfigError
from lotto.data import DataError
from lotto.lab import cluster, parallel, progress, scheduler, worker
from lotto.lab.store import StoreError
from tests.lab.counted import Work, counted, fails, square, steps

pytest.importorskip("distributed", reason="needs Dask: pip install 'lotto[cluster]'")
CLONE = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _own(own_store, monkeypatch, tmp_path):
    own_store.mkdir()
    monkeypatch.setenv("LOTTO_DEVICE", "cpu")
    monkeypatch.setenv("LOTTO_PROGRESS", str(tmp_path / "progress"))
    monkeypatch.setattr(progress, "in_worker", False)
    (tmp_path / "log").touch()


@pytest.fixture
def works(tmp_path):
    """works(n): n descriptions; their log is `counted(tmp_path / "log")`."""
    return lambda n, **more: [Work(number=i, log=str(tmp_path / "log"), **more) for i in range(n)]


@pytest.fixture(scope="module", autouse=True)
def _closed():
    yield
    for client in scheduler._known.values():
        client.close(timeout=10)
    scheduler._known.clear()
    if scheduler._local.cache_info().currsize:
        scheduler._local(3).close(timeout=20)
        scheduler._local.cache_clear()


@pytest.fixture
def three(monkeypatch):
    """The cluster of three workers that the tests of this module share."""
    monkeypatch.setenv("LOTTO_SCHEDULER", "local:3")


@pytest.fixture
def elsewhere(monkeypatch):
    """elsewhere(n): a cluster of n workers in a process of its own, named from now on; the process."""
    started = []

    def go(workers):
        code = "import time; from lotto.lab import scheduler; print(scheduler.address(), flush=True); time.sleep(600)"
        env = {**os.environ, "LOTTO_SCHEDULER": f"local:{workers}", "LOTTO_PROGRESS": ""}
        started.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env))
        monkeypatch.setenv("LOTTO_SCHEDULER", started[-1].stdout.readline().strip())
        return started[-1]

    yield go
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def alone():
    """The address of a scheduler without workers."""
    from distributed import Scheduler, SpecCluster

    spec = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}}
    with SpecCluster(workers={}, scheduler=spec, silence_logs=50) as found:
        yield found


def notes(tmp_path):
    lines = (tmp_path / "progress").read_text().splitlines()
    return [line.removeprefix(progress.NOTE) for line in lines if line.startswith(progress.NOTE)]


@pytest.mark.parametrize(
    "text", ["local", "local:0", "local:two", "localhost:8786", "tcp://host", "http://host:1", " "]
)
def test_what_names_no_cluster_is_refused_at_once(monkeypatch, text, capsys):
    monkeypatch.setenv("LOTTO_SCHEDULER", text)
    with pytest.raises(ConfigError, match="give local:N with N from 1, or an address such as tcp://host:8786"):
        parallel.compute(square, [])
    assert run.main(["--scheduler", text, "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith(f"run_all.sh: scheduler = {text!r}")


def test_a_wrong_time_to_wait_is_refused(monkeypatch):
    monkeypatch.setenv("LOTTO_SCHEDULER_WAIT", "soon")
    with pytest.raises(ConfigError, match="'soon': give a number of seconds above 0"):
        scheduler.check()


def test_without_dask_the_command_to_have_it_is_told(monkeypatch, three):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match="scheduler = 'local:3': needs Dask.*pip install 'distributed>="):
        scheduler.check()


@pytest.mark.parametrize("silent", [False, True])
def test_where_no_scheduler_answers_it_is_told_in_time(monkeypatch, silent):
    """At a port where nobody listens, and at one where somebody takes the call and says nothing."""
    monkeypatch.setattr(scheduler, "ANSWER", 1.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if silent:
            taken.listen()
        monkeypatch.setenv("LOTTO_SCHEDULER", f"tcp://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConfigError, match="no Dask scheduler answered within 2 s .*; start one"):
            scheduler.check()


def test_a_worker_takes_a_gpu_and_one_thread(monkeypatch):
    for n, env in enumerate(scheduler.environments(2, ["GPU-a", "3"])):
        assert env["CUDA_VISIBLE_DEVICES"] == ["GPU-a", "3"][n]
        assert env["OMP_NUM_THREADS"] == "1" and env["LOTTO_SCHEDULER"] == ""
    assert all("CUDA_VISIBLE_DEVICES" not in env for env in scheduler.environments(9, None))
    monkeypatch.setenv("LOTTO_SCHEDULER", "local:3")
    with pytest.raises(ConfigError, match="'local:3': a worker takes a GPU, and this machine has 2; use local:2"):
        scheduler.environments(3, ["0", "1"])


def test_processes_here_are_what_they_were(monkeypatch, works):
    monkeypatch.setenv("LOTTO_JOBS", "1")
    assert parallel.place() == "cpu, 1 processes at a time"
    assert [p.metrics["number"] for p in parallel.compute(square, works(2))] == [0, 1]


def told(own_store, **changes):
    settings = {"LOTTO_STORE": str(own_store), "LOTTO_DEADLINE": "inf"}
    return worker.Told("mark", {**worker.versions(), **changes}, settings)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lotto": "0"}, "has other lotto source files .*: start it in the client's environment"),
        ({"torch": "2.0.1"}, "has torch .* here, 2.0.1 there"),
        ({"Python": "3.9"}, "has Python .* here, 3.9 there"),
    ],
)
def test_a_worker_of_other_versions_says_so(own_store, changes, says):
    import re

    assert re.match(says, worker.objection(told(own_store, **changes)))


def test_a_worker_with_another_store_says_so(own_store, monkeypatch, tmp_path):
    (own_store / worker.MEETING).mkdir()
    (own_store / worker.MEETING / "mark").touch()
    monkeypatch.setattr(worker, "own", dict)
    what, answer = worker.look(told(own_store))
    assert what == "" and (own_store / worker.MEETING / answer).exists()
    monkeypatch.setattr(worker, "own", lambda: {"LOTTO_STORE": str(tmp_path / "other")})
    assert f"it looked in {tmp_path}/other; mount the same folder" in worker.objection(told(own_store))


def test_a_worker_with_other_data_computes_nothing(own_store, monkeypatch, works, tmp_path):
    (own_store / worker.MEETING).mkdir()
    (own_store / worker.MEETING / "mark").touch()
    monkeypatch.setattr(worker, "own", dict)
    monkeypatch.setattr(worker, "_name", lambda: "tcp://there:1")
    (one,) = works(1)
    with pytest.raises(ConfigError, match="worker tcp://there:1 would make another product .*give it the same files"):
        worker.compute(pickle.dumps((square, "0" * 64, one)), told(own_store))
    lacking = one.but(data={"name": str(tmp_path / "my.npz")})
    with pytest.raises(
        ConfigError, match="worker tcp://there:1 cannot read what square is made from.*my.npz is missing"
    ):
        worker.compute(pickle.dumps((square, "0" * 64, lacking)), told(own_store))
    assert counted(tmp_path / "log") == []


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["store", "lotto", "threads"])
def test_a_wrong_worker_is_refused_before_anything_is_computed(alone, wrong, monkeypatch, works, tmp_path):
    there = tmp_path / "there"
    env = {**os.environ, "LOTTO_STORE": "", "LOTTO_PROGRESS": ""}
    if wrong == "store":
        env["LOTTO_STORE"] = str(there)
    if wrong == "lotto":
        shutil.copytree(CLONE / "lotto", there / "lotto")
        (there / "lotto" / "config.py").open("a").write("# changed\n")
        env["PYTHONPATH"] = str(there)
    call = ["-m", "distributed.cli.dask_worker", alone.scheduler_address, "--no-nanny", "--no-dashboard"]
    call += ["--nthreads", "2" if wrong == "threads" else "1", "--local-directory", str(there)]
    process = subprocess.Popen([sys.executable, *call], env=env, cwd=tmp_path, stderr=subprocess.DEVNULL)
    monkeypatch.setenv("LOTTO_SCHEDULER", alone.scheduler_address)
    says = {"store": "does not see the client's store", "lotto": "has other lotto", "threads": "--nthreads 1"}
    try:
        with pytest.raises(ConfigError, match=f"scheduler = 'tcp://.*: worker tcp://.* {says[wrong]}"):
            parallel.compute(square, works(3))
    finally:
        process.kill()
        process.wait()
    assert counted(tmp_path / "log") == []


@pytest.mark.slow
def test_where_no_worker_comes_it_is_told_in_time(alone, monkeypatch, works, tmp_path):
    monkeypatch.setenv("LOTTO_SCHEDULER", alone.scheduler_address)
    monkeypatch.setenv("LOTTO_SCHEDULER_WAIT", "1")
    with pytest.raises(ConfigError, match="no worker for 1 s; start some, or wait longer .LOTTO_SCHEDULER_WAIT"):
        parallel.compute(square, works(3))
    assert notes(tmp_path) == [f"no worker at {alone.scheduler_address} yet: waiting up to 1 s for one"]


def kill_one(log, after):
    """Kill the worker that began the last of so many computations, in the midst of it; the threads's timer."""

    def look():
        for _ in range(1000):
            if len(lines := counted(log)) >= after:
                time.sleep(0.3)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(lines[-1].split()[1]), signal.SIGKILL)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_killed_workers_lose_nothing(three, works, tmp_path):
    killers = [kill_one(tmp_path / "log", after) for after in (2, 6)]
    made = parallel.compute(steps, works(9, seconds=0.8))
    for killer in killers:
        killer.join(60)
    assert [p.tensors["sum"].item() for p in made] == [190.0 * n for n in range(9)]
    lines = counted(tmp_path / "log")
    assert 9 < len(lines) <= 9 + 2, "more was computed again than was lost"
    assert any(not line.endswith("from 0") for line in lines), "none went on from its last state"
    assert any(note.startswith("lost a worker") for note in notes(tmp_path))
    assert cluster.core_seconds > 0


@pytest.mark.slow
def test_errors_come_back_as_what_they_are(three, works):
    for ends, kind in (("config", ConfigError), ("data", DataError), ("store", StoreError)):
        with pytest.raises(kind, match=f"^number 0: {ends}$"):
            parallel.compute(fails, works(1, ends=ends))


@pytest.mark.slow
def test_what_kills_every_worker_is_told_by_name(three, works):
    (one,) = works(1, ends="killed at step 5")
    with pytest.raises(ConfigError, match=f"steps {steps.key(one)[:12]}: several workers died over it"):
        parallel.compute(steps, [one])


@pytest.mark.slow
def test_what_gets_further_with_each_worker_that_dies_is_finished(three, works, tmp_path):
    """Dask gives a task up after four deaths; on machines that are taken away at any time, a long one has more."""
    (made,) = parallel.compute(steps, works(1, ends="killed after each step"))
    assert made.tensors["sum"].item() == 0
    assert [line.split()[-1] for line in counted(tmp_path / "log")] == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.slow
def test_the_deadline_travels_and_states_are_saved(three, works, monkeypatch, own_store):
    monkeypatch.setenv("LOTTO_DEADLINE", str(time.time() + 4))
    with pytest.raises(Paused):
        parallel.compute(steps, works(6, seconds=30))
    monkeypatch.setenv("LOTTO_DEADLINE", "inf")
    assert list(own_store.glob("steps/.*.partial/state.safetensors"))
    assert not list(own_store.glob("steps/*/done.json"))


@pytest.mark.slow
def test_many_clients_that_want_the_same_have_it_computed_once(three, works, monkeypatch, tmp_path):
    mine, address = threading.local(), scheduler.address()

    def own_client():
        if not hasattr(mine, "client"):
            mine.client = scheduler._connect(address)
        return mine.client

    def ask():
        found.append([p.metrics["number"] for p in parallel.compute(square, works(30))])
        own_client().close(timeout=10)

    found = []
    monkeypatch.setattr(scheduler, "client", own_client)
    clients = [threading.Thread(target=ask) for _ in range(4)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(100)
    assert found == [list(range(30))] * 4
    assert len(counted(tmp_path / "log")) == 30


@pytest.mark.slow
def test_a_lost_scheduler_is_told_and_another_goes_on(elsewhere, works, tmp_path, own_store):
    first = elsewhere(2)
    whole = "steps/[!.]*/done.json"  # a kill leaves what was being written in a folder with a dot

    def kill():
        while not list(own_store.glob(whole)):
            time.sleep(0.05)
        first.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(ConfigError, match="scheduler = 'tcp://.*: it was lost .*what was finished is kept"):
        parallel.compute(steps, works(8, seconds=1))
    finished = list(own_store.glob(whole))
    assert 1 <= len(finished) < 8
    for line in counted(tmp_path / "log"):
        deadline = time.time() + 30
        while Path(f"/proc/{line.split()[1]}").exists():
            assert time.time() < deadline, "a worker outlives its cluster"
            time.sleep(0.1)
    written = {f: f.stat().st_mtime_ns for f in list(own_store.glob(whole))}
    elsewhere(2)
    made = parallel.compute(steps, works(8, seconds=1))
    assert [p.tensors["sum"].item() for p in made] == [190.0 * n for n in range(8)]
    assert all(f.stat().st_mtime_ns == t for f, t in written.items()), "what was finished was computed again"
