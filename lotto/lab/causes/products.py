"""How early in its inner loop a mask is settled, and how far weights travel from where they start."""

from __future__ import annotations

from lotto import masks, scores
from lotto.lab.describe import Training
from lotto.lab.product import Product
from lotto.lab.sets.products import difficulty, distilled, inner_images
from lotto.lab.store import cached
from lotto.lab.tickets.products import SEARCH, inner_loop, rewind_point, sgd, start_of, trained

SHARES = (0.1, 0.25, 0.5)
"""Where in an inner loop `settling` stops to look."""


@cached(
    version=SEARCH + 1,
    uses=(rewind_point, distilled, difficulty),
    label="stop early",
    needs=lambda run: [(trained, run)],
)
def settling(run: Training) -> Product:
    """The mask of one round, had its inner loop been stopped at each of SHARES: overlap with the mask of the whole
    loop, and chance."""
    mask, images, whole = start_of(run.ticket).mask, inner_images(run.ticket.setup.data, run.images), trained(run)
    if whole.metrics["state"] in ("dead", "diverged"):
        return Product({"state": whole.metrics["state"], "rows": []})
    final = masks.prune(mask, scores.magnitude(whole.tensors, mask), run.ticket.fraction)
    rows = []
    for share in SHARES:
        first = run.recipe.first
        stop = first + max(1, round(share * (run.recipe.steps - first)))
        end = sgd(run, images, stop=stop)
        early = masks.prune(
            mask, scores.magnitude({n: t.cpu() for n, t in end.state.items()}, mask), run.ticket.fraction
        )
        rows.append({"share": share, "overlap": masks.overlap(early, final), "chance": masks.chance(early, final)})
    return Product({"rows": rows})


@cached(version=2, uses=(trained,), label="measure ways", needs=lambda run: [(trained, run)])
def journey(run: Training) -> Product:
    """How far a child's live weights travel, and those of the inner loop that made its mask: the columns of
    `tables.journeys`."""
    ticket, child = run.ticket, trained(run)
    mask, start = start_of(ticket)
    dead, every = masks.channels(mask)
    row = {"state": child.metrics["state"], "dead_channels": 100 * dead / every}
    if ticket.rounds and ticket.rounds[-1].recipe and ticket.then in (None, "rewound"):  # no loop made other controls
        found = ticket.but(then=None)
        before, end = start_of(found.parent), trained(inner_loop(found))
        if end.metrics["state"] in ("trained", "failed"):
            row["inner"] = masks.travelled(before.state, end.tensors, before.mask)
            row["turned"] = 100 - 100 * masks.same_signs(before.state, end.tensors, mask)
            if child.tensors:
                row["agree"] = 100 * masks.same_signs(end.tensors, child.tensors, mask)
    if child.metrics["state"] in ("trained", "failed"):
        row["distance"] = masks.travelled(start, child.tensors, mask)
        row["kept"] = 100 * masks.same_signs(start, child.tensors, mask)
    return Product(row)
