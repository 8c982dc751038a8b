"""The groups of a study's parameters, and the short names that people give them by.

A group IS the description that products are made from where there is one: the outer recipe is a Recipe, the network a
Net. `PLACES` says which field of which group a short name means: `lr` the outer recipe's rate, `inner_lr` the inner
loop's, `ipc` that of all ways to distil.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from lotto.config import NETS, Config, ConfigError, Counts, Float, Int, Levels, Names, Net, Rates, Recipe, nearest
from lotto.distill.recipes import DISTILLATIONS, Distill, Gradient, Matching, Trajectory
from lotto.lab.arms import ARMS
from lotto.lab.describe import CONTROLS, Data


class Inner(Config):
    """In what an inner loop may differ from the outer recipe: arms called short take its steps and batch, arms called
    gentle its rate."""

    steps: Annotated[Int, Field(ge=1)] = 60
    """Steps of a short inner loop."""
    lr: Annotated[Float, Field(gt=0)] = 0.1
    """Peak learning rate of a gentle inner loop."""
    batch: Annotated[Int, Field(ge=2)] = 64
    """Batch size of a short inner loop."""


class Judge(Config):
    """Who says what a small set is worth: fresh nets, trained on it."""

    ipcs: Counts = (1, 10)
    """Images a class at which sets are judged."""
    kinds: Names = ("distilled", "subset", "herding", "patches", "noise")
    """Kinds of sets that are judged, each of equal size."""
    nets: Annotated[Int, Field(ge=1)] = 3
    """Fresh nets that judge each set."""
    steps: Annotated[Int, Field(ge=1)] = 100
    """Steps each of them takes."""
    lr: Annotated[Float, Field(gt=0)] = 0.1
    """Their peak learning rate."""
    batch: Annotated[Int, Field(ge=2)] = 64
    """Their batch size."""
    on: Names = ("convnet",)
    """Nets in which a set's robustness is judged: convnet (the one it was matched in), pruned (the study's own), or
    another by name."""
    recipes: Names = ("plain", "augmented")
    """Recipes in which it is: plain, augmented (color, scale, rotate, cutout, and CutMix in half the steps)."""

    @model_validator(mode="after")
    def _known(self):
        kinds = ("distilled", *(f"distilled-{m}" for m in DISTILLATIONS), "permuted", "own", *CONTROLS)
        recipes = ("plain", "augmented")
        for field, known, what in (
            ("kinds", kinds, "is not a kind of set"),
            ("on", ("pruned", *NETS), "is not a net"),
            ("recipes", recipes, "is not known"),
        ):
            if other := [n for n in getattr(self, field) if n not in known]:
                raise ValueError(f"{field}: {other[0]!r} {what}; use {', '.join(known)}")
        return rising(self, "ipcs")


class Sharp(Config):
    """How curvature is measured."""

    images: Annotated[Int, Field(ge=2)] = 128
    """Training images in the loss whose curvature is measured."""
    probes: Annotated[Int, Field(ge=4)] = 8
    """Hutchinson probes for its diagonal and trace (a ticket's; the dense net has four times as many), an even number,
    for two halves."""
    eigenvalues: Annotated[Int, Field(ge=1, le=20)] = 2
    """Eigenvalues at each end of the spectrum."""
    planes: Names = ("dense", "imp", "distilled", "imp-rewound")
    """Arms for which a plane through three children is drawn."""
    plane_points: Annotated[Int, Field(ge=3, le=101)] = 7
    """Grid points along each side of a plane."""

    @model_validator(mode="after")
    def _even(self):
        if self.probes % 2:
            raise ValueError(f"probes = {self.probes}: give an even number, for two halves")
        return self


class Sweeps(Config):
    """What is varied, and over which values."""

    switches: Levels = (0, 4, 12)
    """Switch points of the hybrid."""
    map_methods: Names = ("distilled-gentle",)
    """Arms whose inner recipe is varied; short and gentle ones."""
    map_lrs: Rates = (0.1, 0.8)
    """Peak learning rates of that recipe."""
    map_steps: Counts = (60,)
    """Steps of that recipe."""
    outer_lrs: Rates = (0.2, 0.8)
    """Peak learning rates of the outer recipe at which the dense net is looked at."""
    outer_steps: Counts = (200,)
    """Steps of the outer recipe at which it is."""
    rewinds: Counts = (10, 40)
    """Steps k from which nets train anew (those within the outer recipe's)."""
    rewind_methods: Names = ("dense-rewound",)
    """Arms that are rewound to each of them."""
    match_methods: Names = ("dense", "imp", "distilled")
    """Arms between whose trained nets paths are walked, also up to permutation."""

    @model_validator(mode="after")
    def _fitting(self):
        for field, fits, what in (
            ("map_methods", lambda a: (a.length, a.rate) == ("short", "gentle"), "has no recipe that could vary"),
            ("rewind_methods", lambda a: a.from_k, "is not rewound to a step k"),
        ):
            if other := [m for m in getattr(self, field) if m in ARMS and not fits(ARMS[m])]:
                raise ValueError(
                    f"{field}: {other[0]!r} {what}; use {', '.join(m for m, a in ARMS.items() if fits(a))}"
                )
        return rising(self, "switches", "map_lrs", "map_steps", "outer_lrs", "outer_steps", "rewinds")


def rising(config: Config, *fields: str) -> Config:
    """The description itself; ValueError where one of these lists does not rise strictly."""
    for field in fields:
        found = getattr(config, field)
        if found != tuple(sorted(set(found))):
            raise ValueError(f"{field} = {list(found)}: give them rising, each once")
    return config


DEFAULTS: dict[str, Config] = {
    "data": Data(),
    "net": Net(),
    "outer": Recipe(),
    "inner": Inner(),
    # of each way to distil, shifted as the outer recipe's images are
    "dist": Distill(shift=0),
    "grad": Gradient(shift=0),
    "traj": Trajectory(shift=0),
    "judge": Judge(),
    "sharp": Sharp(),
    "sweeps": Sweeps(),
}
"""Group -> what it is unless it is told otherwise."""
BARE = ("data", "net", "outer", "sweeps")
"""Groups whose fields go by their own names; those of the others have the group's name before them."""
ALIASES = {
    "data": [("data", "name")],
    "net": [("net", "name")],
    "ipc": [(g, "ipc") for g in DISTILLATIONS],
    # seen by the nets that are pruned and by those that images are distilled with
    "shift": [(g, "shift") for g in ("outer", *DISTILLATIONS)],
    "flip": [(g, "flip") for g in ("outer", *DISTILLATIONS)],
    "experts": [("traj", "experts")],
    "expert_epochs": [("traj", "epochs")],
    "expert_span": [("traj", "span")],
    "student_steps": [("traj", "student_steps")],
    "ipcs": [("judge", "ipcs")],
    "eigenvalues": [("sharp", "eigenvalues")],
    "planes": [("sharp", "planes")],
    "plane_points": [("sharp", "plane_points")],
}
"""Short names that the rule alone would not give."""


def _places() -> dict[str, list[tuple[str, str]]]:
    found = dict(ALIASES)
    for group, default in DEFAULTS.items():
        for field in [f for f in type(default).model_fields if f not in ("name", "method", "first")]:
            found.setdefault(field if group in BARE else f"{group}_{field}", [(group, field)])
    for field in [f for f in Matching.model_fields if f != "lr"]:  # common to all ways to distil
        found.setdefault(f"distill_{field}", [(g, field) for g in DISTILLATIONS])
    return found


PLACES = _places()
"""Short name -> the (group, field) pairs that it sets."""
OF_ONE = {
    f"distill_{f}" for g in DISTILLATIONS for f in type(DEFAULTS[g]).model_fields if f != "method"
} - PLACES.keys()
"""Short names that set a field of the chosen way to distil, where it has one."""


def places(name: str, method: str, others: list[str]) -> list[tuple[str, str]]:
    """The (group, field) pairs that a short name sets where sets are distilled by `method`.

    `others`: names that may be given beside those of the groups, for the error. ConfigError for a name that is not
    known, a group where a value belongs, and a parameter of another way to distil.
    """
    if name in PLACES:
        return PLACES[name]
    field = name.removeprefix("distill_")
    if name in OF_ONE and field in type(DEFAULTS[method]).model_fields:
        return [(method, field)]
    if name in OF_ONE:
        raise ConfigError(
            f"{name!r} is no parameter of matching {DISTILLATIONS[method]}; drop it, or give another distill_method"
        )
    if name in DEFAULTS:
        fields = ", ".join(n for n, p in PLACES.items() if p[0][0] == name)
        raise ConfigError(f"{name!r} is a group of parameters; give them by name: {fields}")
    raise ConfigError(f"{name!r} is not a parameter of the study; {nearest(name, [*others, *PLACES, *OF_ONE])}")


def grouped(given: Mapping[str, Any], others: list[str]) -> dict[str, Any]:
    """Values under short names, brought into groups; a group that is given whole comes first, so that names change it.

    others: names that are left as they are. ConfigError as `places` says, and for a value that cannot be, told by the
    name that was given.
    """
    found = {n: v for n, v in given.items() if n in others}
    method = found.get("distill_method", "dist")
    whole = {
        n: {str(f): value for f, value in dict(v).items()}
        for n, v in given.items()
        if n in DEFAULTS and isinstance(v, Config | Mapping)
    }
    groups, named = dict(whole), {}
    for name, value in given.items():
        if name not in found and name not in whole:
            for group, field in places(name, method if method in DISTILLATIONS else "dist", others):
                groups.setdefault(group, dict(DEFAULTS[group]))[field] = value
                named[group, field] = name
    for group, fields in groups.items():
        try:
            found[group] = type(DEFAULTS[group])(**fields)
        except ConfigError as error:
            told = {f: n for (g, f), n in named.items() if g == group}
            raise ConfigError(
                re.sub(r"\b(\w+)(?= = |: )", lambda m, told=told: told.get(m[1], m[1]), str(error))
            ) from None
    return found
