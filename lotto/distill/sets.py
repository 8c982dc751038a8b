"""The sets an inner loop may train on: distilled images, equally many real ones (at random, or the easiest), noise."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lotto import data, nets, parallel, store
from lotto.config import Config, Data, Gradient, Images, Matching, Net, Recipe, Trajectory
from lotto.data import RealData, Split
from lotto.distill import coresets, foreign, loop
from lotto.distill.gradients import Gradients, match_gradients
from lotto.distill.loop import NET_BATCH
from lotto.distill.matching import Distributions, match_distributions
from lotto.distill.synset import SynSet, spread
from lotto.distill.trajectories import Trajectories, expert, experts, flat, match_trajectories
from lotto.parallel import device
from lotto.store import Checkpoint, Product, cached
from lotto.streams import generator
from lotto.train import train


class SetOf(Config):
    """A small set and the real data it stands for."""

    data: Data
    images: Images


def subset(real: RealData, ipc: int, seed: int = 0) -> SynSet:
    """`ipc` real training images of each class, drawn at random: the control of equal size."""
    index = data.per_class(real.train.labels.cpu(), ipc, generator(seed, "subset")).to(real.train.images.device)
    return _chosen(real, index, {"method": "subset", "ipc": ipc, "seed": seed})


def easiest(real: RealData, ipc: int, el2n: Float[Tensor, " images"], seed: int = 0) -> SynSet:
    """The `ipc` training images of each class with the lowest EL2N scores: small and easy data, not distilled."""
    members = [(real.train.labels.cpu() == c).nonzero().squeeze(1) for c in range(len(real.classes))]
    index = torch.cat([m[torch.sort(el2n.cpu()[m], stable=True).indices[:ipc]] for m in members])
    return _chosen(real, index.to(real.train.images.device), {"method": "easy", "ipc": ipc, "seed": seed})


def _chosen(real: RealData, index: Int64[Tensor, " n"], recipe: dict) -> SynSet:
    images, labels = real.pixels(real.train.images[index]).clamp(0, 1).cpu(), real.train.labels[index].cpu()
    return SynSet(images, labels, real.classes, real.mean.cpu(), real.std.cpu(), recipe)


def permuted(small: SynSet, seed: int = 0) -> SynSet:
    """The same images under the same labels, at random: what is left is images without their meaning."""
    order = torch.randperm(len(small.labels), generator=generator(seed, "shuffle"))
    return dataclasses.replace(small, labels=small.labels[order], recipe={**small.recipe, "labels": "permuted"})


def noise(real: RealData, ipc: int, seed: int = 0) -> SynSet:
    """`ipc` images a class of Gaussian noise with the training images' mean and deviation, clipped to [0, 1]: only labels to learn."""
    n = ipc * len(real.classes)
    draw = torch.randn(n, *real.shape, generator=generator(seed, "noise"))
    pixels = (draw * real.std.cpu()[:, None, None] + real.mean.cpu()[:, None, None]).clamp(0, 1)
    return SynSet(
        pixels, spread(ipc, len(real.classes)), real.classes, real.mean.cpu(), real.std.cpu(), {"method": "noise", "ipc": ipc, "seed": seed}
    )


@cached(version=2)
def distilled(what: SetOf, checkpoint: Checkpoint) -> Product:
    """The distilled set as a product: tensors of the SynSet, metrics with the loss."""
    real = data.load(what.data)
    recipe, seed = what.images.distill, what.images.seed
    if isinstance(recipe, Trajectory):
        ways = [expert(e).tensors["weights"] for e in experts(what.data, len(real.train), recipe)]
        made, losses = match_trajectories(real, ways, recipe, seed, checkpoint)
        seen = recipe.experts * recipe.epochs * len(real.train)
    else:
        method = match_gradients if isinstance(recipe, Gradient) else match_distributions
        made, losses = method(real, recipe, seed, checkpoint)
        seen = recipe.steps * (recipe.batch * len(made.classes) + (NET_BATCH * recipe.net_steps if recipe.pool else 0))
    return Product(
        {
            "losses": [round(x, 6) for x in losses],
            "classes": list(made.classes),
            "recipe": made.recipe,
            "real_passes": seen,
        },
        {"images": made.images, "labels": made.labels, "mean": made.mean, "std": made.std},
    )


def make_sets(what: Sequence[SetOf]) -> None:
    """Compute distilled sets, and before them the experts that they follow (other sets cost nothing worth keeping)."""
    wanted = [w.but(images=w.images.but(kind="distilled")) for w in what if w.images.kind in ("distilled", "permuted")]
    train_experts(wanted)
    parallel.compute(distilled, wanted, "distil")


def train_experts(what: Sequence[SetOf]) -> None:
    """Compute the experts that these sets follow; none, for methods without."""
    recipes = {(w.data, w.images.distill) for w in what if isinstance(w.images.distill, Trajectory)}
    ways = [e for source, recipe in recipes for e in experts(source, len(data.load(source).train), recipe)]
    if ways:
        parallel.compute(expert, ways, "train experts")


def own(file: str, real: RealData) -> SynSet:
    """The set in a file, as its makers trained on it. DataError where it is none, or does not fit the real data.

    An inner loop sees a whitened set whitened, and what it hands over is a mask (with the weights that the ticket's rewinding keeps): the
    outer training, tests and barriers are those of the study's plain real images, as for every other arm. To whiten these too would be
    another task, with a dense net and an IMP of its own. So such an arm asks what masks are worth that were found with the set as
    published, and part of its distance to the other arms may be that first layers saw other inputs; the set's own worth is judged on
    whitened real images (`judge`).
    """
    made = SynSet.load(file, real=real)
    if tuple(made.images.shape[1:]) != real.shape or len(made.classes) != len(real.classes):
        raise data.DataError(
            f"{file}: images of shape {tuple(made.images.shape[1:])} and {len(made.classes)} classes, the real data {real.shape} and "
            f"{len(real.classes)}; use it with the data it was made for"
        )
    return made


@store.fingerprint.register
def _(images: Images) -> str | None:
    """The bytes of a set in a file and, where it is of another's format, the version of what is made of them."""
    if images.kind != "own":
        return None
    marks = [f"{f.name} {data.sha256(f)}" for f in foreign.files_of(images.file)]
    marks += [] if images.file.endswith(".safetensors") else [f"reading {foreign.READING}"]
    return f"own:{hashlib.sha256(' '.join(marks).encode()).hexdigest()}"


def stand_in(real: RealData, recipe: Matching) -> loop.Method:
    """The method of a distillation, to be timed: along trajectories without experts, a random way, of equal cost."""
    if isinstance(recipe, Trajectory):
        weights, draw = flat(loop.random_net(recipe, real, 0, 0)), torch.Generator().manual_seed(0)
        way = [weights + 0.01 * k * torch.randn(weights.shape, generator=draw).to(weights) for k in range(recipe.epochs + 1)]
        return Trajectories(real, [torch.stack(way)], recipe, 0)
    return (Gradients if isinstance(recipe, Gradient) else Distributions)(real, recipe, 0)


def estimate(what: SetOf) -> dict[str, float]:
    """What the distillation of a set will cost here, from a few of its steps (`loop.estimate`); without the experts of trajectories."""
    real = data.load(what.data)
    with parallel.single_thread():
        return loop.estimate(stand_in(real, what.images.distill), real, what.images.distill)


class Judges(Config):
    """The fresh nets that say how hard each real training image is."""

    data: Data
    seed: int = 0
    nets: int = 3
    net: Net = Net(name="convnet", width=32, depth=2, norm="instance")
    recipe: Recipe = Recipe(steps=100, lr=0.1)


@cached(version=1)
def difficulty(what: Judges) -> Product:
    """What fresh nets, early in training, make of each training image, as tensors: `el2n` (Paul et al. 2021, arXiv 2107.07075), the length
    of softmax minus one-hot label, mean over the nets; `features`, what the first net's head sees."""
    real, total, features = data.load(what.data), 0.0, []
    for number in range(what.nets):
        seed = generator(what.seed, "judge", number).initial_seed()
        net = nets.build(what.net, real.shape, len(real.classes), seed).to(device())
        net.load_state_dict(train(net, real.train.images, real.train.labels, what.recipe, seed=seed).state)
        with torch.no_grad(), nets.evaluating(net):
            seen = torch.cat([net.features(x) for x in real.train.images.split(1024)])
            guessed = net.head(seen).softmax(1)
        features.append(seen.cpu())
        total = total + (guessed - torch.nn.functional.one_hot(real.train.labels, len(real.classes))).norm(dim=1)
    return Product({"images": len(real.train)}, {"el2n": (total / what.nets).cpu(), "features": features[0]})


def small_set(what: SetOf) -> SynSet:
    """The small set that `what` describes (not for kind `real`)."""
    kind, ipc, seed = what.images.kind, what.images.ipc, what.images.seed
    if kind == "permuted":
        return permuted(small_set(what.but(images=what.images.but(kind="distilled"))), seed)
    if kind == "distilled":
        product = distilled(what)
        t = product.tensors
        recipe = product.metrics["recipe"]
        parts = (t["images"], t["labels"], tuple(product.metrics["classes"]), t["mean"], t["std"], recipe)
        return SynSet(*parts, factor=recipe.get("factor", 1))
    real = data.load(what.data)
    if kind == "own":
        return own(what.images.file, real)
    if kind in ("easy", "herding", "kcenter", "patches"):
        seen = difficulty(Judges(data=what.data, seed=seed)).tensors
        if kind == "easy":
            return easiest(real, ipc, seen["el2n"], seed)
        if kind == "patches":
            return coresets.patches(real, seen["el2n"], ipc, seed=seed)
        index = getattr(coresets, kind)(seen["features"], real.train.labels, ipc).to(real.train.images.device)
        return _chosen(real, index, {"method": kind, "ipc": ipc, "seed": seed})
    return {"subset": subset, "noise": noise}[kind](real, ipc, seed)


def inner_images(source: Data, images: Images) -> Split:
    """Training images of an inner loop as its net sees them: normalised, and whitened where the set is; on the device."""
    if images.kind == "real":
        return data.load(source).train
    small = small_set(SetOf(data=source, images=images)).split()
    return Split(small.images.to(device()), small.labels.to(device()))
