"""THE training loop: one, masked, seeded, resumable. Everything in lotto that trains a net calls `train`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lotto import augment, masks, replay
from lotto.checkpoint import Checkpoint
from lotto.config import ConfigError, Precision, Recipe
from lotto.data import DataError, RealData, Split, check_images
from lotto.flat import BITS, MaskedSGD
from lotto.modules import State, arithmetic, class_scores, copied, copy_state, evaluating, layout
from lotto.streams import forked, generator

Outcome = Literal["trained", "failed", "dead", "diverged"]


@dataclass(frozen=True)
class Trained:
    """What a training leaves: the final state, the mean loss of each epoch, and whether the loss stayed finite."""

    state: State
    losses: list[float]
    finite: bool


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of optimiser step `step` (from 0) of `recipe.steps`, taken at the middle of the step.

    onecycle: linear from 0 to lr over the first 20 %, linear back to 0 (the triangle of Smith & Topin 2019, arXiv
    1708.07120); cosine: from lr to 0; step: times 0.2 at 2/3 and 5/6; constant.
    """
    done = (step + 0.5) / recipe.steps
    if recipe.schedule == "onecycle":
        return recipe.lr * (done / 0.2 if done < 0.2 else (1 - done) / 0.8)
    if recipe.schedule == "cosine":
        return recipe.lr * (1 + math.cos(math.pi * done)) / 2
    if recipe.schedule == "step":
        return recipe.lr * 0.2 ** ((done >= 2 / 3) + (done >= 5 / 6))
    return recipe.lr


def batches(
    n: int, recipe: Recipe, seed: int, child: int, start: int, stop: int, device: torch.device | str = "cpu"
) -> Iterator[tuple[int, Int64[Tensor, " batch"], augment.Draws]]:
    """For each step from `start` up to `stop`: the step, the indices of its images, their augmentation.

    An epoch is a fresh permutation of the n images, in batches of equal size (the rest of an epoch is left out, other
    images each time). Order and augmentation are functions of (seed, child, epoch): a start in the middle sees what a
    run through would have seen. They go to the device once an epoch, as a copy makes the host wait for the device.
    """
    batch = min(recipe.batch, n)
    per_epoch = n // batch
    step = start
    while step < stop:
        epoch = step // per_epoch
        order = torch.randperm(n, generator=generator(seed, "order", child, epoch))
        draws = augment.draw(n, recipe.shift, recipe.flip, generator(seed, "augment", child, epoch), recipe.ops)
        order, draws = order.to(device), draws.to(device)
        for b in range(step % per_epoch, per_epoch):
            if step == stop:
                return
            index = order[b * batch : (b + 1) * batch]
            yield step, index, draws[index]
            step += 1


def train(
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"] | Float[Tensor, "n classes"],
    recipe: Recipe,
    mask: masks.Mask | None = None,
    *,
    seed: int = 0,
    child: int = 0,
    stop: int | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train a copy of `model` from its present weights; `model` itself is left as it is.

    images: normalised, on any device (the work is done there); labels: class indices, or one probability per class.
    Under `mask`, a pruned weight, its gradient and its momentum are exactly 0 before and after every step. The noise
    (data order and augmentation) is that of (seed, child): equal noise, equal net. The training runs from step
    `recipe.first` of the schedule, with fresh momentum, to its end, or to before step `stop` (a rewind point). A
    `checkpoint` makes it resumable; on the CPU the end is the same to the bit. Losses that are not finite stop the
    training (`finite` is then False) and raise nothing.

    As with torch.optim.SGD, frozen parameters (requires_grad=False) are left exactly alone, and so is, in each step, a
    parameter that no gradient reaches: neither decayed nor moved by its momentum. The running statistics of frozen
    norms follow their mode, which is that of training. What the net itself draws (dropout) is a function of (seed,
    child, step); the global random states are left as they were.

    Raises, before anything is trained: DataError for images or labels that no training can use, MaskError for another
    net's mask or one that would prune frozen weights, ConfigError for a `stop` out of range or a module that cannot be
    trained on these images.
    """
    stop = recipe.steps if stop is None else stop
    model, mask = _ready(model, images, labels, recipe, mask or {}, stop)
    sgd, device = MaskedSGD(model, mask, recipe), images.device
    start, losses, epoch_loss = recipe.first, [], torch.zeros((), dtype=torch.float64, device=device)
    per_epoch = len(images) // min(recipe.batch, len(images))
    if checkpoint and (saved := checkpoint.load()):
        tensors, at = saved
        model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
        if "momentum" in tensors:
            sgd.momentum[sgd.taken] = tensors["momentum"].to(device)
        start, losses, epoch_loss = at["step"], at["losses"], tensors["epoch_loss"].to(device)

    descend = _descent(model, sgd)
    if not recipe.cutmix and replay.possible(model, device):
        descend = replay.Replay(descend)
    with arithmetic(recipe.precision, device), forked(device) as key:
        for step, index, draws in batches(len(images), recipe, seed, child, start, stop, device):
            key(seed, "dropout", child, step)
            seen = augment.apply(images[index], draws, recipe.shift, recipe.ops)
            goal, mix = labels[index], generator(seed, "cutmix", child, step) if recipe.cutmix else None
            if mix and float(torch.rand((), generator=mix)) < recipe.cutmix:
                seen, order, share = augment.cutmix(seen, mix)
                epoch_loss += descend(seen, goal, goal[order], share)
            else:
                epoch_loss += descend(seen, goal)
            sgd.step(learning_rate(recipe, step))
            if (step + 1) % per_epoch == 0 or step + 1 == stop:
                mean = float(epoch_loss) / (step + 1 - max(recipe.first, step - step % per_epoch))
                if not math.isfinite(mean):
                    return Trained(copy_state(model), losses, finite=False)
                losses.append(mean)
                epoch_loss.zero_()
            if checkpoint and checkpoint.due() and step + 1 < stop:
                now = {f"model.{n}": t for n, t in model.state_dict().items()}
                checkpoint.save(
                    {"momentum": sgd.momentum[sgd.taken], **now, "epoch_loss": epoch_loss},
                    {"step": step + 1, "losses": losses},
                )
    state = copy_state(model)
    finite = all(bool(torch.isfinite(t).all()) for t in state.values() if t.is_floating_point())
    return Trained(state, losses, finite)


def _descent(model: nn.Module, sgd: MaskedSGD) -> Callable[..., Tensor]:
    """What sets the gradient of the mean cross-entropy of some images, and returns that; where they have boxes of
    others in them, `other` are the others' labels and `share` the boxes' share of the area."""

    def descend(seen: Tensor, goal: Tensor, other: Tensor | None = None, share: float = 0.0) -> Tensor:
        scores = model(seen)
        loss = F.cross_entropy(scores, goal)
        if other is not None:
            loss = (1 - share) * loss + share * F.cross_entropy(scores, other)
        sgd.backward(loss)
        return loss.detach()

    return descend


def _ready(
    model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, mask: masks.Mask, stop: int
) -> tuple[nn.Module, masks.Mask]:
    """A copy of the net, in training mode, and the mask, both on the images' device; or why they cannot be trained."""
    device = images.device
    if not recipe.first <= stop <= recipe.steps:
        raise ConfigError(f"stop = {stop}: the recipe has steps {recipe.first} to {recipe.steps}; give one of them")
    model = copied(model).to(device, memory_format=layout(model, device)).train()
    check(model, images, labels, recipe)
    mask = {n: m.to(device) for n, m in mask.items()}
    params = dict(model.named_parameters())
    masks.check(mask, params)
    if held := [n for n, m in mask.items() if not params[n].requires_grad and params[n][~m].any()]:
        raise masks.MaskError(
            f"{held[0]} is frozen (requires_grad=False), and this mask would prune it: unfreeze it, or leave it out"
        )
    return model, mask


def check(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> None:
    """DataError or ConfigError where `model`, in its present mode, cannot be trained on these images.

    Shapes, types and the range of labels are looked at, and the net tried on two images, which leaves its buffers as
    they were.
    """
    check_images(images, labels)
    if len(images) < 2:
        raise ConfigError("one image is no training set: batch norm needs two; give more images")
    types = {p.dtype for p in model.parameters() if p.requires_grad}
    if not types:
        raise ConfigError("the net has no trainable parameter; give some of them requires_grad=True")
    if len(types) > 1 or not types <= BITS.keys():
        raise ConfigError(
            f"parameters of types {sorted(map(str, types))}; one type is needed, of real numbers: model.float()"
        )
    aside = {n: b.clone() for n, b in model.named_buffers()}
    with torch.no_grad(), arithmetic(recipe.precision, images.device), forked(images.device) as key:
        key(0, "dropout")
        scores = class_scores(model, images[:2], lambda x: torch.func.functional_call(model, aside, (x,)))
    check_images(images, labels, scores.shape[1])


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, batch: int = 1024, precision: Precision = "tf32") -> dict[str, float]:
    """Mean cross-entropy (nats) and error (share of images, in [0, 1]) of `model` in evaluation mode; None where the
    loss is not finite. With soft labels the error is that on each image's likeliest class. DataError where there are no
    images.

    Un-augmented, every image once, weighted alike; batches are the same for the same split, and kernels deterministic,
    so equal weights give equal digits. precision: as for `arithmetic`.
    """
    if not len(split):
        raise DataError("there are no images to evaluate the net on; give at least one")
    loss = error = 0.0
    with evaluating(model), arithmetic(precision, split.images.device):
        for images, labels in zip(split.images.split(batch), split.labels.split(batch), strict=True):
            scores = class_scores(model, images)
            scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
            loss += float(F.cross_entropy(scores, labels, reduction="sum").double())
            error += int((scores.argmax(1) != (labels.argmax(1) if labels.ndim == 2 else labels)).sum())
    n = len(split)
    return {"loss": loss / n if math.isfinite(loss) else None, "error": error / n}


def evaluate_splits(model: nn.Module, real: RealData) -> dict[str, dict[str, float | None]]:
    """`evaluate` on "train", "held_out" and "test"; None for loss and error of a part without images."""
    parts = {"train": real.train, "held_out": real.held_out, "test": real.test}
    return {
        name: evaluate(model, split) if len(split) else {"loss": None, "error": None} for name, split in parts.items()
    }


def outcome(error: float, labels: Int64[Tensor, " n"], finite: bool, dead: bool) -> Outcome:
    """Dead (no live path), diverged, failed (no better than guessing, within 3 standard errors), or trained."""
    if dead:
        return "dead"
    if not finite:
        return "diverged"
    guess = float(torch.bincount(labels).max()) / len(labels)
    return "failed" if 1 - error <= guess + 3 * math.sqrt(guess * (1 - guess) / len(labels)) else "trained"
