"""Handing on: what was packed arrives bit for bit, and nothing of an archive that is not as it should be is kept."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lotto import run
from lotto.config import ConfigError, Recipe
from lotto.lab import archive, arrival, product, store
from lotto.lab.notebooks import CLONE
from lotto.lab.product import Product, StoreError
from lotto.lab.store import cached


@cached(version=1)
def mask(recipe: Recipe) -> Product:
    draw = torch.Generator().manual_seed(recipe.steps)
    kept = {"b": torch.rand(3, 5, generator=draw) > 0.5, "a": torch.rand((), generator=draw) > 0.5}
    return Product({"live": 3}, {**kept, "scale": torch.rand(2, generator=draw)})


@cached(version=1)
def trained(recipe: Recipe) -> Product:
    return Product({"error": 0.25}, {"w": torch.full((4,), float(recipe.steps))})


@cached(version=1)
def number(recipe: Recipe) -> Product:
    return Product({"é": 1e-5, "n": [1, 1.0, None]})


def bits(tensors):
    return {n: (t.dtype, tuple(t.shape), t.contiguous().view(torch.uint8).tolist()) for n, t in tensors.items()}


masks_of_any_shape = st.dictionaries(
    st.text("ab.0é", min_size=1, max_size=4),
    st.tuples(st.lists(st.integers(0, 5), max_size=3), st.integers(0, 2**31)),
    max_size=4,
)


@given(masks_of_any_shape)
def test_masks_packed_to_bits_come_back_bit_for_bit(drawn):
    made = {n: torch.rand(shape, generator=torch.Generator().manual_seed(s)) > 0.5 for n, (shape, s) in drawn.items()}
    found = archive.unpack(archive.pack(made))
    assert found.keys() == made.keys()
    assert all(torch.equal(found[n], made[n]) and found[n].dtype == torch.bool for n in made)


def test_a_packed_mask_takes_an_eighth():
    assert len(archive.pack({"m": torch.ones(80_000, dtype=torch.bool)})) < 10_000 + 300


@pytest.mark.parametrize("shape", [[9], [-1, -8], [2**32, 2**32], "8", [8.5], None])
def test_packed_masks_of_another_shape_than_told_are_refused(shape):
    from safetensors.torch import save

    data = save({"m": torch.zeros(1, dtype=torch.uint8)}, {"shapes": json.dumps({"m": shape})})
    with pytest.raises((ValueError, TypeError)):
        archive.unpack(data)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A machine with a store and the finished run of one notebook in a folder; moved(name) is another one."""
    monkeypatch.setattr(product, "asked", set())
    monkeypatch.setattr(product, "opened", set())

    def moved(name):
        monkeypatch.setenv("LOTTO_STORE", str(tmp_path / name / "store"))
        return tmp_path / name / "runs"

    folder = moved("home")
    folder.mkdir(parents=True)
    for steps in (1, 2):
        mask(Recipe(steps=steps)), trained(Recipe(steps=steps))
    number(Recipe())
    finished(folder, sorted(product.asked))
    return moved


def finished(folder, products, name="03_x", opened=(), **parameters):
    told = dict(
        key="k",
        board=[],
        notebook=name,
        products=products,
        opened=opened,
        parameters={"preset": "digits", **parameters},
    )
    book = {"cells": [], "metadata": {"papermill": {"output_path": f"{folder}/{name}.ipynb", "at": f"{store.root()}"}}}
    (folder / f"{name}.json").write_text(json.dumps(told))
    (folder / f"{name}.ipynb").write_text(json.dumps(book))
    (folder / f"{name}.html").write_text('<script src="plotly.min.js"></script><a href="../secret.json">x</a></a>')
    (folder / "index.html").write_text(f'<a href="{name}.html">x</a>')
    (folder / "plotly.min.js").write_text("1")
    (folder / "other.json").write_text("not of this run")
    (folder.parent / "secret.json").write_text("not of this run")


@pytest.fixture
def packed(tmp_path):
    """The archive of that run, and its members."""

    def make(weights=False):
        archive.export(tmp_path / "home" / "runs", tmp_path / "run.zip", weights)
        return tmp_path / "run.zip"

    return make


def members(file):
    with zipfile.ZipFile(file) as z:
        return {i.filename: z.read(i) for i in z.infolist()}


def write(file, parts, renewed=True):
    """An archive of these members; its manifest's sizes and hashes made anew, or not."""
    if renewed:
        told = json.loads(parts["manifest.json"])
        told["files"] = {
            n: {"size": len(d), "sha256": hashlib.sha256(d).hexdigest()}
            for n, d in parts.items()
            if n != "manifest.json"
        }
        parts = {**parts, "manifest.json": json.dumps(told).encode()}
    with zipfile.ZipFile(file, "w") as z:
        for name, data in parts.items():
            z.writestr(name, data)
    return file


def everything(folder):
    """Name -> bytes of all files but locks."""
    files = [f for f in folder.rglob("*") if f.is_file() and "lock" not in f.relative_to(folder).as_posix()]
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in files}


def nothing(folder):
    return {n for n in everything(folder) if n != "store/store.json"} == set()


# what arrives


@pytest.mark.parametrize("weights", [False, True])
def test_what_was_packed_arrives_bit_for_bit(home, packed, tmp_path, weights):
    file, before = packed(weights), {s: bits(mask(Recipe(steps=s)).tensors) for s in (1, 2)}
    files = {f.relative_to(store.root()): f.read_bytes() for f in (store.root() / "mask").rglob("*.*")}
    out = home("away")
    found = arrival.bring(file, str(out))
    assert (found.new, found.kept) == (5, 0)
    assert {s: bits(mask.read(Recipe(steps=s)).tensors) for s in (1, 2)} == before
    assert {f: (store.root() / f).read_bytes() for f in files} == files
    assert number.read(Recipe()).metrics == {"é": 1e-5, "n": [1, 1.0, None]}
    assert number.read(Recipe()).tensors == {}
    child = trained.read(Recipe(steps=2))
    assert child.metrics == {"error": 0.25}
    if weights:
        assert child.tensors["w"].tolist() == [2.0] * 4
    else:
        with pytest.raises(StoreError, match=r"left out when it was exported; import it from .* --weights, or delete"):
            _ = child.tensors
    assert {f.name for f in out.iterdir()} - {".lock"} == {
        "03_x.ipynb", "03_x.json", "03_x.html", "index.html", "plotly.min.js",
    }  # fmt: skip
    assert not list(store.root().rglob(".*")) and not list(out.rglob("*.part"))


def test_the_same_run_gives_the_same_bytes_that_say_nothing_of_the_machine(packed, tmp_path):
    first = packed().read_bytes()
    assert packed().read_bytes() == first
    for name, data in members(tmp_path / "run.zip").items():
        assert str(tmp_path).encode() not in data and b"CLONE" not in data, name
    assert b'"OUT/03_x.ipynb"' in members(tmp_path / "run.zip")["run/03_x.ipynb"]
    assert b'"STORE"' in members(tmp_path / "run.zip")["run/03_x.ipynb"]


def test_words_for_folders_leave_other_text_alone(monkeypatch):
    monkeypatch.setattr(archive, "CLONE", Path("/a"))
    text = "</a> x/a /a/b /ab /a-b /a"
    assert archive._neutral(text, Path("/runs/x")) == "</a> x/a CLONE/b /ab /a-b CLONE"


def test_again_changes_nothing_and_whole_products_stay(home, packed):
    file = packed()
    out = home("away")
    mine = trained(Recipe(steps=1))  # computed here: it has its weights
    assert arrival.bring(file, str(out)).kept == 1
    before = everything(out.parent)
    found = arrival.bring(file, str(out))
    assert (found.new, found.kept) == (0, 5) and everything(out.parent) == before
    assert trained.read(Recipe(steps=1)).tensors["w"].tolist() == mine.tensors["w"].tolist()


def test_weights_that_come_later_complete_a_product(home, packed):
    light, whole = packed().read_bytes(), packed(weights=True)
    out = home("away")
    (out.parent).mkdir(exist_ok=True)
    (out.parent / "light.zip").write_bytes(light)
    arrival.bring(out.parent / "light.zip", str(out))
    assert arrival.bring(whole, str(out)).new == 2
    assert trained.read(Recipe(steps=2)).tensors["w"].tolist() == [2.0] * 4
    assert arrival.bring(out.parent / "light.zip", str(out)).new == 0
    assert trained.read(Recipe(steps=2)).tensors["w"].tolist() == [2.0] * 4, "weights were lost to a light archive"


def test_weights_that_a_notebook_looked_into_are_in_every_archive(home, packed, tmp_path):
    """Else the notebook could not be executed anew: a ticket may keep norms and biases of the net it was found with."""
    product.opened.clear()
    _ = trained(Recipe(steps=1)).tensors
    assert product.opened == {f"trained/{trained.key(Recipe(steps=1))}"}
    finished(tmp_path / "home" / "runs", sorted(product.asked), opened=sorted(product.opened))
    file = packed()
    arrival.bring(file, str(home("away")))
    assert trained.read(Recipe(steps=1)).tensors["w"].tolist() == [1.0] * 4
    with pytest.raises(StoreError):
        _ = trained.read(Recipe(steps=2)).tensors


def test_a_light_product_is_handed_on_as_it_is(home, packed, tmp_path):
    file = packed()
    out = home("away")
    arrival.bring(file, str(out))
    archive.export(out, tmp_path / "on.zip", weights=True)
    theirs, ours = (members(f) for f in (tmp_path / "on.zip", file))
    assert {n for n in ours if n.startswith("store")} == {n for n in theirs if n.startswith("store")}
    arrival.bring(tmp_path / "on.zip", str(home("third")))
    assert bits(mask.read(Recipe(steps=1)).tensors).keys() == {"a", "b", "scale"}


@pytest.mark.parametrize("after", range(0, 12, 2))
def test_an_import_stopped_anywhere_is_taken_up(home, packed, monkeypatch, after):
    """Stopped after so many members were read for writing: nothing half-written counts, and the same call ends it."""
    file = packed(weights=True)
    whole = home("whole")
    arrival.bring(file, str(whole))
    out, left = home("away"), [after]
    real = arrival._put

    def struck(*args):
        if left[0] <= 0:
            raise KeyboardInterrupt
        left[0] -= 3
        with monkeypatch.context() as m:
            if left[0] <= 0:
                m.setattr(arrival, "_dump", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            return real(*args)

    monkeypatch.setattr(arrival, "_put", struck)
    with pytest.raises(KeyboardInterrupt):
        arrival.bring(file, str(out))
    assert not (out / "03_x.json").exists(), "a notebook would be taken for finished without its products"
    assert all((f.parent / "done.json").exists() for f in store.root().rglob("config.json"))
    monkeypatch.setattr(arrival, "_put", real)
    arrival.bring(file, str(out))
    assert everything(out.parent) == everything(whole.parent)


# what is noted


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_process_notes_what_it_was_asked_for_and_not_what_that_is_built_on(monkeypatch, jobs):
    from lotto.lab import parallel
    from tests.lab.test_store import cube, square

    monkeypatch.setenv("LOTTO_DEVICE", "cpu")
    monkeypatch.setenv("LOTTO_JOBS", jobs)
    product.asked.clear()
    product.opened.clear()
    parallel.compute(cube, [Recipe(steps=2), Recipe(steps=3)])
    assert product.asked == {f"cube/{cube.key(Recipe(steps=s))}" for s in (2, 3)}
    parallel.compute(cube, [Recipe(steps=2)])
    _ = square(Recipe(steps=2)).tensors
    assert len(product.asked) == 3
    assert product.opened == {f"square/{square.key(Recipe(steps=2))}"}


# what is refused


def spoilt(parts):
    """Name -> (members of an archive that is not as it should be, whether its manifest is made anew, what is said)."""
    config = next(n for n in parts if n.startswith("store/mask/") and n.endswith("config.json"))
    place = config.removesuffix("config.json")
    other = json.dumps({**json.loads(parts[config]), "config": {"steps": 7}}).encode()
    done = json.loads(parts[place + "done.json"])
    told = json.loads(parts["manifest.json"])

    def without(name):
        return {n: d for n, d in parts.items() if n != name}

    def manifest(**more):
        return {**parts, "manifest.json": json.dumps({**told, **more}).encode()}

    yield "above", {**parts, "../x.json": b"{}"}, True, "holds '../x.json'"
    yield "inside above", {**parts, "run/../../x.json": b"{}"}, True, "holds 'run/../../x.json'"
    yield "absolute", {**parts, "/etc/x.json": b"{}"}, True, "holds '/etc/x.json'"
    yield "drive", {**parts, "C:/x.json": b"{}"}, True, "holds 'C:/x.json'"
    yield "backslash", {**parts, "run\\..\\x.json": b"{}"}, True, "holds 'run"
    yield "folder", {**parts, "run/": b""}, True, "holds 'run/'"
    yield "hidden", {**parts, "run/.x.json": b"{}"}, True, "holds 'run/.x.json'"
    yield "pickle", {**parts, place + "tensors.pt": b"x"}, True, "tensors.pt"
    yield "program", {**parts, "run/x.py": b"x"}, True, "holds 'run/x.py'"
    yield "other case", {**parts, "run/INDEX.html": b"x"}, True, "twice"
    yield (
        "not told",
        {**parts, "run/x.json": b"{}"},
        False,
        "'run/x.json' is in the archive or in its manifest.json, but not in both",
    )
    yield "gone", without(config), False, "but not in both"
    yield "longer", {**parts, config: parts[config] + b" "}, False, "bytes, and its manifest.json says"
    yield (
        "changed",
        {**parts, config: parts[config].replace(b"mask", b"mosk")},
        False,
        "is not what its manifest.json says",
    )
    yield "another description", {**parts, config: other}, True, "does not match its config.json"
    yield "no JSON", {**parts, place + "metrics.json": b"{"}, True, "is not a JSON object"
    yield "a list", {**parts, "run/03_x.json": b"[]"}, True, "is not a JSON object"
    yield "no end", {**parts, "run/03_x.json": b"{}"}, True, "does not say how the notebook ended"
    yield "no tensors", {**parts, place + "packed.safetensors": b"x" * 99}, True, "is not whole"
    yield "part gone", without(place + "packed.safetensors"), True, "is not whole"
    yield "no done", without(place + "done.json"), True, "is not whole"
    yield (
        "newer product",
        {**parts, place + "done.json": json.dumps({**done, "format": 99}).encode()},
        True,
        "update lotto",
    )
    yield (
        "more left out",
        {**parts, place + "done.json": json.dumps({**done, "left_out": ["metrics.json"]}).encode()},
        True,
        "is not whole",
    )
    yield (
        "newer",
        manifest(format=3),
        False,
        "made by a newer lotto \\(archive format 3, this one reads 2\\); update lotto",
    )
    yield "no manifest", without("manifest.json"), False, "has no manifest.json"
    yield "manifest no JSON", {**parts, "manifest.json": b"{"}, False, "its manifest.json cannot be read"
    yield "manifest a list", {**parts, "manifest.json": b"[1]"}, False, "its manifest.json cannot be read"
    yield "preset above", manifest(parameters={"preset": "../../x"}), False, "its manifest.json cannot be read"
    yield "no weights told", manifest(weights=None), False, "its manifest.json cannot be read"
    yield "notebook not told", manifest(notebooks=[]), False, "its manifest.json cannot be read"
    deep = b"[" * 100_000 + b"]" * 100_000
    yield "deep", {**parts, "manifest.json": deep}, False, "its manifest.json cannot be read"
    yield "notebook above", manifest(notebooks=["../../x"]), False, "its manifest.json cannot be read"


SPOILT = [
    "above", "inside above", "absolute", "drive", "backslash", "folder", "hidden", "pickle", "program", "other case", "not told",
    "gone", "longer", "changed", "another description", "no JSON", "a list", "no end", "no tensors", "part gone", "no done",
    "newer product", "more left out", "newer", "no manifest", "manifest no JSON", "manifest a list", "preset above",
    "no weights told", "notebook not told", "deep", "notebook above",
]  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_archive_is_one_sentence_and_nothing_is_kept(home, packed, tmp_path, name):
    every = {n: rest for n, *rest in spoilt(members(packed()))}
    assert list(every) == SPOILT
    parts, renewed, said = every[name]
    file, out = write(tmp_path / "bad.zip", parts, renewed), home("away")
    with pytest.raises(StoreError, match=said) as told:
        arrival.bring(file, str(out))
    assert "\n" not in str(told.value) and str(file) in str(told.value)
    assert nothing(tmp_path / "away"), "something of a spoilt archive was kept"


def test_links_twins_and_other_packings_are_refused(home, packed, tmp_path):
    parts, out = members(packed()), home("away")
    for change, said in (("link", "is a link"), ("twin", "twice"), ("bzip2", "compressed in another way")):
        file = tmp_path / f"{change}.zip"
        with pytest.warns(UserWarning) if change == "twin" else contextlib.nullcontext():
            with zipfile.ZipFile(file, "w") as z:
                for name, data in parts.items():
                    entry = zipfile.ZipInfo(name)
                    if name == "run/index.html":
                        entry.external_attr = (stat.S_IFLNK | 0o777) << 16 if change == "link" else 0
                        entry.compress_type = zipfile.ZIP_BZIP2 if change == "bzip2" else zipfile.ZIP_STORED
                        z.writestr(entry, data) if change == "twin" else None
                    z.writestr(entry, data)
        with pytest.raises(StoreError, match=said):
            arrival.bring(file, str(out))
    assert nothing(tmp_path / "away")


def test_a_bomb_is_not_unpacked(home, packed, tmp_path):
    """A member that says it is short and unpacks to more is read no further than it says."""
    parts = members(packed())
    file = write(tmp_path / "bomb.zip", {**parts, "run/index.html": b"0" * 5_000_000})
    told = json.loads(members(file)["manifest.json"])
    told["files"]["run/index.html"]["size"] = 10
    write(file, {**members(file), "manifest.json": json.dumps(told).encode()}, renewed=False)
    data = file.read_bytes().replace(struct.pack("<L", 5_000_000), struct.pack("<L", 10))
    file.write_bytes(data)
    with pytest.raises(StoreError, match="not a whole zip archive|not what its manifest|bytes"):
        arrival.bring(file, str(home("away")))
    assert nothing(tmp_path / "away")


def test_what_is_cut_or_no_zip_is_one_sentence(home, packed, tmp_path):
    data, out, file = packed().read_bytes(), home("away"), tmp_path / "cut.zip"
    for part in (b"", b"PK", b"not a zip at all", *(data[: len(data) * k // 7] for k in range(1, 7)), data[:-1]):
        file.write_bytes(part)
        with pytest.raises(StoreError, match=r"not a whole zip archive \(.*\); copy it again"):
            arrival.bring(file, str(out))
    assert nothing(tmp_path / "away")


@given(st.data())
def test_a_byte_changed_anywhere_is_refused_or_changes_nothing(data):
    """Whatever byte of an archive is changed: one sentence, or the very same products."""
    with pytest.MonkeyPatch.context() as patch, Scratch(patch) as scratch:
        whole = bytearray(scratch.file.read_bytes())
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] ^= data.draw(st.integers(1, 255))
        (scratch.folder / "bad.zip").write_bytes(bytes(whole))
        try:
            arrival.bring(scratch.folder / "bad.zip", str(scratch.folder / "away"))
        except StoreError as error:
            assert "\n" not in str(error)
            assert not list((scratch.folder / "store").rglob("done.json"))
        else:
            assert everything(scratch.folder / "store") == scratch.wanted


class Scratch:
    """A small archive made once, and an empty store."""

    made = None

    def __init__(self, patch):
        import tempfile

        self.patch, self.place = patch, tempfile.TemporaryDirectory()

    def __enter__(self):
        self.folder = Path(self.place.name)
        self.patch.setattr(product, "asked", set())
        self.file = self.folder / "run.zip"
        if Scratch.made is None:
            self.patch.setenv("LOTTO_STORE", str(self.folder / "store"))
            (self.folder / "runs").mkdir()
            mask(Recipe(steps=1))
            finished(self.folder / "runs", sorted(product.asked))
            archive.export(self.folder / "runs", self.file)
            Scratch.made = self.file.read_bytes(), everything(self.folder / "store")
            shutil.rmtree(self.folder / "store")
        self.file.write_bytes(Scratch.made[0])
        self.wanted = Scratch.made[1]
        self.patch.setenv("LOTTO_STORE", str(self.folder / "store"))
        return self

    def __exit__(self, *_):
        self.place.cleanup()


def test_a_full_disk_loses_nothing(home, packed, monkeypatch):
    file, out = packed(), home("away")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(arrival, "save_tensors", full)
        with pytest.raises(StoreError, match="no space left on the disk; free some, or set LOTTO_STORE"):
            arrival.bring(file, str(out))
    assert not (out / "03_x.json").exists()
    monkeypatch.setattr(arrival.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(StoreError, match=r"GB are needed and 0.0 GB free; make room, or set LOTTO_STORE"):
        arrival.bring(file, str(out))
    monkeypatch.undo()


def test_another_run_is_not_written_over(home, packed):
    file, out = packed(), home("away")
    out.mkdir(parents=True)
    finished(out, [], seeds=9)
    before = everything(out)
    with pytest.raises(ConfigError, match="holds another 03_x.ipynb; give --out another folder"):
        arrival.bring(file, str(out))
    assert everything(out) == before


def test_what_cannot_be_exported_is_one_sentence(tmp_path, monkeypatch):
    file = tmp_path / "run.zip"
    folder = tmp_path / "home" / "runs"
    with pytest.raises(ConfigError, match="contains no finished notebook; run ./run_all.sh first"):
        archive.export(tmp_path / "nowhere", file)
    finished(folder, [], "04_y", seeds=2)
    with pytest.raises(ConfigError, match="03_x and 04_y were run with different parameters"):
        archive.export(folder, file)
    (folder / "04_y.json").unlink()
    for place in (tmp_path / "nowhere" / "x.zip", folder / "index.html" / "x.zip", Path("/proc/x.zip")):
        with pytest.raises(ConfigError, match=r"cannot be written \("):
            archive.export(folder, place)
    finished(folder, [f"mask/{'0' * 64}"])
    with pytest.raises(StoreError, match="1 of the 1 products of .* are missing"):
        archive.export(folder, file)
    for name in ("data", "own_set"):
        finished(folder, [], more={name: "/home/me/my.npz"})
        with pytest.raises(ConfigError, match=f"{name} = '/home/me/my.npz': a run on a file of this machine"):
            archive.export(folder, file)
    told = json.loads((folder / "03_x.json").read_text())
    del told["opened"]
    (folder / "03_x.json").write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="by an older lotto, which did not record its products; ./run_all.sh --force"):
        archive.export(folder, file)
    assert not list(tmp_path.glob("run.zip*"))


def test_both_commands(home, tmp_path, capsys):
    file = str(tmp_path / "run.zip")
    assert run.main(["export", file, "--out", str(tmp_path / "home" / "runs")]) == 0
    said = capsys.readouterr().out
    assert "1 notebooks, 5 products without weights; content" in said
    out = home("away")
    assert run.main(["import", file, "--out", str(out)]) == 0
    again = capsys.readouterr().out
    assert said.split("content ")[1].strip() in again and "5 new in the store, 0 were there already" in again
    assert run.main(["import", str(tmp_path / "none.zip")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# as a colleague sees it


def clone_at(folder):
    shutil.copytree(CLONE, folder, ignore=shutil.ignore_patterns(".*", "runs", "tests", "__pycache__"))
    return folder


@pytest.mark.slow
def test_a_real_run_is_up_to_date_at_a_colleagues_and_computes_nothing(tmp_path, tiny_parameters):
    """Exported without weights from one clone and store, imported into others: the notebook is up to date there, and
    executed anew it finds every product."""

    def go(place, *words):
        env = {**os.environ, "PYTHONPATH": str(place), "LOTTO_STORE": str(place / "products"), "LOTTO_DEVICE": "cpu"}
        call = [sys.executable, "-m", "lotto.run", *words]
        done = subprocess.run(call, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    here, there = clone_at(tmp_path / "here"), clone_at(tmp_path / "quite" / "elsewhere")
    given = {**tiny_parameters, "methods": ["dense", "imp", "distilled", "reinit", "random-layerwise"]}
    study = [word for name, value in given.items() for word in ("-p", name, json.dumps(value))]
    go(here, "--only", "06", *study)
    go(here, "export", "run.zip", *study)
    shutil.move(here, tmp_path / "gone")  # nothing is read from where it was made
    go(there, "import", str(tmp_path / "run.zip"))
    before = everything(there / "products")
    light = [name for name, told in before.items() if name.endswith("done.json") and b"left_out" in told]
    assert light and all(name.startswith("trained/") for name in light)
    assert "06_what_makes_it_stable: up to date" in go(there, "--only", "06", *study, "--dry-run")
    assert "up to date" in go(there, "--only", "06", *study)
    go(there, "--only", "06", *study, "--force")
    assert everything(there / "products") == before, "something was computed anew"
