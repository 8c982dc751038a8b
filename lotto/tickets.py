"""Iterative magnitude pruning of a module of yours: train, score, prune, rewind, round after round.

What the inner loop trains on is the question of this study: all real images, or a handful of distilled ones.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lotto import masks, modules, reach, scores
from lotto.config import ConfigError, Recipe, Rewinding
from lotto.modules import State
from lotto.train import check as check_training
from lotto.train import train


class Level(NamedTuple):
    """One round's result: the mask and the weights to train under it (the start's, with those pruned at 0)."""

    mask: masks.Mask
    state: State


def rewind(start: State, end: State, mask: masks.Mask, what: Rewinding = "all") -> State:
    """The state from which a ticket is trained: weights of `start` where `mask` keeps them, 0 elsewhere.

    start, end: the net before and after the inner loop. "all": every parameter and buffer of `start`, bit for bit.
    "weights": prunable weights only; biases, norm parameters and running statistics stay those of `end` (so does the
    code published with the paper's predecessors). "signs": as "all", but each prunable weight has the sign that it has
    in `end`, at the magnitude that it has in `start`. "weights and signs": both (after "Find a Winning Sign", arXiv
    2504.05357).
    """
    base = {n: end[n] if "weights" in what and n not in mask else t for n, t in start.items()}
    if "signs" in what:
        base |= {n: torch.copysign(start[n], end[n]) for n in mask}
    return {n: t.clone() for n, t in masks.apply(base, mask).items()}


def find(
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"] | Float[Tensor, "n classes"],
    recipe: Recipe,
    rounds: int,
    fraction: float = 0.2,
    *,
    seed: int = 0,
    rewinding: Rewinding = "all",
    prunable: masks.Chosen | None = None,
) -> Iterator[Level]:
    """Levels 1 to `rounds` of iterative magnitude pruning of `model` with these images in the inner loop.

    Each round trains the ticket so far, drops the `fraction` of its live weights with the smallest magnitude over all
    layers, and rewinds the rest to `model`'s weights (Frankle & Carbin 2019, arXiv 1803.03635; with a few distilled
    images: McDermott & Parhi 2025, arXiv 2503.17905). Give a `model` trained for k steps to rewind to step k;
    `rewinding` says what a rewind restores (`rewind`). `model` is not changed.

    Pruned are the weights of convolutions and linear layers, or the parameters for which `prunable(name, parameter)` is
    true; frozen and parametrised ones never are (`masks.prunable`). The mask has the first name of a tied parameter,
    the state is masked under all.

    What cannot be searched is refused at the call: DataError for the images or labels, ConfigError for the module, for
    less than one round or a `fraction` outside (0, 1), MaskError where nothing is prunable. A UserWarning says how many
    weights the mask covers where that is below 90 %, and names layers with weights that no image can reach: both make a
    net look sparser than it is. A ValueError says when an inner loop diverged.
    """
    if rounds < 1:
        raise ConfigError(f"rounds = {rounds}: give at least 1")
    if not 0 < fraction < 1:
        raise ConfigError(f"fraction = {fraction}: give a share in (0, 1)")
    model = modules.copied(model).to(images.device).train()
    check_training(model, images, labels, recipe)
    mask = masks.ones(model, prunable)
    if (covered := masks.size(mask)) < 0.9 * (whole := covered + sum((out := masks.uncovered(mask, model)).values())):
        warnings.warn(
            f"the mask covers {covered} of {whole} weights ({100 * covered / whole:.1f} %), as it leaves out "
            f"{_named(out)}; name what is to be pruned by prunable=lambda name, parameter: ..., or read each sparsity "
            "as that of the covered weights",
            stacklevel=2,
        )
    if lost := reach.unreachable(model, tuple(images.shape[1:]), chosen=prunable):
        warnings.warn(f"{unreachable_told(lost, covered)}; they count as pruned or kept all the same", stacklevel=2)

    def levels(mask: masks.Mask) -> Iterator[Level]:
        state = start = modules.copy_state(model)
        for _ in range(rounds):
            end = train(_with(model, state), images, labels, recipe, mask, seed=seed, child=0)
            if not end.finite:
                raise ValueError(f"the inner loop diverged (lr = {recipe.lr}); give a smaller learning rate")
            mask = masks.prune(mask, scores.magnitude(end.state, mask), fraction)
            state = rewind(start, end.state, masks.spread(mask, model), rewinding)
            yield Level(mask, state)

    return levels(mask)


def _with(model: nn.Module, state: State) -> nn.Module:
    model = copy.deepcopy(model)
    model.load_state_dict(state)
    return model


def unreachable_told(lost: dict[str, int], prunable: int) -> str:
    """What `reach.unreachable` found, as the first part of a sentence."""
    count = sum(lost.values())
    return (
        f"{count} of {prunable} prunable weights ({100 * count / prunable:.1f} %) can never get a gradient, "
        f"in {_named(lost)}"
    )


def _named(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} ({c})" for n, c in list(counts.items())[:3]) + (
        f" and {len(counts) - 3} more" if len(counts) > 3 else ""
    )
