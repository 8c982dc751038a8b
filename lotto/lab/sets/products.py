"""The sets an inner loop may train on: distilled images, equally many real ones, noise; and the nets they cost."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from lotto import modules, nets
from lotto.checkpoint import Checkpoint
from lotto.config import ConfigError, Net, Recipe
from lotto.data import DataError, RealData, Split
from lotto.distill import coresets, files, judge, loop
from lotto.distill.distributions import Distributions, match_distributions
from lotto.distill.gradients import Gradients, match_gradients
from lotto.distill.pool import NET_BATCH, random_net
from lotto.distill.recipes import Gradient, Matching, Trajectory
from lotto.distill.synset import SynSet, check_classes
from lotto.distill.trajectories import Trajectories, flat, match_trajectories
from lotto.lab import sources
from lotto.lab.describe import Data, Expert, Images, Judges, Judging, SetOf
from lotto.lab.device import device, single_thread
from lotto.lab.product import Product
from lotto.lab.progress import Progress
from lotto.lab.store import Cached, cached, fingerprint
from lotto.streams import generator
from lotto.train import train


@cached(version=1, label="train experts")
def expert(what: Expert) -> Product:
    """That way, as the tensor `weights`: a row an epoch, its start included; metrics hold the mean loss of each
    epoch."""
    real = sources.load(what.data)
    seed = generator(what.number, "expert").initial_seed()
    net = nets.build(what.net, real.shape, len(real.classes), seed).to(device())
    way, losses = [flat(net)], []
    for epoch in range(what.epochs):  # without momentum and at a constant rate, so epochs one by one are one training
        end = train(net, real.train.images, real.train.labels, what.recipe, seed=seed, child=epoch)
        if not end.finite:
            raise ConfigError(
                f"expert {what.number} diverged in epoch {epoch}; give a smaller expert_lr than {what.recipe.lr}"
            )
        net.load_state_dict(end.state)
        way.append(flat(net))
        losses.append(end.losses[-1])
    return Product({"losses": [round(x, 6) for x in losses]}, {"weights": torch.stack(way).cpu()})


def experts(source: Data, images: int, recipe: Trajectory) -> list[Expert]:
    """The experts of a distillation; images: of the training set, that is, in an epoch."""
    net = Net(name="convnet", width=recipe.width, depth=recipe.depth, norm="instance")
    one = Recipe(
        steps=max(1, images // min(recipe.expert_batch, images)),
        lr=recipe.expert_lr,
        batch=recipe.expert_batch,
        momentum=0.0,
        weight_decay=0.0,
        schedule="constant",
        shift=recipe.shift,
        flip=recipe.flip,
        ops=recipe.ops,
    )
    return [Expert(data=source, net=net, recipe=one, epochs=recipe.epochs, number=n) for n in range(recipe.experts)]


@fingerprint.register
def _(recipe: Trajectory) -> str:
    """A set made along experts is another set when they are."""
    return f"experts:{expert.version}"


def made_of(what: SetOf) -> list[tuple[Cached, Any]]:
    """The products that a small set is made of."""
    if what.images.kind in ("distilled", "permuted"):
        return [(distilled, what.but(images=what.images.but(kind="distilled")))]
    if what.images.kind in ("easy", "herding", "kcenter", "patches"):
        return [(difficulty, Judges(data=what.data, seed=what.images.seed))]
    return []


def _followed(what: SetOf) -> list[tuple[Cached, Any]]:
    if not isinstance(what.images.distill, Trajectory):
        return []
    return [(expert, e) for e in experts(what.data, len(sources.load(what.data).train), what.images.distill)]


@cached(version=2, label="distil", needs=_followed)
def distilled(what: SetOf, checkpoint: Checkpoint) -> Product:
    """The distilled set as a product: tensors of the SynSet, metrics with the loss."""
    real = sources.load(what.data)
    recipe, seed = what.images.distill, what.images.seed
    saved = checkpoint.load()  # a resumed distillation is told from where it goes on
    told = Progress(f"distil ({recipe.method})", recipe.steps, saved[1]["step"] if saved else 0, "step").reached
    if isinstance(recipe, Trajectory):
        ways = [expert(e).tensors["weights"] for e in experts(what.data, len(real.train), recipe)]
        made, losses = match_trajectories(real, ways, recipe, seed, checkpoint, told)
        seen = recipe.experts * recipe.epochs * len(real.train)
    else:
        method = match_gradients if isinstance(recipe, Gradient) else match_distributions
        made, losses = method(real, recipe, seed, checkpoint, told)
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


def own(file: str, real: RealData) -> SynSet:
    """The set in a file, as its makers trained on it. DataError where it is none, or does not fit the real data.

    An inner loop sees a whitened set whitened, and what it hands over is a mask (with the weights that the ticket's
    rewinding keeps): the outer training, tests and barriers are those of the study's plain real images, as for every
    other arm. To whiten these too would be another task, with a dense net and an IMP of its own. So such an arm asks
    what masks are worth that were found with the set as published, and part of its distance to the other arms may be
    that first layers saw other inputs; the set's own worth is judged on whitened real images (`judge`).
    """
    made = SynSet.load(file, real=real)
    if tuple(made.images.shape[1:]) != real.shape or len(made.classes) != len(real.classes):
        raise DataError(
            f"{file}: images of shape {tuple(made.images.shape[1:])} and {len(made.classes)} classes, the real data "
            f"{real.shape} and {len(real.classes)}; use it with the data it was made for"
        )
    if made.recipe.get("read as", "").startswith("IDC"):
        raise DataError(
            f"{file}: IDC's files do not say how many images each of theirs holds; give a .safetensors file that does: "
            "SynSet.load(file, real=real, factor=2).save('set.safetensors')"
        )
    check_classes(made, real)
    return made


@fingerprint.register
def _(images: Images) -> str | None:
    """The bytes of a set in a file and, where it is of another's format, the version of what is made of them."""
    if images.kind != "own":
        return None
    marks = [f"{f.name} {sources.sha256(f)}" for f in files.files_of(images.file)]
    marks += [] if images.file.endswith(".safetensors") else [f"reading {files.READING}"]
    return f"own:{hashlib.sha256(' '.join(marks).encode()).hexdigest()}"


def stand_in(real: RealData, recipe: Matching) -> loop.Method:
    """The method of a distillation, to be timed: along trajectories without experts, a random way, of equal cost."""
    if isinstance(recipe, Trajectory):
        weights, draw = flat(random_net(recipe, real, 0, 0)), torch.Generator().manual_seed(0)
        way = [
            weights + 0.01 * k * torch.randn(weights.shape, generator=draw).to(weights)
            for k in range(recipe.epochs + 1)
        ]
        return Trajectories(real, [torch.stack(way)], recipe, 0)
    return (Gradients if isinstance(recipe, Gradient) else Distributions)(real, recipe, 0)


def estimate(what: SetOf) -> dict[str, float]:
    """What the distillation of a set will cost here, from a few of its steps (`loop.estimate`); without the experts of
    trajectories."""
    real = sources.load(what.data)
    with single_thread():
        return loop.estimate(stand_in(real, what.images.distill), real, what.images.distill)


@cached(version=1, label="score images")
def difficulty(what: Judges) -> Product:
    """What fresh nets, early in training, make of each training image, as tensors: `el2n` (Paul et al. 2021, arXiv
    2107.07075), the length of softmax minus one-hot label, mean over the nets; `features`, what the first net's head
    sees."""
    real, total, features = sources.load(what.data), 0.0, []
    for number in range(what.nets):
        seed = generator(what.seed, "judge", number).initial_seed()
        net = nets.build(what.net, real.shape, len(real.classes), seed).to(device())
        net.load_state_dict(train(net, real.train.images, real.train.labels, what.recipe, seed=seed).state)
        with torch.no_grad(), modules.evaluating(net):
            seen = torch.cat([net.features(x) for x in real.train.images.split(1024)])
            guessed = net.head(seen).softmax(1)
        features.append(seen.cpu())
        total = total + (guessed - torch.nn.functional.one_hot(real.train.labels, len(real.classes))).norm(dim=1)
    return Product({"images": len(real.train)}, {"el2n": (total / what.nets).cpu(), "features": features[0]})


def small_set(what: SetOf) -> SynSet:
    """The small set that `what` describes (not for kind `real`)."""
    kind, ipc, seed = what.images.kind, what.images.ipc, what.images.seed
    if kind == "permuted":
        return coresets.permuted(small_set(what.but(images=what.images.but(kind="distilled"))), seed)
    if kind == "distilled":
        product = distilled(what)
        t = product.tensors
        recipe = product.metrics["recipe"]
        parts = (t["images"], t["labels"], tuple(product.metrics["classes"]), t["mean"], t["std"], recipe)
        return SynSet(*parts, factor=recipe.get("factor", 1))
    real = sources.load(what.data)
    if kind == "own":
        return own(what.images.file, real)
    if kind in ("easy", "herding", "kcenter", "patches"):
        seen = difficulty(Judges(data=what.data, seed=seed)).tensors
        if kind == "easy":
            return coresets.easiest(real, ipc, seen["el2n"], seed)
        if kind == "patches":
            return coresets.patches(real, seen["el2n"], ipc, seed=seed)
        index = getattr(coresets, kind)(seen["features"], real.train.labels, ipc).to(real.train.images.device)
        return coresets.chosen(real, index, {"method": kind, "ipc": ipc, "seed": seed})
    return getattr(coresets, kind)(real, ipc, seed)


def inner_images(source: Data, images: Images) -> Split:
    """Training images of an inner loop as its net sees them: normalised, and whitened where the set is; on the
    device."""
    if images.kind == "real":
        return sources.load(source).train
    small = small_set(SetOf(data=source, images=images)).split()
    return Split(small.images.to(device()), small.labels.to(device()))


@cached(
    version=1,
    uses=(distilled,),
    label="judge sets",
    needs=lambda what: made_of(SetOf(data=what.data, images=what.images)),
)
def judged(what: Judging) -> Product:
    """Loss and error of that net on all three splits after its last step, and how it came out."""
    real = sources.load(what.data)
    if what.images.kind == "real":
        return Product(judge.taught(real.train, real, what.net, what.recipe, what.seed))
    small = small_set(SetOf(data=what.data, images=what.images))
    return Product(judge.taught(small.split(), small.view(real), what.net, what.recipe, what.seed))
