"""What tickets are worth: one ticket as a file, and how fast a study's tickets are once they are compacted."""

from __future__ import annotations

import json
import math
import os
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lotto import compact, masks, modules
from lotto.config import ConfigError
from lotto.lab import parallel, sources
from lotto.lab.product import replacing
from lotto.lab.study import Study
from lotto.lab.tickets.products import level, network, start_of, trained
from lotto.lab.timing import Quantity, steps_for, timed

As = Literal["dense", "mask", "compact"]

DENSITIES = (0.1, 0.03, 0.01)
"""Densities at which tickets are timed, unless a study's levels are given."""

BATCHES = (1, 256)
"""Batch sizes of the forward passes that are timed."""


def levels(fraction: float) -> list[int]:
    """The levels nearest to DENSITIES, if each round prunes `fraction` of the live weights.

    >>> levels(0.36)
    [5, 8, 10]
    """
    return sorted({max(1, round(math.log(d) / math.log(1 - fraction))) for d in DENSITIES})


def net_of(study: Study, method: str, at: int, seed: int, child: int = 1) -> tuple[masks.Mask, nn.Module]:
    """A ticket's mask and its net, computed or read: after training number `child`, or before any training (0).
    ConfigError if the ticket is dead or the training diverged, as there is no net then."""
    ticket = study.ticket(method, at, seed)
    state = level(ticket).metrics["state"]
    if state == "alive" and child:
        end = trained(study.training(method, at, seed, child))
        state, tensors = end.metrics["state"], end.tensors
    elif state == "alive":
        tensors = start_of(ticket).state
    if state in ("dead", "diverged"):
        raise ConfigError(
            f"{method} at level {at} of initialisation {seed} is {state}: there is no net to take; give a lower level, "
            "or another initialisation"
        )
    return level(ticket).tensors, network(ticket.setup, tensors)


def write(study: Study, method: str, at: int, seed: int, child: int, kind: As, file: Path) -> dict[str, Any]:
    """Write a ticket as safetensors, and return what is in the file as plain data.

    kind: dense, the state_dict, pruned weights 0; mask, one bit per prunable weight (`masks.load`); compact, the
    state_dict of the net without its dead channels (`compact.load`). ConfigError if the file's folder does not exist or
    the net cannot be compacted, before anything is computed, and as from `net_of`.
    """
    if child < 0:
        raise ConfigError(f"child = {child}: give the number of a training, from 1, or 0 for the ticket before any")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"out = '{file}': its folder does not exist; make it first")
    if file.is_dir() or not os.access(file.absolute().parent, os.W_OK):
        raise ConfigError(f"out = '{file}': is a folder, or in one that you may not write; give the name of a file")
    study.ticket(method, at, seed)
    if kind == "compact":
        compact.compact(network(study.setup(seed)))
    mask, model = net_of(study, method, at, seed, child)
    found: dict[str, Any] = {"live": masks.count(mask), "prunable": masks.size(mask), "density": masks.density(mask)}
    small = compact.compact(model) if kind == "compact" else model
    with replacing(file) as part:
        if kind == "mask":
            masks.save(mask, part)
        else:
            state = {n: t.cpu() for n, t in modules.copy_state(small).items()}
            save_file(state, part, {"net": json.dumps(dict(study.net))})
    if kind != "mask":
        saved = compact.worth(model, small, sources.load(study.data).shape)
        found |= {"parameters": saved.parameters[1], "multiply-adds an image": saved.multiply_adds[1]}
        if kind == "compact":
            found["of the dense net's"] = [saved.parameters[0], saved.multiply_adds[0]]
            found["channels"] = {n: f"{b} of {a}" for n, (a, b) in saved.channels.items()}
    return {"file": str(file), "as": kind, "bytes": file.stat().st_size, **found}


def quantities(study: Study, seconds: float, repeats: int) -> list[Quantity]:
    """How fast the first initialisation's trained tickets are: for each arm and level, the time of a forward pass of
    the dense net over that of the masked one, and of the masked over the compacted one; and what is left of parameters
    and multiply-adds. Both times of a ratio come from the same repeat, about `seconds` each; on a CPU they are CPU
    times of the one thread that computes, so that other load on the machine does not count."""
    real, found = sources.load(study.data), []
    images = real.train.images.repeat(-(-max(BATCHES) // len(real.train)), 1, 1, 1)
    clock = time.perf_counter if images.device.type == "cuda" else time.process_time
    cells = study.but(seeds=1).cells(dense=False)
    parallel.compute(trained, [study.training(*cell, 1) for cell in cells])
    for cell in cells:
        mask, masked = net_of(study, *cell)
        dense, small = network(study.setup(cell.seed)), compact.compact(masked)
        small = small.to(memory_format=modules.layout(small, images.device))
        nets = {"dense": dense, "masked": masked, "compact": small}
        saved = compact.worth(masked, small, real.shape)
        name = f"{cell.method} {100 * (1 - masks.density(mask)):.1f} % sparse"
        for what, (before, after) in (("parameters", saved.parameters), ("multiply-adds", saved.multiply_adds)):
            found.append((f"{name}: {what} left", [100 * after / before], "%"))
        for batch in BATCHES:
            work = {n: partial(forward, net, images[:batch]) for n, net in nets.items()}
            times = steps_for(seconds, work["masked"])
            took = timed({n: partial(f, times) for n, f in work.items()}, repeats, clock)
            for a, b in (("dense", "masked"), ("masked", "compact")):
                ratios = [x / y for x, y in zip(took[a], took[b], strict=True)]
                found.append((f"{name}: time {a} / {b}, batch {batch}", ratios, "x"))
    return found


@torch.inference_mode()
def forward(net: nn.Module, images: Tensor, times: int) -> None:
    """`times` forward passes in evaluation mode."""
    net.eval()
    for _ in range(times):
        net(images)
