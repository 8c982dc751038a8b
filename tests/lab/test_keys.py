"""What all else leans on: a description's key leads to one product, in whatever order products are asked for, by
however many processes, and wherever the computation is ended and taken up again."""

import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lotto.config import Recipe
from lotto.lab import parallel, store
from lotto.lab.product import Product
from lotto.lab.store import cached
from lotto.streams import generator


class Killed(Exception):
    """Raised in the middle of a computation, as a signal would end it."""


@cached(version=1)
def seed(recipe: Recipe) -> Product:
    return Product({"steps": recipe.steps}, {"x": torch.rand(3, generator=generator(recipe.steps, "noise"))})


@cached(version=1, uses=(seed,))
def grown(recipe: Recipe, checkpoint) -> Product:
    start = seed(recipe.but(lr=1)).tensors  # shared by all learning rates
    tensors, state = checkpoint.load() or (start, {"step": 0})
    for step in range(state["step"], recipe.steps):
        if (strike := strike_of(recipe, step)).exists():
            strike.unlink()
            raise Killed
        tensors = {"x": (3.7 * tensors["x"] + recipe.lr * torch.rand(3, generator=generator(step, "noise"))).sin()}
        checkpoint.save(tensors, {"step": step + 1})
    return Product({"sum": float(tensors["x"].sum())}, tensors)


def strike_of(recipe, step):
    """The file that, while it is there, ends `grown` before this step: once, and in whichever process it runs."""
    return store.root() / f"strike-{recipe.steps}-{recipe.lr}-{step}"


def contents(folder):
    """Every product: stage and key -> the bytes of what it says, without times and places."""
    found = {}
    for done in folder.glob("*/*/done.json"):
        parts = [f for f in sorted(done.parent.iterdir()) if f != done]
        found[f"{done.parent.parent.name}/{done.parent.name}"] = {f.name: f.read_bytes() for f in parts}
    return found


def fresh_store(patch, folder, jobs):
    patch.setenv("LOTTO_STORE", folder)
    patch.setenv("LOTTO_DEVICE", "cpu")
    patch.setenv("LOTTO_JOBS", str(jobs))
    return Path(folder)


def send_workers_home():
    """Workers keep the environment that they were started in, and with it the store: each store has workers of its
    own."""
    if loky := sys.modules.get("joblib.externals.loky"):
        loky.get_reusable_executor().shutdown(wait=True)


recipes = st.builds(Recipe, steps=st.integers(1, 3), lr=st.sampled_from([0.1, 0.2]))


@st.composite
def histories(draw):
    """(descriptions, what is asked for at a time, where it is ended): the last request is for all of them."""
    every = draw(st.lists(recipes, min_size=2, max_size=4, unique=True))
    some = st.lists(st.sampled_from(every), min_size=1, max_size=5)
    requests = [*draw(st.lists(some, max_size=2)), draw(st.permutations(every))]
    return every, requests, draw(st.lists(st.tuples(st.sampled_from(every), st.integers(0, 2)), max_size=4))


def check(history, jobs):
    every, requests, ends = history
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as plain,
        tempfile.TemporaryDirectory() as other,
    ):
        fresh_store(patch, plain, 1)
        expected = {r: grown(r).metrics for r in every}
        whole = contents(Path(plain))
        folder = fresh_store(patch, other, jobs)
        for end in ends:
            strike_of(*end).touch()
        for request in requests:
            while True:
                try:
                    found = parallel.compute(grown, request)
                    break
                except Killed:
                    continue
            assert [p.metrics for p in found] == [expected[r] for r in request]
        assert contents(folder) == whole
        assert not list(folder.glob("*/.*"))


@settings(max_examples=25)
@given(histories())
def test_a_key_leads_to_one_product_whatever_the_order_and_the_interruptions(history):
    check(history, jobs=1)


@pytest.mark.slow
def test_and_whatever_the_number_of_processes():
    """One history, as workers take seconds to start: two descriptions share what they are made from, one is asked for
    twice."""
    a, b, c = (Recipe(steps=steps, lr=lr) for steps, lr in ((1, 0.1), (3, 0.1), (3, 0.2)))
    send_workers_home()
    try:
        check(([a, b, c], [[c, a, c], [b, c, a]], [(c, 1)]), jobs=2)
    finally:
        send_workers_home()
