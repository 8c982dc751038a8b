"""Tickets, round by round: the rewind point, the mask of each level, and the nets trained from them.

The same steps as `lotto.tickets.find`, each a product of its own, so that searches share what they have in common.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from lotto import masks, modules, nets, reach, scores
from lotto.checkpoint import Checkpoint
from lotto.data import Split
from lotto.lab import parallel, sources
from lotto.lab.describe import SetOf, Setup, Ticket, Training
from lotto.lab.device import device
from lotto.lab.product import Product
from lotto.lab.sets.products import difficulty, distilled, inner_images, made_of, small_set
from lotto.lab.store import Cached, cached
from lotto.lab.study import Study
from lotto.lab.tables import batches
from lotto.modules import State
from lotto.tickets import Level, rewind
from lotto.train import Trained, evaluate_splits, outcome, train


def network(setup: Setup, state: State | None = None) -> nn.Module:
    """The setup's net on the device, with its initial weights or those of `state`."""
    real = sources.load(setup.data)
    model = nets.build(setup.net, real.shape, len(real.classes), setup.seed)
    if state is not None:
        model.load_state_dict(state)
    return model.to(device(), memory_format=modules.layout(model, device()))


@cached(version=1, label="train to the rewind point")
def rewind_point(setup: Setup, checkpoint: Checkpoint) -> Product:
    """The dense net at step k of its training on real data (k = 0: its initialisation)."""
    if setup.rewind == 0:
        return Product({"step": 0}, modules.copy_state(network(setup)))
    real = sources.load(setup.data).train
    end = train(
        network(setup),
        real.images,
        real.labels,
        setup.pretrain,
        seed=setup.seed,
        child=0,
        stop=setup.rewind,
        checkpoint=checkpoint,
    )
    return Product({"step": setup.rewind}, end.state)


OTHER = 100_000
"""Added to the seed for the other initialisation of an arm with new weights: more than a study has seeds."""

SEARCH = 2
"""Version of `level` and `trained`, which build on each other: raise it when the results of either change."""


def _searched_with(ticket: Ticket) -> list[tuple[Cached, Any]]:
    if ticket.then:
        return [(level, ticket.but(then=None)), (rewind_point, _origin(ticket))]
    sets = dict.fromkeys(SetOf(data=ticket.setup.data, images=r.images) for r in ticket.rounds if r.images)
    return [(rewind_point, ticket.setup), *(pair for what in sets for pair in made_of(what))]


@cached(
    version=SEARCH,
    uses=(rewind_point, distilled, difficulty),
    label="search masks",
    needs=_searched_with,
    through=lambda ticket: ticket.parent if ticket.rounds and not ticket.then else None,
    cost=lambda ticket: sum(r.recipe.steps for r in ticket.rounds if r.recipe),
)
def level(ticket: Ticket) -> Product:
    """The mask of a ticket (its tensors) and what is to be said of it; one round at a time, so that searches share
    prefixes."""
    start = rewind_point(_origin(ticket)).tensors
    if not ticket.rounds:
        mask, state = {n: m.cpu() for n, m in masks.ones(network(ticket.setup)).items()}, "alive"
    elif ticket.then:
        found = level(ticket.but(then=None))
        mask, state = _control(ticket, found.tensors), found.metrics["state"]
    else:
        mask, state = _pruned(ticket, start)
    model = network(ticket.setup, masks.apply(start, mask))
    if state == "alive" and reach.dead(model, sources.load(ticket.setup.data).train.images[:64]):
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
        model, shape = network(ticket.setup, start), sources.load(ticket.setup.data).shape
        here = {n: m.to(device()) for n, m in mask.items()}
        return {n: m.cpu() for n, m in scores.synflow_mask(model, shape, here, live, SYNFLOW).items()}, "alive"
    else:
        end = trained(inner_loop(ticket))
        if end.metrics["state"] == "diverged":
            return mask, "diverged"
        if last.score == "nothing":
            return mask, "alive"
        # a dead net sees no gradient, only decay: its weights keep the order in which they start
        score = scores.magnitude(start if end.metrics["state"] == "dead" else end.tensors, mask)
    # on the device: to sort eleven million weights takes a core more than a second
    there = {n: m.to(device()) for n, m in mask.items()}
    kept = masks.prune(there, {n: s.to(device()) for n, s in score.items()}, ticket.fraction)
    return {n: m.cpu() for n, m in kept.items()}, "alive"


SYNFLOW = 20
"""Cuts of SynFlow in a round: 5 rounds are the 100 of the paper."""


def _origin(ticket: Ticket) -> Setup:
    """Whose initial weights a ticket is trained from: its own, or another initialisation's."""
    return ticket.setup.but(seed=ticket.setup.seed + OTHER) if ticket.then == "new weights" else ticket.setup


def inner_loop(ticket: Ticket) -> Training:
    """The training of a ticket's last round, in the searches' own noise (for a round scored by magnitude)."""
    last = ticket.rounds[-1]
    return Training(ticket=ticket.parent, images=last.images, recipe=last.recipe, child=0)


def _control(ticket: Ticket, found: masks.Mask) -> masks.Mask:
    """The mask of a control, from that which the search found."""
    match = {"shuffled": masks.match_layers, "shuffled in filters": masks.match_filters}.get(ticket.then)
    return match(found, scores.random(found, ticket.setup.seed, "shuffle")) if match else found


def start_of(ticket: Ticket) -> Level:
    """A ticket's mask and the state it is trained from. Where its last inner loop did not train, there is nothing to
    keep of it."""
    mask = level(ticket).tensors
    start = rewind_point(_origin(ticket)).tensors
    if ticket.rewinding == "all" or ticket.then == "rewound":
        return Level(mask, rewind(start, start, mask))
    end = trained(inner_loop(ticket.but(then=None))).tensors or start
    return Level(mask, rewind(start, end, mask, ticket.rewinding))


def sgd(run: Training, images: Split, stop: int | None = None, checkpoint: Checkpoint | None = None) -> Trained:
    """That training itself on its images, from the ticket's start under its mask, in the training's noise; up to before
    step `stop` where one is given."""
    setup, (mask, state) = run.ticket.setup, start_of(run.ticket)
    return train(
        network(setup, state),
        images.images,
        images.labels,
        run.recipe,
        mask,
        seed=setup.seed,
        child=run.child,
        stop=stop,
        checkpoint=checkpoint,
    )


@cached(
    version=SEARCH,
    uses=(rewind_point, distilled, difficulty),
    label="train tickets",
    needs=lambda run: [(level, run.ticket), *made_of(SetOf(data=run.ticket.setup.data, images=run.images))],
)
def trained(run: Training, checkpoint: Checkpoint) -> Product:
    """The net after one training from a ticket (its tensors), its loss and error on all three splits, and how it came
    out."""
    real, setup = sources.load(run.ticket.setup.data), run.ticket.setup
    images = inner_images(setup.data, run.images)
    passes = (run.recipe.steps - run.recipe.first) * min(run.recipe.batch, len(images))
    found = level(run.ticket).metrics["state"]
    if found != "alive":
        # nothing to train: the ticket is dead, or its search diverged; said as that, not as a number
        return Product({"state": found, "epoch_losses": [], "passes": 0, "images": len(images)}, {})
    end = sgd(run, images, checkpoint=checkpoint)
    model = network(setup, end.state)
    if run.images.kind == "own":  # a net trained on a whitened set is judged on whitened images
        real = small_set(SetOf(data=setup.data, images=run.images)).view(real)
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


def trainings(study: Study) -> list[Training]:
    """Those of each of `study.cells()`, child by child."""
    return [study.training(*cell, child) for cell in study.cells() for child in range(1, study.children + 1)]


def children(study: Study) -> list[list[Product]]:
    """The children of each of `study.cells()`, computed or read."""
    return batches(parallel.compute(trained, trainings(study)), study.children)


def levels(study: Study, dense: bool = True) -> list[Product]:
    """The masks of each of `study.cells(dense)`, computed or read."""
    return parallel.compute(level, [study.ticket(*cell) for cell in study.cells(dense)])
