"""What can be reached through a net: weights that no image can reach, and nets whose outputs no image moves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lotto.masks import Chosen, ones
from lotto.modules import class_scores, on_batch_statistics
from lotto.streams import forked


class _Leaky(TorchFunctionMode):
    """Within it, a ReLU lets half of what is below 0 pass: in a deep net without norms, most units are on, or off, for
    all images alike."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.relu, torch.relu_, F.relu, F.relu_, Tensor.relu, Tensor.relu_):
            return F.leaky_relu(args[0] if args else kwargs["input"], 0.5)
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def dead(model: nn.Module, images: Float[Tensor, "n c h w"]) -> bool:
    """Whether no path of live weights leads from input to output: the scores are the same for all images.

    A layer without live weights alone does not make a net dead where a shortcut leads around it (`collapsed` names such
    layers). Running statistics are those of other weights as soon as some are pruned, and under them a unit may be off
    for all images that the first step of a training opens: so norms take the statistics of the batch, and ReLUs leak.
    Images should differ from each other. In double: a sparse VGG leaves so little of their difference that float32
    rounds it away. `model` is left as it is.
    """
    wide = on_batch_statistics(model).double()
    with forked(*{p.device for p in model.parameters()}) as key, _Leaky():
        key(0, "dropout")
        scores = class_scores(wide, images.double())
    return bool((scores == scores[:1]).all())


def unreachable(
    model: nn.Module, shape: tuple[int, ...], images: int = 32, draws: int = 8, chosen: Chosen | None = None
) -> dict[str, int]:
    """Parameter -> number of its `prunable` weights whose gradient is 0 for every image; parameters without such are
    left out.

    shape: of one image, (channels, height, width). Such weights see only padding (a 3x3 kernel on a single pixel has 8
    taps of 9 there), or belong to a layer that the forward pass never uses. Found in float64 with Gaussian images,
    batch statistics and leaky ReLUs; a weight counts only if its gradient is 0 in each of `draws` nets with weights
    moved at random, so that neither a scale which begins at 0 nor a unit which happens to be off makes it one. `model`
    is left as it is.
    """
    draw = torch.Generator().manual_seed(0)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=draw, dtype=torch.float64).to(like.device)

    lost = ones(model, chosen)
    with forked(*{p.device for p in model.parameters()}) as key:
        key(0, "dropout")
        for _ in range(draws):
            probe = on_batch_statistics(model).double()
            with torch.no_grad():
                for p in probe.parameters():
                    p += 0.5 * (p.std(correction=0) + 0.1) * normal(p)
            params = {n: p.requires_grad_() for n, p in probe.named_parameters()}
            x = torch.randn(images, *shape, generator=draw, dtype=torch.float64).to(next(iter(params.values())).device)
            with _Leaky():
                out = class_scores(probe, x, name="the net in double precision")
            found = torch.autograd.grad((out * normal(out)).sum(), [params[n] for n in lost], materialize_grads=True)
            lost = {n: m & (g == 0) for (n, m), g in zip(lost.items(), found, strict=True)}
            if not any(m.any() for m in lost.values()):
                break
    return {n: c for n, m in lost.items() if (c := int(m.sum()))}
