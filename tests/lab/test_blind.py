"""Processes on one store that do not see each other's locks, as on a network file system without them: they may compute
twice, but nothing is lost, half-written, or taken for another's."""

import errno
import os
import platform
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from lotto.checkpoint import Checkpoint
from lotto.lab import store
from lotto.lab.product import _left_behind, _place
from tests.lab.counted import Work, counted, square

BLIND = textwrap.dedent("""
    import contextlib, multiprocessing, sys
    from lotto.lab import store
    from tests.lab.counted import Work, square, steps
    store._lock = lambda *_: contextlib.nullcontext()
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)

    def child():
        for n in range(15):
            for function in (square, steps):
                work = Work(number=n, log=sys.argv[1], seconds=0 if function is square else 0.02)
                if n % 3 == 0 and function is square and not square.folder(work).exists():
                    with contextlib.suppress(OSError):
                        square.folder(work).mkdir(parents=True)
                        (square.folder(work) / "metrics.json").write_text("cut off")
                start.wait(100)
                x = function(work).tensors
                assert x["x"].tolist() == [n * n] * 3 if function is square else x["sum"].item() == 190 * n, (n, x)

    all = [context.Process(target=child) for _ in range(4)]
    for p in all: p.start()
    for p in all: p.join(150)
    print([p.exitcode for p in all])
""")


@pytest.mark.slow
def test_four_processes_without_locks_make_whole_products(own_store, tmp_path):
    """They meet before each product, so that they write and rename at once; a third of the products begins damaged."""
    log = tmp_path / "log"
    env = {**os.environ, "LOTTO_STORE": str(own_store)}
    out = subprocess.run([sys.executable, "-c", BLIND, str(log)], capture_output=True, text=True, env=env, timeout=250)
    assert out.stdout == "[0, 0, 0, 0]\n", out.stderr[-3000:]
    assert len(counted(log)) > 2 * 15  # locks were off: some was computed twice
    assert not list(own_store.glob("*/.*making*")), "half-made folders are left"
    for n in range(15):
        assert square.read(Work(number=n, log=str(log))).tensors["x"].tolist() == [n * n] * 3


def made(folder, value):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(f'{{"x": {value}}}')
    size = (folder / "metrics.json").stat().st_size
    (folder / "done.json").write_text(f'{{"format": 1, "files": {{"metrics.json": {size}}}}}')
    return folder


def test_the_first_to_rename_decides(tmp_path):
    first, second = made(tmp_path / ".k.making-1", 1), made(tmp_path / ".k.making-2", 2)
    _place(first, tmp_path / "k")
    _place(second, tmp_path / "k")
    assert (tmp_path / "k" / "metrics.json").read_text() == '{"x": 1}'
    assert [p.name for p in tmp_path.iterdir()] == ["k"]


def test_what_is_damaged_makes_room(tmp_path):
    made(tmp_path / "k", 1)
    (tmp_path / "k" / "metrics.json").write_text("")
    _place(made(tmp_path / ".k.making-2", 2), tmp_path / "k")
    assert (tmp_path / "k" / "metrics.json").read_text() == '{"x": 2}'
    assert [p.name for p in tmp_path.iterdir()] == ["k"]


def test_only_what_nobody_writes_any_more_is_cleared_away(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = {
        f".k.making-1-{os.getpid()}@{platform.node()}": False,
        f".k.making-2-{gone.pid}@{platform.node()}": True,
        f".k.making-3-{gone.pid}@another-machine": False,
        ".k.making-4": False,
    }
    for name, left in names.items():
        (tmp_path / name).mkdir()
        assert _left_behind(tmp_path / name) == left, name
        os.utime(tmp_path / name, (0, time.time() - 2 * 24 * 3600))
        assert _left_behind(tmp_path / name), name


def test_a_file_system_that_refuses_locks_does_not_stop_a_computation(own_store, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refused)
    assert square(Work(number=3, log=str(tmp_path / "log"))).tensors["x"].tolist() == [9, 9, 9]


def test_a_lock_is_free_after_its_product(own_store, tmp_path):
    """Taken twice and let go once, it would keep all others out."""
    folder = square.folder(Work(number=3, log=str(tmp_path / "log")))
    with store._lock(folder):
        pass
    held = store.FileLock(own_store / "locks" / f"square-{folder.name[:32]}")
    held.acquire(timeout=0)
    held.release()


@pytest.mark.parametrize("gone", ["after mkdir", "within mkdir"])
def test_a_checkpoint_whose_folder_goes_in_between_goes_on(tmp_path, monkeypatch, gone):
    """The process that finishes first clears the folder up while another is writing into it. Within mkdir: the folder is
    there when it is to be made, and no longer when mkdir asks whether it is a folder."""

    def mkdir(folder, **_):
        if gone == "within mkdir":
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))

    mine, other = Checkpoint(tmp_path / "partial"), Checkpoint(tmp_path / "partial")
    assert mine.load() is None
    mine.save({"x": torch.ones(2)}, {"step": 1})
    assert other.load()[1] == {"step": 1}
    assert mine._part != other._part, "both would write into one file"
    monkeypatch.setattr("lotto.checkpoint.Path.mkdir", mkdir)
    (tmp_path / "partial" / "state.safetensors").unlink()
    (tmp_path / "partial").rmdir()
    mine.save({"x": torch.ones(2)}, {"step": 2})
    assert other.load() is None


def test_a_file_in_the_place_of_a_checkpoint_is_an_error(tmp_path):
    (tmp_path / "partial").touch()
    with pytest.raises(NotADirectoryError):
        Checkpoint(tmp_path / "partial").save({"x": torch.ones(2)}, {"step": 1})


def test_what_the_system_says_of_a_file_is_not_hidden(tmp_path):
    from lotto.checkpoint import save_tensors

    with pytest.raises(NotADirectoryError):
        (tmp_path / "file").touch()
        save_tensors({"x": torch.ones(2)}, tmp_path / "file" / "state")
