import errno
import itertools
import json
import multiprocessing
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lotto import checkpoint
from lotto.checkpoint import Checkpoint, Paused
from lotto.config import ConfigError, Recipe
from lotto.distill.distributions import match_distributions
from lotto.distill.recipes import Distill
from lotto.lab import parallel, product, sources, store, waiting
from lotto.lab.describe import Data, Images, SetOf, Setup
from lotto.lab.product import Product
from lotto.lab.sets.products import distilled
from lotto.lab.store import StoreError, cached

calls = []
PINNED = "0e879e4362730f4c49e45f776b370bbe0ee94b6a5d5efafe89fc0fcbc833ed6f"


@cached(version=1)
def square(recipe: Recipe) -> Product:
    calls.append(recipe)
    return Product({"steps": recipe.steps}, {"x": torch.full((3,), float(recipe.steps) ** 2)})


@cached(version=1, uses=(square,))
def cube(recipe: Recipe) -> Product:
    return Product({"x": float(square(recipe).tensors["x"][0]) * recipe.steps})


@cached(version=1)
def slow(recipe: Recipe, checkpoint: Checkpoint) -> Product:
    tensors, state = checkpoint.load() or ({"sum": torch.zeros(1)}, {"step": 0})
    start = state["step"]
    for step in range(start, recipe.steps):
        tensors = {"sum": tensors["sum"] + step}
        checkpoint.save(tensors, {"step": step + 1})
        if recipe.lr == 9 and step == 5 and start == 0:
            raise KeyboardInterrupt
    return Product({"began_at": start}, tensors)


@pytest.fixture(autouse=True)
def _own(own_store):
    calls.clear()


def test_computed_once_then_read():
    first, again = square(Recipe(steps=3)), square(Recipe(steps=3))
    assert len(calls) == 1
    assert first.metrics == again.metrics == {"steps": 3}
    assert again.tensors["x"].tolist() == [9, 9, 9]


def test_readable_without_lotto():
    from safetensors.torch import load_file

    folder = square(Recipe(steps=3)).path
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "done.json",
        "metrics.json",
        "tensors.safetensors",
    ]
    assert json.loads((folder / "config.json").read_text())["config"]["steps"] == 3
    assert load_file(folder / "tensors.safetensors")["x"].tolist() == [9, 9, 9]
    assert {"torch", "device", "seconds", "peak_memory_mib", "format"} <= json.loads(
        (folder / "done.json").read_text()
    ).keys()


@given(st.integers(0, 5), st.floats(0.01, 10), st.booleans())
def test_key_depends_on_values_only(steps, lr, flip):
    a = Recipe(steps=steps, lr=lr, flip=flip)
    assert square.key(a) == square.key(Recipe(flip=flip, lr=repr(lr), steps=str(steps)))
    assert square.key(a) != square.key(a.but(lr=lr * 2))
    assert square.key(a) != square.key(a.but(flip=not flip))


@pytest.mark.slow
def test_key_is_stable_across_processes_and_integer_spelling():
    code = "from tests.lab.test_store import square; from lotto.config import Recipe; print(square.key(Recipe(lr=1)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == square.key(Recipe(lr=1.0))


def test_default_key_is_pinned_so_that_a_changed_default_is_a_decision():
    assert square.key(Recipe()) == PINNED


def test_device_jobs_and_logging_are_not_in_the_key(monkeypatch):
    before = square.key(Recipe())
    for name, value in {"LOTTO_DEVICE": "cpu", "LOTTO_JOBS": "7", "LOTTO_PROGRESS": "/x"}.items():
        monkeypatch.setenv(name, value)
    assert square.key(Recipe()) == before


def test_versions_reach_downstream_keys():
    before = cube.key(Recipe())
    square.version = 2
    try:
        assert cube.key(Recipe()) != before
    finally:
        square.version = 1


def test_data_fingerprint_is_in_the_key():
    stamps = store.canonical(Setup(data=Data()))["fingerprints"]
    assert list(stamps.values()) == ["Data"]
    assert list(stamps)[0].startswith("digits:")


@pytest.mark.parametrize("damage", ["no done", "cut tensors", "cut metrics", "gone tensors", "no text", "a list"])
def test_what_is_not_whole_is_made_again(damage):
    folder = square(Recipe(steps=3)).path
    if damage == "no done":
        (folder / "done.json").unlink()
    elif damage == "gone tensors":
        (folder / "tensors.safetensors").unlink()
    elif damage in ("no text", "a list"):
        done = json.loads((folder / "done.json").read_text()) | {"files": ["metrics.json"]}
        (folder / "done.json").write_bytes(b"\xff\xfe" if damage == "no text" else json.dumps(done).encode())
    else:
        file = folder / ("tensors.safetensors" if "tensors" in damage else "metrics.json")
        file.write_bytes(file.read_bytes()[:-2])
    assert square.read(Recipe(steps=3)) is None
    assert square(Recipe(steps=3)).tensors["x"].tolist() == [9, 9, 9]
    assert len(calls) == 2


def test_nothing_is_left_of_a_computation_that_failed(own_store):
    @cached(version=1)
    def fails(recipe: Recipe) -> Product:
        return Product({"x": float("nan")})  # NaN is no JSON: refused while writing

    with pytest.raises(ValueError, match="not JSON compliant"):
        fails(Recipe())
    assert fails.read(Recipe()) is None
    assert not list((own_store / "fails").glob(".*making*"))


def test_resumes_inside_and_clears_up():
    with pytest.raises(KeyboardInterrupt):
        slow(Recipe(steps=10, lr=9))
    done = slow(Recipe(steps=10, lr=9))
    assert done.metrics["began_at"] == 6
    assert done.tensors["sum"].item() == 45
    assert not list(done.path.parent.glob(".*"))


def test_time_that_is_up_pauses_what_waits_for_another_process(own_store, monkeypatch):
    monkeypatch.setenv("LOTTO_DEADLINE", str(time.time() + 0.2))
    folder = square.folder(Recipe(steps=5))
    with store._lock(folder), ThreadPoolExecutor(1) as other, pytest.raises(Paused):
        other.submit(square, Recipe(steps=5)).result(timeout=60)
    monkeypatch.delenv("LOTTO_DEADLINE")
    assert square(Recipe(steps=5)).metrics["steps"] == 5


@cached(version=1)
def patient(recipe: Recipe, checkpoint: Checkpoint) -> Product:
    saved = checkpoint.load()
    if saved is None:
        time.sleep(0.3)
        checkpoint.save({"x": torch.zeros(1)}, {})
        raise KeyboardInterrupt
    return Product({})


def test_a_resumed_product_tells_all_the_seconds_it_took():
    with pytest.raises(KeyboardInterrupt):
        patient(Recipe(steps=1))
    assert 0.3 <= patient(Recipe(steps=1)).info["seconds"] < 30


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt), product.replacing(file) as part:
        part.write_text("ne")
        raise KeyboardInterrupt
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]
    with product.replacing(file) as part:
        part.write_text("new")
    assert file.read_text() == "new" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_where_there_are_no_locks_none_is_held(tmp_path, monkeypatch, number):
    lock = waiting.FileLock(tmp_path / "lock")
    monkeypatch.setattr(type(lock), "acquire", lambda *_, **__: (_ for _ in ()).throw(OSError(number, "no locks")))
    with waiting.held(lock, 0):
        assert not lock.is_locked
    monkeypatch.setattr(type(lock), "acquire", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EACCES, "no")))
    with pytest.raises(OSError, match="no"), waiting.held(lock):
        pass


@pytest.mark.parametrize("variable", ["LOTTO_DEADLINE", "LOTTO_CHECKPOINT_SECONDS"])
@pytest.mark.parametrize("text", ["abc", "-1", "nan"])
def test_seconds_that_are_none_are_told_in_words(monkeypatch, tmp_path, variable, text):
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError, match=f"{variable} = '{text}': give a number of seconds"):
        store.checkpoint(tmp_path)


def test_time_that_is_up_pauses_after_a_state_is_saved_and_before_anything_new(monkeypatch, own_store):
    what = SetOf(data=Data(train_size=100), images=Images(kind="distilled", distill=Distill(ipc=1, steps=8, width=4)))
    monkeypatch.setenv("LOTTO_DEVICE", "cpu")
    sources.load(what.data)
    clock = itertools.count(1e9)
    for module in (store, checkpoint):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(**{**vars(time), "time": lambda: next(clock)}))
    monkeypatch.setenv(
        "LOTTO_DEADLINE", str(1e9 + 4)
    )  # looked at once at the start and once a step: up at the fourth step
    with pytest.raises(Paused, match="the same command goes on from there"):
        distilled(what)
    assert distilled.read(what) is None
    assert list((own_store / "distilled").glob(".*.partial/state.safetensors"))
    with pytest.raises(Paused):  # nothing new is begun
        parallel.compute(square, [Recipe(steps=77)])
    assert square.read(Recipe(steps=77)) is None
    monkeypatch.delenv("LOTTO_DEADLINE")
    done = distilled(what)
    assert len(done.metrics["losses"]) == 8
    assert not list((own_store / "distilled").glob(".*"))
    through, losses = match_distributions(sources.load(what.data), what.images.distill)
    assert torch.equal(done.tensors["images"], through.images)
    assert done.metrics["losses"] == [round(x, 6) for x in losses]


def _compute(folder, queue):
    import os

    os.environ["LOTTO_STORE"] = folder
    started = time.time()
    product = square(Recipe(steps=4))
    queue.put((product.tensors["x"].tolist(), len(calls), started))


@pytest.mark.slow
def test_two_processes_one_computes_the_other_waits(own_store):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    both = [context.Process(target=_compute, args=(str(own_store), queue)) for _ in range(2)]
    for p in both:
        p.start()
    found = [queue.get(timeout=60) for _ in both]
    for p in both:
        p.join()
    assert [f[0] for f in found] == [[16, 16, 16]] * 2
    assert sum(f[1] for f in found) == 1


def test_full_disk_is_told_and_loses_nothing(monkeypatch, own_store):
    square(Recipe(steps=2))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(StoreError, match="no space left on the disk; free some, or set LOTTO_STORE"):
        square(Recipe(steps=3))
    monkeypatch.undo()
    monkeypatch.setenv("LOTTO_STORE", str(own_store))
    assert square.read(Recipe(steps=2)) is not None
    assert square.read(Recipe(steps=3)) is None


def test_a_newer_store_is_left_alone(own_store):
    own_store.mkdir()
    (own_store / "store.json").write_text('{"format": 99}')
    with pytest.raises(StoreError, match="newer lotto .store format 99.*update lotto, or set LOTTO_STORE"):
        square(Recipe())
    assert (own_store / "store.json").read_text() == '{"format": 99}'
    assert not (own_store / "square").exists()


def test_products_cross_processes_without_their_tensors():
    import pickle

    product = square(Recipe(steps=3))
    _ = product.tensors
    assert len(pickle.dumps(product)) < 600
    assert pickle.loads(pickle.dumps(product)).tensors["x"].tolist() == [9, 9, 9]
    assert pickle.loads(pickle.dumps(square)) is square


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "x"}'])
def test_a_store_that_does_not_say_its_format_is_told_in_one_sentence(own_store, text):
    store._ready.cache_clear()
    store.root().mkdir(parents=True, exist_ok=True)
    (store.root() / "store.json").write_text(text)
    with pytest.raises(StoreError, match="does not say the store's format"):
        store._ready(store.root())
    with pytest.raises(StoreError, match="does not say the store's format"):
        store._check_format()


def test_a_store_that_is_a_file_is_told_in_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LOTTO_STORE", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="is a file; set LOTTO_STORE to a folder"):
        store._ready(store.root())


def test_a_state_that_a_crash_left_half_written_is_none(tmp_path):
    (tmp_path / "state.safetensors").touch()
    assert Checkpoint(tmp_path).load() is None
