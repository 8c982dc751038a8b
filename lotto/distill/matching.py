"""Distribution matching: images whose mean features, in many random nets, are those of their class (arXiv 2110.04181)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lotto import augment
from lotto.config import ConfigError, Distill, Net
from lotto.data import RealData, check_images, per_class
from lotto.distill.synset import SynSet, spread
from lotto.nets import build
from lotto.store import Checkpoint
from lotto.streams import generator


def match_distributions(real: RealData, recipe: Distill, seed: int = 0, checkpoint: Checkpoint | None = None) -> tuple[SynSet, list[float]]:
    """`recipe.ipc` images a class whose features match the class's, and the loss of each step.

    Zhao & Bilen 2023, equation 4: the squared distance between the mean features of a class's real and distilled images,
    summed over classes, in a fresh random ConvNet (instance norm, so no statistics are shared between classes) each step,
    both seen through the same augmentation. Starts from real images; pixels stay in [0, 1]. Only `real.train` is looked at.
    Resumable, on the CPU to the bit. DataError where a class has fewer than ipc images.
    """
    images, labels, classes = real.train.images, real.train.labels, len(real.classes)
    check_images(images, labels, classes)
    device, shape = images.device, tuple(images.shape[1:])
    start = per_class(labels.cpu(), recipe.ipc, generator(seed, "distill"))
    pixels = real.pixels(images[start.to(device)]).clamp(0, 1).requires_grad_()
    syn_labels = spread(recipe.ipc, classes).to(device)
    optimiser = torch.optim.SGD([pixels], lr=recipe.lr * recipe.ipc, momentum=0.5)  # the class mean spreads a gradient over ipc images
    members = [(labels == c).nonzero().squeeze(1) for c in range(classes)]
    first, losses = 0, []
    if checkpoint and (saved := checkpoint.load()):
        tensors, at = saved
        with torch.no_grad():
            pixels.copy_(tensors["pixels"])
        if "momentum" in tensors:
            optimiser.state[pixels]["momentum_buffer"] = tensors["momentum"].to(device)
        first, losses = at["step"], at["losses"]
    # the net's initialisation is drawn on the CPU, then moved: the same features on every device
    for step in range(first, recipe.steps):
        draw = generator(seed, "distill", 1, step)
        net = _features(recipe, shape, classes, seed, step).to(device)
        picked = torch.cat([m[torch.randperm(len(m), generator=draw)[: recipe.batch].to(device)] for m in members])
        one = augment.draw(1, recipe.shift, recipe.flip, draw).to(device)

        def features(x: Tensor, net=net, one=one) -> Tensor:
            return net(augment.apply(x, augment.same(one, len(x)), recipe.shift))

        with torch.no_grad():  # only the distilled images are moved, so only they need a graph
            goal = class_means(features(images[picked]), labels[picked], classes)
        loss = distance(goal, features(real.normalise(pixels)), syn_labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
        losses.append(float(loss.detach()))
        if not torch.isfinite(loss):
            raise ConfigError(f"the distillation diverged at step {step} (lr = {recipe.lr}); give a smaller distill_lr")
        if checkpoint and checkpoint.due() and step + 1 < recipe.steps:
            momentum = optimiser.state[pixels].get("momentum_buffer")
            checkpoint.save(
                {"pixels": pixels, **({"momentum": momentum} if momentum is not None else {})}, {"step": step + 1, "losses": losses}
            )
    done = SynSet(
        pixels.detach().cpu(),
        syn_labels.cpu(),
        real.classes,
        real.mean.cpu(),
        real.std.cpu(),
        {"method": "dist", "seed": seed, **recipe.model_dump(mode="json")},
    )
    return done, losses


def _features(recipe: Distill, shape: tuple[int, ...], classes: int, seed: int, step: int) -> torch.nn.Module:
    net = Net(name="convnet", width=recipe.width, depth=recipe.depth, norm="instance")
    return build(net, shape, classes, generator(seed, "distill-net", step).initial_seed()).requires_grad_(False).features


def distance(goal: Float[Tensor, "classes d"], features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"]) -> Tensor:
    """Sum over classes of the squared distance between `goal` and the class's mean features."""
    return ((goal - class_means(features, labels, len(goal))) ** 2).sum()


def class_means(features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], classes: int) -> Float[Tensor, "classes d"]:
    """Mean features of each class."""
    onehot = torch.nn.functional.one_hot(labels, classes).to(features.dtype)
    return onehot.T @ features / onehot.sum(0)[:, None]
