"""THE loop of all distillations: pixels that start as real images, are moved by one method's gradient, and stay in [0, 1]."""

from __future__ import annotations

import time
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lotto import augment, parallel
from lotto.config import ConfigError, Distill, Gradient, Matching, Net
from lotto.data import RealData, check_images, per_class
from lotto.distill.synset import SynSet, encode, spread
from lotto.nets import build
from lotto.store import Checkpoint
from lotto.streams import generator

NET_BATCH = 64
"""Real images of a step that trains a net."""
LOOK = 25
"""Steps between looks at the losses: each look waits for the device."""


@runtime_checkable
class Method(Protocol):
    """What a distillation by `run` needs to be told: how far off the set is, and which way its pixels are to go."""

    name: str
    rate: float
    momentum: float

    def match(self, step: int, pixels: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, ""], Float[Tensor, "n c h w"]]:
        """Loss and its gradient in the pixels (which require one) at step `step`, a function of the seed, the step and the state."""

    def learn(self, step: int) -> None:
        """What the method does between steps."""

    def state(self) -> dict[str, Tensor]:
        """All that it carries from step to step."""

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take up before step `step` what `state` gave."""


def run(method: Method, real: RealData, recipe: Matching, seed: int, checkpoint: Checkpoint | None = None) -> tuple[SynSet, list[float]]:
    """The set after `recipe.steps` steps, and the loss of each.

    SGD on the pixels with the method's rate and momentum. Resumable, on the CPU to the bit. Only `real.train` is looked at. DataError where
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
    bar = parallel.Steps(f"distil ({method.name})", recipe.steps, first)

    def look(step: int) -> None:
        losses.extend(float(x) for x in recent)
        recent.clear()
        bad = next((i for i, x in enumerate(losses) if not abs(x) < float("inf")), None)
        if bad is not None or not torch.isfinite(pixels).all():
            raise ConfigError(
                f"the distillation diverged at step {step if bad is None else bad} (lr = {recipe.lr}); give a smaller distill_lr"
            )
        bar.at(step, losses[-1] if losses else None)

    for step in range(first, recipe.steps):
        loss, gradient = method.match(step, pixels)
        with torch.no_grad():
            velocity = gradient if velocity is None or not method.momentum else velocity.mul_(method.momentum).add_(gradient)
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
    bar.close()
    about: dict[str, Any] = {"method": method.name, "seed": seed, **recipe.model_dump(mode="json")}
    labels = spread(recipe.ipc, len(real.classes))
    return SynSet(pixels.detach().cpu(), labels, real.classes, real.mean.cpu(), real.std.cpu(), about, recipe.factor), losses


def start(real: RealData, recipe: Matching, seed: int) -> Float[Tensor, "n c h w"]:
    """Real training images in [0, 1], `recipe.ipc` a class; with a factor, factor x factor smaller ones in the place of each."""
    classes, parts = len(real.classes), recipe.factor**2
    index = per_class(real.train.labels.cpu(), recipe.ipc * parts, generator(seed, "distill"))
    pixels = real.pixels(real.train.images[index.to(real.train.images.device)]).clamp(0, 1)
    if parts > 1:  # class by class as drawn; `encode` takes part by part
        pixels = encode(pixels.view(classes, parts, recipe.ipc, *real.shape).transpose(0, 1).reshape(-1, *real.shape), recipe.factor)
    return pixels.contiguous()


def estimate(method: Method, real: RealData, recipe: Matching, seed: int = 0, steps: int = 3) -> dict[str, float]:
    """What `run` will cost here, from a few of its steps, which are thrown away (use a fresh `method`): `seconds` in all, `step_seconds`,
    and `memory_mib`, the most that PyTorch held on a GPU (0 on a CPU). The first step, which sets things up, is not timed."""
    device = real.train.images.device
    pixels = start(real, recipe, seed).requires_grad_()
    took = []
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


def members(labels: Int64[Tensor, " n"], classes: int) -> list[Int64[Tensor, " m"]]:
    """Indices of each class's images."""
    return [(labels == c).nonzero().squeeze(1) for c in range(classes)]


def random_net(recipe: Matching, real: RealData, seed: int, number: int) -> torch.nn.Module:
    """Net number `number` of a distillation: a ConvNet with instance norm, so that no statistics are shared between images or classes.

    Its initialisation is drawn on the CPU, then moved: the same on every device.
    """
    described = Net(name="convnet", width=recipe.width, depth=recipe.depth, norm="instance")
    begin = generator(seed, "distill-net", number).initial_seed()
    return build(described, real.shape, len(real.classes), begin).to(real.train.images.device).train()


class Pool:
    """Nets that take turns. After its turn a net takes `net_steps` steps on real images; after `life` turns a fresh one replaces it.

    Their ages are spread: at any time some are fresh and some know more (as in Zhao et al. 2023, arXiv 2307.09742).
    """

    def __init__(self, recipe: Distill | Gradient, real: RealData, seed: int):
        self.recipe, self.real, self.seed = recipe, real, seed
        self.nets: dict[int, _Learner] = {}

    def _number(self, step: int) -> tuple[int, int]:
        slot, turn = step % self.recipe.pool, step // self.recipe.pool
        return slot, slot + self.recipe.pool * ((turn + slot * self.recipe.life // self.recipe.pool) // self.recipe.life)

    def at(self, step: int) -> _Learner:
        """The net whose turn it is."""
        slot, number = self._number(step)
        if slot not in self.nets or self.nets[slot].number != number:
            self.nets[slot] = _Learner(self.recipe, self.real, self.seed, number)
        return self.nets[slot]

    def state(self) -> dict[str, Tensor]:
        """Weights, momenta and running shares of all nets."""
        return {f"{slot}.{n}": t for slot, net in self.nets.items() for n, t in net.state().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        for slot in sorted({int(n.partition(".")[0]) for n in tensors}):
            own = {n.partition(".")[2]: t for n, t in tensors.items() if n.startswith(f"{slot}.")}
            self.nets[slot] = _Learner(self.recipe, self.real, self.seed, int(own.pop("number")))
            self.nets[slot].restore(own)


class _Learner:
    """One net of the pool, and what trains it. `right`: the share of real images that it got right in its last step."""

    def __init__(self, recipe: Distill | Gradient, real: RealData, seed: int, number: int):
        self.recipe, self.real, self.seed, self.number = recipe, real, seed, number
        self.model = random_net(recipe, real, seed, number)
        self.right = torch.zeros((), device=real.train.images.device)
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=recipe.net_lr, momentum=0.9, weight_decay=5e-4)

    def learn(self, step: int) -> None:
        """The net's steps on real images after matching step `step`."""
        images, labels, recipe = self.real.train.images, self.real.train.labels, self.recipe
        for turn in range(recipe.net_steps):
            draw = generator(self.seed, "distill", 2, step, turn)
            picked = torch.randperm(len(images), generator=draw)[:NET_BATCH].to(images.device)
            draws = augment.draw(len(picked), recipe.shift, recipe.flip, draw, recipe.ops).to(images.device)
            scores = self.model(augment.apply(images[picked], draws, recipe.shift, recipe.ops))
            loss = torch.nn.functional.cross_entropy(scores, labels[picked])
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            self.right = (scores.detach().argmax(1) == labels[picked]).float().mean()

    def state(self) -> dict[str, Tensor]:
        """Weights and momenta, by name."""
        momenta = {n: self.optimiser.state[p].get("momentum_buffer") for n, p in self.model.named_parameters()}
        return {
            "number": torch.tensor(self.number),
            "right": self.right,
            **{f"net.{n}": t for n, t in self.model.state_dict().items()},
            **{f"speed.{n}": t for n, t in momenta.items() if t is not None},
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self.right = tensors["right"].to(self.right.device)
        self.model.load_state_dict({n.removeprefix("net."): t for n, t in tensors.items() if n.startswith("net.")})
        for n, p in self.model.named_parameters():
            if f"speed.{n}" in tensors:
                self.optimiser.state[p]["momentum_buffer"] = tensors[f"speed.{n}"].to(p.device)
