"""A store of an older format: nothing is computed again, nothing is lost, whatever stops the change."""

import json
import shutil

import pytest
import torch
from filelock import FileLock

from lotto.config import Config, Recipe
from lotto.lab import migrate, store
from lotto.lab.product import Product, StoreError
from lotto.lab.store import cached

calls = []


class Made(Config):
    """A description with another in it, as most have."""

    size: int = 3
    outer: Recipe = Recipe()
    inner: Recipe | None = None


@cached(version=1)
def made(what: Made) -> Product:
    calls.append(what)
    return Product({"size": what.size}, {"x": torch.full((what.size,), what.outer.lr)})


@pytest.fixture(autouse=True)
def old_store(own_store, monkeypatch):
    """A store of format 1: fields that came later are not in its descriptions, so its keys are others."""
    calls.clear()
    store._ready.cache_clear()
    monkeypatch.setattr(migrate, "functions", lambda: {"made": made})
    for what in WANTED:
        aged(made(what).path)
    (store.root() / "store.json").write_text(json.dumps({"format": 1}))
    store._ready.cache_clear()
    yield
    store._ready.cache_clear()


WANTED = [Made(), Made(size=4, inner=Recipe(ops=("cutout",))), Made(outer=Recipe(lr=0.3, cutmix=0.5))]


def aged(folder):
    """The product as format 1 would hold it."""
    from_ = json.loads((folder / "config.json").read_text())
    for recipe in (from_["config"]["outer"], from_["config"]["inner"]):
        for name, default in {"ops": [], "cutmix": 0.0}.items():
            if recipe and recipe[name] == default:
                del recipe[name]
    (folder / "config.json").write_text(json.dumps(from_))
    done = json.loads((folder / "done.json").read_text())
    done["files"]["config.json"] = (folder / "config.json").stat().st_size
    (folder / "done.json").write_text(json.dumps(done | {"format": 1}))
    folder.rename(folder.parent / store.key(from_))


def whole():
    """Key -> bytes of the tensors, of every whole product."""
    folders = [f.parent for f in store.root().glob("made/*/done.json")]
    assert all(store._open(f) for f in folders)
    return {f.name: (f / "tensors.safetensors").read_bytes() for f in folders}


def test_products_are_found_under_their_keys_of_today_and_nothing_is_computed(capsys):
    before = whole()
    calls.clear()
    assert [made(w).metrics["size"] for w in WANTED] == [3, 4, 3]
    assert made(WANTED[2]).tensors["x"].tolist() == pytest.approx([0.3] * 3)
    assert calls == []
    after = whole()
    assert sorted(after.values()) == sorted(before.values())
    assert after.keys() == {made.key(w) for w in WANTED}
    assert not before.keys() & after.keys() - {made.key(WANTED[1])}
    assert json.loads((store.root() / "store.json").read_text())["format"] == store.FORMAT
    for w in WANTED:
        folder = made.folder(w)
        assert store.key(json.loads((folder / "config.json").read_text())) == folder.name
    assert capsys.readouterr().err.count("older format") == 1


def test_what_is_stopped_goes_on(monkeypatch):
    before, rename, count = sorted(whole().values()), shutil.rmtree, []

    def stop(*given, **more):
        count.append(given)
        if len(count) == 2:
            raise KeyboardInterrupt
        return rename(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(migrate.shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            made(WANTED[0])
    assert set(whole().values()) == set(before), "nothing is lost in between"
    calls.clear()
    assert [made(w).metrics["size"] for w in WANTED] == [3, 4, 3]
    assert calls == []
    assert sorted(whole().values()) == before


TOLD = ({"state": "dead"}, {"states": ["trained", "dead"]}, {})


def test_what_tells_of_a_dead_net_is_computed_anew():
    """Before format 3 a net was called dead that lives; what has been found since is kept."""
    folders = list(store.root().glob("made/*"))
    for folder, found, number in zip(folders, TOLD, (1, 2, 2), strict=True):
        (folder / "metrics.json").write_text(json.dumps({"size": 5, **found}))
        done = json.loads((folder / "done.json").read_text()) | {"format": number}
        done["files"]["metrics.json"] = (folder / "metrics.json").stat().st_size
        (folder / "done.json").write_text(json.dumps(done))
    calls.clear()
    sizes = [made(w).metrics["size"] for w in WANTED]
    assert len(calls) == 2 and sorted(sizes) in ([3, 3, 5], [3, 4, 5])


def test_of_two_that_become_one_the_one_with_tensors_stays():
    """A product that came without its tensors under today's key does not drive out an older one that has them."""
    old = next(f for f in store.root().glob("made/*") if json.loads((f / "metrics.json").read_text())["size"] == 3)
    config = json.loads((old / "config.json").read_text())
    new = store.root() / "made" / made.key(Made(**config["config"]))
    shutil.copytree(old, new)
    (new / "config.json").write_text(json.dumps(migrate.completed(config, made)))
    done = json.loads((new / "done.json").read_text()) | {"left_out": ["tensors.safetensors"]}
    done["files"]["config.json"] = (new / "config.json").stat().st_size
    (new / "done.json").write_text(json.dumps(done))
    (new / "tensors.safetensors").unlink()
    migrate.migrate(store.root())
    assert made.read(Made(**config["config"])).tensors["x"].numel() == 3 and not old.exists()


def test_what_was_pruned_further_from_a_net_called_dead_goes_with_it():
    setup = {"data": "digits"}
    rounds = [{"score": "magnitude"}, {"score": "magnitude"}, {"score": "random"}]
    tickets = {
        "dead": {"setup": setup, "rounds": rounds[:1]},
        "deeper": {"a": {"ticket": {"setup": setup, "rounds": rounds}}},
        "beside": {"ticket": {"setup": setup, "rounds": rounds[2:]}},
        "above": {"ticket": {"setup": setup, "rounds": []}},
    }
    for name, config in tickets.items():
        folder = store.root() / "level" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"config": config}))
        (folder / "metrics.json").write_text(json.dumps({"state": "dead" if name == "dead" else "alive"}))
        (folder / "done.json").write_text(json.dumps({"format": 2, "files": {}}))
    assert store._open(store.root() / "level" / "dead") is None, "nor is it taken from an archive, or an old process"
    migrate.migrate(store.root())
    assert {f.name for f in (store.root() / "level").iterdir()} == {"beside", "above"}


def test_what_nobody_asks_for_any_more_stays_as_it_is():
    gone, foreign = store.root() / "made" / ("0" * 64), store.root() / "another" / ("1" * 64)
    for folder in (gone, foreign):
        shutil.copytree(next(store.root().glob("made/*/done.json")).parent, folder)
        config = json.loads((folder / "config.json").read_text())
        config["config"]["removed since"] = 1
        (folder / "config.json").write_text(json.dumps(config).ljust((folder / "config.json").stat().st_size))
        done = json.loads((folder / "done.json").read_text())
        done["files"]["config.json"] = (folder / "config.json").stat().st_size
        (folder / "done.json").write_text(json.dumps(done))
    made(WANTED[0])
    assert gone.exists() and foreign.exists()


def test_a_damaged_product_is_not_carried_over():
    folder = next(store.root().glob("made/*/done.json")).parent
    (folder / "tensors.safetensors").write_bytes(b"cut")
    calls.clear()
    for w in WANTED:
        made(w)
    assert len(calls) == 1


def test_two_at_once_one_waits_and_says_for_what(monkeypatch):
    monkeypatch.setattr(migrate, "PATIENCE", 0.2)
    with (
        FileLock(store.root() / "migrating.lock"),
        pytest.raises(StoreError, match="another process has been migrating"),
    ):
        made(WANTED[0])


def test_every_stage_has_its_function_and_every_function_its_description(monkeypatch):
    monkeypatch.undo()
    import lotto.lab.causes.tables
    import lotto.lab.sparsity.tables  # noqa: F401

    known = migrate.functions()
    assert {"level", "trained", "distilled", "segment", "curvature"} <= known.keys()
    for function in known.values():
        kind = next(iter(migrate.typing.get_type_hints(function.function).values()))
        assert issubclass(kind, Config), function.stage
