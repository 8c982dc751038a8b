"""Descriptions: frozen, validated, coercing; and the two that everybody needs, a network and a training."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)


class ConfigError(ValueError):
    """A parameter that cannot be: one sentence with the name, the value and the fix."""


def nearest(name: str, known: list[str], most: int = 40) -> str:
    """`did you mean 'x'?`, or the known names (at `most` so many), for an error about `name`."""
    close = difflib.get_close_matches(name, known, n=1)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known[:most])}{more}."


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("is true or false, but a number belongs here")
    return value


def _a_list(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError("is text, but a list belongs here; write it as '[4, 8]'")
    return value


def one_of(known: tuple[str, ...], pattern: str, own: str) -> Callable[[str], str]:
    """A check of names: one of `known`, or what matches `pattern`, which the error calls `own`."""

    def check(name: str) -> str:
        if name not in known and not re.fullmatch(pattern, name):
            raise ValueError(f"not known: use {', '.join(known)} or {own}")
        return name

    return check


Int = Annotated[int, BeforeValidator(_not_bool)]

Float = Annotated[float, BeforeValidator(_not_bool), Field(allow_inf_nan=False)]

Levels = Annotated[tuple[Annotated[Int, Field(ge=0)], ...], BeforeValidator(_a_list)]

Names = Annotated[tuple[str, ...], BeforeValidator(_a_list)]

Rates = Annotated[tuple[Annotated[Float, Field(gt=0, le=100)], ...], BeforeValidator(_a_list), Field(min_length=1)]

Counts = Annotated[tuple[Annotated[Int, Field(ge=1)], ...], BeforeValidator(_a_list), Field(min_length=1)]

NETS = (
    "resnet18",
    "resnet20",
    "resnet10",
    "vgg16",
    "convnet",
)
"""Networks that have a name; `nets.BUILDERS` builds them."""

NetName = Annotated[str, AfterValidator(one_of(NETS, r"[\w.]+:\w+", "'package.module:factory'"))]

Norm = Literal["batch", "instance", "group", "none"]

Init = Literal["torch", "he"]

Schedule = Literal["onecycle", "cosine", "step", "constant"]

Precision = Literal["float32", "tf32", "bfloat16"]

Ops = Annotated[tuple[Literal["color", "scale", "rotate", "cutout"], ...], BeforeValidator(_a_list)]

Rewinding = Literal["weights", "all", "signs", "weights and signs"]
"""What a rewind restores.

"weights": the prunable weights; biases, norms and running statistics stay as the inner loop left them (the paper line's
code). "all": every parameter and buffer. "signs": every parameter and buffer, but each prunable weight takes the sign
that the inner loop gave it. "weights and signs": both departures from "all" at once. Signs and norms are what carries a
basin according to "Find a Winning Sign" (arXiv 2504.05357).
"""


class Config(BaseModel):
    """Base of all descriptions: frozen, hashable, no unknown fields, text such as "1e-3" taken as the number it
    spells."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())

    def __init__(self, **values: Any):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(self._sentence(error)) from None

    @classmethod
    def _sentence(cls, error: ValidationError) -> str:
        parts = []
        for e in error.errors():
            name = ".".join(str(p) for p in e["loc"])
            field = cls.model_fields.get(str(e["loc"][0])) if e["loc"] else None
            if e["type"] == "extra_forbidden":
                parts.append(f"{name!r} is not a parameter of {cls.__name__}; {nearest(name, list(cls.model_fields))}")
            elif not e["loc"]:
                parts.append(e["msg"].removeprefix("Value error, "))
            else:
                told = " ".join(field.description.split()) if field and field.description else ""
                what = f" ({told.rstrip('.')})" if told else ""
                rule = e["msg"].removeprefix("Value error, ")
                parts.append(f"{name} = {e['input']!r}: {rule[0].lower() + rule[1:]}{what}.")
        return " ".join(parts)

    def but(self, **changes: Any):
        """A copy with some fields changed, validated anew."""
        return type(self)(**{**{k: getattr(self, k) for k in type(self).model_fields}, **changes})


class Net(Config):
    """The network, without its weights."""

    name: NetName = "resnet18"
    """resnet18, resnet20, resnet10, vgg16, convnet, or "package.module:factory" called as factory(channels, classes,
    image_size)."""
    width: Annotated[Int, Field(ge=1, le=4096)] = 8
    """Channels of the first stage (64 is the usual ResNet-18, ResNet-10 and VGG-16, 16 ResNet-20, 128 ConvNet)."""
    norm: Norm = "batch"
    """Normalisation layers."""
    init: Init = "torch"
    """Initial weights: PyTorch's default (uniform, deviation 1/sqrt(3 fan-in)), or He's (normal, sqrt(2/fan-out),
    convolutions)."""
    depth: Annotated[Int, Field(ge=1, le=6)] = 3
    """Blocks of a ConvNet; the ResNets have theirs by name."""


class Recipe(Config):
    """One training by SGD."""

    steps: Annotated[Int, Field(ge=0)] = 200
    """Optimiser steps of the schedule."""
    first: Annotated[Int, Field(ge=0)] = 0
    """Step of the schedule at which the training begins: a net rewound to step k goes on from there, and takes `steps`
    steps in all."""
    lr: Annotated[Float, Field(gt=0)] = 0.8
    """Peak learning rate."""
    batch: Annotated[Int, Field(ge=2)] = 64
    """Images a step."""
    momentum: Annotated[Float, Field(ge=0, lt=1)] = 0.9
    """Momentum (Nesterov's when above 0)."""
    weight_decay: Annotated[Float, Field(ge=0, lt=1)] = 5e-4
    """Weight decay, on all parameters."""
    schedule: Schedule = "onecycle"
    """Learning-rate schedule: one-cycle (up to lr over 20 %, down to 0, linear), cosine, step (x0.2 at 2/3 and 5/6),
    constant."""
    shift: Annotated[Int, Field(ge=0, le=16)] = 0
    """Random shifts, up to so many pixels each way (zero padding after normalisation: mean colour)."""
    flip: bool = False
    """Random horizontal flips."""
    precision: Precision = "float32"
    """Arithmetic of the forward and backward pass; weights are float32 always."""
    ops: Ops = ()
    """Further augmentations, each image its own: color, scale, rotate, cutout (Zhao & Bilen 2021, arXiv 2102.08259)."""
    cutmix: Annotated[Float, Field(ge=0, le=1)] = 0.0
    """Share of the steps in which each image has a box of another, and of its label (Yun et al. 2019, arXiv
    1905.04899)."""

    @model_validator(mode="after")
    def _within(self):
        if self.first > self.steps:
            raise ValueError(f"first = {self.first}: the schedule has {self.steps} steps; give 0 to {self.steps}")
        return self
