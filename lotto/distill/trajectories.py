"""Trajectory matching: images on which a net, in a few steps, goes where another went in epochs on the real ones
(Cazenavette et al. 2022, arXiv 2203.11932), at the memory of one step (as Cui et al. 2023, arXiv 2211.10586, set out
to; here exactly)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lotto import augment, nets
from lotto.checkpoint import Checkpoint
from lotto.config import ConfigError, Net
from lotto.data import RealData
from lotto.distill.loop import Told, run
from lotto.distill.recipes import Trajectory
from lotto.distill.synset import SynSet, decode, spread
from lotto.streams import generator


def match_trajectories(
    real: RealData,
    ways: Sequence[Float[Tensor, "epochs params"]],
    recipe: Trajectory,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    told: Told | None = None,
) -> tuple[SynSet, list[float]]:
    """`recipe.ipc` stored images a class on which students follow the experts, and the loss of each step; resumable,
    errors as `loop.run` has them.

    ways: of each expert, its weights (as `flat` gives them) before each epoch and after the last:
    `expert(...).tensors["weights"]`. The learning rate that goes with the images is in the set's recipe as
    `learned_lr`.
    """
    method = Trajectories(real, ways, recipe, seed)
    made, losses = run(method, real, recipe, seed, checkpoint, told)
    made.recipe["learned_lr"] = method.student_lr
    return made, losses


class Trajectories:
    """Each step draws an expert and an epoch, lets a student start there and take `student_steps` of SGD on the
    distilled images, and moves these, and the logarithm of the student's rate, down the gradient of how far from the
    expert's weights, `span` epochs later, it ends: the squared distance over that which the expert went. Students see
    each image in an augmentation of its own."""

    name, momentum = "traj", 0.5

    def __init__(self, real: RealData, ways: Sequence[Float[Tensor, "epochs params"]], recipe: Trajectory, seed: int):
        self.real, self.recipe, self.seed = real, recipe, seed
        device = real.train.images.device
        self.ways = [w.to(device) for w in ways]
        described = Net(name="convnet", width=recipe.width, depth=recipe.depth, norm="instance")
        self.net = nets.build(described, real.shape, len(real.classes), 0).to(device).train()
        size = sum(p.numel() for p in self.net.parameters())
        for n, way in enumerate(self.ways):
            if way.shape != (recipe.epochs + 1, size):
                raise ConfigError(
                    f"expert {n} has weights of shape {tuple(way.shape)}; ({recipe.epochs + 1}, {size}) is needed: "
                    f"{recipe.epochs} epochs of a ConvNet of width {recipe.width} and depth {recipe.depth}"
                )
        self.labels = spread(recipe.ipc, len(real.classes)).repeat(recipe.factor**2).to(device)
        self.rate = recipe.lr
        self.log_lr, self._slope = math.log(recipe.student_lr), 0.0

    @property
    def student_lr(self) -> float:
        """The students' learning rate, as it is learned by now: above 0 whatever happens."""
        return math.exp(self.log_lr)

    def match(self, step: int, pixels: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, ""], Float[Tensor, "n c h w"]]:
        """Loss and its gradient in the pixels."""
        recipe, device = self.recipe, pixels.device
        draw = generator(self.seed, "distill", 1, step)
        way = self.ways[int(torch.randint(len(self.ways), (), generator=draw))]
        latest = recipe.epochs - recipe.span if recipe.latest is None else recipe.latest
        begin = int(torch.randint(latest + 1, (), generator=draw))
        picked = _taking_turns(len(self.labels), min(recipe.batch, len(self.labels)), recipe.student_steps, draw)
        draws = [augment.draw(len(i), recipe.shift, recipe.flip, draw, recipe.ops).to(device) for i in picked]
        picked = [i.to(device) for i in picked]

        def loss(weights: Tensor, x: Tensor, turn: int) -> Tensor:
            seen = self.real.normalise(decode(x, recipe.factor)[picked[turn]])
            scores = torch.func.functional_call(
                self.net, shaped(weights, self.net), (augment.apply(seen, draws[turn], recipe.shift, recipe.ops),)
            )
            return F.cross_entropy(scores, self.labels[picked[turn]])

        value, gradient, slope = followed(
            loss, way[begin], way[begin + recipe.span], pixels, self.student_lr, recipe.student_steps
        )
        self._slope = slope * self.student_lr
        return value, gradient

    def learn(self, step: int) -> None:
        """The students' rate moves by its gradient, at most by a tenth a step."""
        move = self.recipe.student_lr_lr * self._slope
        self.log_lr -= max(-0.1, min(0.1, move)) if math.isfinite(move) else 0.0

    def state(self) -> dict[str, Tensor]:
        """The rate's logarithm."""
        return {"log_lr": torch.tensor(self.log_lr, dtype=torch.float64)}

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take up what `state` gave."""
        self.log_lr = float(tensors["log_lr"])


def followed(
    loss: Callable[[Tensor, Tensor, int], Tensor],
    begin: Float[Tensor, " params"],
    goal: Float[Tensor, " params"],
    pixels: Float[Tensor, "n c h w"],
    lr: float,
    steps: int,
) -> tuple[Float[Tensor, ""], Float[Tensor, "n c h w"], float]:
    """How far from `goal` a student ends that takes `steps` of SGD from `begin`, and the derivatives of that in
    `pixels` and `lr`.

    The value is |end - goal|^2 / |begin - goal|^2, where theta[i + 1] = theta[i] - lr g[i], g[i] the gradient of
    loss(theta[i], pixels, i) in theta. With a = d value / d theta[i + 1], step i adds -lr d(g[i] . a)/d pixels to the
    one derivative, -(g[i] . a) to the other, and a becomes a - lr d(g[i] . a)/d theta. So one step's graph is held at a
    time, beside `steps` copies of the weights; the derivatives are those of the unrolled steps, the way through later
    weights included. ConfigError where begin and goal are the same.
    """
    whole = ((begin - goal) ** 2).sum()
    if not float(whole) > 0:
        raise ConfigError("an expert stood still: it gives no way to follow; give more epochs, or a higher expert_lr")
    at, way = begin.detach(), []
    for i in range(steps):
        way.append(at)
        here = at.clone().requires_grad_()
        at = at - lr * torch.autograd.grad(loss(here, pixels.detach(), i), here)[0]
    value, adjoint = ((at - goal) ** 2).sum() / whole, 2 * (at - goal) / whole
    slope, gradient = torch.zeros_like(value), torch.zeros_like(pixels)
    for i in reversed(range(steps)):
        here = way.pop().clone().requires_grad_()
        (g,) = torch.autograd.grad(loss(here, pixels, i), here, create_graph=True)
        along = (g * adjoint).sum()
        through, into = torch.autograd.grad(along, (here, pixels))
        slope -= along.detach()
        gradient -= lr * into
        adjoint = adjoint - lr * through
    return value, gradient, float(slope)


def flat(net: nn.Module) -> Float[Tensor, " params"]:
    """All parameters in one row, in the module's order."""
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


def shaped(weights: Float[Tensor, " params"], net: nn.Module) -> dict[str, Tensor]:
    """The way back: name -> parameter of the net's shapes. On CUDA each has memory of its own, as kernels want a begin
    that a place within the row need not be."""
    named, apart = dict(net.named_parameters()), weights.is_cuda
    return {
        n: (part.clone() if apart else part).view(p.shape)
        for (n, p), part in zip(named.items(), weights.split([p.numel() for p in named.values()]), strict=True)
    }


def _taking_turns(n: int, batch: int, steps: int, draw: torch.Generator) -> list[Tensor]:
    """Indices of `steps` batches: all n in random order, then all again."""
    found: list[Tensor] = []
    while len(found) < steps:
        order = torch.randperm(n, generator=draw)
        found += [order[k : k + batch] for k in range(0, n - batch + 1, batch)]
    return found[:steps]
