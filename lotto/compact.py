"""A smaller dense net from a sparse one: without the channels that are constant or never read.

A net under a mask still multiplies by its zeros. Some of its channels can be removed: their value is the same for every
image, or no layer reads them. `compact` removes them and returns a plain dense net with the same outputs in evaluation
mode, up to rounding. `lotto.symmetry` says which axes of weights share a channel; its groups list their layers in the
order of the forward pass: a layer on axis 0 writes its output to the group (adds it, in a residual stream), one on axis
1 reads the rectified sum.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from torch import Tensor, nn

from lotto.config import ConfigError, nearest
from lotto.modules import State, copied, copy_state, evaluating
from lotto.symmetry import symmetries


class Layer(NamedTuple):
    """A convolution or the head, and the groups of channels that it reads and writes."""

    name: str
    reads: str | None
    """None: the images."""
    writes: str | None
    """None: the class scores."""
    norm: str | None
    """The norm after it."""


class Seen(NamedTuple):
    """The channels that a layer reads."""

    live: Bool[Tensor, " channels"]
    """Whether a channel depends on the image."""
    value: Float[Tensor, " channels"]
    """Its value at every pixel of every image if it does not; 0 if it does."""


@torch.no_grad()
def compact(model: nn.Module) -> nn.Module:
    """The smallest dense net that follows from `model`, whose pruned weights are 0, by removing whole channels. It is
    in evaluation mode, where its outputs are those of `model`, which is not changed.

    A channel without live incoming weights is constant: it has the value that norm and ReLU make of its bias. If that
    is 0, the channel is removed. If not, a linear layer takes it into its bias; a padded convolution sees the channel's
    edge, which a bias cannot express, so all such channels of a group become one of value 1, and the weights that read
    it carry their values. A channel that no live weight reads is removed too, then those that only it reads, and so on
    through the net. In a residual stream a channel stays as long as one layer needs it.

    Not for training: there batch norm takes a dead channel's mean from the batch. ConfigError for nets other than
    ConvNet, VGG or ResNet of lotto.nets, and for a group norm over several channels at once.
    """
    layers, groups = _layers(model)
    state = copy_state(model)
    with evaluating(model):
        seen = _seen(model, layers, groups, state)
    taps = {n: _taps(state, layer, seen[n]) for n, layer in layers.items()}
    live = {n: (t != 0).any(2) for n, t in taps.items()}
    needed = _needed(layers, groups, seen, live)
    kept = {
        g: torch.stack([seen[n].live & live[n][needed[n]].any(0) for n in events if layers[n].reads == g]).any(0)
        for g, events in groups.items()
    }
    # what the removed channels contribute to a layer: the taps of the channel of value 1 in their place
    folded = {}
    for n, layer in layers.items():
        gone = torch.zeros_like(seen[n].value) if layer.reads is None else seen[n].value * ~kept[layer.reads]
        rows = needed[n] if layer.writes is None else needed[n] & kept[layer.writes]
        folded[n] = torch.einsum("oik,i->ok", taps[n], gone) * rows[:, None]
    one = {
        g: not kept[g].any() or any(folded[n].any() for n in events if layers[n].reads == g and layers[n].writes)
        for g, events in groups.items()
    }
    for n, layer in layers.items():
        first = layer.writes is not None and groups[layer.writes][0] == n
        _shrink(state, layer, taps[n] * needed[n][:, None, None], folded[n], kept, one, first)
    return fitted(model, state).eval()


def _layers(model: nn.Module) -> tuple[dict[str, Layer], dict[str, list[str]]]:
    """The layers by name, and for each group the layers that write or read it, in the order of the forward pass."""
    for name, module in model.named_modules():
        if isinstance(module, nn.GroupNorm) and module.num_groups != module.num_channels:
            raise ConfigError(
                f"{name} normalises several channels together, so none can be removed without changing the others; "
                "use norm = batch, instance or none"
            )
    groups: dict[str, list[str]] = {}
    reads, writes, norms = {}, {}, {}
    for group, axes in symmetries(model).groups.items():
        events = groups.setdefault(group, [])
        for name, at in [(a.tensor.removesuffix(".weight"), a.dim) for a in axes if a.tensor.endswith(".weight")]:
            if at == 0 and not isinstance(model.get_submodule(name), nn.Conv2d):
                norms[events[-1]] = name
                continue
            (reads if at else writes)[name] = group
            events.append(name)
    names = dict.fromkeys(n for events in groups.values() for n in events)
    return {n: Layer(n, reads.get(n), writes.get(n), norms.get(n)) for n in names}, groups


def _taps(state: State, layer: Layer, seen: Seen) -> Float[Tensor, "out channels taps"]:
    """The layer's weights by output and input channel; taps: a kernel's, or the pixels of a flattened map."""
    weight = state[f"{layer.name}.weight"]
    return weight.reshape(len(weight), len(seen.live), -1)


def _seen(model: nn.Module, layers: dict[str, Layer], groups: dict[str, list[str]], state: State) -> dict[str, Seen]:
    """What each layer reads."""

    @functools.cache
    def read(name: str) -> Seen:
        layer = layers[name]
        if layer.reads is None:
            value = torch.zeros_like(state[f"{name}.weight"][0, :, 0, 0])
            return Seen(torch.ones_like(value, dtype=torch.bool), value)
        events = groups[layer.reads]
        live, value = put(events[0])
        for event in events[1 : events.index(name)]:
            if layers[event].writes == layer.reads:
                more, added = put(event)
                live, value = live | more, value + added
            else:
                value = value.relu()  # a layer reads here, so the sum is rectified before more is added
        return Seen(live, torch.where(live, 0, value.relu()))

    @functools.cache
    def put(name: str) -> Seen:
        """What the layer adds to its group, after its norm."""
        layer, module, (live, value) = layers[name], model.get_submodule(name), read(name)
        taps = _taps(state, layer, Seen(live, value))
        # padding makes a constant channel vary at the edge of its map
        varies = live | (value != 0) if any(module.padding) else live
        moved = ((taps != 0).any(2) & varies).any(1)
        says = taps.sum(2) @ value + (state[f"{name}.bias"] if f"{name}.bias" in state else 0)
        if layer.norm:
            says = model.get_submodule(layer.norm)(says[None, :, None, None].expand(1, -1, 2, 2))[0, :, 0, 0]
        return Seen(moved, torch.where(moved, 0, says))

    return {n: read(n) for n in layers}


def _needed(
    layers: dict[str, Layer], groups: dict[str, list[str]], seen: dict[str, Seen], live: dict[str, Tensor]
) -> dict[str, Bool[Tensor, " out"]]:
    """For each layer, which of its outputs are needed: a later layer reads them for outputs that are needed
    themselves."""
    needed = {n: torch.ones(len(t), dtype=torch.bool, device=t.device) for n, t in live.items()}
    while True:
        found = dict(needed)
        for n, layer in layers.items():
            if layer.writes:
                events = groups[layer.writes]
                after = [r for r in events[events.index(n) + 1 :] if layers[r].reads == layer.writes]
                read = [(seen[r].live | (seen[r].value != 0)) & live[r][found[r]].any(0) for r in after]
                found[n] = torch.stack(read).any(0)
        if all(torch.equal(found[n], needed[n]) for n in needed):
            return needed
        needed = found


def _shrink(
    state: State,
    layer: Layer,
    taps: Float[Tensor, "out channels taps"],
    folded: Float[Tensor, "out taps"],
    kept: dict[str, Tensor],
    one: dict[str, bool],
    first: bool,
) -> None:
    """Cut the layer and its norm in `state` down to the kept channels and the channel of value 1, if its group has one:
    the `first` layer of the group sets it to 1, later ones add 0 to it."""
    weight, bias = f"{layer.name}.weight", f"{layer.name}.bias"
    shape = state[weight].shape[2:]
    if layer.reads:
        taps = taps[:, kept[layer.reads]]
        if layer.writes is None:
            state[bias] = state[bias] + folded.sum(1)
            folded = torch.zeros_like(folded)
        if one[layer.reads]:
            taps = torch.cat([taps, folded[:, None]], 1)
    rows, more = (kept[layer.writes], one[layer.writes]) if layer.writes else (slice(None), False)

    def grown(t: Tensor, last: float) -> Tensor:
        return torch.cat([t[rows], torch.full_like(t[:1], last)]) if more else t[rows]

    taps = grown(taps, 0.0)
    state[weight] = taps.reshape(*taps.shape[:2], *shape) if shape else taps.flatten(1)
    if bias in state:
        state[bias] = grown(state[bias], float(first and not layer.norm))
    last = {"weight": 0.0, "bias": float(first), "running_mean": 0.0, "running_var": 1.0}
    for part, value in last.items():
        if layer.norm and (name := f"{layer.norm}.{part}") in state:
            state[name] = grown(state[name], value)


def fitted(model: nn.Module, state: State) -> nn.Module:
    """A copy of `model` with the tensors and the widths of `state`: makes a compacted net from the net that was
    compacted. ConfigError if the names or the kernels are those of another net."""
    model = copied(model)
    own = model.state_dict()
    if other := sorted(own.keys() ^ state.keys()):
        raise ConfigError(f"{other[0]!r} is in only one of the net and the state; {nearest(other[0], sorted(own))}")
    for name, t in state.items():
        if t.shape[2:] != own[name].shape[2:] or t.ndim != own[name].ndim:
            raise ConfigError(
                f"{name} has shape {tuple(t.shape)} here and {tuple(own[name].shape)} in the net; give the net that "
                "was compacted"
            )
        module, _, part = name.rpartition(".")
        layer = model.get_submodule(module)
        held = t.clone().to(own[name].device)
        setattr(layer, part, nn.Parameter(held, own[name].requires_grad) if part in layer._parameters else held)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.out_channels, module.in_channels = module.weight.shape[:2]
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = module.weight.shape
        elif isinstance(module, nn.BatchNorm2d):
            module.num_features = len(module.weight)
        elif isinstance(module, nn.GroupNorm):
            module.num_groups = module.num_channels = len(module.weight)
    return model


def load(model: nn.Module, file: Path | str) -> nn.Module:
    """The compacted net whose state was saved in a file (safetensors), in evaluation mode; `model`: the net that was
    compacted, with any weights."""
    return fitted(model, load_file(file)).eval()


class Worth(NamedTuple):
    """What compaction saves, as (before, after)."""

    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]
    """Of one image's forward pass, in convolutions and linear layers, including those with a 0."""
    channels: dict[str, tuple[int, int]]
    """Layer -> its output channels."""


def worth(model: nn.Module, small: nn.Module, shape: tuple[int, int, int]) -> Worth:
    """What `small`, compacted from `model`, saves on images of `shape` (channels, height, width)."""
    from torch.utils.flop_counter import FlopCounterMode  # seconds to import

    def adds(net: nn.Module) -> int:
        net = copied(net).to("meta")  # where a convolution is counted as one, however a device computes it
        with torch.no_grad(), evaluating(net), FlopCounterMode(display=False) as counter:
            net(torch.empty(1, *shape, dtype=next(net.parameters()).dtype, device="meta"))
        return counter.get_total_flops() // 2

    def channels(net: nn.Module) -> dict[str, int]:
        return {n: len(m.weight) for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}

    sizes = [sum(p.numel() for p in net.parameters()) for net in (model, small)]
    before, after = channels(model), channels(small)
    return Worth((sizes[0], sizes[1]), (adds(model), adds(small)), {n: (c, after[n]) for n, c in before.items()})
