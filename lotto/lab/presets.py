"""The presets: what a study is unless it is told otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lotto.config import ConfigError, nearest
from lotto.lab.arms import ARMS
from lotto.lab.study import Study

_CIFAR: dict[str, Any] = dict(
    data="cifar10",
    held_out=5000,
    width=64,
    steps=10_500,
    lr=0.2,
    batch=128,
    shift=4,
    flip=True,
    precision="tf32",
    levels=(4, 8, 12),
    switches=(0, 4, 8, 12),
    rewind=1000,
    switch=8,
    fraction=0.2,
    inner_steps=1500,
    inner_batch=128,
    inner_lr=0.01,
    distill_steps=10_000,
    distill_batch=128,
    distill_width=128,
    distill_depth=3,
    judge_steps=3000,
    judge_lr=0.01,
    sharp_images=2000,
    path_images=5000,
    map_lrs=(0.01, 0.2),
    map_steps=(1500,),
    outer_lrs=(0.02, 0.2),
    outer_steps=(10_500,),
    rewinds=(250, 500, 1000, 2000),
)

_SMALL: dict[str, Any] = dict(
    data="cifar10",
    train_size=2500,
    image_size=16,
    held_out=5000,
    width=16,
    steps=1500,
    lr=0.2,
    shift=2,
    flip=True,
    levels=(4, 8),
    switches=(0, 4, 8),
    rewind=75,
    inner_steps=300,
    inner_lr=0.02,
    distill_steps=1000,
    distill_width=64,
    judge_steps=300,
    points=5,
    path_images=1000,
    sharp_images=512,
    map_lrs=(0.02, 0.2),
    map_steps=(300,),
    outer_lrs=(0.02, 0.2),
    outer_steps=(1500,),
    rewinds=(25, 75, 250),
)
"""What a CPU can do of CIFAR-10: 2,500 of its images at 16 x 16 pixels."""

PRESETS: dict[str, dict[str, Any]] = {
    "digits": {},
    "cifar10-small": _SMALL,
    "cifar10": _CIFAR,
    "cifar10-resnet20": {
        **_CIFAR,
        "net": "resnet20",
        "width": 16,
        "lr": 0.1,
        "steps": 63_000,
        "schedule": "step",
        "weight_decay": 1e-4,
        "rewind": 2000,
        "map_lrs": (0.01, 0.1),
        "outer_lrs": (0.01, 0.1),
        "outer_steps": (63_000,),
    },
    "cifar10-convnet": {
        **_CIFAR,
        "net": "convnet",
        "width": 128,
        "norm": "instance",
        "lr": 0.01,
        "batch": 64,
        "steps": 21_000,
        "schedule": "step",
        "map_lrs": (0.01,),
        "outer_lrs": (0.01, 0.1),
        "outer_steps": (21_000,),
    },
    "cifar100": {**_CIFAR, "data": "cifar100"},
}
"""Values that differ from Study's own. `digits` takes minutes on a CPU, `cifar10-small` hours; the others are meant for
one GPU."""


_LARGE = ("cifar10", "cifar10-resnet20", "cifar10-convnet", "cifar100")
_HIGH = ("dense", "dense-rewound", "imp", "imp-rewound", "distilled", "random-layerwise", "hybrid")
_WHY = tuple(m for m, a in ARMS.items() if a.main) + (
    "distilled-all",
    "distilled-mask",
    "distilled-signs",
    "distilled-gentle",
    "imp-all",
    "imp-mask",
    "reinit",
)

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "tour": {
        "digits": dict(seeds=1, levels=(2, 4, 6, 8), methods=("dense", "imp", "distilled")),
        **dict.fromkeys(_LARGE, dict(seeds=1, levels=(4, 8, 12), methods=("dense", "imp", "distilled"))),
    },
    "high-sparsity": {
        "digits": dict(levels=(4, 8, 12), methods=_HIGH),
        "cifar10-small": dict(levels=(4, 8), methods=_HIGH),
        **dict.fromkeys(_LARGE, dict(levels=(4, 8, 12, 16, 20, 24), methods=_HIGH)),
    },
    "causes": {
        "digits": dict(levels=(8,), methods=_WHY),
        **dict.fromkeys(_LARGE, dict(levels=(12,), methods=_WHY)),
    },
}
"""Variant -> preset -> values that differ from the preset's: notebook 00 follows three arms on one initialisation, 05
goes further up, 06 has more arms at one level."""


def merged(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A notebook's parameters, with those of its `more` among them."""
    return {**{n: v for n, v in parameters.items() if n != "more"}, **(parameters.get("more") or {})}


def study(
    preset: str = "digits", variant: str | None = None, *, more: Mapping[str, Any] | None = None, **parameters: Any
) -> Study:
    """The study that a preset, a variant of it and some parameters (by their short names) describe.

    A parameter that is None keeps the preset's value. `more` holds parameters too: those that a notebook has no line
    for. ConfigError for a name or a value that cannot be, and for a name that stands both in `more` and beside it.

    >>> study("digits", seeds="2", more={"momentum": 0.8}).outer.momentum
    0.8
    """
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ConfigError(f"preset = {preset!r}: not known; {nearest(str(preset), list(PRESETS))}")
    if variant is not None and variant not in VARIANTS:
        raise ConfigError(f"variant = {variant!r}: not known; {nearest(str(variant), list(VARIANTS))}")
    if not isinstance(more or {}, Mapping):
        raise ConfigError(f"more = {more!r}: names and values belong here, such as {{momentum: 0.8}}")
    given, more = ({n: v for n, v in what.items() if v is not None} for what in (parameters, more or {}))
    if begin := {"preset", "variant"} & more.keys():
        raise ConfigError(f"more: {min(begin)!r} is not a parameter of the study; it says where one begins")
    if twice := sorted(given.keys() & more.keys()):
        raise ConfigError(f"more: {twice[0]!r} is given beside it too; give it once")
    varied = VARIANTS[variant].get(preset, VARIANTS[variant]["digits"]) if variant else {}
    return Study(**{**PRESETS[preset], **varied, "preset": preset, **given, **more})
