"""Cached functions that leave a line wherever they are computed, for tests of the store and of clusters.

They stand in a module of their own, so that workers import little.
"""

import os
import time
from pathlib import Path

import torch

from lotto.checkpoint import Checkpoint
from lotto.config import Config, ConfigError
from lotto.data import DataError
from lotto.lab.describe import Data
from lotto.lab.product import Product
from lotto.lab.store import StoreError, cached


class Work(Config):
    """A number to be squared, some seconds of work, the file that counts, and how it ends."""

    number: int
    log: str
    seconds: float = 0.0
    ends: str = "well"
    data: Data | None = None


@cached(version=1)
def square(work: Work) -> Product:
    with open(work.log, "a") as log:
        log.write(f"{work.number} {os.getpid()}\n")
    time.sleep(work.seconds)
    return Product({"number": work.number}, {"x": torch.full((3,), float(work.number) ** 2)})


@cached(version=1)
def steps(work: Work, checkpoint: Checkpoint) -> Product:
    """Counts to 20, a state each; the log says where each process began."""
    tensors, state = checkpoint.load() or ({"sum": torch.zeros(1)}, {"step": 0})
    with open(work.log, "a") as log:
        log.write(f"{work.number} {os.getpid()} from {state['step']}\n")
    for step in range(state["step"], 20):
        time.sleep(work.seconds / 20)
        if work.ends == "killed at step 5" and step == 5:
            os.kill(os.getpid(), 9)
        tensors = {"sum": tensors["sum"] + step * work.number}
        checkpoint.save(tensors, {"step": step + 1})
        if work.ends == "killed after each step" and step < 5:
            os.kill(os.getpid(), 9)
    return Product({"number": work.number}, tensors)


@cached(version=1)
def fails(work: Work) -> Product:
    raise {"config": ConfigError, "data": DataError, "store": StoreError}[work.ends](
        f"number {work.number}: {work.ends}"
    )


def counted(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []
