"""Gradient matching: images that teach a net in training what the real ones teach it (Zhao et al. 2021, arXiv 2006.05929; as in Kim et al.
2022, arXiv 2205.14959, with several small images in one stored image and nets that are trained on real data meanwhile)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lotto import augment
from lotto.config import ConfigError, Gradient, Net
from lotto.data import RealData, check_images, per_class
from lotto.distill.synset import SynSet, decode, encode, spread
from lotto.nets import build, has_batch_norm
from lotto.store import Checkpoint
from lotto.streams import generator

NET_BATCH = 64
"""Real images of a step that trains the net."""


def match_gradients(real: RealData, recipe: Gradient, seed: int = 0, checkpoint: Checkpoint | None = None) -> tuple[SynSet, list[float]]:
    """`recipe.ipc` stored images a class whose gradients are those of the class's real images, and the loss of each step.

    Every step sums over classes, and moves all pixels by plain SGD at twice the rate: what one step a class with momentum 0.5 comes to,
    whose momentum is spent when its class comes round again. Then the net takes `net_steps` steps on real images; after `life` steps it is
    replaced by a fresh one. Both sides of a class see one augmentation. Starts from real images; pixels stay in [0, 1]. Only `real.train`
    is looked at. Resumable, on the CPU to the bit. DataError where a class has too few images, ConfigError where it diverges.
    """
    images, labels, classes = real.train.images, real.train.labels, len(real.classes)
    check_images(images, labels, classes)
    device = images.device
    start = per_class(labels.cpu(), recipe.ipc * recipe.factor**2, generator(seed, "distill"))
    first_pixels = real.pixels(images[start.to(device)]).clamp(0, 1)
    parts = first_pixels.view(classes, recipe.factor**2, recipe.ipc, *real.shape).transpose(0, 1).reshape(-1, *real.shape)
    pixels = encode(parts, recipe.factor).requires_grad_()
    members = [(labels == c).nonzero().squeeze(1) for c in range(classes)]
    net, speed, first, losses = _Learner(recipe, real, seed, 0), None, 0, []
    if checkpoint and (saved := checkpoint.load()):
        tensors, at = saved
        first, losses = at["step"], at["losses"]
        net = _Learner(recipe, real, seed, (first - 1) // recipe.life)
        net.restore(tensors)
        with torch.no_grad():
            pixels.copy_(tensors["pixels"])
    for step in range(first, recipe.steps):
        if step and step % recipe.life == 0:
            net = _Learner(recipe, real, seed, step // recipe.life)
        draw = generator(seed, "distill", 1, step)
        one = augment.draw(1, recipe.shift, recipe.flip, draw).to(device)
        total = torch.zeros((), device=device)
        for c, own in enumerate(members):
            picked = own[torch.randperm(len(own), generator=draw)[: recipe.batch].to(device)]
            small = decode(pixels[c * recipe.ipc : (c + 1) * recipe.ipc], recipe.factor)
            seen = [augment.apply(x, augment.same(one, len(x)), recipe.shift) for x in (images[picked], real.normalise(small))]
            total = total + distance(net.model, *seen, c)
        (speed,) = torch.autograd.grad(total, [pixels])
        with torch.no_grad():
            pixels.sub_(2 * recipe.lr * recipe.ipc / 10 * speed).clamp_(0, 1)
        losses.append(float(total.detach()))
        if not torch.isfinite(total):
            raise ConfigError(f"the distillation diverged at step {step} (lr = {recipe.lr}); give a smaller grad_lr")
        net.learn(images, labels, step)
        if checkpoint and checkpoint.due() and step + 1 < recipe.steps:
            checkpoint.save({"pixels": pixels, **net.state()}, {"step": step + 1, "losses": losses})
    about = {"method": "grad", "seed": seed, **recipe.model_dump(mode="json")}
    labels_of = spread(recipe.ipc, classes)
    return SynSet(pixels.detach().cpu(), labels_of, real.classes, real.mean.cpu(), real.std.cpu(), about, recipe.factor), losses


def distance(model: nn.Module, real: Float[Tensor, "n c h w"], small: Float[Tensor, "m c h w"], label: int) -> Tensor:
    """Squared distance of the loss's gradients in the convolutions' weights, between a class's real and its distilled images.

    The real side is a constant; the other keeps its graph, so that the distance has a gradient in the pixels. ConfigError for a net with
    batch norm, whose statistics of one class tell classes apart by their scale.
    """
    if has_batch_norm(model):
        raise ConfigError("gradient matching needs a net without batch norm: statistics of one class alone are those of no training batch")
    kernels = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]

    def gradient(x: Tensor, graph: bool) -> tuple[Tensor, ...]:
        loss = F.cross_entropy(model(x), torch.full((len(x),), label, device=x.device))
        return torch.autograd.grad(loss, kernels, create_graph=graph)

    goal = gradient(real.detach(), False)
    return sum(((a - b) ** 2).sum() for a, b in zip(goal, gradient(small, True), strict=True))


class _Learner:
    """The net that is matched, and what trains it."""

    def __init__(self, recipe: Gradient, real: RealData, seed: int, number: int):
        described = Net(name="convnet", width=recipe.width, depth=recipe.depth, norm="instance")
        begin = generator(seed, "distill-net", number).initial_seed()
        self.recipe, self.seed = recipe, seed
        self.model = build(described, real.shape, len(real.classes), begin).to(real.train.images.device).train()
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=recipe.net_lr, momentum=0.9, weight_decay=5e-4)

    def learn(self, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], step: int) -> None:
        """The net's steps on real images after matching step `step`."""
        for turn in range(self.recipe.net_steps):
            draw = generator(self.seed, "distill", 2, step, turn)
            picked = torch.randperm(len(images), generator=draw)[:NET_BATCH].to(images.device)
            draws = augment.draw(len(picked), self.recipe.shift, self.recipe.flip, draw).to(images.device)
            loss = F.cross_entropy(self.model(augment.apply(images[picked], draws, self.recipe.shift)), labels[picked])
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()

    def state(self) -> dict[str, Tensor]:
        """Weights and momenta, by name."""
        momenta = {n: self.optimiser.state[p].get("momentum_buffer") for n, p in self.model.named_parameters()}
        return {
            **{f"net.{n}": t for n, t in self.model.state_dict().items()},
            **{f"speed.{n}": t for n, t in momenta.items() if t is not None},
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self.model.load_state_dict({n.removeprefix("net."): t for n, t in tensors.items() if n.startswith("net.")})
        for n, p in self.model.named_parameters():
            if f"speed.{n}" in tensors:
                self.optimiser.state[p]["momentum_buffer"] = tensors[f"speed.{n}"].to(p.device)
