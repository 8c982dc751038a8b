"""What is fast, beside what else there is: masked training, the same without a mask, and a plain loop, in one run.

    python -m lotto.bench [--preset NAME] [-p NAME VALUE]... [--device auto|cpu|cuda] [--seconds S] [--repeats N] [--json FILE]

Wall time of one process with one CPU thread, best read as ratios: everything is measured once in each repeat, in rotating order, so
that what else the machine does meets all alike, and a ratio is of two times of one repeat. Spread is that of the repeats. Every
measurement is made once beforehand; on CUDA the clock is read when the device is done. The nets are untrained. Training takes the
preset's outer recipe, with as many steps as fit, and 80 % of the prunable weights pruned at random; its one-off costs (copy of the net,
check of the images) are in the time, and small beside --seconds. Distillations are those of the preset by each method. A Hessian-vector
product holds its share of the first backward pass, a path both kinds of batch-norm statistics. Reading data is in none of them.

Exit codes: 0 all went well, 2 the call or a value in it is wrong.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import itertools
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from lotto import hessian, landscape, masks, modules, scores, stability
from lotto.config import ConfigError, Recipe
from lotto.data import DataError
from lotto.distill import loop
from lotto.distill.recipes import DISTILLATIONS
from lotto.lab import sources
from lotto.lab.check import check
from lotto.lab.device import device, device_name, single_thread
from lotto.lab.presets import PRESETS, study
from lotto.lab.sets.products import stand_in
from lotto.lab.store import StoreError
from lotto.lab.study import Study
from lotto.lab.tickets.products import network
from lotto.modules import State
from lotto.run import OK, USAGE, value
from lotto.train import arithmetic, learning_rate, train

SPARSITY = 0.8
IMAGES, POINTS, SIDE, PROBES = 256, 11, 3, 4
"""Training images of a path, a plane, a Hessian (and as many test images); points of the path, of the plane's side; probes of the trace."""

SQUARE = 1024
"""Side of the square matrices whose product stands for the rate that this core (or device) can reach."""

PEAKS = {
    "H200": {"bfloat16": 989e12, "tf32": 494.5e12, "float32": 67e12},
    "H100 80GB HBM3": {"bfloat16": 989e12, "tf32": 494.5e12, "float32": 67e12},
    "A100": {"bfloat16": 312e12, "tf32": 156e12, "float32": 19.5e12},
}
"""Part of a device's name -> FLOP/s by precision: NVIDIA's data sheets, dense rates (the H100 is the SXM one, as it names itself)."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One quantity: its median, lowest and highest value over the repeats."""

    what: str
    median: float
    low: float
    high: float
    unit: str


def peak(device: str, precision: str) -> float | None:
    """FLOP/s that the device's maker gives for dense products in this precision; None where it is not known (a slice by MIG has less).

    >>> peak("NVIDIA H200", "tf32"), peak("cpu", "tf32")
    (494500000000000.0, None)
    """
    part = next((name for name in PEAKS if name in device), None)
    return PEAKS[part][precision] if part and not any(other in device for other in ("GH200", "NVL", "MIG")) else None


def plain(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, mask: masks.Mask) -> State:
    """The masked training as it is commonly written: DataLoader, optim.SGD, torch.nn.utils.prune. Returns the end state, pruned weights 0.

    The same net, batch size, SGD, schedule and precision as `lotto.train.train`; images and labels on the CPU, batches sent to
    the net's device, the rest PyTorch's defaults (memory format, SGD's implementation, kernels that need not be deterministic).
    Left out: augmentation, keyed noise, the mean loss, the checks for losses that are not finite, checkpoints.
    """
    device = next(model.parameters()).device
    model = copy.deepcopy(model).to(memory_format=torch.contiguous_format).train()
    layers = [model.get_submodule(name.rpartition(".")[0]) for name in mask]
    for layer, kept in zip(layers, mask.values(), strict=True):
        prune.custom_from_mask(layer, "weight", kept.to(device))
    optimiser = torch.optim.SGD(
        model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.momentum > 0
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate(recipe, step) / recipe.lr)
    loader = DataLoader(
        TensorDataset(images, labels),
        min(recipe.batch, len(images)),
        shuffle=True,
        drop_last=True,
        pin_memory=device.type == "cuda",
        generator=torch.Generator().manual_seed(0),
    )
    with arithmetic(recipe.precision, device):
        torch.backends.cudnn.deterministic = False  # `arithmetic` puts it back
        for x, y in itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), recipe.steps):
            loss = F.cross_entropy(model(x.to(device, non_blocking=True)), y.to(device, non_blocking=True))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    for layer in layers:
        prune.remove(layer, "weight")
    return modules.copy_state(model)


def flops(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> float:
    """FLOPs an image of one forward and backward pass, pruned weights included: convolutions and matrix products only, a multiplication
    and an addition 1 each."""
    model = copy.deepcopy(model).train()
    with arithmetic(recipe.precision, images.device), FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(images), labels).backward()
    return counter.get_total_flops() / len(images)


def seconds_of(work: Callable[[], object]) -> float:
    """Wall time of one call, the device's work included."""
    wait = torch.cuda.synchronize if device().type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def steps_for(seconds: float, work: Callable[[int], object]) -> int:
    """With how many steps `work` takes about so many seconds; it is called a few times with fewer."""
    work(1)
    steps, took = 1, seconds_of(lambda: work(1))
    while took < seconds / 4:
        steps *= 4
        took = seconds_of(partial(work, steps))
    return max(1, round(steps * seconds / took))


@single_thread()
def measure(described: Study, seconds: float = 2.0, repeats: int = 3) -> list[Row]:
    """All rows, from `repeats` rounds; a training and a distillation take about `seconds` each in a round.

    The last row, the share of the bound, is missing where `peak` is not known. ConfigError where a training diverges.
    """
    real, model, outer = sources.load(described.data), network(described.setup(0)), described.outer
    images, labels, some, test = real.train.images, real.train.labels, real.train.first(IMAGES), real.test.first(IMAGES)
    cpu_images, cpu_labels = images.cpu(), labels.cpu()
    everything = masks.ones(model)
    mask = masks.prune(everything, scores.random(everything, 0), SPARSITY)

    def masked(steps: int, under: masks.Mask | None = mask) -> None:
        if not train(model, images, labels, outer.but(steps=steps), under).finite:
            raise ConfigError(f"lr = {outer.lr}: a training of {steps} steps diverged, so its time says nothing; give a smaller one")

    methods = {name: stand_in(real, getattr(described, name)) for name in DISTILLATIONS}
    pixels = {name: loop.start(real, method.recipe, 0).requires_grad_() for name, method in methods.items()}

    def distil(name: str, steps: int) -> None:
        for step in range(steps):
            methods[name].match(step, pixels[name])
            methods[name].learn(step)

    square = torch.randn(SQUARE, SQUARE, device=images.device)

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
    took: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats):
        turn = repeat % len(work)
        for name in [*work][turn:] + [*work][:turn]:
            took[name].append(seconds_of(work[name]))

    batch = min(outer.batch, len(images))
    rates = {name: [steps * batch / t for t in took[name]] for name in ("masked", "unmasked", "plain")}
    each = flops(model, images[:batch], labels[:batch], outer)
    matrix = [products * 2 * SQUARE**3 / t for t in took["matrix"]]
    found: list[tuple[str, list[float], str]] = [
        ("lotto, masked", rates["masked"], "images/s"),
        ("lotto, no mask", rates["unmasked"], "images/s"),
        ("plain loop, masked", rates["plain"], "images/s"),
        ("time: plain loop / lotto, both masked", [x / y for x, y in zip(took["plain"], took["masked"], strict=True)], "x"),
        ("time: lotto masked / no mask", [x / y for x, y in zip(took["masked"], took["unmasked"], strict=True)], "x"),
        (f"path of {POINTS} points", took["path"], "s"),
        ("plane, a point", [t / SIDE**2 for t in took["plane"]], "s"),
        (f"Hessian-vector product, one of {PROBES}", [t / PROBES for t in took["trace"]], "s"),
        *((f"distillation by {what}, a step", [t / distil_steps[n] for t in took[n]], "s") for n, what in DISTILLATIONS.items()),
        ("forward and backward, an image", [each / 1e6], "MFLOP"),
        ("arithmetic, lotto masked", [each * rate / 1e9 for rate in rates["masked"]], "GFLOP/s"),
        (f"matrix product of side {SQUARE}", [x / 1e9 for x in matrix], "GFLOP/s"),
        ("lotto masked, of the matrix rate", [100 * each * x / y for x, y in zip(rates["masked"], matrix, strict=True)], "% of it"),
    ]
    distilling = {name: [step_flops(methods[name], pixels[name]) * n / t for t in took[name]] for name, n in distil_steps.items()}
    found += [(f"arithmetic, {DISTILLATIONS[n]}", [x / 1e9 for x in rate], "GFLOP/s") for n, rate in distilling.items()]
    if bound := peak(device_name(), outer.precision):
        found.append(("share of the device's bound", [100 * each * rate / bound for rate in rates["masked"]], "%"))
        found += [(f"share of it, {DISTILLATIONS[n]}", [100 * x / bound for x in rate], "%") for n, rate in distilling.items()]
    return [Row(what, statistics.median(values), min(values), max(values), unit) for what, values, unit in found]


def step_flops(method: loop.Method, pixels: Tensor) -> float:
    """FLOPs of one step's matching, counted as in `flops`."""
    with FlopCounterMode(display=False) as counter:
        method.match(0, pixels)
    return counter.get_total_flops()


def _near(model: nn.Module, mask: masks.Mask, number: int) -> State:
    draw, names = torch.Generator().manual_seed(number), {n for n, _ in model.named_parameters()}
    state = modules.copy_state(model)
    return masks.apply({n: t + 0.01 * torch.randn(t.shape, generator=draw).to(t) if n in names else t for n, t in state.items()}, mask)


def table(rows: Sequence[Row]) -> str:
    """The rows as text: what, value, unit, spread."""

    def number(x: float) -> str:
        return f"{x:,.0f}" if x >= 1000 else f"{x:.3g}"

    cells = [("what", "median", "unit", "[lowest, highest]")]
    cells += [(r.what, number(r.median), r.unit, f"[{number(r.low)}, {number(r.high)}]") for r in rows]
    widths = [max(len(c[i]) for c in cells) for i in range(4)]
    return "\n".join(f"{c[0]:<{widths[0]}}  {c[1]:>{widths[1]}}  {c[2]:<{widths[2]}}  {c[3]:>{widths[3]}}" for c in cells)


def bench(argv: Sequence[str]) -> int:
    """The command: measure, print the table, write the JSON."""
    p = argparse.ArgumentParser(prog="python -m lotto.bench", description="Measure how fast lotto computes here.", allow_abbrev=False)
    p.add_argument("--preset", default="digits", help=f"one of {', '.join(PRESETS)} (default digits)")
    p.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="as for run_all.sh")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default=os.environ.get("LOTTO_DEVICE", "auto"))
    p.add_argument("--seconds", type=float, default=2.0, metavar="S", help="about how long one training takes (default 2)")
    p.add_argument("--repeats", type=int, default=3, metavar="N", help="how often everything is measured (default 3)")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    args = p.parse_args(argv)
    os.environ["LOTTO_DEVICE"] = args.device
    if not 0 < args.seconds < math.inf or args.repeats < 1:
        raise ConfigError(f"seconds = {args.seconds}, repeats = {args.repeats}: give more than 0 seconds and at least 1 repeat")
    if args.json and not args.json.absolute().parent.is_dir():
        raise ConfigError(f"json = '{args.json}': its folder is not there; make it first")
    given = {name: value(text) for name, text in args.parameters}
    described = study(**{"preset": args.preset, **given})
    check(described)
    name, bound = device_name(), peak(device_name(), described.outer.precision)
    rows = measure(described, args.seconds, args.repeats)
    says = f"{bound / 1e12:g} TFLOP/s" if bound else "not known"
    print(f"{name}, torch {torch.__version__}, preset {described.preset}, {args.repeats} repeat(s) of {args.seconds:g} s, 1 CPU thread")
    print(f"{table(rows)}\nbound of {name} in {described.outer.precision}: {says}")
    if args.json:
        about = dict(device=name, torch=torch.__version__, preset=described.preset, parameters=given, threads=1)
        about |= dict(seconds=args.seconds, repeats=args.repeats, precision=described.outer.precision, bound=bound)
        args.json.write_text(json.dumps({**about, "rows": [dataclasses.asdict(r) for r in rows]}, indent=1) + "\n")
    return OK


def main(argv: Sequence[str]) -> int:
    """`bench`; errors in what was asked are one sentence and exit code 2."""
    try:
        return bench(argv)
    except (ConfigError, DataError, StoreError) as error:
        print(f"lotto.bench: {error}", file=sys.stderr)
        return USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
