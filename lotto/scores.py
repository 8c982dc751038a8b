"""What makes a weight worth keeping: the highest scores stay (see masks.prune)."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lotto import masks
from lotto.data import check_images
from lotto.masks import Mask, Params
from lotto.modules import arithmetic, class_scores, copied, on_batch_statistics
from lotto.streams import forked, generator


def magnitude(params: Params, mask: Mask) -> Params:
    """|w|: global magnitude, as in Frankle & Carbin 2019 (arXiv 1803.03635)."""
    return {n: params[n].detach().abs() for n in mask}


def random(mask: Mask, seed: int, stream: str = "score", *index: int) -> Params:
    """Uniform in [0, 1), in float64 (no ties), from the keyed stream; the same on every device."""
    draw = generator(seed, stream, *index)
    return {n: torch.rand(m.shape, generator=draw, dtype=torch.float64).to(m.device) for n, m in mask.items()}


def snip(model: nn.Module, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], mask: Mask) -> Params:
    """|w dL/dw|: by how much the loss would change, to first order, without the weight (Lee et al. 2019, arXiv
    1810.02340).

    Loss: mean cross-entropy (nats) over these images, of the masked net, normalised with the statistics of these images
    (at initialisation the running ones are those of no image), without dropout. `model` is left as it is, statistics
    and modes included. DataError for images or labels that no loss can be computed of, MaskError for another net's
    mask.
    """
    with arithmetic("float32", images.device):
        weights, gradient = _gradient(model, images, labels, mask)
    return {n: (w * gradient[n]).abs().detach() for n, w in weights.items()}


def grasp(
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"],
    mask: Mask,
    temperature: float = 1.0,
) -> Params:
    """w Hg: what removing the weight costs of the gradient flow (Wang et al. 2020, arXiv 2002.07376, equation 8).

    Removing w changes the flow g'g by -2 w Hg to first order, so the weights with the largest w Hg carry most of it,
    and stay. (The paper removes the largest -w Hg, which is the same.) g and H are those of the live weights: a pruned
    one no longer learns.

    The net's outputs are divided by `temperature`. The published code takes 200, at which all classes are about as
    likely to the net and the gradient hardly depends on what it says of an image. Loss and errors as for `snip`, and
    ValueError for a temperature not above 0; both passes see the same images.
    """
    if not temperature > 0:
        raise ValueError(f"temperature = {temperature}: give a number above 0")
    # fused attention has no second derivative
    with arithmetic("float32", images.device), sdpa_kernel(SDPBackend.MATH):
        weights, gradient = _gradient(model, images, labels, mask, temperature, create_graph=True)
        flow = sum((g**2).where(mask[n].to(g.device), 0).sum() for n, g in gradient.items()) / 2
        product = torch.autograd.grad(flow, list(weights.values()), materialize_grads=True)  # H g
    return {n: (w * p).detach() for (n, w), p in zip(weights.items(), product, strict=True)}


def _gradient(
    model: nn.Module, images: Tensor, labels: Tensor, mask: Mask, temperature: float = 1.0, create_graph: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    check_images(images, labels)
    model = on_batch_statistics(model)
    weights = _live(dict(model.named_parameters()), mask)
    with forked(images.device) as key:
        key(0, "dropout")
        outputs = class_scores(model, images, lambda x: torch.func.functional_call(model, weights, (x,)))
    check_images(images, labels, outputs.shape[1])
    loss = F.cross_entropy(outputs / temperature, labels)
    gradient = torch.autograd.grad(loss, list(weights.values()), create_graph=create_graph, materialize_grads=True)
    return weights, dict(zip(weights, gradient, strict=True))


def synflow(model: nn.Module, shape: tuple[int, int, int], mask: Mask) -> Params:
    """|w dR/dw|, R the sum of the outputs for an image of ones, all weights replaced by their magnitudes: the flow
    through a weight (Tanaka et al. 2020, arXiv 2006.05467). In float64: in a deep net it under- or overflows float32.

    shape: (channels, height, width) of an image. Biases count as 0 and a normalisation layer (batch, instance, group,
    layer, RMS) as its |scale| alone: statistics of an image of ones mean nothing, and would stop the flow. `model` is
    left as it is. MaskError for another net's mask.
    """
    return _flow(_linear(model), shape, mask)


def synflow_mask(model: nn.Module, shape: tuple[int, int, int], mask: Mask, live: int, rounds: int = 100) -> Mask:
    """SynFlow's mask of exactly `live` weights, within `mask`: cut in `rounds` steps, exponentially, and scored anew
    before each.

    Iterating is what keeps every layer alive: a layer's flow adds up to the net's whole flow, so the fewer weights it
    has, the higher each of them scores. That holds where the whole flow passes through the layer. A residual branch
    shares it with its shortcut, and may lose all its weights (`masks.collapsed` names them) while the net lives.
    ValueError for a `live` beyond what `mask` has, and for less than one round.
    """
    have, plain = masks.count(mask), _linear(model)
    if not 0 < live <= have:
        raise ValueError(f"live = {live}: give 1 to {have}, the live weights of the mask")
    if rounds < 1:
        raise ValueError(f"rounds = {rounds}: give at least 1")
    device = next(plain.parameters()).device
    mask = {n: m.to(device) for n, m in mask.items()}
    for r in range(1, rounds + 1):
        mask = masks.keep(mask, _flow(plain, shape, mask), round(have * (live / have) ** (r / rounds)))
    return mask


def _flow(plain: nn.Module, shape: tuple[int, int, int], mask: Mask) -> Params:
    params = dict(plain.named_parameters())
    weights = _live(params, mask)
    first = next(iter(params.values()))
    image = torch.ones(1, *shape, dtype=first.dtype, device=first.device)
    with arithmetic("float32", first.device):
        total = class_scores(plain, image, lambda x: torch.func.functional_call(plain, weights, (x,))).sum()
        gradient = torch.autograd.grad(total, list(weights.values()), materialize_grads=True)
    return {n: (w * g).detach() for (n, w), g in zip(weights.items(), gradient, strict=True)}


def _live(params: Params, mask: Mask) -> dict[str, Tensor]:
    whole = masks.apply(params, mask)
    return {n: whole[n].detach().requires_grad_() for n in mask}


def _linear(model: nn.Module) -> nn.Module:
    # a copy in double with magnitudes for weights, without biases, its normalisations reduced to their scales
    model = copied(model).double().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm | nn.RMSNorm):
            module.forward = functools.partial(_scaled, module)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.zero_() if "bias" in name.rpartition(".")[2] else p.abs_()
    return model


def _scaled(norm: nn.Module, x: Tensor) -> Tensor:
    # a normalisation layer without its statistics
    if norm.weight is None:
        return x
    trailing = isinstance(
        norm, nn.LayerNorm | nn.RMSNorm
    )  # their scales belong to the last dimensions; the others' to the channels
    return x * (norm.weight if trailing else norm.weight.view(-1, *[1] * (x.ndim - 2)))
