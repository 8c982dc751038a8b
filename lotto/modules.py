"""What is done with any module: its state, its modes, its batch norm, its scores; and what of it cannot be used."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.prune import is_pruned

from lotto.config import ConfigError, Precision
from lotto.streams import forked

State = dict[str, Tensor]
"""Name -> tensor: parameters and buffers of a module, as `state_dict` gives them. The currency of all modules here."""


def check_fits(model: nn.Module, shape: tuple[int, ...], classes: int, name: str = "the net") -> None:
    """Try the net on two images; ConfigError says what does not fit."""
    with torch.no_grad(), evaluating(model):
        if (first := next(model.parameters(), None)) is None:
            raise ConfigError(f"net = {name!r} has no parameters; give a net with weights to train")
        two = torch.linspace(-1, 1, 2 * math.prod(shape), device=first.device).sin().view(2, *shape)
        out = class_scores(model, two.to(first.dtype), name=f"net = {name!r}")
    if out.shape != (2, classes):
        raise ConfigError(
            f"net = {name!r} returns shape {tuple(out.shape)} for 2 images; (2, {classes}) is needed, one per class"
        )
    with contextlib.suppress(RuntimeError, TypeError, ValueError), torch.no_grad(), evaluating(model):
        # in double: what rounding makes of nothing is then far below what a deep net leaves of a difference
        wide = {n: t.double() if t.is_floating_point() else t for n, t in model.state_dict().items()}
        out = torch.func.functional_call(model, wide, (two.double(),))
    if (out[0] - out[1]).abs().max() <= 1e-12 * out.abs().max():
        raise ConfigError(
            f"net = {name!r} gives the same scores for two different images of shape {tuple(shape)}; usual causes: "
            "instance norm on features of one pixel (take larger images, less depth, or another norm), or a last "
            "layer that begins at 0 (draw its weights)"
        )


def class_scores(
    model: nn.Module, images: Tensor, forward: Callable[[Tensor], Tensor] | None = None, name: str = "the net"
) -> Float[Tensor, "n classes"]:
    """What `model` says of these images, or `forward`, a pass with other weights of the same type.

    ConfigError where the images have another type than the weights, do not fit the net, or get anything but a score a
    class.
    """
    types = {p.dtype for p in model.parameters()}
    if types and images.dtype not in types:
        of = next(model.parameters()).dtype
        raise ConfigError(
            f"images are {images.dtype} and the weights {of}: give images.to({of}), or model.to({images.dtype})"
        )
    shape = tuple(images.shape[1:])
    try:
        out = (forward or model)(images)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the net is the caller's, and may raise anything
        raise ConfigError(
            f"{name} does not fit images of shape {shape}: {next(iter(str(error).splitlines()), repr(error))}"
        ) from error
    if not isinstance(out, Tensor):
        raise ConfigError(
            f"{name} returns a {type(out).__name__}; a tensor of one score per class is needed: wrap it in a module "
            "that picks it"
        )
    if out.ndim != 2 or len(out) != len(images):
        raise ConfigError(
            f"{name} returns shape {tuple(out.shape)} for {len(images)} images; ({len(images)}, classes) is needed"
        )
    return out


def copied(model: nn.Module) -> nn.Module:
    """A deep copy. ConfigError for a module whose weights are not its parameters (yet), as no mask could hold them."""
    if is_pruned(model):
        raise ConfigError(
            "the net is under torch.nn.utils.prune, which computes weights anew in each pass; make its zeros "
            "permanent first: torch.nn.utils.prune.remove(layer, 'weight') for each layer"
        )
    for name, module in model.named_modules():
        for key, t in vars(module).items():
            if isinstance(t, Tensor) and not t.is_leaf:
                raise ConfigError(
                    f"{f'{name}.' if name else ''}{key} is computed from other tensors and cannot be copied (the old "
                    "torch.nn.utils.weight_norm does so); take torch.nn.utils.parametrizations, or delete or "
                    "detach it first"
                )
    if lazy := [n for n, p in model.named_parameters() if is_lazy(p)]:
        raise ConfigError(f"{lazy[0]} has no shape yet; run the net on one image first")
    return copy.deepcopy(model)


def layout(model: nn.Module, device: torch.device) -> torch.memory_format:
    """The order in memory in which a net is best computed: channels last, the fastest for convolutions.

    But not on a CPU for a net with strided 1x1 convolutions of fewer than 16 channels: their gradients corrupt memory
    in oneDNN (its issue 6035, seen with torch 2.14 on AVX2). Such nets keep the plain order, 20 % slower. So do nets
    with tensors of five dimensions, which have no such order."""
    if any(t.ndim == 5 for t in (*model.parameters(), *model.buffers())):
        return torch.contiguous_format
    narrow = [
        m
        for m in model.modules()
        if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and max(m.stride) > 1 and m.in_channels < 16
    ]
    return torch.contiguous_format if narrow and device.type == "cpu" else torch.channels_last


def copy_state(model: nn.Module) -> State:
    """All parameters and buffers, detached and cloned."""
    return {name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in model.state_dict().items()}


@contextlib.contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """This precision; on CUDA also deterministic kernels, so that equal noise gives equal nets."""
    cudnn = torch.backends.cudnn
    # not through `allow_tf32`, which raises where a caller has set these; all three can be read and put back anyhow
    floats = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    before = cudnn.deterministic, cudnn.benchmark, *(f.fp32_precision for f in floats)
    cudnn.deterministic, cudnn.benchmark = True, False
    for f in floats:
        f.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        # without its cache: that keeps the first step's weights, rounded, for as long as the context is open
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before[:2]
        for f, was in zip(floats, before[2:], strict=True):
            f.fp32_precision = was


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; every module's own mode is restored after.

    What a net draws in this mode too is the same each time, and the global random states are left as they were."""
    modes = {m: m.training for m in model.modules()}
    model.eval()
    try:
        with forked(*{p.device for p in model.parameters()}) as key:
            key(0, "dropout")
            yield
    finally:
        for m, mode in modes.items():
            m.training = mode


def on_batch_statistics(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, but for norms with running statistics, which take those of the batch.

    A copy, as batch statistics move the running ones; these norms alone, as dropout would draw from the global random
    state."""
    model = copied(model).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.train()
    return model


def has_batch_norm(model: nn.Module) -> bool:
    """Whether batch norms of the net keep running statistics, which `recalibrate` can set anew."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats for m in model.modules())


@torch.no_grad()
def recalibrate(model: nn.Module, images: Float[Tensor, "n c h w"], batch: int = 1024) -> None:
    """Set the batch-norm statistics to those of `images` under the present weights (in place; nothing else changes).

    Cumulative average over equal batches, un-augmented. Each takes images from all over the set, which may be sorted:
    within batches of neighbours the variance is too small then. Interpolated nets need it: their variance collapses
    (Jordan et al. 2023, arXiv 2211.08403). On CUDA in TF32, as they are evaluated.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    try:
        with evaluating(model), arithmetic("tf32", images.device):
            for m in norms:
                m.reset_running_stats()
                m.momentum = None
                m.training = True
            batches = max(1, -(-len(images) // batch))
            for i in range(batches):
                model(images[i::batches])
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
