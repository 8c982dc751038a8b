"""One step of training as a CUDA graph: recorded once and replayed, so that the device does not wait for Python.

A step of a ResNet-18 is hundreds of kernels. At batch 128, starting them one by one takes longer than they do on a fast
card. A replay starts the kernels of the step that was recorded, in their order.
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

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def possible(model: nn.Module, device: torch.device) -> bool:
    """Whether each step of `model` is the same sequence of kernels, as far as its modules tell.

    True for a net of plain layers and of `lotto.nets`, without hooks, on the current CUDA device. A module of anybody
    else may branch in Python or draw numbers there, and a recording would repeat for ever what it did in one step.
    """

    def known(module: nn.Module) -> bool:
        plain = type(module) in _PLAIN or type(module).__module__ == "lotto.nets"
        touched = any(getattr(module, hooks) for hooks in _HOOKS) or "forward" in vars(module)
        # cumulative statistics are weighted by a count that Python reads
        return plain and not touched and getattr(module, "momentum", 0) is not None

    here = ON and device.type == "cuda" and device.index in (None, _current())
    return here and all(known(m) for m in model.modules())


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


# what needs a device, each replaced by a stand-in in the tests that run without one


def _current() -> int:
    return torch.cuda.current_device()


def _stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()


def _beside(stream: torch.cuda.Stream, work: Work, *inputs: Tensor) -> Tensor:
    """`work` on `stream`: nothing that is to be recorded may have touched the default one."""
    here = torch.cuda.current_stream()
    stream.wait_stream(here)
    try:
        with torch.cuda.stream(stream):
            return work(*inputs)
    finally:
        here.wait_stream(stream)


def _recorded(stream: torch.cuda.Stream, work: Work, *inputs: Tensor) -> Callable[[], Tensor]:
    graph = torch.cuda.CUDAGraph()
    # the outer context puts the current stream back, also where a recording that failed cannot be ended
    with torch.cuda.stream(stream), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        result = work(*inputs)

    def again() -> Tensor:
        graph.replay()
        return result

    return again
