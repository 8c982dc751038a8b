"""What makes a weight worth keeping: the highest scores stay (see masks.prune)."""

from __future__ import annotations

import torch

from lotto.masks import Mask, Params
from lotto.streams import generator


def magnitude(params: Params, mask: Mask) -> Params:
    """|w|: global magnitude, as in Frankle & Carbin 2019 (arXiv 1803.03635)."""
    return {n: params[n].detach().abs() for n in mask}


def random(mask: Mask, seed: int, stream: str = "score", *index: int) -> Params:
    """Uniform in [0, 1), in float64 (no ties), from the keyed stream; the same on every device."""
    draw = generator(seed, stream, *index)
    return {n: torch.rand(m.shape, generator=draw, dtype=torch.float64).to(m.device) for n, m in mask.items()}
