"""The reference runs that are planned: which arms, at which levels, into which tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lotto.lab.arms import FACTORIAL


@dataclass(frozen=True)
class Batch:
    """Some arms of a run at some levels, and the tables made of them."""

    methods: tuple[str, ...]
    levels: tuple[int, ...]
    tables: tuple[str, ...] = ("accuracy", "barrier")
    children: int = 2


@dataclass(frozen=True)
class Plan:
    """A reference run: its study, and its batches in the order in which they are computed."""

    preset: str
    batches: dict[str, Batch]
    at_once: int = 1
    """Initialisations computed together, for the workers' sake."""
    more: tuple[tuple[str, Any], ...] = ()
    """Parameters that differ from the preset's."""
    seeds: int | None = None
    first_seed: int | None = None
    """None: those of `rules.REGIMES`."""


_CURVES = ("imp", "imp-rewound", "distilled", "subset", "random-layerwise", "hybrid")

_DENSE = ("dense", "dense-rewound", "dense-norms", "dense-norms-distilled")

_MAIN = ("imp", "imp-rewound", "distilled", "imp-short", "subset", "herding", "noise", "random-layerwise", "reinit")

_WHY = ("distilled-signs", "distilled-weights-signs", "permuted", "easy", "hybrid-real", "initial", "snip", "synflow")

PLANS: dict[str, Plan] = {
    "digits": Plan(
        "digits",
        {
            "main level": Batch((*_DENSE, *_MAIN), (8,), children=3),
            "fine level": Batch(("imp-rewound", "distilled", "random-layerwise", "noise"), (10,), children=3),
            "high level": Batch(("imp", "imp-rewound", "distilled", "hybrid"), (12,), children=3),
            "sharpness": Batch(
                ("dense", "imp", "imp-rewound", "distilled", "subset", "imp-short", "random-layerwise", "noise"),
                (8,),
                ("discarded", "curvature"),
            ),
            "sets": Batch((), (), ("judged",)),
            "curves": Batch(_CURVES, (2, 4, 6, 8, 10, 12), children=3),
            "rewinding": Batch(("distilled-all", "imp-all", "distilled-gentle", "imp-gentle"), (4, 8)),
            "why": Batch(_WHY, (8,)),
            "factorial": Batch(FACTORIAL, (4, 8)),
        },
        at_once=2,
    ),
    "cifar10-small": Plan(
        "cifar10-small",
        {
            # what the primary claims need first: it is hours a time
            "main level": Batch(("dense", "dense-rewound", *(m for m in _MAIN if m != "herding"), "hybrid"), (8,)),
            "sharpness": Batch(("dense", "imp", "distilled", "random-layerwise"), (8,), ("discarded",)),
            "beside": Batch(("dense-norms", "dense-norms-distilled", "herding"), (8,)),
            "rewinding": Batch(("distilled-all", "imp-all", "distilled-gentle", "imp-short-gentle"), (8,)),
            "lower level": Batch(("imp", "imp-rewound", "distilled", "subset", "imp-short"), (4,)),
        },
    ),
    # twice the steps: whether the words depend on the fit; two initialisations, so never a word of its own
    "cifar10-small-fitted": Plan(
        "cifar10-small",
        {
            "main level": Batch(
                ("dense", "dense-rewound", "imp", "imp-rewound", "distilled", "subset", "imp-short"), (8,)
            )
        },
        more=(("steps", 3000),),
        seeds=2,
        first_seed=200,
    ),
}
"""By name. What is not in a plan was not run; a row that needs it says so."""
