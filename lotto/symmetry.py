"""Nets up to the order of their channels: the permutations that leave a net the same function, and those that bring two
nets together.

Weight matching (Ainsworth et al. 2022, arXiv 2209.04836, algorithm 1): whether two trained nets lie in different
basins, or in the same one up to symmetry, is told by the error barrier between one and the other with its channels
permuted to match.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from lotto.config import ConfigError, nearest
from lotto.modules import State
from lotto.nets import VGG, ConvNet, ResNet
from lotto.streams import generator

Permutations = dict[str, Int64[Tensor, " channels"]]
"""Group -> for each of its channels, the one that takes its place."""


class Axis(NamedTuple):
    """One axis of one tensor of a state."""

    tensor: str
    dim: int
    pixels: int = 1
    """Neighbouring entries that belong to one channel: more than 1 where feature maps were flattened."""


class Symmetries(NamedTuple):
    """Which axes go together."""

    groups: dict[str, list[Axis]]
    """Group of channels -> the axes that its permutation acts on."""
    sizes: dict[str, int]
    """Group -> its channels."""
    learned: frozenset[str]
    """Parameters; the other tensors are statistics, which follow but do not decide."""


def known(model: nn.Module) -> bool:
    """Whether `symmetries` knows the net's."""
    try:
        symmetries(model)
    except ConfigError:
        return False
    return True


def symmetries(model: nn.Module) -> Symmetries:
    """The permutations of channels under which a ConvNet, VGG or ResNet of lotto.nets stays the same function.

    A residual stream has one permutation for as long as shortcuts are identities. ConfigError for other nets, and for
    group norm of more than one channel a group, which does not let its channels change places.
    """
    if not isinstance(model, ConvNet | VGG | ResNet):
        raise ConfigError(
            f"symmetries of a {type(model).__name__} are not known; use a ConvNet, VGG or ResNet of lotto.nets"
        )
    if any(isinstance(m, nn.GroupNorm) and m.num_groups not in (1, m.num_channels) for m in model.modules()):
        raise ConfigError(
            "norm = 'group': channels of one group may not change places with others; use batch, instance or none"
        )
    groups: dict[str, list[Axis]] = {}
    state = model.state_dict()

    def out(group: str, *modules: str) -> None:  # channels that these layers put out, or act on one by one
        parts = ("weight", "bias", "running_mean", "running_var")
        groups.setdefault(group, []).extend(Axis(f"{m}.{p}", 0) for m in modules for p in parts if f"{m}.{p}" in state)

    def into(group: str, module: str) -> None:
        channels = state[groups[group][0].tensor].shape[0]
        groups[group].append(Axis(f"{module}.weight", 1, state[f"{module}.weight"].shape[1] // channels))

    if isinstance(model, ResNet):
        stream = "stem"
        out(stream, "stem.0", "stem.1")
        for s, stage in enumerate(model.stages):
            for b, block in enumerate(stage):
                name = f"stages.{s}.{b}"
                out(name, f"{name}.conv1", f"{name}.norm1")
                into(stream, f"{name}.conv1")
                into(name, f"{name}.conv2")
                if isinstance(block.shortcut, nn.Sequential):
                    into(stream, f"{name}.shortcut.0")
                    stream = f"{name}.shortcut"
                    out(stream, f"{name}.shortcut.0", f"{name}.shortcut.1")
                out(stream, f"{name}.conv2", f"{name}.norm2")
        last = stream
    else:
        last = None
        for i, module in enumerate(model.features):
            name = f"features.{i}"
            if isinstance(module, nn.Conv2d):
                if last:
                    into(last, name)
                last = name
            if last:
                out(last, name)
    into(last, "head")
    sizes = {g: state[axes[0].tensor].shape[0] for g, axes in groups.items()}
    return Symmetries(groups, sizes, frozenset(n for n, _ in model.named_parameters()))


def permute(state: State, permutations: Permutations, of: Symmetries) -> State:
    """The state with its channels in the order that `permutations` gives. Masks permute in the same way: names they
    lack are left out.

    ConfigError for a group that is not there, and for an order that does not hold each of its channels once.
    """
    state = dict(state)
    for group, order in permutations.items():
        if group not in of.groups:
            raise ConfigError(f"group {group!r} is not there; {nearest(group, list(of.groups))}")
        if not torch.equal(order.sort().values, torch.arange(of.sizes[group])):
            raise ConfigError(
                f"group {group!r}: an order of its {of.sizes[group]} channels holds each once; give a permutation"
            )
        for axis in of.groups[group]:
            if axis.tensor in state:
                t = state[axis.tensor]
                at = (order[:, None] * axis.pixels + torch.arange(axis.pixels)).flatten() if axis.pixels > 1 else order
                state[axis.tensor] = t.index_select(axis.dim, at.to(t.device))
    return state


def match(a: State, b: State, of: Symmetries, seed: int = 0, sweeps: int = 100) -> Permutations:
    """The permutations of b's channels under which its parameters have the largest inner product with a's: group by
    group, in random order, each a linear assignment given the others, until none changes. A local optimum; it depends
    on `seed`."""
    from scipy.optimize import linear_sum_assignment

    found = {g: torch.arange(n) for g, n in of.sizes.items()}
    groups = list(of.groups)
    draw = generator(seed, "shuffle")
    a = {n: a[n].cpu().double() for n in of.learned}
    b = {n: b[n].cpu().double() for n in of.learned}
    for _ in range(sweeps):
        changed = False
        for i in torch.randperm(len(groups), generator=draw).tolist():
            group, size = groups[i], of.sizes[groups[i]]
            others = permute(b, {g: p for g, p in found.items() if g != group}, of)
            gain = torch.zeros(size, size, dtype=torch.float64)
            for axis in of.groups[group]:
                if axis.tensor in of.learned:
                    rows = (t[axis.tensor].movedim(axis.dim, 0).reshape(size, -1) for t in (a, others))
                    gain += torch.mm(next(rows), next(rows).T)
            order = torch.from_numpy(linear_sum_assignment(gain.numpy(), maximize=True)[1])
            now, new = (float(gain[torch.arange(size), p].sum()) for p in (found[group], order))
            if new > now + 1e-9 * abs(now):
                found[group], changed = order, True
        if not changed:
            break
    return found


def matched(a: State, b: State, of: Symmetries, seed: int = 0) -> State:
    """b with its channels permuted to match a's (`match`)."""
    return permute(b, match(a, b, of, seed), of)
