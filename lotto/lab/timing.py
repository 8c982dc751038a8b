"""What speed is measured with and against: a clock, FLOPs, device peaks, the training as it is commonly written."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from lotto import masks, modules
from lotto.config import Recipe
from lotto.distill import loop
from lotto.lab.device import device
from lotto.modules import State, arithmetic
from lotto.train import learning_rate

PEAKS = {
    "H200": {"bfloat16": 989e12, "tf32": 494.5e12, "float32": 67e12},
    "H100 80GB HBM3": {"bfloat16": 989e12, "tf32": 494.5e12, "float32": 67e12},
    "A100": {"bfloat16": 312e12, "tf32": 156e12, "float32": 19.5e12},
}
"""Part of a device's name -> FLOP/s by precision: NVIDIA's data sheets, dense rates (the H100 is the SXM one, as it
names itself)."""


def peak(device: str, precision: str) -> float | None:
    """FLOP/s that the device's maker gives for dense products in this precision; None where it is not known (a slice by
    MIG has less).

    >>> peak("NVIDIA H200", "tf32"), peak("cpu", "tf32")
    (494500000000000.0, None)
    """
    part = next((name for name in PEAKS if name in device), None)
    return PEAKS[part][precision] if part and not any(other in device for other in ("GH200", "NVL", "MIG")) else None


def plain(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, mask: masks.Mask) -> State:
    """The masked training as it is commonly written: DataLoader, optim.SGD, torch.nn.utils.prune. Returns the end
    state, pruned weights 0.

    The same net, batch size, SGD, schedule and precision as `lotto.train.train`; images and labels on the CPU, batches
    sent to the net's device, the rest PyTorch's defaults (memory format, SGD's implementation, kernels that need not be
    deterministic). Left out: augmentation, keyed noise, the mean loss, the checks for losses that are not finite,
    checkpoints.
    """
    device = next(model.parameters()).device
    model = copy.deepcopy(model).to(memory_format=torch.contiguous_format).train()
    layers = [model.get_submodule(name.rpartition(".")[0]) for name in mask]
    for layer, kept in zip(layers, mask.values(), strict=True):
        prune.custom_from_mask(layer, "weight", kept.to(device))
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
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
    """FLOPs an image of one forward and backward pass, pruned weights included: convolutions and matrix products only,
    a multiplication and an addition 1 each."""
    model = copy.deepcopy(model).train()
    with arithmetic(recipe.precision, images.device), FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(images), labels).backward()
    return counter.get_total_flops() / len(images)


def seconds_of(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Time of one call by a clock (default: on the wall), the device's work included."""
    wait = torch.cuda.synchronize if device().type == "cuda" else lambda: None
    wait()
    start = clock()
    work()
    wait()
    return clock() - start


def steps_for(seconds: float, work: Callable[[int], object]) -> int:
    """With how many steps `work` takes about so many seconds; it is called a few times with fewer."""
    work(1)
    steps, took = 1, seconds_of(lambda: work(1))
    while took < seconds / 4:
        steps *= 4
        took = seconds_of(partial(work, steps))
    return max(1, round(steps * seconds / took))


Quantity = tuple[str, list[float], str]
"""What, its value in each repeat, its unit."""


def timed(
    work: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each piece of work in each repeat; every repeat begins with another, as a machine may tire."""
    took: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats):
        turn = repeat % len(work)
        for name in [*work][turn:] + [*work][:turn]:
            took[name].append(seconds_of(work[name], clock))
    return took


def step_flops(method: loop.Method, pixels: Tensor) -> float:
    """FLOPs of one step's matching, counted as in `flops`."""
    with FlopCounterMode(display=False) as counter:
        method.match(0, pixels)
    return counter.get_total_flops()


def _near(model: nn.Module, mask: masks.Mask, number: int) -> State:
    draw, names = torch.Generator().manual_seed(number), {n for n, _ in model.named_parameters()}
    state = modules.copy_state(model)
    return masks.apply(
        {n: t + 0.01 * torch.randn(t.shape, generator=draw).to(t) if n in names else t for n, t in state.items()}, mask
    )
