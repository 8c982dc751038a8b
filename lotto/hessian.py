"""Curvature of the loss: Hessian-vector products, diagonal, trace, extreme eigenvalues, on live (or any chosen)
weights.

The Hessian is that of the mean cross-entropy over some images, in evaluation mode, so with batch-norm statistics fixed.
On chosen coordinates S it is the block H_SS: a vector is 0 outside S before the product and read on S after it, so that
sparsity alone does not make a net look flat.
"""

from __future__ import annotations

import inspect
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lotto import masks
from lotto.config import ConfigError
from lotto.data import check_images
from lotto.modules import arithmetic, class_scores, evaluating
from lotto.streams import generator


class Hessian:
    """The Hessian of the mean cross-entropy of `model` over some images, on chosen coordinates, as a linear operator.

    chosen: parameter name -> bool tensor (a mask: its live weights; parameters it does not name are left out); None
    takes every parameter. Vectors have the length `size`, the chosen coordinates in the model's order. The model's
    weights are copied, its gradients and modes are not touched; products are made without TF32, in the type of the
    parameters. MaskError where `chosen` is another net's, DataError for images or labels no loss can be computed of,
    ConfigError where the net does not take the images or returns more than scores, and where nothing is chosen.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Float[Tensor, "images c h w"],
        labels: Int64[Tensor, " images"],
        chosen: masks.Mask | None = None,
        batch: int = 512,
    ):
        check_images(images, labels)
        with torch.no_grad(), evaluating(model):
            classes = class_scores(model, images[:1]).shape[1]
        check_images(images, labels, classes)
        everything = {n: p.detach().clone() for n, p in model.named_parameters()}
        chosen = {n: torch.ones_like(p, dtype=torch.bool) for n, p in everything.items()} if chosen is None else chosen
        masks.check(chosen, everything)
        # parameters without a chosen weight take no part; the others in the model's order
        self._index = {
            n: chosen[n].flatten().nonzero().squeeze(1).to(p.device) for n, p in everything.items() if n in chosen
        }
        self._index = {n: i for n, i in self._index.items() if len(i)}
        if not self._index:
            raise ConfigError("no weight is chosen; a Hessian needs at least one live weight")
        self._model, self._rest = model, {n: p for n, p in everything.items() if n not in self._index}
        self._params = {n: everything[n].requires_grad_() for n in self._index}
        self._buffers = {n: b.detach().clone() for n, b in model.named_buffers()}
        self._chunks = list(zip(images.split(batch), labels.split(batch), strict=True))
        self._images, self._kept = len(images), None
        self.size = sum(len(i) for i in self._index.values())

    def products(self, vectors: Float[Tensor, "k n"]) -> Float[Tensor, "k n"]:
        """H v for each of k vectors; the k share one first backward pass a batch of images, by double backward."""
        if vectors.shape[1] != self.size:
            raise ConfigError(f"vectors of length {vectors.shape[1]}; {self.size} weights are chosen")
        spread = [self._spread(v) for v in vectors]
        result = torch.zeros_like(vectors)
        for chunk in range(len(self._chunks)):
            first = self._first(chunk)
            for row, v in zip(result, spread, strict=True):
                with arithmetic("float32", v[0].device):
                    second = torch.autograd.grad(
                        first, list(self._params.values()), v, retain_graph=True, materialize_grads=True
                    )
                row += torch.cat([s.flatten()[i] for s, i in zip(second, self._index.values(), strict=True)]).to(row)
        return result

    def __matmul__(self, v: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self.products(v[None])[0]

    def dense(self) -> Float[Tensor, "n n"]:
        """The whole matrix, for small nets."""
        return self.products(torch.eye(self.size, **self._like()))

    def norm(self) -> float:
        """Euclidean norm of the chosen weights: curvature has a scale only beside it."""
        return float(
            torch.cat(
                [p.detach().flatten()[i] for p, i in zip(self._params.values(), self._index.values(), strict=True)]
            ).norm()
        )

    def _like(self) -> dict:
        p = next(iter(self._params.values()))
        return {"dtype": p.dtype, "device": p.device}

    def _first(self, chunk: int) -> tuple[Tensor, ...]:
        # where all images are one batch, the graph of the gradient serves all products
        if self._kept is not None:
            return self._kept
        images, labels = self._chunks[chunk]
        # fused attention has no second derivative
        with evaluating(self._model), arithmetic("float32", images.device), sdpa_kernel(SDPBackend.MATH):
            scores = torch.func.functional_call(self._model, {**self._params, **self._rest, **self._buffers}, (images,))
            loss = F.cross_entropy(scores, labels, reduction="sum") / self._images
            first = torch.autograd.grad(loss, list(self._params.values()), create_graph=True, materialize_grads=True)
        if len(self._chunks) == 1:
            self._kept = first
        return first

    def _spread(self, v: Float[Tensor, " n"]) -> list[Tensor]:
        parts = []
        for p, i, part in zip(
            self._params.values(), self._index.values(), v.split([len(i) for i in self._index.values()]), strict=True
        ):
            whole = torch.zeros_like(p).flatten()
            whole[i] = part.to(whole)
            parts.append(whole.view(p.shape))
        return parts


class Diagonal(NamedTuple):
    """Hutchinson's estimate of a Hessian's diagonal. Its sum is the estimate of the trace."""

    halves: Float[Tensor, "2 n"]
    """The estimates from the even and from the odd probes, independent of each other."""
    error: Float[Tensor, " n"]
    """Standard error of each entry of the mean."""
    traces: list[float]
    """The trace as each probe has it."""

    @property
    def mean(self) -> Float[Tensor, " n"]:
        """The diagonal."""
        return self.halves.mean(0)

    @property
    def trace(self) -> tuple[float, float]:
        """The trace and its standard error."""
        n = len(self.traces)
        mean = sum(self.traces) / n
        return mean, math.sqrt(sum((t - mean) ** 2 for t in self.traces) / (n - 1) / n)


def diagonal(hessian: Hessian, probes: int = 16, seed: int = 0) -> Diagonal:
    """The diagonal from `probes` Rademacher vectors z: the mean of z * (H z), whose expectation it is (Bekas et al.
    2007; Hutchinson 1989 for the trace). ConfigError for an odd number of probes, or fewer than 4."""
    if probes < 4 or probes % 2:
        raise ConfigError(f"probes = {probes}: give an even number from 4, for two halves and a standard error")
    halves, squares, traces = [], 0.0, []
    for half in (0, 1):
        total = 0.0
        for probe in range(half, probes, 2):
            z = (
                torch.randint(0, 2, (hessian.size,), generator=generator(seed, "probe", probe)).to(**hessian._like())
                * 2
                - 1
            )
            found = z * (hessian @ z)
            total, squares = total + found, squares + found**2
            traces.append(float(found.double().sum()))
        halves.append(total / (probes // 2))
    both = torch.stack(halves)
    variance = (squares / probes - both.mean(0) ** 2).clamp_min(0) / (probes - 1)
    return Diagonal(both, variance.sqrt(), traces)


def extremes(hessian: Hessian, ends: int = 1, tolerance: float = 1e-4, seed: int = 0) -> list[float]:
    """The `ends` smallest and the `ends` largest eigenvalues (algebraically: the most negative, the most positive),
    rising.

    By implicitly restarted Lanczos (scipy's eigsh), to the relative `tolerance`; by the dense matrix up to 50 weights.
    A net of fewer than 2 * ends weights gives all it has.
    """
    if hessian.size <= max(50, 6 * ends):
        values = torch.linalg.eigvalsh(hessian.dense().double()).tolist()
        return values if len(values) <= 2 * ends else [*values[:ends], *values[-ends:]]
    import numpy as np
    from scipy.sparse.linalg import LinearOperator, eigsh

    like = hessian._like()
    operator = LinearOperator(
        (hessian.size, hessian.size),
        matvec=lambda v: (hessian @ torch.from_numpy(v).to(**like)).double().cpu().numpy(),
        dtype="float64",
    )
    start = torch.randn(hessian.size, generator=generator(seed, "probe"), dtype=torch.float64).numpy()
    if not operator.matvec(start).any():  # a net so sure of itself that its loss is flat: Lanczos has nothing to go on
        return [0.0] * (2 * ends)
    # from scipy 1.17 on, restarts draw vectors, from the system's entropy if nothing is given
    drawn = {"rng": np.random.default_rng(seed)} if "rng" in inspect.signature(eigsh).parameters else {}
    values = eigsh(
        operator,
        k=2 * ends,
        which="BE",
        v0=start,
        tol=tolerance,
        ncv=max(20, 6 * ends),
        return_eigenvectors=False,
        **drawn,
    )
    return sorted(float(v) for v in values)


def layer_traces(values: Float[Tensor, " n"], mask: masks.Mask) -> dict[str, float]:
    """The sum of a diagonal over each layer's live weights, in nats; together they are the trace.

    values: one for each live weight, as `diagonal` has them: in the model's order. `mask` must have its layers in that
    order (`masks.prunable`) too.
    """
    return {
        n: float(v.double().sum())
        for n, v in zip(mask, values.split([int(m.sum()) for m in mask.values()]), strict=True)
    }


class Share(NamedTuple):
    """How much of something lies on the removed weights, and what chance would have put there."""

    share: float
    """A trace may have parts below 0, so this may leave [0, 1]."""
    matched: float
    """The share that equally many weights of each layer, drawn at random, carry on average."""


def share(values: Float[Tensor, " n"], mask: masks.Mask) -> Share:
    """The part of the sum of `values` (one for each prunable weight, in the mask's order) that lies where `mask` has
    pruned.

    Its complement, on the weights kept, is 1 - share. The expectation under layer-matched random removal is computed,
    not sampled. Both are NaN where the sum is 0, as for a net so flat that it has no curvature to share.
    """
    parts = values.double().split([m.numel() for m in mask.values()])
    total = sum(float(p.sum()) for p in parts)
    gone = sum(float(p[~m.flatten()].sum()) for p, m in zip(parts, mask.values(), strict=True))
    chance = sum(float(p.sum()) * float((~m).double().mean()) for p, m in zip(parts, mask.values(), strict=True))
    return Share(gone / total, chance / total) if total else Share(math.nan, math.nan)
