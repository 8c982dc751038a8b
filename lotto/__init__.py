"""Lottery tickets from distilled images: which weights of an untrained network may go, by looking at a handful of
images only.

For a module and images of your own: `lotto.tickets.find` and `lotto.train.train`. For the study of the notebooks:
`lotto.study("digits")`.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lotto.lab.presets import study as study

_MODULES = frozenset(m.name for m in pkgutil.iter_modules(__path__))


def __getattr__(name: str) -> Any:
    # modules load when first used: `import lotto` itself costs next to nothing
    if name in _MODULES:
        return importlib.import_module(f"lotto.{name}")
    if name == "study":
        return importlib.import_module("lotto.lab.presets").study
    raise AttributeError(f"module 'lotto' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_MODULES, "study", "__version__"])
