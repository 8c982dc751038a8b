"""Networks: ConvNet, VGG and ResNets with the CIFAR stem at any width, or any factory of your own; and batch-norm recalibration."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.prune import is_pruned

from lotto import store
from lotto.config import ConfigError, Net
from lotto.streams import forked

State = dict[str, Tensor]
"""Name -> tensor: parameters and buffers of a module, as `state_dict` gives them. The currency of all modules here."""


def norm(kind: str, channels: int) -> nn.Module:
    """A normalisation layer by name; `instance` and `group` are GroupNorm with a group a channel, and with up to 8 groups."""
    if kind == "group":
        return nn.GroupNorm(next(g for g in (8, 4, 2, 1) if channels % g == 0), channels)
    return {"batch": nn.BatchNorm2d, "instance": lambda c: nn.GroupNorm(c, c), "none": lambda c: nn.Identity()}[kind](channels)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution whose stride is taken on its input first: the same numbers, without oneDNN's strided 1x1 kernels, whose weight
    gradients are written past their workspace where channels are few (its issue 6035)."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__(before, after, 1, bias=False)
        self.step = stride

    def forward(self, x: Tensor) -> Tensor:
        """Every `step`-th pixel, mixed."""
        return super().forward(x[..., :: self.step, :: self.step])


class Block(nn.Module):
    """The basic residual block (He et al. 2016, arXiv 1512.03385), with a 1x1 convolution where the shape changes (option B)."""

    def __init__(self, before: int, after: int, stride: int, kind: str):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = norm(kind, after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = norm(kind, after)
        self.shortcut = (
            nn.Identity() if stride == 1 and before == after else nn.Sequential(Pointwise(before, after, stride), norm(kind, after))
        )

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        return torch.relu(self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))) + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network with the CIFAR stem: one 3x3 convolution, no max-pooling; stages double the width and halve the image.

    A stage halves only while 2 pixels a side remain: a 3x3 kernel on a single pixel sees padding in 8 of its 9 taps, which are then
    weights that no image can reach."""

    def __init__(self, channels: int, classes: int, image_size: int, width: int, blocks: tuple[int, ...], kind: str):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), norm(kind, width), nn.ReLU())
        stages, before, side = [], width, image_size
        for s, depth in enumerate(blocks):
            after, halved = width * 2**s, s > 0 and side >= 3
            side = -(-side // 2) if halved else side
            strides = [2 if halved else 1] + [1] * (depth - 1)
            stages.append(nn.Sequential(*(Block(before if b == 0 else after, after, strides[b], kind) for b in range(depth))))
            before = after
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Class scores."""
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


class ConvNet(nn.Module):
    """The ConvNet of dataset distillation (Zhao et al. 2021, arXiv 2006.05929): blocks of convolution, norm, ReLU, average pooling."""

    def __init__(self, channels: int, classes: int, image_size: int, width: int, depth: int, kind: str):
        super().__init__()
        if kind == "instance" and image_size // 2 ** (depth - 1) < 2:
            raise ConfigError(
                f"depth = {depth}: instance norm in the last block would see 1-pixel images and return zeros; "
                f"at {image_size} pixels use depth {image_size.bit_length() - 1} or less"
            )
        blocks: list[nn.Module] = []
        for d in range(depth):
            blocks += [nn.Conv2d(channels if d == 0 else width, width, 3, 1, 1), norm(kind, width), nn.ReLU(), nn.AvgPool2d(2)]
        self.features = nn.Sequential(*blocks, nn.Flatten())
        side = image_size // 2**depth
        if side < 1:
            raise ConfigError(
                f"depth = {depth}: images of {image_size} pixels are halved away; use depth {image_size.bit_length() - 1} or less"
            )
        self.head = nn.Linear(width * side * side, classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Class scores."""
        return self.head(self.features(x))


class VGG(nn.Module):
    """VGG-16 with batch norm for small images (Simonyan & Zisserman 2015, arXiv 1409.1556; one linear layer, as in Frankle & Carbin 2019).

    Images are halved after each stage while 2 pixels a side remain, so that small ones fit and every weight is reached."""

    def __init__(self, channels: int, classes: int, image_size: int, width: int, kind: str):
        super().__init__()
        layers: list[nn.Module] = []
        before, side = channels, image_size
        for times, depth in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
            for _ in range(depth):
                layers += [nn.Conv2d(before, width * times, 3, 1, 1, bias=kind == "none"), norm(kind, width * times), nn.ReLU()]
                before = width * times
            if side >= 4:
                layers.append(nn.MaxPool2d(2))
                side //= 2
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(before, classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Class scores."""
        return self.head(self.features(x).mean((2, 3)))


_BLOCKS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet20": (3, 3, 3)}


def build(net: Net, shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """The network with the initial weights of `seed`, on the CPU. The global random state is left as it was.

    shape: (channels, height, width) of an image. ConfigError where the net does not fit it or the factory cannot be had.
    """
    channels, size, _ = shape
    with forked() as key:
        key(seed, "init")
        if net.name in _BLOCKS:
            model = ResNet(channels, classes, size, net.width, _BLOCKS[net.name], net.norm)
        elif net.name == "vgg16":
            model = VGG(channels, classes, size, net.width, net.norm)
        elif net.name == "convnet":
            model = ConvNet(channels, classes, size, net.width, net.depth, net.norm)
        else:
            model = _factory(net.name)(channels, classes, size)
            if not isinstance(model, nn.Module):
                raise ConfigError(f"net = {net.name!r}: returned a {type(model).__name__}; a torch.nn.Module is needed")
            names = [{n for n, _ in model.named_parameters(remove_duplicate=every)} for every in (True, False)]
            if tied := sorted(names[1] - names[0]):
                # the study's files keep each name's tensor apart, so that a mask on the one would not reach the other
                raise ConfigError(
                    f"net = {net.name!r}: {tied[0]} is tied to another parameter, which a study's files cannot say; give a net without "
                    "ties, or use lotto.tickets.find, which can"
                )
        if net.init == "he":
            for module in model.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if (known := (net, tuple(shape), classes)) not in _FIT:  # a third of the time of a small net's building
        check_fits(model, shape, classes, net.name)
        _FIT.add(known)
    return model


_FIT: set[tuple[Net, tuple[int, ...], int]] = set()
"""What `build` has found to fit in this process."""


def check_fits(model: nn.Module, shape: tuple[int, ...], classes: int, name: str = "the net") -> None:
    """Try the net on two images; ConfigError says what does not fit."""
    with torch.no_grad(), evaluating(model):
        where = next(model.parameters()).device
        two = torch.linspace(-1, 1, 2 * math.prod(shape), device=where).sin().view(2, *shape)
        out = class_scores(model, two.to(next(model.parameters()).dtype), name=f"net = {name!r}")
    if out.shape != (2, classes):
        raise ConfigError(f"net = {name!r} returns shape {tuple(out.shape)} for 2 images; (2, {classes}) is needed, a score a class")
    with contextlib.suppress(RuntimeError, TypeError, ValueError), torch.no_grad(), evaluating(model):
        # in double: what rounding makes of nothing is then far below what a deep net leaves of a difference
        wide = {n: t.double() if t.is_floating_point() else t for n, t in model.state_dict().items()}
        out = torch.func.functional_call(model, wide, (two.double(),))
    if (out[0] - out[1]).abs().max() <= 1e-12 * out.abs().max():
        raise ConfigError(
            f"net = {name!r} gives the same scores for two different images of shape {tuple(shape)}; usual causes: instance norm on "
            "features of one pixel (take larger images, less depth, or another norm), or a last layer that begins at 0 (draw its weights)"
        )


def class_scores(
    model: nn.Module, images: Tensor, forward: Callable[[Tensor], Tensor] | None = None, name: str = "the net"
) -> Float[Tensor, "n classes"]:
    """What `model` says of these images, or `forward`, a pass with other weights of the same type.

    ConfigError where the images have another type than the weights, do not fit the net, or get anything but a score a class.
    """
    types = {p.dtype for p in model.parameters()}
    if types and images.dtype not in types:
        of = next(model.parameters()).dtype
        raise ConfigError(f"images are {images.dtype} and the weights {of}: give images.to({of}), or model.to({images.dtype})")
    shape = tuple(images.shape[1:])
    try:
        out = (forward or model)(images)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the net is the caller's, and may raise anything
        raise ConfigError(f"{name} does not fit images of shape {shape}: {next(iter(str(error).splitlines()), repr(error))}") from error
    if not isinstance(out, Tensor):
        raise ConfigError(
            f"{name} returns a {type(out).__name__}; a tensor of a score a class is needed: wrap it in a module that picks it"
        )
    if out.ndim != 2 or len(out) != len(images):
        raise ConfigError(f"{name} returns shape {tuple(out.shape)} for {len(images)} images; ({len(images)}, classes) is needed")
    return out


def copied(model: nn.Module) -> nn.Module:
    """A deep copy. ConfigError for a module whose weights are not its parameters (yet), as no mask could hold them."""
    if is_pruned(model):
        raise ConfigError(
            "the net is under torch.nn.utils.prune, which computes weights anew in each pass; make its zeros permanent first: "
            "torch.nn.utils.prune.remove(layer, 'weight') for each layer"
        )
    for name, module in model.named_modules():
        for key, t in vars(module).items():
            if isinstance(t, Tensor) and not t.is_leaf:
                raise ConfigError(
                    f"{f'{name}.' if name else ''}{key} is computed from other tensors and cannot be copied (the old "
                    "torch.nn.utils.weight_norm does so); take torch.nn.utils.parametrizations, or delete or detach it first"
                )
    if lazy := [n for n, p in model.named_parameters() if is_lazy(p)]:
        raise ConfigError(f"{lazy[0]} has no shape yet; run the net on one image first")
    return copy.deepcopy(model)


def _factory(name: str) -> Callable[[int, int, int], nn.Module]:
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"net = {name!r} cannot be imported ({error}); give 'package.module:function' of an installed package, "
            "or put its folder on PYTHONPATH"
        ) from None


@store.fingerprint.register
def _(net: Net) -> str | None:
    """A factory's source file; the nets of this module change with the versions of the functions that train them."""
    if ":" not in net.name:
        return None
    _factory(net.name)
    source = importlib.util.find_spec(net.name.partition(":")[0]).origin
    return f"{net.name}:{hashlib.sha256(Path(source).read_bytes()).hexdigest()}"


def layout(model: nn.Module, device: torch.device) -> torch.memory_format:
    """The order in memory in which a net is best computed: channels last, the fastest for convolutions.

    But not on a CPU for a net with strided 1x1 convolutions of fewer than 16 channels: their gradients corrupt memory in oneDNN (its issue
    6035, seen with torch 2.14 on AVX2). Such nets keep the plain order, 20 % slower. So do nets with tensors of five dimensions, which
    have no such order."""
    if any(t.ndim == 5 for t in (*model.parameters(), *model.buffers())):
        return torch.contiguous_format
    narrow = [
        m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and max(m.stride) > 1 and m.in_channels < 16
    ]
    return torch.contiguous_format if narrow and device.type == "cpu" else torch.channels_last


def copy_state(model: nn.Module) -> State:
    """All parameters and buffers, detached and cloned."""
    return {name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in model.state_dict().items()}


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

    A copy, as batch statistics move the running ones; these norms alone, as dropout would draw from the global random state."""
    model = copied(model).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.train()
    return model


def has_batch_norm(model: nn.Module) -> bool:
    """Whether the net keeps running statistics."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats for m in model.modules())


@torch.no_grad()
def recalibrate(model: nn.Module, images: Float[Tensor, "n c h w"], batch: int = 1024) -> None:
    """Set the batch-norm statistics to those of `images` under the present weights (in place; nothing else changes).

    Cumulative average over equal batches, un-augmented. Interpolated nets need it: their variance collapses
    (Jordan et al. 2023, arXiv 2211.08403).
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    with evaluating(model):
        for m in norms:
            m.reset_running_stats()
            m.momentum = None
            m.training = True
        for chunk in images.tensor_split(max(1, -(-len(images) // batch))):
            model(chunk)
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
