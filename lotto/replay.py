"""One step of training as a CUDA graph: recorded once and replayed, so that the device does not wait for Python.

At batch 128 a ResNet-18 is some 400 kernels a step, and starting them one by one takes longer than they do on a fast
card. A replay starts the very same kernels in the very same order, so nothing but the time changes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Work = Callable[..., Tensor]

ON = True
"""Whether steps are replayed where they can be."""

WARM = 3
"""Steps that run as they are before one is recorded: libraries choose their kernels and take their memory in them."""

_PLAIN = (
    *(nn.Sequential, nn.Identity, nn.Flatten, nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh),
)
"""Layers that do the same in every step."""


def possible(model: nn.Module, device: torch.device) -> bool:
    """Whether each step of `model` is the same sequence of kernels, as far as its modules tell.

    True on CUDA for a net of plain layers and of `lotto.nets`, without hooks. A module of anybody else may branch in
    Python or draw numbers there, and a recording would repeat for ever what it did in one step.
    """

    def known(module: nn.Module) -> bool:
        plain = type(module) in _PLAIN or type(module).__module__ == "lotto.nets"
        # cumulative statistics are weighted by a count that Python reads
        return (
            plain
            and not (module._forward_hooks or module._forward_pre_hooks)
            and getattr(module, "momentum", 0) is not None
        )

    return ON and device.type == "cuda" and all(known(m) for m in model.modules())


class Replay:
    """`work`, called with tensors of the same shapes each time and with effects on other tensors (a gradient, running
    statistics): the first WARM calls run it, the next records it, and from then on it is replayed on the inputs given.

    What it returns is overwritten by the next call.
    """

    def __init__(self, work: Work):
        self._work, self._warm = work, 0
        self._stream = _stream()
        self._again: Callable[[], Tensor] | None = None
        self._inputs: list[Tensor] = []

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The result of `work` for these inputs."""
        if self._again is None:
            if self._warm < WARM:
                self._warm += 1
                return _beside(self._stream, self._work, *inputs)
            self._inputs = [t.clone() for t in inputs]
            self._again = _recorded(self._stream, self._work, *self._inputs)
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        return self._again()


# the three that need a device, each replaced by a stand-in in the tests that run without one


def _stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()


def _beside(stream: torch.cuda.Stream, work: Work, *inputs: Tensor) -> Tensor:
    """`work` on another stream than the default one, which nothing that is to be recorded may have touched."""
    here = torch.cuda.current_stream()
    stream.wait_stream(here)
    with torch.cuda.stream(stream):
        result = work(*inputs)
    here.wait_stream(stream)
    return result


def _recorded(stream: torch.cuda.Stream, work: Work, *inputs: Tensor) -> Callable[[], Tensor]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        result = work(*inputs)

    def again() -> Tensor:
        graph.replay()
        return result

    return again
