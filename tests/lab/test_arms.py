import dataclasses
import itertools

import pytest

import lotto
from lotto.lab.arms import ARMS, FACTORIAL, Arm

FACTORS = [f.name for f in dataclasses.fields(Arm) if f.name not in ("title", "colour", "main")]


def differing(a, b):
    """Factors in which two arms differ."""
    return {f for f in FACTORS if getattr(ARMS[a], f) != getattr(ARMS[b], f)}


def test_the_factorial_has_every_combination_once():
    found = [(a.images, a.length, a.rate, a.rewinding) for a in map(ARMS.get, FACTORIAL)]
    assert len(found) == len(set(found)) == 24
    kinds = ("real", "distilled", "subset"), ("long", "short"), ("outer", "gentle"), ("weights", "all")
    assert set(found) == set(itertools.product(*kinds))
    assert all(a.score == "magnitude" and a.then is None and not a.from_k for a in map(ARMS.get, FACTORIAL))


def test_no_two_arms_are_the_same():
    for a, b in itertools.combinations(ARMS, 2):
        assert differing(a, b), (a, b)


@pytest.mark.parametrize("what", ["title", "colour"])
def test_titles_and_colours_are_unique(what):
    values = [getattr(a, what) for a in ARMS.values()]
    assert len(set(values)) == len(values)


def test_the_plain_names_are_the_paper_lines_recipe():
    plain = {
        n: (ARMS[n].images, ARMS[n].length, ARMS[n].rate, ARMS[n].rewinding, ARMS[n].from_k)
        for n in ("imp", "imp-rewound", "distilled")
    }
    assert plain == {
        "imp": ("real", "long", "outer", "weights", False),
        "imp-rewound": ("real", "long", "outer", "weights", True),
        "distilled": ("distilled", "short", "outer", "weights", False),
    }


@pytest.mark.parametrize(
    ("a", "b", "factor"),
    [
        ("distilled", "imp-short", "images"),
        ("imp", "imp-short", "length"),
        ("distilled", "distilled-long", "length"),
        ("imp", "distilled-long", "images"),
        ("distilled", "distilled-gentle", "rate"),
        ("distilled", "distilled-all", "rewinding"),
        ("distilled-all", "distilled-signs", "rewinding"),
        ("distilled", "distilled-weights-signs", "rewinding"),
        ("imp", "imp-rewound", "from_k"),
        ("imp-all", "imp-rewound-all", "from_k"),
        ("imp-rewound", "imp-rewound-all", "rewinding"),
        ("distilled", "distilled-rewound", "from_k"),
        ("dense", "dense-rewound", "from_k"),
        *(
            ("distilled", other, "images")
            for other in ("subset", "herding", "easy", "kcenter", "patches", "noise", "permuted", "own")
        ),
        *(("distilled", f"distilled-{m}", "images") for m in ("dist", "grad", "traj")),
        *(
            ("distilled", other, "then")
            for other in ("random-layerwise", "random-filterwise", "reinit", "distilled-mask", "hybrid")
        ),
        *(("distilled-all", other, "then") for other in ("random-layerwise-all", "reinit-all")),
        ("imp", "imp-mask", "then"),
        ("distilled-mask", "subset-mask", "images"),
        ("imp-short", "hybrid-real", "then"),
    ],
)
def test_arms_that_are_compared_differ_in_one_factor(a, b, factor):
    assert differing(a, b) == {factor}


def test_names_say_every_second_factor():
    words = {"length": {"long", "short"}, "rate": {"gentle"}, "rewinding": {"all"}}
    for a, b in itertools.combinations(FACTORIAL, 2):
        if a.split("-")[0] == b.split("-")[0]:
            told = set(a.split("-")) ^ set(b.split("-"))
            assert {f for f, w in words.items() if w & told} == differing(a, b), (a, b)


@pytest.mark.parametrize(
    ("arm", "steps", "lr", "first"),
    [
        ("imp", 200, 0.8, 0),
        ("imp-rewound", 200, 0.8, 40),
        ("imp-rewound-all", 200, 0.8, 40),
        ("imp-short", 60, 0.8, 0),
        ("imp-gentle", 200, 0.1, 0),
        ("distilled", 60, 0.8, 0),
        ("distilled-rewound", 60, 0.8, 0),  # a small set has a schedule of its own
        ("distilled-gentle", 60, 0.1, 0),
        ("distilled-long", 200, 0.8, 0),
        ("distilled-long-gentle-all", 200, 0.1, 0),
        ("herding", 60, 0.8, 0),
    ],
)
def test_inner_recipes_by_hand(arm, steps, lr, first):
    recipe = lotto.study("digits").loop(ARMS[arm])
    assert (recipe.steps, recipe.lr, recipe.first) == (steps, lr, first)


def test_factors_in_words():
    assert ARMS["distilled-gentle-all"].factors == {
        "images": "distilled", "length": "short", "rate": "gentle", "rewinds": "all", "start": "initialisation", "score": "magnitude",
        "then": "-",
    }  # fmt: skip
    assert ARMS["snip"].factors | {"images": "-"} == {
        "images": "-", "length": "-", "rate": "-", "rewinds": "-", "start": "initialisation", "score": "snip", "then": "-",
    }  # fmt: skip
    assert ARMS["dense-rewound"].factors["start"] == "step k"
    assert ARMS["dense-rewound"].factors["score"] == "-"


def test_scores_without_training_rewind_everything():
    study = lotto.study("digits", own_set="set.safetensors")
    for name, arm in ARMS.items():
        if not arm.dense:
            ticket = study.ticket(name, 1, 0)
            assert ticket.rewinding == (arm.rewinding if arm.score == "magnitude" else "all")
            assert ticket.then == (arm.then if arm.then != "imp" else None)
