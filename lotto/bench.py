"""Benchmark: masked training beside training without a mask and beside a plain loop; distillation; paths; curvature.

    python -m lotto.bench [--preset NAME] [-p NAME VALUE]... [--device auto|cpu|cuda]
                          [--seconds S] [--repeats N] [--worth] [--json FILE]

Wall time of one process with one CPU thread, best read as ratios: everything is measured once per repeat, in rotating
order, so that other load on the machine affects all alike, and both times of a ratio come from the same repeat. The
spread is that of the repeats. Everything runs once beforehand; on CUDA the clock is read when the device has finished.
The nets are untrained. Training uses the preset's outer recipe, with as many steps as fit, and 80 % of the prunable
weights pruned at random; its one-off costs (copying the net, checking the images) are included, and small beside
--seconds. Distillation uses the preset's settings of each method. A Hessian-vector product includes its share of the
first backward pass, a path both kinds of batch-norm statistics. Reading data is not timed.

Exit codes: 0 all went well, 2 the call or a value in it is wrong.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lotto import hessian, landscape, masks, modules, scores, stability
from lotto.config import ConfigError, Recipe
from lotto.data import DataError
from lotto.distill import loop
from lotto.distill.recipes import DISTILLATIONS
from lotto.lab import sources, worth
from lotto.lab.check import check
from lotto.lab.device import device_name, single_thread
from lotto.lab.notebooks import OK, USAGE
from lotto.lab.options import parameters, study_options
from lotto.lab.presets import study
from lotto.lab.sets.products import stand_in
from lotto.lab.store import StoreError
from lotto.lab.study import Study
from lotto.lab.tickets.products import network
from lotto.lab.timing import Quantity, _near, flops, peak, plain, step_flops, steps_for, timed
from lotto.modules import arithmetic
from lotto.train import train

SPARSITY = 0.8

IMAGES, POINTS, SIDE, PROBES = 256, 11, 3, 4
"""Training images of a path, a plane or a Hessian (and as many test images); points of the path; points along the
plane's side; probes of the trace."""

SQUARE = {"cpu": 1024, "cuda": 8192}
"""Side of the square matrices whose product stands for the rate that this core, or this card, can reach."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One quantity: its median, lowest and highest value over the repeats."""

    what: str
    median: float
    low: float
    high: float
    unit: str


@single_thread()
def measure(described: Study, seconds: float = 2.0, repeats: int = 3) -> list[Row]:
    """All rows, from `repeats` repeats; a training and a distillation take about `seconds` each.

    The rows of shares of the device's bound are missing if `peak` does not know it. ConfigError if a training diverges.
    """
    real, model, outer = sources.load(described.data), network(described.setup(0)), described.outer
    images, labels, some, test = real.train.images, real.train.labels, real.train.first(IMAGES), real.test.first(IMAGES)
    cpu_images, cpu_labels = images.cpu(), labels.cpu()
    everything = masks.ones(model)
    mask = masks.prune(everything, scores.random(everything, 0), SPARSITY)

    def masked(steps: int, under: masks.Mask | None = mask) -> None:
        if not train(model, images, labels, outer.but(steps=steps), under).finite:
            raise ConfigError(
                f"lr = {outer.lr}: a training of {steps} steps diverged, so its time says nothing; give a smaller one"
            )

    methods = {name: stand_in(real, getattr(described, name)) for name in DISTILLATIONS}
    pixels = {name: loop.start(real, method.recipe, 0).requires_grad_() for name, method in methods.items()}

    def distil(name: str, steps: int) -> None:
        for step in range(steps):
            methods[name].match(step, pixels[name])
            methods[name].learn(step)

    side, kind = SQUARE[images.device.type], torch.bfloat16 if outer.precision == "bfloat16" else torch.float32
    square = torch.randn(side, side, device=images.device, dtype=kind)

    def multiply(times: int) -> None:
        with arithmetic(outer.precision, images.device):
            for _ in range(times):
                square @ square

    products = steps_for(seconds / 4, multiply)
    end = copy.deepcopy(model)
    end.load_state_dict(masks.apply(modules.copy_state(model), mask))
    modules.recalibrate(end, some.images)
    a, b, c = (_near(end, mask, number) for number in range(3))
    through = landscape.plane(a, b, c, [n for n, _ in model.named_parameters()])

    def curvature() -> None:
        hessian.diagonal(hessian.Hessian(end, some.images, some.labels, mask), PROBES)

    steps = steps_for(seconds, masked)
    distil_steps = {name: steps_for(seconds, partial(distil, name)) for name in methods}
    work: dict[str, Callable[[], object]] = {
        "masked": partial(masked, steps),
        "unmasked": partial(masked, steps, None),
        "plain": partial(plain, model, cpu_images, cpu_labels, outer.but(steps=steps), mask),
        "path": partial(stability.path, end, a, b, some, test, POINTS),
        "plane": partial(landscape.survey, end, through, some, test, SIDE),
        "trace": curvature,
        "matrix": partial(multiply, products),
        **{name: partial(distil, name, n) for name, n in distil_steps.items()},
    }
    masked(1, None)
    plain(model, cpu_images, cpu_labels, outer.but(steps=1), mask)
    for name in ("path", "plane", "trace"):
        work[name]()
    took = timed(work, repeats)
    each = flops(model, *_one_batch(images, labels, outer), outer)
    quantities = _training(took, steps, (products, side), outer, each)
    quantities += _distilling(took, distil_steps, {n: step_flops(methods[n], pixels[n]) for n in methods}, outer)
    return summary(quantities)


def summary(quantities: Sequence[Quantity]) -> list[Row]:
    """One row per quantity."""
    return [Row(what, statistics.median(values), min(values), max(values), unit) for what, values, unit in quantities]


def _one_batch(images: Tensor, labels: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    return images[: recipe.batch], labels[: recipe.batch]


def _training(
    took: dict[str, list[float]], steps: int, products: tuple[int, int], recipe: Recipe, each: float
) -> list[Quantity]:
    """The quantities of training, paths, planes and Hessian products; `products`: how many of matrices of which side;
    `each`: FLOPs of one image, forward and backward."""
    times, side = products

    def over(a: str, b: str) -> list[float]:
        return [x / y for x, y in zip(took[a], took[b], strict=True)]

    rates = {name: [steps * recipe.batch / t for t in took[name]] for name in ("masked", "unmasked", "plain")}
    matrix = [times * 2 * side**3 / t for t in took["matrix"]]
    reached = [100 * each * x / y for x, y in zip(rates["masked"], matrix, strict=True)]
    found: list[Quantity] = [
        ("lotto, masked", rates["masked"], "images/s"),
        ("lotto, no mask", rates["unmasked"], "images/s"),
        ("plain loop, masked", rates["plain"], "images/s"),
        ("time: plain loop / lotto, both masked", over("plain", "masked"), "x"),
        ("time: lotto masked / no mask", over("masked", "unmasked"), "x"),
        (f"path of {POINTS} points", took["path"], "s"),
        ("plane, a point", [t / SIDE**2 for t in took["plane"]], "s"),
        (f"Hessian-vector product, one of {PROBES}", [t / PROBES for t in took["trace"]], "s"),
        ("forward and backward, an image", [each / 1e6], "MFLOP"),
        ("arithmetic, lotto masked", [each * rate / 1e9 for rate in rates["masked"]], "GFLOP/s"),
        (f"matrix product of side {side}", [x / 1e9 for x in matrix], "GFLOP/s"),
        ("lotto masked, of the matrix rate", reached, "% of it"),
    ]
    if bound := peak(device_name(), recipe.precision):
        found.append(("share of the device's bound", [100 * each * rate / bound for rate in rates["masked"]], "%"))
    return found


def _distilling(
    took: dict[str, list[float]], steps: dict[str, int], each: dict[str, float], recipe: Recipe
) -> list[Quantity]:
    """The quantities of the three ways to distil; `each`: FLOPs of one matching step."""
    bound, found = peak(device_name(), recipe.precision), []
    for n, what in DISTILLATIONS.items():
        rates = [each[n] * steps[n] / t for t in took[n]]
        found.append((f"distillation by {what}, a step", [t / steps[n] for t in took[n]], "s"))
        found.append((f"arithmetic, {what}", [x / 1e9 for x in rates], "GFLOP/s"))
        if bound:
            found.append((f"share of it, {what}", [100 * x / bound for x in rates], "%"))
    return found


def table(rows: Sequence[Row]) -> str:
    """The rows as text: what, value, unit, spread."""

    def number(x: float) -> str:
        return f"{x:,.0f}" if x >= 1000 else f"{x:.3g}"

    cells = [("what", "median", "unit", "[lowest, highest]")]
    cells += [(r.what, number(r.median), r.unit, f"[{number(r.low)}, {number(r.high)}]") for r in rows]
    widths = [max(len(c[i]) for c in cells) for i in range(4)]
    return "\n".join(
        f"{c[0]:<{widths[0]}}  {c[1]:>{widths[1]}}  {c[2]:<{widths[2]}}  {c[3]:>{widths[3]}}" for c in cells
    )


def bench(argv: Sequence[str]) -> int:
    """The command: measure, print the table, write the JSON."""
    p = argparse.ArgumentParser(
        prog="python -m lotto.bench", description="Measure how fast lotto computes here.", allow_abbrev=False
    )
    study_options(p, "as for run_all.sh")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default=os.environ.get("LOTTO_DEVICE", "auto"))
    p.add_argument(
        "--seconds", type=float, default=2.0, metavar="S", help="about how long one training takes (default 2)"
    )
    p.add_argument("--repeats", type=int, default=3, metavar="N", help="how often everything is measured (default 3)")
    p.add_argument(
        "--worth",
        action="store_true",
        help="measure instead how fast trained tickets are, masked and compacted, beside the dense net (those of -p "
        "methods and levels; default: IMP's and distilled ones, about 90, 97 and 99 %% sparse), computing missing ones",
    )
    p.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    args = p.parse_args(argv)
    os.environ["LOTTO_DEVICE"] = args.device
    if not 0 < args.seconds < math.inf or args.repeats < 1:
        raise ConfigError(
            f"seconds = {args.seconds}, repeats = {args.repeats}: give more than 0 seconds and at least 1 repeat"
        )
    if args.json and not args.json.absolute().parent.is_dir():
        raise ConfigError(f"json = '{args.json}': its folder does not exist; make it first")
    given = parameters(args)
    described = study(**{"preset": args.preset, **given})
    check(described)
    name, bound = device_name(), peak(device_name(), described.outer.precision)
    if args.worth:
        chosen = {"methods": ("imp", "distilled"), "levels": worth.levels(described.fraction)}
        described = described.but(**{n: v for n, v in chosen.items() if n not in given})
        with single_thread():
            found = summary(worth.quantities(described, args.seconds, args.repeats))
    else:
        found = measure(described, args.seconds, args.repeats)
    says = f"{bound / 1e12:g} TFLOP/s" if bound else "not known"
    print(
        f"{name}, torch {torch.__version__}, preset {described.preset}, {args.repeats} repeat(s) of "
        f"{args.seconds:g} s, 1 CPU thread"
    )
    print(f"{table(found)}\nbound of {name} in {described.outer.precision}: {says}")
    if args.json:
        about = dict(device=name, torch=torch.__version__, preset=described.preset, parameters=given, threads=1)
        about |= dict(seconds=args.seconds, repeats=args.repeats, precision=described.outer.precision, bound=bound)
        args.json.write_text(json.dumps({**about, "rows": [dataclasses.asdict(r) for r in found]}, indent=1) + "\n")
    return OK


def main(argv: Sequence[str]) -> int:
    """Run `bench`; a user's error is printed as one sentence, with exit code 2."""
    try:
        return bench(argv)
    except (ConfigError, DataError, StoreError) as error:
        print(f"lotto.bench: {error}", file=sys.stderr)
        return USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
