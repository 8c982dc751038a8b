"""The study: everything that is compared, and how. Its fields, under their short names (`lotto.lab.groups`), are the
notebooks' parameters."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from lotto.config import Config, ConfigError, Float, Int, Levels, Names, Net, Recipe, nearest
from lotto.distill.recipes import Distill, Gradient, Trajectory
from lotto.lab.arms import ARMS, Arm
from lotto.lab.describe import CONTROLS, Data, Images, Round, Setup, Ticket, Training
from lotto.lab.groups import DEFAULTS, PLACES, Inner, Judge, Sharp, Sweeps, grouped, rising


class Cell(NamedTuple):
    """What is compared: an arm after so many rounds of pruning (dense arms: 0), on one initialisation."""

    method: str
    level: int
    seed: int


class Study(Config):
    """Everything the notebooks ask for."""

    preset: str = "digits"
    """The preset this study was made from."""
    seeds: Annotated[Int, Field(ge=1, le=1000)] = 3
    """Initialisations, each with its own distillation, subset and mask search."""
    first_seed: Annotated[Int, Field(ge=0, lt=10_000)] = 0
    """Number of the first of them."""
    levels: Levels = (4, 8)
    """Rounds of pruning after which tickets are trained and compared."""
    methods: Names = ()
    """Arms to compare, by their names in lotto/lab/arms.py; empty means the main ones."""
    children: Annotated[Int, Field(ge=2, le=10)] = 2
    """Children of each ticket; all pairs are compared."""
    fraction: Annotated[Float, Field(gt=0, lt=1)] = 0.36
    """Share of the live weights removed in a round."""
    rewind: Annotated[Int, Field(ge=1)] = 40
    """Step to which the rewound arms go back."""
    switch: Annotated[Int, Field(ge=0)] = 4
    """Short rounds of a hybrid before it goes on with IMP (0: it is IMP; from the level on, it is the short search
    alone)."""
    points: Annotated[Int, Field(ge=3, le=101)] = 11
    """Points on a path."""
    path_images: Annotated[Int, Field(ge=2)] = 500
    """Training images, at most, for the training curves and the batch-norm recalibration of paths and planes."""
    own_set: str | None = None
    """File of a distilled set of yours, or of others, for the arm `own`; {seed} in its name stands for the
    initialisation."""
    data: Data = DEFAULTS["data"]
    """The real images."""
    net: Net = DEFAULTS["net"]
    """The network."""
    outer: Recipe = DEFAULTS["outer"]
    """How a ticket, and the dense net, is trained on real data; IMP's inner loop too (by default 11 epochs of the 1,200
    digits)."""
    inner: Inner = DEFAULTS["inner"]
    """In what the inner loops of other arms differ from it."""
    distill_method: Literal["dist", "grad", "traj"] = "dist"
    """Distillation by matching distributions of features, gradients, or trajectories of weights."""
    dist: Distill = DEFAULTS["dist"]
    """The first of these."""
    grad: Gradient = DEFAULTS["grad"]
    """The second."""
    traj: Trajectory = DEFAULTS["traj"]
    """The third."""
    judge: Judge = DEFAULTS["judge"]
    """What says what a set is worth."""
    sharp: Sharp = DEFAULTS["sharp"]
    """How curvature is measured."""
    sweeps: Sweeps = DEFAULTS["sweeps"]
    """What is varied."""

    def __init__(self, **given: Any):
        super().__init__(**grouped(given, [n for n in type(self).model_fields if n not in DEFAULTS]))

    @model_validator(mode="after")
    def _consistent(self):
        arms = {"methods": self.methods, "planes": self.sharp.planes}
        arms |= {f: getattr(self.sweeps, f) for f in ("map_methods", "rewind_methods", "match_methods")}
        for field, names in arms.items():
            for name in names:
                if name not in ARMS:
                    raise ValueError(f"{field}: {name!r} is not known; {nearest(name, list(ARMS))}")
        if self.outer.steps < 1:
            raise ValueError(f"steps = {self.outer.steps}: a training takes at least 1")
        if self.rewind > self.outer.steps:
            raise ValueError(
                f"rewind = {self.rewind}: beyond the {self.outer.steps} steps of a training; give 1 to "
                f"{self.outer.steps}"
            )
        if self.own_set is None and "own" in {*self.judge.kinds, *(n for names in arms.values() for n in names)}:
            raise ValueError(
                "own_set = None: the arm 'own' needs the file of its images; give own_set = 'set.safetensors', say"
            )
        if not self.levels or 0 in self.levels:
            raise ValueError(
                f"levels = {list(self.levels)}: give at least one level from 1; the dense net (level 0) is there always"
            )
        return rising(self, "levels")

    def check(self) -> Study:
        """This study, if it can be run here (`lotto.lab.check.check`); else ConfigError or DataError says why not.
        Nothing is computed."""
        from lotto.lab.check import check

        return check(self)

    def named(self) -> dict[str, Any]:
        """Every parameter under its short name, as plain data: `Study(**named)` is this study. A name of several places
        is left out where they differ, unless the first has no other: those of one place follow, and change the rest."""
        found = self.model_dump(mode="json")
        named = {n: v for n, v in found.items() if n not in DEFAULTS}
        alone = [places for places in PLACES.values() if len(places) == 1]
        for name, places in PLACES.items():
            first, *others = (found[group][field] for group, field in places)
            if all(other == first for other in others) or places[:1] not in alone:
                named[name] = first
        return named

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms compared, in the order of ARMS."""
        return tuple(name for name in ARMS if (name in self.methods if self.methods else ARMS[name].main))

    @property
    def initialisations(self) -> range:
        """The seeds of the study's initialisations."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def cells(self, dense: bool = True) -> list[Cell]:
        """Everything that the study compares, arm by arm, level by level; without the dense arms where `dense` is
        False."""
        return [
            Cell(m, level, seed)
            for m in self.arms
            if dense or not ARMS[m].dense
            for level in ((0,) if ARMS[m].dense else self.levels)
            for seed in self.initialisations
        ]

    @property
    def distill(self) -> Distill | Gradient | Trajectory:
        """How the distilled sets are made."""
        return getattr(self, self.distill_method)

    def loop(self, arm: Arm) -> Recipe:
        """The recipe of an arm's inner loop. On real images from step k, the schedule goes on from there; a small set
        has its own."""
        recipe = self.outer if arm.rate == "outer" else self.outer.but(lr=self.inner.lr)
        if arm.length == "short":
            return recipe.but(steps=self.inner.steps, batch=self.inner.batch)
        return recipe.but(first=self.rewind) if arm.from_k and arm.images == "real" else recipe

    def setup(self, seed: int, rewind: int = 0) -> Setup:
        """Initialisation number `seed`."""
        return Setup(data=self.data, net=self.net, seed=seed, pretrain=self.outer, rewind=rewind)

    def images(self, kind: str, seed: int) -> Images:
        """What an inner loop trains on, for initialisation `seed`."""
        if kind == "real":
            return Images()
        if kind == "own":
            return Images(kind="own", file=self.own_set.replace("{seed}", str(seed)), seed=seed)
        if kind in CONTROLS:
            return Images(kind=kind, ipc=self.distill.ipc, seed=seed)
        kind, _, method = kind.partition("-")
        return Images(kind=kind, distill=getattr(self, method) if method else self.distill, seed=seed)

    def ticket(self, method: str, level: int, seed: int) -> Ticket:
        """The ticket that the arm `method` finds at `level` rounds of pruning for initialisation `seed`."""
        if method not in ARMS:
            raise ConfigError(f"method {method!r} is not known; {nearest(method, list(ARMS))}")
        arm = ARMS[method]
        if level < 0:
            raise ConfigError(f"level = {level}: give 0, the dense net, or the number of rounds of pruning")
        if arm.dense and level:
            raise ConfigError(f"level = {level}: the arm {method!r} has level 0 only, as it prunes nothing")
        loops = 1 if arm.dense and arm.images else level
        whole = Ticket(
            setup=self.setup(seed, self.rewind if arm.from_k else 0),
            fraction=self.fraction,
            rewinding=arm.rewinding if arm.score in ("magnitude", None) else "all",
            rounds=tuple(self.round(arm, r, seed) for r in range(loops)),
            then=arm.then if arm.then != "imp" else None,
        )
        return whole.upto(loops)

    def round(self, arm: Arm, number: int, seed: int) -> Round:
        """Round `number` (from 0) of an arm: what its weights are scored by, for initialisation `seed`."""
        if arm.then == "imp" and number >= self.switch:
            arm = ARMS["imp"]
        images = self.images(arm.images, seed) if arm.images else None
        recipe = self.loop(arm) if arm.score in ("magnitude", None) else None
        return Round(score=arm.score or "nothing", images=images, recipe=recipe)

    def training(self, method: str, level: int, seed: int, child: int) -> Training:
        """Child number `child` (from 1) of that ticket, trained on the real images up to the outer recipe's last
        step."""
        recipe = self.outer.but(first=self.rewind) if ARMS[method].from_k else self.outer
        return Training(ticket=self.ticket(method, level, seed), images=Images(), recipe=recipe, child=child)

    def density(self, level: int) -> float:
        """Share of prunable weights alive after `level` rounds."""
        return (1 - self.fraction) ** level

    def sparse(self, level: int) -> str:
        """The sparsity after `level` rounds as "97.2 %"; close to 100 with as many digits as what is left needs."""
        left = 100 * self.density(level)
        return f"{100 - left:.{1 if left >= 0.2 else 1 - math.floor(math.log10(left))}f} %"
