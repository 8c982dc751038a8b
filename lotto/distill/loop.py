"""THE loop of all distillations: pixels that start as real images, are moved by one method's gradient, and stay in [0,
1]."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lotto.checkpoint import Checkpoint
from lotto.config import ConfigError
from lotto.data import RealData, check_images, per_class
from lotto.distill.recipes import Matching
from lotto.distill.synset import SynSet, encode, spread
from lotto.streams import generator

Told = Callable[[int, float | None], None]
"""What hears of the steps done, and of the last loss."""
LOOK = 25
"""Steps between looks at the losses: each look waits for the device."""


@runtime_checkable
class Method(Protocol):
    """What a distillation by `run` needs to be told: how far off the set is, and which way its pixels are to go."""

    name: str
    rate: float
    momentum: float

    def match(self, step: int, pixels: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, ""], Float[Tensor, "n c h w"]]:
        """Loss and its gradient in the pixels (which require one) at step `step`, a function of the seed, the step and
        the state."""

    def learn(self, step: int) -> None:
        """What the method does between steps."""

    def state(self) -> dict[str, Tensor]:
        """All that it carries from step to step."""

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take up before step `step` what `state` gave."""


def run(
    method: Method,
    real: RealData,
    recipe: Matching,
    seed: int,
    checkpoint: Checkpoint | None = None,
    told: Told | None = None,
) -> tuple[SynSet, list[float]]:
    """The set after `recipe.steps` steps, and the loss of each.

    SGD on the pixels with the method's rate and momentum. Resumable, on the CPU to the bit. `told` hears every
    LOOK steps how far it is. Only `real.train` is looked at. DataError where
    a class has too few images, ConfigError where the loss is no number any more.
    """
    check_images(real.train.images, real.train.labels, len(real.classes))
    pixels = start(real, recipe, seed).requires_grad_()
    velocity, first, losses = None, 0, []
    if checkpoint and (saved := checkpoint.load()):
        tensors, at = saved
        first, losses = at["step"], at["losses"]
        with torch.no_grad():
            pixels.copy_(tensors["pixels"])
        velocity = tensors["velocity"].to(pixels.device) if "velocity" in tensors else None
        method.restore({n.removeprefix("method."): t for n, t in tensors.items() if n.startswith("method.")}, first)
    recent: list[Tensor] = []

    def look(step: int) -> None:
        losses.extend(float(x) for x in recent)
        recent.clear()
        bad = next((i for i, x in enumerate(losses) if not abs(x) < float("inf")), None)
        if bad is not None or not torch.isfinite(pixels).all():
            raise ConfigError(
                f"the distillation diverged at step {step if bad is None else bad} (lr = {recipe.lr}); give a "
                "smaller distill_lr"
            )
        if told:
            told(step, losses[-1] if losses else None)

    for step in range(first, recipe.steps):
        loss, gradient = method.match(step, pixels)
        with torch.no_grad():
            velocity = (
                gradient if velocity is None or not method.momentum else velocity.mul_(method.momentum).add_(gradient)
            )
            pixels.add_(velocity, alpha=-method.rate).clamp_(0, 1)
        recent.append(loss.detach())
        method.learn(step)
        if checkpoint and checkpoint.due() and step + 1 < recipe.steps:
            look(step + 1)
            moving = {"velocity": velocity} if method.momentum else {}
            held = {f"method.{n}": t for n, t in method.state().items()}
            checkpoint.save({"pixels": pixels, **moving, **held}, {"step": step + 1, "losses": losses})
        elif (step + 1) % LOOK == 0:
            look(step + 1)
    look(recipe.steps)
    about: dict[str, Any] = {"method": method.name, "seed": seed, **recipe.model_dump(mode="json")}
    labels = spread(recipe.ipc, len(real.classes))
    return SynSet(
        pixels.detach().cpu(), labels, real.classes, real.mean.cpu(), real.std.cpu(), about, recipe.factor
    ), losses


def start(real: RealData, recipe: Matching, seed: int) -> Float[Tensor, "n c h w"]:
    """Real training images in [0, 1], `recipe.ipc` a class; with a factor, factor x factor smaller ones in the place of
    each."""
    classes, parts = len(real.classes), recipe.factor**2
    index = per_class(real.train.labels.cpu(), recipe.ipc * parts, generator(seed, "distill"))
    pixels = real.pixels(real.train.images[index.to(real.train.images.device)]).clamp(0, 1)
    if parts > 1:  # class by class as drawn; `encode` takes part by part
        pixels = encode(
            pixels.view(classes, parts, recipe.ipc, *real.shape).transpose(0, 1).reshape(-1, *real.shape), recipe.factor
        )
    return pixels.contiguous()


def estimate(method: Method, real: RealData, recipe: Matching, seed: int = 0, steps: int = 3) -> dict[str, float]:
    """What `run` will cost here, from a few of its steps, which are thrown away (use a fresh `method`): `seconds` in
    all, `step_seconds`, and `memory_mib`, the most that PyTorch held on a GPU (0 on a CPU). The first step, which sets
    things up, is not timed."""
    device = real.train.images.device
    pixels = start(real, recipe, seed).requires_grad_()
    took = []
    if device.type == "cuda":  # the most of what is measured here, not of what the process did before
        torch.cuda.reset_peak_memory_stats()
    for step in range(steps + 1):
        began = time.perf_counter()
        method.match(step, pixels)
        method.learn(step)
        if device.type == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    each = sum(took[1:]) / steps
    memory = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0.0
    return {"seconds": each * recipe.steps, "step_seconds": each, "memory_mib": memory}
