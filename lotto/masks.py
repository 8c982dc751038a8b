"""Binary masks over weights: make, shrink, apply, compare, save. Nothing here trains.

A mask maps parameter name -> bool tensor, True = kept. density = kept / all; sparsity = 1 - density, for axes and
prose. Convolution and linear weights are prunable (first convolution and last linear included), biases and norms are
not; or name others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

Mask = dict[str, Tensor]

Params = dict[str, Tensor]

Chosen = Callable[[str, nn.Parameter], bool]
"""Whether the parameter of this name is to be pruned."""


class MaskError(ValueError):
    """A mask that does not belong to these weights."""


def prunable(model: nn.Module, chosen: Chosen | None = None) -> list[str]:
    """Names of the prunable parameters, in the model's order: the `chosen` ones, else the weights of all convolutions
    and linear layers.

    A tied parameter has its first name. Two kinds never are prunable, and `chosen` is not asked about them: frozen ones
    (requires_grad=False), as their owner wants them as they are, so that no sparsity may count them; and those of a
    parametrisation, such as `original0` and `original1` of weight_norm, as a zero in them need not be a zero of the
    weight.
    """
    layers = {
        m._parameters.get("weight") for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear)
    }
    return [
        n
        for n, p in model.named_parameters()
        if p.requires_grad and "parametrizations" not in n.split(".") and (chosen(n, p) if chosen else p in layers)
    ]


def ones(model: nn.Module, chosen: Chosen | None = None) -> Mask:
    """The dense mask over what is `prunable`; MaskError where nothing is."""
    params = dict(model.named_parameters())
    if not (names := prunable(model, chosen)):
        raise MaskError(
            "no parameter of this net is prunable: neither frozen parameters are nor those of a parametrisation such "
            "as weight_norm (torch.nn.utils.parametrize.remove_parametrizations makes plain weights of them), and by "
            "default only weights of convolutions and linear layers; name others by a predicate (name, parameter) -> "
            "bool"
        )
    return {n: torch.ones_like(params[n], dtype=torch.bool) for n in names}


def spread(mask: Mask, model: nn.Module) -> Mask:
    """The mask, or other tensors by parameter, under every name that its weights have in a state of `model`, where a
    tied parameter has several: for `apply`, and for what is added to a state."""
    first = {p: n for n, p in model.named_parameters()}
    return {n: mask[first[p]] for n, p in model.named_parameters(remove_duplicate=False) if first[p] in mask}


def uncovered(mask: Mask, model: nn.Module) -> dict[str, int]:
    """Parameter -> its size, for the trainable weights outside of `mask`: parameters of two dimensions or more, unlike
    biases and norms."""
    return {n: p.numel() for n, p in model.named_parameters() if p.requires_grad and p.ndim > 1 and n not in mask}


def count(mask: Mask) -> int:
    """Live weights."""
    return sum(int(m.sum()) for m in mask.values())


def size(mask: Mask) -> int:
    """Prunable weights, live or not."""
    return sum(m.numel() for m in mask.values())


def density(mask: Mask) -> float:
    """Live share of the prunable weights, in [0, 1]."""
    return count(mask) / size(mask)


def check(mask: Mask, params: Params) -> None:
    """MaskError where the mask is not bool or does not match these parameters in names and shapes (all differences
    named)."""
    wrong = [f"{n}: not a parameter of this net" for n in mask if n not in params]
    wrong += [
        f"{n}: mask {tuple(m.shape)}, weight {tuple(params[n].shape)}"
        for n, m in mask.items()
        if n in params and m.shape != params[n].shape
    ]
    wrong += [f"{n}: {m.dtype}, bool is needed" for n, m in mask.items() if m.dtype != torch.bool]
    if wrong:
        raise MaskError(
            f"this mask is for another net ({'; '.join(wrong[:5])}{'; ...' if len(wrong) > 5 else ''}); make it "
            "from this one's weights"
        )


def prune(mask: Mask, scores: Params, fraction: float) -> Mask:
    """Drop the `fraction` of the live weights with the lowest scores, ranked over all layers together.

    Exactly round(fraction * live) go; ties fall by parameter order, then flat index (lower index goes first), on every
    device. The result is a subset of `mask`; scores of pruned weights are not looked at. Global magnitude pruning:
    Frankle & Carbin 2019 (arXiv 1803.03635). ValueError if fraction is not in (0, 1) or a live weight's score is NaN.

    >>> w = {"w": torch.tensor([3.0, 1.0, 2.0, 1.0])}
    >>> prune({"w": torch.ones(4, dtype=torch.bool)}, w, 0.25)["w"].tolist()
    [True, False, True, True]
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction = {fraction}: give a share in (0, 1)")
    return keep(mask, scores, count(mask) - round(fraction * count(mask)))


def keep(mask: Mask, scores: Params, live: int) -> Mask:
    """Keep exactly `live` of the live weights, those with the highest scores; ties as in `prune`."""
    check(mask, scores)
    flat_mask = torch.cat([m.flatten() for m in mask.values()])
    flat = torch.cat([scores[n].detach().flatten() for n in mask])
    candidates = flat_mask.nonzero().squeeze(1)
    if torch.isnan(flat[candidates]).any():
        raise ValueError("a live weight has the score NaN; the training before diverged")
    if not 0 <= live <= len(candidates):
        raise ValueError(f"{live} weights to keep of {len(candidates)}; give 0 to {len(candidates)}")
    order = torch.sort(flat[candidates], stable=True).indices
    kept = torch.zeros_like(flat_mask)
    kept[candidates[order[len(candidates) - live :]]] = True
    parts = kept.split([m.numel() for m in mask.values()])
    return {name: part.view(m.shape) for (name, m), part in zip(mask.items(), parts, strict=True)}


def apply(params: Params, mask: Mask) -> Params:
    """A new dict: where(mask, params, 0) where there is a mask, the same tensor elsewhere. `where`, so that inf and NaN
    do not leak.

    It goes by name: for a module with tied parameters, give the mask `spread` over all of their names.
    """
    check(mask, params)
    return {
        n: torch.where(mask[n].to(t.device), t, torch.zeros((), dtype=t.dtype, device=t.device)) if n in mask else t
        for n, t in params.items()
    }


def union(a: Mask, b: Mask) -> Mask:
    """Weights live in either."""
    check(a, b)
    return {n: a[n] | b[n] for n in a}


def intersection(a: Mask, b: Mask) -> Mask:
    """Weights live in both."""
    check(a, b)
    return {n: a[n] & b[n] for n in a}


def overlap(a: Mask, b: Mask) -> float:
    """Shared live weights over all live weights (Jaccard), in [0, 1]; 1 for equal masks, also for two empty ones."""
    either = count(union(a, b))
    return count(intersection(a, b)) / either if either else 1.0


def match_layers(mask: Mask, scores: Params) -> Mask:
    """As many live weights in each layer as `mask` has, at the places with the highest scores.

    With random scores: the layer-matched random control, nested from level to level if the scores stay the same.
    """
    check(mask, scores)
    return {n: keep({n: torch.ones_like(m)}, {n: scores[n]}, int(m.sum()))[n] for n, m in mask.items()}


def rows(t: Tensor) -> Shaped[Tensor, "filters weights"]:
    """A filter (index of the first dimension) a row; of a parameter of one dimension each entry is one."""
    return t.reshape(len(t), -1)


def match_filters(mask: Mask, scores: Params) -> Mask:
    """As many live weights in each filter (index of the first dimension) as `mask` has, at the places with the highest
    scores: as `match_layers`, but what has no live weight keeps none."""
    check(mask, scores)
    ranks = {n: rows(s).argsort(dim=1, descending=True, stable=True).argsort(dim=1) for n, s in scores.items()}
    return {n: (ranks[n] < rows(m).sum(1, keepdim=True)).view(m.shape) for n, m in mask.items()}


def collapsed(mask: Mask) -> list[str]:
    """Layers without a live weight."""
    return [n for n, m in mask.items() if not m.any()]


def chance(a: Mask, b: Mask) -> float:
    """The overlap (Jaccard) that two masks of these layer densities have on average if their places are independent.

    A ratio of means, which for layers of many weights is the mean of the ratio.
    """
    both = sum(float(a[n].double().mean() * b[n].double().mean()) * a[n].numel() for n in a)
    either = count(a) + count(b) - both
    return both / either if either else 1.0


def channels(mask: Mask) -> tuple[int, int]:
    """(dead, all): output channels of the layers, and those of them without a live weight.

    >>> channels({"a": torch.tensor([[True, False], [False, False]])})
    (1, 2)
    """
    alive = [rows(m).any(1) for m in mask.values()]
    return sum(int((~a).sum()) for a in alive), sum(len(a) for a in alive)


def travelled(start: Params, end: Params, mask: Mask) -> float:
    """|end - start| / |start| over the live weights."""
    moved, was = (
        torch.cat([t[m] for t, m in zip(ts, mask.values(), strict=True)]).double()
        for ts in ([end[n] - start[n] for n in mask], [start[n] for n in mask])
    )
    return float(moved.norm() / was.norm())


def same_signs(a: Params, b: Params, mask: Mask) -> float:
    """Share of the live weights that have the same sign in two states, in [0, 1].

    >>> same_signs({"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([True, True])})
    0.5
    """
    return sum(int((a[n][m].sign() == b[n][m].sign()).sum()) for n, m in mask.items()) / max(1, count(mask))


def save(mask: Mask, file: Path | str) -> None:
    """Write as safetensors, one bit per weight: for each layer, under the parameter's name, bytes of eight bits, the
    first weight highest; the shapes are in the file's metadata (`shapes`, JSON)."""
    bits = {n: torch.from_numpy(np.packbits(m.cpu().numpy())) for n, m in mask.items()}
    save_file(bits, file, {"shapes": json.dumps({n: list(m.shape) for n, m in mask.items()})})


def load(file: Path | str) -> Mask:
    """Read what `save` wrote, or a file of bool tensors; MaskError where it holds anything else."""
    try:
        with safe_open(file, "pt") as f:
            shapes = json.loads((f.metadata() or {}).get("shapes", "{}"))
            # in the order saved, as random scores, ties and shares follow it; the file has the names in another one
            found = {n: f.get_tensor(n) for n in sorted(f.keys(), key=[*shapes, *f.keys()].index)}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise MaskError(f"{file}: is no safetensors file, or is cut short ({error}); this is no mask file") from error
    mask = {}
    for n, t in found.items():
        shape = tuple(shapes.get(n, ()))
        if n in shapes and t.dtype == torch.uint8 and len(t) == -(-math.prod(shape) // 8):
            t = torch.from_numpy(np.unpackbits(t.numpy(), count=math.prod(shape)).astype(bool)).view(shape)
        if t.dtype != torch.bool:
            raise MaskError(f"{file}: {n} is {t.dtype} of shape {tuple(t.shape)}, no bits; this is no mask file")
        mask[n] = t
    return mask
