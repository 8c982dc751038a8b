"""Where to compute: `LOTTO_DEVICE`, and one thread per process on a CPU."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lotto.config import ConfigError

if TYPE_CHECKING:
    import torch


def device() -> torch.device:
    """Where to compute: `LOTTO_DEVICE` = auto (a GPU if there is one), cpu or cuda."""
    import torch

    name = os.environ.get("LOTTO_DEVICE", "auto")
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device = {name!r}: not known; use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device = 'cuda': PyTorch finds no CUDA device here; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """For the record: the GPU's name, or "cpu"."""
    import torch

    return torch.cuda.get_device_name() if device().type == "cuda" else "cpu"


def peak_memory() -> int:
    """The most memory that this process has held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Compute with one thread, as every product of the study is: equal bits everywhere, and no OpenMP threads
    spinning."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
