"""How early in its inner loop a mask is settled."""

from __future__ import annotations

from lotto import masks, scores
from lotto.lab.describe import Training
from lotto.lab.product import Product
from lotto.lab.sets.products import difficulty, distilled, inner_images
from lotto.lab.store import cached
from lotto.lab.tickets.products import SEARCH, rewind_point, sgd, start_of, trained

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
    mask, images = start_of(run.ticket).mask, inner_images(run.ticket.setup.data, run.images)
    final = masks.prune(mask, scores.magnitude(trained(run).tensors, mask), run.ticket.fraction)
    rows = []
    for share in SHARES:
        stop = max(1, round(share * run.recipe.steps))
        end = sgd(run, images, stop=stop)
        early = masks.prune(
            mask, scores.magnitude({n: t.cpu() for n, t in end.state.items()}, mask), run.ticket.fraction
        )
        rows.append({"share": share, "overlap": masks.overlap(early, final), "chance": masks.chance(early, final)})
    return Product({"rows": rows})
