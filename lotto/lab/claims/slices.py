"""What a planned reference run will take on a GPU that is lent in slices: every product that is still missing, in the
order in which it is computed, by its FLOPs and the rate at which the plan's net trains."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from lotto import data, nets
from lotto.config import ConfigError, Net, Recipe, nearest
from lotto.distill import loop
from lotto.distill.recipes import Matching, Trajectory
from lotto.lab import presets, timing
from lotto.lab.claims.plans import PLANS, Batch
from lotto.lab.claims.rules import REGIMES
from lotto.lab.describe import Data, Images
from lotto.lab.sets.products import difficulty, distilled, stand_in
from lotto.lab.sharpness.products import curvature, dense_points
from lotto.lab.stability.products import pairs, segment
from lotto.lab.store import Cached
from lotto.lab.study import Study
from lotto.lab.tickets.products import inner_loop, level, rewind_point, trained

if TYPE_CHECKING:
    import pandas as pd

SIZES = {
    "digits": ((1, 8, 8), 10, 1_297, 500),
    "cifar10": ((3, 32, 32), 10, 50_000, 10_000),
    "cifar100": ((3, 32, 32), 100, 50_000, 10_000),
}
"""Data set -> shape of an image, classes, training and test images: a plan needs no more, so none is read."""

TABLES = ("accuracy", "barrier", "discarded")
"""Tables whose products are known here."""


class Step(NamedTuple):
    """One product that is still to be computed."""

    seed: int
    batch: str
    arm: str
    """The first that needs it."""
    work: str
    flops: float


def plan(name: str, images_per_second: float, slice_minutes: float = 8.0, seeds: int | None = None) -> pd.DataFrame:
    """Table of a planned run: one row per (slice, seed, batch, arm, work) in the order of computing, with the
    `products` and `minutes` it adds, and the minutes `in all` by its end.

    images_per_second: at which the plan's net trains, forward and backward, as `python -m lotto.bench` measures it;
    everything else is taken to run at the same FLOP/s, which small nets and small batches do not reach. A product that
    does not fit into what is left of a slice begins the next one, so a slice ends with something whole; one longer than
    a slice goes on from its checkpoint, and is shown in the slice in which it ends. What the store has is left out.
    ConfigError for an unknown plan, numbers not above 0, and tables whose cost is not known.
    """
    import pandas as pd

    for what, value in (
        ("img-per-s", images_per_second),
        ("slice", slice_minutes),
        ("seeds", 1 if seeds is None else seeds),
    ):
        if not 0 < value < float("inf"):
            raise ConfigError(f"{what} = {value}: give a number above 0")
    found = list(steps(name, seeds))
    described = study_of(name)
    rate = images_per_second * 60 * _each(described.net, described.outer.but(batch=2, steps=1), described.data)
    minutes = [s.flops / rate for s in found]
    rows: list[dict[str, Any]] = []
    total = 0.0
    for step, took, at in zip(found, minutes, in_slices(minutes, slice_minutes), strict=True):
        total += took
        key = dict(slice=at, seed=step.seed, batch=step.batch, arm=step.arm, work=step.work)
        if not rows or any(rows[-1][k] != v for k, v in key.items()):
            rows.append({**key, "products": 0, "minutes": 0.0})
        rows[-1] |= {"products": rows[-1]["products"] + 1, "minutes": rows[-1]["minutes"] + took, "in all": total}
    return pd.DataFrame(rows, columns=["slice", "seed", "batch", "arm", "work", "products", "minutes", "in all"])


def told(table: pd.DataFrame) -> str:
    """A planned run as text: a line a slice, then the minutes of each arm and initialisation."""
    if table.empty:
        return "nothing is missing"
    lines = [f"{'slice':>5} {'seed':>6} {'minutes':>8} {'in all':>8}  work"]
    for (at, seed), rows in table.groupby(["slice", "seed"], sort=False):
        work = [
            f"{what} ({', '.join(f'{r.arm} {r.products}' for r in some)})"
            for what, some in itertools.groupby(rows.itertuples(), lambda r: r.work)
        ]
        lines.append(f"{at:>5} {seed:>6} {rows.minutes.sum():>8.1f} {rows['in all'].iloc[-1]:>8.1f}  {'; '.join(work)}")
    by_arm = table.pivot_table(index="arm", columns="seed", values="minutes", aggfunc="sum", sort=False, margins=True)
    return "\n".join(lines) + "\n\nminutes by arm and initialisation\n" + by_arm.to_string(float_format="{:.1f}".format)


def in_slices(minutes: Sequence[float], each: float) -> list[int]:
    """In which slice of `each` minutes, from 1, each piece of work ends; none is cut that fits into one.

    >>> in_slices([3, 3, 3, 20, 3], 8)
    [1, 1, 2, 5, 5]
    """
    found, now, left = [], 1, each
    for took in minutes:
        if took > left and left < each:
            now, left = now + 1, each
        while took > left:
            took, now, left = took - left, now + 1, each
        left -= took
        found.append(now)
    return found


def study_of(name: str) -> Study:
    """The study of a planned run; ConfigError for an unknown one, and for one with tables that are not in TABLES."""
    if name not in PLANS:
        raise ConfigError(f"preset = {name!r}: no reference run is planned for it; {nearest(name, list(PLANS))}")
    of = PLANS[name]
    kept = REGIMES.get(of.preset)
    if other := [t for b in of.batches.values() for t in b.tables if t not in TABLES]:
        raise ConfigError(
            f"preset = {name!r}: what its table {other[0]!r} costs is not known here; give a plan of "
            f"{', '.join(TABLES)} only, such as cifar10"
        )
    first = kept.first_seed if of.first_seed is None else of.first_seed
    return presets.study(of.preset, first_seed=first, seeds=of.seeds or kept.seeds, **dict(of.more))


def steps(
    name: str, seeds: int | None = None, there: Callable[[Cached, Any], Any] = lambda function, d: function.read(d)
) -> Iterator[Step]:
    """The products of a planned run that are not `there` (in the store), in the order of computing: what `runs.make`
    asks for, and `parallel.compute` sorts. Without those that cost next to nothing, such as masks."""
    described, met = study_of(name), set()
    for batch, some in PLANS[name].parts({}, list(described.initialisations)[:seeds]):
        for function, arm, description in _asked(described, PLANS[name].batches[batch], some):
            for f, d in _walk(function, description, there, met):
                work = "inner loops" if f is trained and d.child == 0 else f.plan.label
                if cost := flops(described, f, d):
                    yield Step(some[0], batch, arm, work, cost)


def _asked(described: Study, batch: Batch, some: Sequence[int]) -> list[tuple[Cached, str, Any]]:
    """What the tables of a batch ask for, as (function, arm, description): all masks, the longest searches first, then
    all trainings, then what is made of these."""
    study = described.but(
        first_seed=some[0], seeds=len(some), children=batch.children, methods=batch.methods, levels=batch.levels
    )
    cells = study.cells()
    found = [(level, c.method, study.ticket(*c)) for c in cells]
    found.sort(key=lambda each: -level.plan.cost(each[2]))
    if {"accuracy", "barrier"} & set(batch.tables):
        children = range(1, study.children + 1)
        found += [(trained, c.method, study.training(*c, child)) for c in cells for child in children]
    if "barrier" in batch.tables:
        found += [(segment, c.method, line) for c in cells for line in pairs(study, c)]
    if "discarded" in batch.tables:
        found += [(curvature, "dense", c) for seed in some for c in dense_points(study, seed).values()]
    return found


def _walk(
    function: Cached, description: Any, there: Callable[[Cached, Any], Any], met: set[str]
) -> Iterator[tuple[Cached, Any]]:
    """The missing products below one, and itself, each once, those that others build on first."""
    key = function.key(description)
    if key in met or there(function, description) is not None:
        return
    met.add(key)
    below = list(function.plan.needs(description))
    if (before := function.plan.through(description)) is not None:
        below.append((function, before))
        if function is level and description.rounds[-1].recipe:
            below.append((trained, inner_loop(description)))
    for f, d in below:
        yield from _walk(f, d, there, met)
    yield function, description


def flops(study: Study, function: Cached, description: Any) -> float:
    """FLOPs of one product, what it builds on aside: convolutions and matrix products, as `timing.flops` counts. A
    forward pass is a third of forward and backward, a product with a Hessian two of these."""
    (_, classes, whole, test), d = SIZES[study.data.name], description
    train = study.data.train_size or whole - study.data.held_out
    each = _each(study.net, study.outer.but(batch=2, steps=1), study.data)

    def training(recipe: Recipe, images: Images | None = None, stop: int | None = None) -> float:
        small = images and images.kind != "real"
        n = (images.ipc or images.distill.ipc) * classes if small else train
        return each * ((recipe.steps if stop is None else stop) - recipe.first) * min(recipe.batch, n)

    if function is rewind_point:
        return training(d.pretrain, stop=d.rewind)
    if function is trained:
        return training(d.recipe, d.images) + each / 3 * (train + study.data.held_out + test)
    if function is level:
        return 0.0
    if function is segment:  # both kinds of statistics; those of the one are found anew; the first point is seen twice
        some = min(d.train_images, train)
        return each / 3 * (d.points + 1) * (2 * (some + test) + some)
    if function is curvature:
        return each * 2 * d.probes * min(d.images, train)
    if function is difficulty:
        return _each(d.net, d.recipe.but(batch=2), study.data) * d.nets * (d.recipe.steps * d.recipe.batch + train / 3)
    if function is distilled:
        return _distilling(d.images.distill, study.data) * d.images.distill.steps
    raise ConfigError(f"what {function.stage!r} costs is not known here; give a plan without it")


@functools.cache
def _some(source: Data, each: int) -> data.RealData:
    """Random images, `each` a class, in the place of a data set."""
    (channels, *sides), classes, *_ = SIZES[source.name]
    sides = [source.image_size or s for s in sides]
    images = torch.rand(each * classes, channels, *sides, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(len(images)) % classes
    return data.own(images, labels, images, labels)


@functools.cache
def _each(net: Net, recipe: Recipe, source: Data) -> float:
    """FLOPs an image of training a net."""
    real = _some(source, 1)
    model = nets.build(net, real.shape, len(real.classes), 0)
    return timing.flops(model, real.train.images[: recipe.batch], real.train.labels[: recipe.batch], recipe)


@functools.cache
def _distilling(recipe: Matching, source: Data) -> float:
    """FLOPs of one step of a distillation: told from three small ones, as they grow by so much an image."""
    if isinstance(recipe, Trajectory):
        raise ConfigError("distill_method = 'traj': what its experts cost is not known here; give dist or grad")

    def step(batch: int, ipc: int) -> float:
        small = recipe.but(batch=batch, ipc=ipc)
        real = _some(source, max(batch, ipc * recipe.factor**2))
        return timing.step_flops(stand_in(real, small), loop.start(real, small, 0).requires_grad_())

    least = step(1, 1)
    return least + (recipe.batch - 1) * (step(2, 1) - least) + (recipe.ipc - 1) * (step(1, 2) - least)
