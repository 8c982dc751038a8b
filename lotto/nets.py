"""Networks: ConvNet, VGG and ResNets with the CIFAR stem at any width, or any factory of your own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lotto.config import ConfigError, Net
from lotto.modules import check_fits
from lotto.streams import forked


def norm(kind: str, channels: int) -> nn.Module:
    """A normalisation layer by name; `instance` and `group` are GroupNorm with one group per channel, and with up to 8
    groups."""
    if kind == "group":
        return nn.GroupNorm(next(g for g in (8, 4, 2, 1) if channels % g == 0), channels)
    if kind == "instance":
        return nn.GroupNorm(channels, channels)
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.Identity()


class Pointwise(nn.Conv2d):
    """A 1x1 convolution as what it is: a linear map of channels, of every `stride`-th pixel. The numbers are the same;
    it is faster on a CPU, and does without oneDNN's strided 1x1 kernels, whose weight gradients are written past their
    workspace where channels are few (its issue 6035)."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__(before, after, 1, bias=False)
        self.step = stride

    def forward(self, x: Tensor) -> Tensor:
        """Every `step`-th pixel, mixed."""
        seen = x[..., :: self.step, :: self.step].permute(0, 2, 3, 1)
        return F.linear(seen, self.weight.flatten(1)).permute(0, 3, 1, 2)


class Conv(nn.Conv2d):
    """A 3x3 convolution that keeps the image's side, or halves it.

    On a CPU an image of 2x2 pixels goes through one matrix product, in less than half the time: each pixel sees all
    four, so the map is a full matrix, whereas oneDNN multiplies the padding too, 20 of 36 products."""

    def __init__(self, before: int, after: int, stride: int = 1, bias: bool = False):
        super().__init__(before, after, 3, stride, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """The image, filtered."""
        if x.shape[2:] != (2, 2) or self.stride != (1, 1) or x.device.type != "cpu":
            return super().forward(x)
        taps = self.weight.permute(0, 2, 3, 1).flatten(1, 2).index_select(1, _TAPS)
        matrix = taps.unflatten(1, (4, 4)).flatten(2).flatten(0, 1)  # (channel, pixel) out by (pixel, channel) in
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        out = F.linear(x.permute(0, 2, 3, 1).flatten(1), matrix, bias).unflatten(1, (-1, 2, 2))
        return out.contiguous(memory_format=torch.channels_last)


_TAPS = torch.tensor([4, 5, 7, 8, 3, 4, 6, 7, 1, 2, 4, 5, 0, 1, 3, 4])
"""Which of a 3x3 kernel's taps each pixel of a 2x2 image, in turn, puts on each of the four."""


class Block(nn.Module):
    """The basic residual block (He et al. 2016, arXiv 1512.03385), with a 1x1 convolution where the shape changes
    (option B)."""

    def __init__(self, before: int, after: int, stride: int, kind: str):
        super().__init__()
        self.conv1 = Conv(before, after, stride)
        self.norm1 = norm(kind, after)
        self.conv2 = Conv(after, after)
        self.norm2 = norm(kind, after)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and before == after
            else nn.Sequential(Pointwise(before, after, stride), norm(kind, after))
        )

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        return torch.relu(self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))) + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network with the CIFAR stem: one 3x3 convolution, no max-pooling; stages double the width and halve
    the image.

    A stage halves only while 2 pixels a side remain: a 3x3 kernel on a single pixel sees padding in 8 of its 9 taps,
    which are then weights that no image can reach."""

    def __init__(self, channels: int, classes: int, image_size: int, width: int, blocks: tuple[int, ...], kind: str):
        super().__init__()
        self.stem = nn.Sequential(Conv(channels, width), norm(kind, width), nn.ReLU())
        stages, before, side = [], width, image_size
        for s, depth in enumerate(blocks):
            after, halved = width * 2**s, s > 0 and side >= 3
            side = -(-side // 2) if halved else side
            strides = [2 if halved else 1] + [1] * (depth - 1)
            stages.append(
                nn.Sequential(*(Block(before if b == 0 else after, after, strides[b], kind) for b in range(depth)))
            )
            before = after
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Class scores."""
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


class ConvNet(nn.Module):
    """The ConvNet of dataset distillation (Zhao et al. 2021, arXiv 2006.05929): blocks of convolution, norm, ReLU,
    average pooling."""

    def __init__(self, channels: int, classes: int, image_size: int, width: int, depth: int, kind: str):
        super().__init__()
        if kind == "instance" and image_size // 2 ** (depth - 1) < 2:
            raise ConfigError(
                f"depth = {depth}: instance norm in the last block would see 1-pixel images and return zeros; "
                f"at {image_size} pixels use depth {image_size.bit_length() - 1} or less"
            )
        blocks: list[nn.Module] = []
        for d in range(depth):
            blocks += [
                Conv(channels if d == 0 else width, width, bias=True),
                norm(kind, width),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
        self.features = nn.Sequential(*blocks, nn.Flatten())
        side = image_size // 2**depth
        if side < 1:
            raise ConfigError(
                f"depth = {depth}: images of {image_size} pixels are halved away; use depth "
                f"{image_size.bit_length() - 1} or less"
            )
        self.head = nn.Linear(width * side * side, classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Class scores."""
        return self.head(self.features(x))


class VGG(nn.Module):
    """VGG-16 with batch norm for small images (Simonyan & Zisserman 2015, arXiv 1409.1556; one linear layer, as in
    Frankle & Carbin 2019).

    Images are halved after each stage while 2 pixels a side remain, so that small ones fit and every weight is reached.
    """

    def __init__(self, channels: int, classes: int, image_size: int, width: int, kind: str):
        super().__init__()
        layers: list[nn.Module] = []
        before, side = channels, image_size
        for times, depth in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
            for _ in range(depth):
                layers += [
                    Conv(before, width * times, bias=kind == "none"),
                    norm(kind, width * times),
                    nn.ReLU(),
                ]
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


def _resnet(net: Net, shape: tuple[int, int, int], classes: int) -> nn.Module:
    return ResNet(shape[0], classes, shape[1], net.width, _BLOCKS[net.name], net.norm)


def _vgg(net: Net, shape: tuple[int, int, int], classes: int) -> nn.Module:
    return VGG(shape[0], classes, shape[1], net.width, net.norm)


def _convnet(net: Net, shape: tuple[int, int, int], classes: int) -> nn.Module:
    return ConvNet(shape[0], classes, shape[1], net.width, net.depth, net.norm)


BUILDERS: dict[str, Callable[[Net, tuple[int, int, int], int], nn.Module]] = {
    **dict.fromkeys(_BLOCKS, _resnet),
    "vgg16": _vgg,
    "convnet": _convnet,
}
"""Name of a network (one of `config.NETS`) -> what builds it for images of a shape (channels, height, width) and so
many classes."""


def build(net: Net, shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """The network with the initial weights of `seed`, on the CPU. The global random state is left as it was.

    shape: (channels, height, width) of an image. ConfigError where the net does not fit it, and where a factory cannot
    be had or fails.
    """
    with forked() as key:
        key(seed, "init")
        if net.name in BUILDERS:
            model = BUILDERS[net.name](net, shape, classes)
        else:
            model = _made(net.name, channels=shape[0], classes=classes, image_size=shape[1])
            if not isinstance(model, nn.Module):
                raise ConfigError(f"net = {net.name!r}: returned a {type(model).__name__}; a torch.nn.Module is needed")
            names = [{n for n, _ in model.named_parameters(remove_duplicate=every)} for every in (True, False)]
            if tied := sorted(names[1] - names[0]):
                # the study's files keep each name's tensor apart, so that a mask on the one would not reach the other
                raise ConfigError(
                    f"net = {net.name!r}: {tied[0]} is tied to another parameter, which a study's files cannot say; "
                    "give a net without ties, or use lotto.tickets.find, which can"
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


def _made(name: str, **sizes: int) -> Any:
    make = factory(name)
    try:
        return make(*sizes.values())
    except (ConfigError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the factory is the caller's, and may raise anything
        called = ", ".join(f"{n}={size}" for n, size in sizes.items())
        raise ConfigError(f"net = {name!r}: factory({called}) raises {type(error).__name__}: {error}") from error


def factory(name: str) -> Callable[[int, int, int], nn.Module]:
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"net = {name!r} cannot be imported ({error}); give 'package.module:function' of an installed package, "
            "or put its folder on PYTHONPATH"
        ) from error
    except Exception as error:  # the module is the caller's, and may raise anything
        raise ConfigError(
            f"net = {name!r} cannot be imported, as its module raises {type(error).__name__}: {error}; mend it"
        ) from error
    if not callable(found):
        raise ConfigError(
            f"net = {name!r} is a {type(found).__name__}; a function of channels, classes and image_size is needed"
        )
    return found
