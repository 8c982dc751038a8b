"""The density of a Hessian's eigenvalues, by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lotto.config import ConfigError
from lotto.hessian import Hessian
from lotto.streams import generator


class Spectrum(NamedTuple):
    """The density of a Hessian's eigenvalues as probes see it: points with weights, which add to 1 for each probe."""

    nodes: Float[Tensor, "probes steps"]
    weights: Float[Tensor, "probes steps"]

    def curve(self, grid: Float[Tensor, " points"], width: float) -> Float[Tensor, " points"]:
        """The density on a grid, each point a Gaussian of this `width`; it integrates to 1."""
        bells = torch.exp(-(((grid[:, None, None] - self.nodes) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))
        return (bells * self.weights).sum((1, 2)) / len(self.nodes)

    def moment(self, power: int) -> float:
        """Mean of eigenvalue ** power; times the number of weights, power 1 is the trace."""
        return float((self.weights * self.nodes**power).sum() / len(self.nodes))


def density(hessian: Hessian, probes: int = 4, steps: int = 20, seed: int = 0) -> Spectrum:
    """Spectral density by stochastic Lanczos quadrature (Ubaru, Chen & Saad 2017; for nets Ghorbani et al. 2019, arXiv
    1901.10159).

    Each probe is a random direction; `steps` of Lanczos from it, all vectors kept orthogonal, make a small matrix whose
    eigenvalues are nodes and the squared first entries of its eigenvectors their weights. Exact in the first 2 * steps
    - 1 moments of what the probe sees. A probe that has seen everything earlier (low rank, few weights) is filled up
    with nodes of weight 0. Nodes are NaN where the loss is not finite. ConfigError without a probe or a step.
    """
    if min(probes, steps) < 1:
        raise ConfigError(f"probes = {probes}, steps = {steps}: give at least 1 of each")
    found = [
        _lanczos(hessian, min(steps, hessian.size), generator(seed, "probe", 2, number)) for number in range(probes)
    ]
    return Spectrum(torch.stack([n for n, _ in found]), torch.stack([w for _, w in found]))


def _lanczos(hessian: Hessian, steps: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    like = hessian._like()
    q = torch.randn(hessian.size, generator=draw, dtype=torch.float64).to(like["device"])
    basis, a, b = [q / q.norm()], [], []
    for _ in range(steps):
        v = (hessian @ basis[-1].to(**like)).double()
        a.append(float(v @ basis[-1]))
        if not math.isfinite(a[-1]):
            return torch.full((steps,), math.nan, dtype=torch.float64), torch.full(
                (steps,), 1 / steps, dtype=torch.float64
            )
        for _ in range(2):  # twice is enough
            for q in basis:
                v = v - (v @ q) * q
        b.append(float(v.norm()))
        if b[-1] <= 1e-9 * max(
            map(abs, (*a, *b))
        ):  # the probe sees no more; relative, as flat nets have tiny curvature
            break
        basis.append(v / b[-1])
    inside = torch.tensor(b[: len(a) - 1], dtype=torch.float64)
    small = torch.diag(torch.tensor(a, dtype=torch.float64)) + torch.diag(inside, 1) + torch.diag(inside, -1)
    values, vectors = torch.linalg.eigh(small)
    fill = steps - len(values)  # a short run is filled up with points of no weight
    return torch.nn.functional.pad(values, (0, fill)), torch.nn.functional.pad(vectors[0] ** 2, (0, fill))
