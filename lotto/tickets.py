"""Iterative pruning: train, score, prune, rewind, round after round. What the inner loop trains on is the question of this study.

`find` is the algorithm on your own module and images. The cached functions `rewind_point`, `trained` and `level` are the
study's: the same steps, each a product of its own, so that searches share what they have in common.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lotto import data, masks, nets, parallel, scores
from lotto.config import ConfigError, Net, Recipe, Setup, Study, Ticket, Training
from lotto.distill.sets import SetOf, difficulty, distilled, inner_images, own, train_experts
from lotto.lab.arms import ARMS, Rewinding
from lotto.lab.claims.rules import REGIMES
from lotto.nets import State
from lotto.store import Checkpoint, Product, cached
from lotto.train import check as check_training
from lotto.train import evaluate_splits, outcome, train


class Level(NamedTuple):
    """One round's result: the mask and the weights to train under it (the start's, with those pruned at 0)."""

    mask: masks.Mask
    state: State


def rewind(start: State, end: State, mask: masks.Mask, what: Rewinding = "all") -> State:
    """The state from which a ticket is trained: weights of `start` where `mask` keeps them, 0 elsewhere.

    start, end: the net before and after the inner loop. "all": every parameter and buffer of `start`, bit for bit. "weights": prunable
    weights only; biases, norm parameters and running statistics stay those of `end` (so does the code published with the paper's
    predecessors). "signs": as "all", but each prunable weight has the sign that it has in `end`, at the magnitude that it has in
    `start`. "weights and signs": both (after "Find a Winning Sign", arXiv 2504.05357).
    """
    base = {n: end[n] if "weights" in what and n not in mask else t for n, t in start.items()}
    if "signs" in what:
        base |= {n: torch.copysign(start[n], end[n]) for n in mask}
    return {n: t.clone() for n, t in masks.apply(base, mask).items()}


def find(
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"] | Float[Tensor, "n classes"],
    recipe: Recipe,
    rounds: int,
    fraction: float = 0.2,
    *,
    seed: int = 0,
    rewinding: Rewinding = "all",
    prunable: masks.Chosen | None = None,
) -> Iterator[Level]:
    """Levels 1 to `rounds` of iterative magnitude pruning of `model` with these images in the inner loop.

    Each round trains the ticket so far, drops the `fraction` of its live weights with the smallest magnitude over all layers, and
    rewinds the rest to `model`'s weights (Frankle & Carbin 2019, arXiv 1803.03635; with a few distilled images: McDermott &
    Parhi 2025, arXiv 2503.17905). Give a `model` trained for k steps to rewind to step k; `rewinding` says what a rewind restores
    (`rewind`). `model` is not changed.

    Pruned are the weights of convolutions and linear layers, or the parameters for which `prunable(name, parameter)` is true; frozen and
    parametrised ones never are (`masks.prunable`). The mask has the first name of a tied parameter, the state is masked under all.

    What cannot be searched is refused at the call: DataError for the images or labels, ConfigError for the module, MaskError where nothing
    is prunable. A UserWarning says how many weights the mask covers where that is below 90 %, and names layers with weights that no image
    can reach: both make a net look sparser than it is. A ValueError says when an inner loop diverged.
    """
    model = nets.copied(model).to(images.device).train()
    check_training(model, images, labels, recipe)
    mask = masks.ones(model, prunable)
    if (covered := masks.size(mask)) < 0.9 * (whole := covered + sum((out := masks.uncovered(mask, model)).values())):
        warnings.warn(
            f"the mask covers {covered} of {whole} weights ({100 * covered / whole:.1f} %), as it leaves out {_named(out)}; name what is "
            "to be pruned by prunable=lambda name, parameter: ..., or read each sparsity as that of the covered weights",
            stacklevel=2,
        )
    if lost := masks.unreachable(model, tuple(images.shape[1:]), chosen=prunable):
        warnings.warn(f"{unreachable_told(lost, covered)}; they count as pruned or kept all the same", stacklevel=2)

    def levels(mask: masks.Mask) -> Iterator[Level]:
        state = start = nets.copy_state(model)
        for _ in range(rounds):
            end = train(_with(model, state), images, labels, recipe, mask, seed=seed, child=0)
            if not end.finite:
                raise ValueError(f"the inner loop diverged (lr = {recipe.lr}); give a smaller learning rate")
            mask = masks.prune(mask, scores.magnitude(end.state, mask), fraction)
            state = rewind(start, end.state, masks.spread(mask, model), rewinding)
            yield Level(mask, state)

    return levels(mask)


def _with(model: nn.Module, state: State) -> nn.Module:
    model = copy.deepcopy(model)
    model.load_state_dict(state)
    return model


def network(setup: Setup, state: State | None = None) -> nn.Module:
    """The setup's net on the device, with its initial weights or those of `state`."""
    real = data.load(setup.data)
    model = nets.build(setup.net, real.shape, len(real.classes), setup.seed)
    if state is not None:
        model.load_state_dict(state)
    return model.to(parallel.device(), memory_format=nets.layout(model, parallel.device()))


@cached(version=1)
def rewind_point(setup: Setup, checkpoint: Checkpoint) -> Product:
    """The dense net at step k of its training on real data (k = 0: its initialisation)."""
    if setup.rewind == 0:
        return Product({"step": 0}, nets.copy_state(network(setup)))
    real = data.load(setup.data).train
    end = train(
        network(setup), real.images, real.labels, setup.pretrain, seed=setup.seed, child=0, stop=setup.rewind, checkpoint=checkpoint
    )
    return Product({"step": setup.rewind}, end.state)


OTHER = 100_000
"""Added to the seed for the other initialisation of an arm with new weights: more than a study has seeds."""
SEARCH = 2
"""Version of `level` and `trained`, which build on each other: raise it when the results of either change."""


@cached(version=SEARCH, uses=(rewind_point, distilled, difficulty))
def level(ticket: Ticket) -> Product:
    """The mask of a ticket (its tensors) and what is to be said of it; one round at a time, so that searches share prefixes."""
    start = rewind_point(ticket.setup).tensors
    if not ticket.rounds:
        mask, state = masks.ones(network(ticket.setup)), "alive"
    elif ticket.then == "shuffled":
        mask, state = _layer_matched(ticket)
    elif ticket.then == "new weights":
        found = level(ticket.but(then=None))
        mask, state, start = found.tensors, found.metrics["state"], rewind_point(_other(ticket.setup)).tensors
    else:
        mask, state = _pruned(ticket, start)
    model = network(ticket.setup, masks.apply(start, mask))
    if state == "alive" and masks.dead(model, data.load(ticket.setup.data).train.images[:64]):
        state = "dead"
    return Product(
        {
            "state": state,
            "level": ticket.level,
            "live": masks.count(mask),
            "prunable": masks.size(mask),
            "parameters": sum(p.numel() for p in model.parameters()),
            "collapsed": masks.collapsed(mask),
            "layer_live": {n: int(m.sum()) for n, m in mask.items()},
            "layer_size": {n: m.numel() for n, m in mask.items()},
        },
        mask,
    )


def _pruned(ticket: Ticket, start: State) -> tuple[masks.Mask, str]:
    parent, last = level(ticket.parent), ticket.rounds[-1]
    mask = parent.tensors
    if parent.metrics["state"] == "diverged":
        return mask, "diverged"
    if last.score == "random":
        score = scores.random(mask, ticket.setup.seed, "score", ticket.level)
    elif last.score == "initial":
        score = scores.magnitude(start, mask)
    elif last.score in ("snip", "grasp"):  # of the dense net, so that all rounds together are one cut, as published
        small, model = inner_images(ticket.setup.data, last.images), network(ticket.setup, start)
        score = getattr(scores, last.score)(model, small.images, small.labels, masks.ones(model))
    elif last.score == "synflow":
        live = masks.count(mask) - round(ticket.fraction * masks.count(mask))
        model, shape = network(ticket.setup, start), data.load(ticket.setup.data).shape
        here = {n: m.to(parallel.device()) for n, m in mask.items()}
        return {n: m.cpu() for n, m in scores.synflow_mask(model, shape, here, live, SYNFLOW).items()}, "alive"
    else:
        end = trained(inner_loop(ticket))
        if end.metrics["state"] == "diverged":
            return mask, "diverged"
        if last.score == "nothing":
            return mask, "alive"
        # a dead net sees no gradient, only decay: its weights keep the order in which they start
        score = scores.magnitude(start if end.metrics["state"] == "dead" else end.tensors, mask)
    return masks.prune(mask, {n: s.cpu() for n, s in score.items()}, ticket.fraction), "alive"


SYNFLOW = 20
"""Cuts of SynFlow in a round: 5 rounds are the 100 of the paper."""


def _other(setup: Setup) -> Setup:
    return setup.but(seed=setup.seed + OTHER)


def inner_loop(ticket: Ticket) -> Training:
    """The training of a ticket's last round, in the searches' own noise (for a round scored by magnitude)."""
    last = ticket.rounds[-1]
    return Training(ticket=ticket.parent, images=last.images, recipe=last.recipe, child=0)


def _layer_matched(ticket: Ticket) -> tuple[masks.Mask, str]:
    model = level(ticket.but(then=None))
    return masks.match_layers(model.tensors, scores.random(model.tensors, ticket.setup.seed, "shuffle")), model.metrics["state"]


def start_of(ticket: Ticket) -> Level:
    """A ticket's mask and the state it is trained from. Where its last inner loop did not train, there is nothing to keep of it."""
    mask = level(ticket).tensors
    start = rewind_point(_other(ticket.setup) if ticket.then == "new weights" else ticket.setup).tensors
    if ticket.rewinding == "all":
        return Level(mask, rewind(start, start, mask))
    end = trained(inner_loop(ticket.but(then=None))).tensors or start
    return Level(mask, rewind(start, end, mask, ticket.rewinding))


@cached(version=SEARCH, uses=(rewind_point, distilled, difficulty))
def trained(run: Training, checkpoint: Checkpoint) -> Product:
    """The net after one training from a ticket (its tensors), its loss and error on all three splits, and how it came out."""
    real, setup = data.load(run.ticket.setup.data), run.ticket.setup
    mask, state = start_of(run.ticket)
    images = inner_images(setup.data, run.images)
    passes = (run.recipe.steps - run.recipe.first) * min(run.recipe.batch, len(images))
    found = level(run.ticket).metrics["state"]
    if found != "alive":
        # nothing to train: the ticket is dead, or its search diverged; said as that, not as a number
        return Product({"state": found, "epoch_losses": [], "passes": 0, "images": len(images)}, {})
    end = train(
        network(setup, state), images.images, images.labels, run.recipe, mask, seed=setup.seed, child=run.child, checkpoint=checkpoint
    )
    model = network(setup, end.state)
    results = evaluate_splits(model, real) if end.finite else {}
    how = outcome(results["test"]["error"] if results else 1.0, real.test.labels.cpu(), end.finite, dead=False)
    return Product(
        {
            "state": how,
            "epoch_losses": [round(x, 6) for x in end.losses],
            "steps": run.recipe.steps - run.recipe.first,
            "passes": passes,
            "images": len(images),
            **results,
        },
        end.state,
    )


def check(study: Study) -> None:
    """Whether a study can be run here: its initialisations are not those kept for the reference run, its data are there and whole, the net
    and the distilling net fit them, every weight can be reached, and classes hold enough images. ConfigError or DataError says what does
    not; nothing is computed."""
    if kept := REGIMES.get(study.preset):
        last = kept.first_seed + kept.seeds
        if study.first_seed < last and kept.first_seed < study.first_seed + study.seeds:
            raise ConfigError(
                f"first_seed = {study.first_seed} with seeds = {study.seeds}: initialisations {kept.first_seed} to {last - 1} are the "
                f"reference run's, and a run beside itself would say nothing; end before {kept.first_seed}, or give first_seed = {last} or "
                "more"
            )
    data.check_files(study.dataset)
    real = data.load(study.dataset)
    net = network(study.setup(0))
    if lost := masks.unreachable(net, real.shape):
        raise ConfigError(
            f"net = {study.net!r} at {real.shape[-1]} pixels: {unreachable_told(lost, masks.size(masks.ones(net)))}. A sparsity would "
            "count what was never in use: take larger images, or a net that halves them less often"
        )
    fewest, ipc = int(real.train.labels.bincount().min()), study.ipc
    parts = max(4 if "patches" in study.methods else 1, study.distill_factor**2)  # what one stored image holds
    if ipc * parts > fewest:
        each = f", and one stored holds {parts}" if parts > 1 else ""
        raise data.DataError(f"ipc = {ipc}: the smallest class has {fewest} training images{each}; give at most {fewest // parts}")
    if "own" in study.arms:
        for seed in study.initialisations:
            own(study.images("own", seed).file, real)
    match = Net(name="convnet", width=study.distill_width, depth=study.distill_depth, norm="instance")
    firsts = [study.ticket(m, 1, 0).rounds[0] for m in study.arms if not ARMS[m].dense]
    if any(r.images and r.images.distill for r in firsts):
        nets.build(match, real.shape, len(real.classes), 0)


def unreachable_told(lost: dict[str, int], prunable: int) -> str:
    """What `masks.unreachable` found, as the first part of a sentence."""
    count = sum(lost.values())
    return f"{count} of {prunable} prunable weights ({100 * count / prunable:.1f} %) can never get a gradient, in {_named(lost)}"


def _named(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} ({c})" for n, c in list(counts.items())[:3]) + (f" and {len(counts) - 3} more" if len(counts) > 3 else "")


def search(*studies: Study) -> None:
    """Compute the last level of the studies' methods, and with it all levels before; a search is one task."""
    found = [
        (m, s.ticket(m, max(s.levels), seed), s.levels) for s in studies for m in s.arms if not ARMS[m].dense for seed in s.initialisations
    ]
    # first the searches that others build on (their images, their first rounds), so that nobody waits for them; then the longest,
    # so that no worker is left alone with one at the end
    found.sort(key=lambda f: (f[0] != "distilled", -sum(r.recipe.steps for r in f[1].rounds if r.recipe)))
    train_experts([SetOf(data=t.setup.data, images=r.images) for _, t, _ in found for r in t.rounds if r.images])
    parallel.compute(level, [ticket for _, ticket, _ in found], "search masks")
    controls = [t.upto(at) for _, t, levels in found for at in levels if t.then]
    parallel.compute(level, controls, "match layers")


def arms_at(study: Study) -> list[tuple[str, int]]:
    """(method, level) of everything the study trains and compares."""
    return [(m, at) for m in study.arms for at in ((0,) if ARMS[m].dense else study.levels)]


def densities(study: Study):
    """Table of live weights: a row a (method, level, seed, layer), with `live`, `size` and `density`."""
    import pandas as pd

    search(study)
    # in the model's order, which the dense level keeps; a mask read from its file comes sorted by name
    layers = list(level(study.ticket("dense", 0, 0)).metrics["layer_live"])
    rows = []
    for method, at in arms_at(study):
        for seed in study.initialisations:
            m = level(study.ticket(method, at, seed)).metrics
            rows += [
                dict(
                    method=method,
                    level=at,
                    seed=seed,
                    layer=n,
                    live=m["layer_live"][n],
                    size=m["layer_size"][n],
                    density=m["layer_live"][n] / m["layer_size"][n],
                )
                for n in layers
            ]
    return pd.DataFrame(rows)


def costs(study: Study):
    """Table of what a search costs: a row a (method, level), mean over initialisations, from the first round to that level.

    `stored` and `decoded`: different images its inner loops train on (equal here: an image is stored as it is used); `passes`: images
    seen in the inner loops, each time counted; `with distillation`: plus the real images that making the set looked at; and IMP's passes
    over these two ("x fewer"). `core-seconds`: what the products of the search took when they were made (distillation included), on the
    machine that made them. Training the ticket afterwards costs every method the same and is not in it.
    """
    import pandas as pd

    search(study)
    rows = []
    for m in study.arms:
        if ARMS[m].dense:
            continue
        for at in study.levels:
            found = [_cost(study.ticket(m, at, seed)) for seed in study.initialisations]
            mean = {k: sum(f[k] for f in found) / len(found) for k in ("passes", "making", "seconds")}
            stored, imp = max(f["stored"] for f in found), at * study.outer.steps * study.outer.batch
            row = {"method": m, "level": at, "stored": stored, "decoded": stored, "passes": round(mean["passes"])}
            row |= {"with distillation": round(mean["passes"] + mean["making"]), "core-seconds": round(mean["seconds"], 1)}
            for column in ("passes", "with distillation"):
                row[f"x fewer {column}"] = round(imp / row[column], 2) if row[column] else None
            rows.append(row)
    return pd.DataFrame(rows)


def _cost(ticket: Ticket) -> dict[str, float]:
    ticket = ticket.but(then=None)
    runs = [trained(inner_loop(ticket.upto(r + 1))) for r, part in enumerate(ticket.rounds) if part.recipe]
    sets = {part.images.but(kind="distilled") for part in ticket.rounds if part.images and part.images.distill}
    made = [distilled(SetOf(data=ticket.setup.data, images=i)) for i in sets]
    return {
        "stored": max((r.metrics["images"] for r in runs), default=0),
        "passes": sum(r.metrics["passes"] for r in runs),
        "making": sum(p.metrics["real_passes"] for p in made),
        "seconds": sum(p.info["seconds"] for p in [*runs, *made]),
    }
