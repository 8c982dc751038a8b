"""Whether trainings write past their memory, as oneDNN's strided 1x1 convolutions of few channels do on AVX2 (its issue
6035)."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

CHECKED = "libc_malloc_debug.so.0"
"""glibc's allocator that looks for damage at every call (since 2.34 in a library of its own)."""

CODE = """
import torch
from torch import nn
from lotto import nets, train
from lotto.config import Net, Recipe

torch.set_num_threads(1)

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        # two before it: what one channel gives has no order in memory to hand on
        self.before = nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 1, 1), nn.ReLU())
        self.narrow, self.head = nn.Conv2d(4, 8, 1, 2), nn.Linear(8, 4)
    def forward(self, x):
        return self.head(self.narrow(self.before(x)).relu().mean((2, 3)))

model = {model}
draw = torch.Generator().manual_seed(0)
images, labels = torch.randn(64, 1, 8, 8, generator=draw), torch.arange(64) % 4
assert train.train(model, images, labels, Recipe(steps=12, lr=0.1, batch=32)).finite
print("whole")
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", ['nets.build(Net(name="resnet18", width=4), (1, 8, 8), 4, 0)', "Own()"])
def test_a_training_leaves_the_heap_whole(model):
    places = (
        "/lib64",
        "/usr/lib64",
        f"/lib/{platform.machine()}-linux-gnu",
        f"/usr/lib/{platform.machine()}-linux-gnu",
    )
    found = [p for place in places if (p := Path(place) / CHECKED).exists()]
    if not found:
        pytest.skip(f"no {CHECKED} here: glibc's checking allocator")
    env = {**os.environ, "LD_PRELOAD": str(found[0]), "MALLOC_CHECK_": "3", "OMP_NUM_THREADS": "1"}
    out = subprocess.run(
        [sys.executable, "-c", CODE.format(model=model)], env=env, capture_output=True, text=True, timeout=300
    )
    assert out.returncode == 0 and out.stdout == "whole\n", out.stderr[-2000:]
