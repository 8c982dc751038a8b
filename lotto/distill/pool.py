"""The nets that a distillation looks through: fresh random ones, or a pool of nets that are trained a little
meanwhile."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from lotto import augment
from lotto.config import Net
from lotto.data import RealData
from lotto.distill.recipes import Distill, Gradient, Matching
from lotto.nets import build
from lotto.streams import generator

NET_BATCH = 64
"""Real images of a step that trains a net."""


def members(labels: Int64[Tensor, " n"], classes: int) -> list[Int64[Tensor, " m"]]:
    """Indices of each class's images."""
    return [(labels == c).nonzero().squeeze(1) for c in range(classes)]


def random_net(recipe: Matching, real: RealData, seed: int, number: int) -> torch.nn.Module:
    """Net number `number` of a distillation: a ConvNet with instance norm, so that no statistics are shared between
    images or classes.

    Its initialisation is drawn on the CPU, then moved: the same on every device.
    """
    described = Net(name="convnet", width=recipe.width, depth=recipe.depth, norm="instance")
    begin = generator(seed, "distill-net", number).initial_seed()
    return build(described, real.shape, len(real.classes), begin).to(real.train.images.device).train()


class Pool:
    """Nets that take turns. After its turn a net takes `net_steps` steps on real images; after `life` turns a fresh one
    replaces it.

    Their ages are spread: at any time some are fresh and some know more (as in Zhao et al. 2023, arXiv 2307.09742).
    """

    def __init__(self, recipe: Distill | Gradient, real: RealData, seed: int):
        self.recipe, self.real, self.seed = recipe, real, seed
        self.nets: dict[int, _Learner] = {}

    def _number(self, step: int) -> tuple[int, int]:
        slot, turn = step % self.recipe.pool, step // self.recipe.pool
        return slot, slot + self.recipe.pool * (
            (turn + slot * self.recipe.life // self.recipe.pool) // self.recipe.life
        )

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
