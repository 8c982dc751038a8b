"""Lottery tickets from distilled images: which weights of an untrained network may go, by looking at a handful of images only.

Start with `lotto.study("digits")`, or, for a module and images of your own, `lotto.tickets.find` and `lotto.train.train`.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = (
    "anatomy",
    "augment",
    "bench",
    "config",
    "data",
    "distill",
    "explore",
    "figures",
    "landscape",
    "masks",
    "nets",
    "parallel",
    "permute",
    "regimes",
    "run",
    "scores",
    "sharpness",
    "stability",
    "stats",
    "store",
    "streams",
    "tickets",
    "train",
)

if TYPE_CHECKING:
    from lotto.config import study as study


def __getattr__(name: str) -> Any:
    # modules load when first used: `import lotto` itself costs next to nothing
    if name in _MODULES:
        return importlib.import_module(f"lotto.{name}")
    if name == "study":
        from lotto.config import study

        return study
    raise AttributeError(f"module 'lotto' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_MODULES, "study", "__version__"])
