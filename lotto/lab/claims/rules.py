"""The claims of the study and what decides each of them; nothing else, for the bytes of this file are what a rule is.

A reference run records this file's SHA-256 before it computes anything. The board says "rule fixed before this run" only where that digest
still is the file's; where it is not, every row of that run is exploratory.

A claim is one or more comparisons, all of which must come out. Each is a one-sided t-test over initialisations: of the difference to
another arm, paired by initialisation, or of the value against a number. A net that did not train counts: its accuracy as it is (that of
guessing where there is none), its barrier as the highest there can be, or as 0 where a barrier must be above a number. A claim's p is the
largest of its comparisons' (all must hold), or for failing the smallest times their number (one is enough); the smaller of the two,
doubled, goes through Holm's correction over the primary claims of a regime. At 5 %: "holds", "fails", else "undecided". No word below five
initialisations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

STABLE = 2.0
"""Error barrier, in points, below which a net is stable (Frankle et al. 2020, arXiv 1912.05671)."""
MARGIN = 1.0
"""Points of accuracy that "matches" allows: five of digits' 500 test images, a hundred of CIFAR-10's 10,000."""
ENOUGH = 5
"""Initialisations from which on there are verdicts."""
ALPHA = 0.05
"""Error rate over a regime's primary claims."""

PAPER = "McDermott & Parhi 2025, arXiv 2503.17905 (abstract)"
FRANKLE = "Frankle et al. 2020, arXiv 1912.05671"
HERE = "control of this study"


@dataclass(frozen=True)
class Regime:
    """Where primary claims are judged, fixed before the reference run."""

    main: int
    """Level at which they are."""
    fine: int
    """Level for "matches": the lowest of those tried in the pilot at which accuracies tell a layer-matched random mask from rewinding."""
    high: int
    """Level for claims about high sparsity."""
    first_seed: int
    """First of the initialisations kept for the reference run: nothing was chosen on them."""
    seeds: int


REGIMES = {
    "digits": Regime(main=8, fine=10, high=12, first_seed=100, seeds=10),
    "cifar10-small": Regime(main=8, fine=8, high=8, first_seed=100, seeds=8),
}
"""By preset. 8 rounds of 36 % leave 2.8 % of the weights, 10 leave 1.2 %, 12 leave 0.5 %. Chosen on initialisations 0 to 4 only."""


@dataclass(frozen=True)
class Measure:
    """A number for each (arm, level, initialisation): a column of one of the study's tables."""

    title: str
    table: str
    column: str
    better: Literal["higher", "lower"]
    point: str | None = None
    """For shares of curvature: where the dense net's Hessian is taken."""
    logarithm: bool = False
    """Whether its logarithm to the base of 10 is compared."""


MEASURES = {
    "accuracy": Measure("test accuracy (%)", "accuracy", "accuracy", "higher"),
    "barrier": Measure("error barrier (points)", "barrier", "barrier", "lower"),
    "excess": Measure(
        "trace of the trained dense net's Hessian removed, above chance (points)", "discarded", "trace_excess", "higher", "trained"
    ),
    "removed": Measure("trace of the trained dense net's Hessian removed (%)", "discarded", "trace", "higher", "trained"),
    "curvature": Measure("Hessian trace of trained tickets (log10)", "curvature", "trace", "lower", logarithm=True),
    "teaches": Measure("accuracy of fresh nets taught by the set (%)", "judged", "accuracy", "higher"),
}


@dataclass(frozen=True)
class Part:
    """One comparison: an arm beside another arm, or beside a number."""

    measure: str
    """A name of MEASURES."""
    arm: str
    rule: Literal["better", "worse", "not worse", "above", "below"]
    """Better or worse than `than` by more than `margin`; not worse by more than it; above or below the number `than`."""
    than: str | float
    margin: float = 0.0
    at: Literal["dense", "main", "fine", "high"] | int = "main"
    """The level: 0, or the regime's; a number for images a class."""


@dataclass(frozen=True)
class Claim:
    """What is said, by whom, and the comparisons that decide it."""

    id: str
    notebook: str
    short: str
    """A line of the board."""
    text: str
    source: str
    parts: tuple[Part, ...]
    twin: Part | None = None
    """The unfavourable reading shown beside it: not part of the decision."""
    controls: tuple[Part, ...] = ()
    """What must come out for the claim to count: else this regime cannot tell."""
    primary: bool = False


_BARRIER, _ACCURACY = "barrier", "accuracy"

CLAIMS = (
    Claim(
        *("P1", "02", "distilled tickets match rewinding"),
        "distilled pruning from the initialisation is no less accurate than IMP rewound to step k, by a margin of 1 point",
        PAPER,
        (Part(_ACCURACY, "distilled", "not worse", "imp-rewound", MARGIN, at="fine"),),
        twin=Part(_BARRIER, "distilled", "better", "imp-rewound", at="fine"),
        controls=(
            Part(_ACCURACY, "random-layerwise", "worse", "imp-rewound", MARGIN, at="fine"),
            Part(_ACCURACY, "noise", "worse", "imp-rewound", MARGIN, at="fine"),
        ),
        primary=True,
    ),
    Claim(
        *("P2", "03", "a stable subnetwork in an unstable net"),
        "the dense net is unstable, and the distilled ticket of the same initialisation is stable (barrier below 2 points)",
        PAPER,
        (Part(_BARRIER, "dense", "above", STABLE, at="dense"), Part(_BARRIER, "distilled", "below", STABLE)),
        twin=Part(_BARRIER, "distilled", "better", "dense-norms-distilled"),
        primary=True,
    ),
    Claim(
        *("P3", "03", "distilled tickets are more stable than IMP's"),
        "at one learning rate in all loops and equal rewinding, distilled tickets have a lower barrier than IMP's from the initialisation",
        PAPER,
        (Part(_BARRIER, "distilled", "better", "imp"),),
        twin=Part(_ACCURACY, "distilled", "better", "imp"),
        primary=True,
    ),
    Claim(
        *("P4", "04", "distilled pruning discards sharp weights"),
        "distilled pruning removes more of the trained dense net's curvature than random removal of as many weights of each layer",
        PAPER,
        (Part("excess", "distilled", "above", 0.0),),
        twin=Part("removed", "distilled", "better", "imp"),
        primary=True,
    ),
    Claim(
        *("P5", "05", "distilled rounds first, then IMP, go further"),
        "at high sparsity, distilled rounds and then IMP beat IMP alone, beat distilled rounds alone, and stay within 1 point of rewinding",
        PAPER,
        (
            Part(_ACCURACY, "hybrid", "better", "imp", at="high"),
            Part(_ACCURACY, "hybrid", "better", "distilled", at="high"),
            Part(_ACCURACY, "hybrid", "not worse", "imp-rewound", MARGIN, at="high"),
        ),
        twin=Part(_BARRIER, "hybrid", "better", "imp", at="high"),
        primary=True,
    ),
    Claim(
        *("C1", "02", "it is the distilled images"),
        "distilled images give more stable and more accurate tickets than as many random real ones, and than all real ones in one recipe",
        HERE,
        tuple(Part(m, "distilled", "better", other) for other in ("subset", "imp-short") for m in (_BARRIER, _ACCURACY)),
        twin=Part(_ACCURACY, "distilled", "better", "herding"),
        primary=True,
    ),
    Claim(
        *("C2", "06", "it is these places and these weights"),
        "distilled tickets are more stable than as many weights of each layer at random places, and than their mask over new weights",
        HERE,
        (Part(_BARRIER, "distilled", "better", "random-layerwise"), Part(_BARRIER, "distilled", "better", "reinit")),
        twin=Part(_ACCURACY, "distilled", "better", "random-layerwise"),
        primary=True,
    ),
    # what follows is exploratory: estimates with intervals, never a word
    *(
        Claim(
            *(f"D{ipc}", "01", f"{ipc} distilled image{'s' if ipc > 1 else ''} a class teach more than real ones"),
            f"at {ipc} a class, fresh nets learn more from distilled than from equally many random real images",
            "premise; Zhao & Bilen 2023, arXiv 2110.04181",
            (Part("teaches", "distilled", "better", "subset", at=ipc),),
            twin=Part("teaches", "distilled", "better", "herding", at=ipc),
        )
        for ipc in (1, 10)
    ),
    Claim(
        *("A1", "03", "the same with everything rewound"),
        "with norms and biases rewound too, the distilled ticket has a lower barrier than IMP's",
        HERE,
        (Part(_BARRIER, "distilled-all", "better", "imp-all"),),
        twin=Part(_ACCURACY, "distilled-all", "better", "imp-all"),
    ),
    Claim(
        *("A2", "03", "the same at the gentle rate"),
        "with the gentle learning rate in both inner loops, the distilled ticket has a lower barrier than IMP's",
        HERE,
        (Part(_BARRIER, "distilled-gentle", "better", "imp-gentle"),),
        twin=Part(_ACCURACY, "distilled-gentle", "better", "imp-gentle"),
    ),
    Claim(
        *("A3", "06", "norms and biases carry stability"),
        "with norms and biases left as the inner loop made them, distilled tickets are more stable than with everything rewound",
        "newer: Find a Winning Sign, arXiv 2504.05357",
        (Part(_BARRIER, "distilled", "better", "distilled-all"),),
        twin=Part(_ACCURACY, "distilled", "better", "distilled-all"),
    ),
    Claim(
        *("A9", "06", "norms alone do not make it stable"),
        "the dense net is unstable too with the norms and biases that an inner loop on real images leaves",
        HERE,
        (Part(_BARRIER, "dense-norms", "above", STABLE, at="dense"),),
        twin=Part(_BARRIER, "dense-norms-distilled", "above", STABLE, at="dense"),
    ),
    Claim(
        *("A4", "06", "signs carry stability"),
        "with the signs that the inner loop gave them, distilled tickets are more stable than with everything rewound",
        "newer: Find a Winning Sign, arXiv 2504.05357",
        (Part(_BARRIER, "distilled-signs", "better", "distilled-all"),),
        twin=Part(_ACCURACY, "distilled-signs", "better", "distilled-all"),
    ),
    Claim(
        *("A5", "06", "a gentle rate makes it stable"),
        "distilled tickets are more stable with a gentle inner learning rate than at the outer one",
        HERE,
        (Part(_BARRIER, "distilled-gentle", "better", "distilled"),),
        twin=Part(_ACCURACY, "distilled-gentle", "better", "distilled"),
    ),
    Claim(
        *("A6", "06", "a short loop makes it stable"),
        "distilled tickets are more stable with a short inner loop than with one as long as IMP's",
        HERE,
        (Part(_BARRIER, "distilled", "better", "distilled-long"),),
        twin=Part(_ACCURACY, "distilled", "better", "distilled-long"),
    ),
    Claim(
        *("A7", "06", "it needs the right labels"),
        "distilled tickets are more stable than those of distilled images under wrong labels",
        HERE,
        (Part(_BARRIER, "distilled", "better", "permuted"),),
        twin=Part(_ACCURACY, "distilled", "better", "permuted"),
    ),
    Claim(
        *("A8", "04", "what is left is flatter than IMP's"),
        "trained distilled tickets have a smaller Hessian trace, on a log scale, than IMP's",
        PAPER,
        (Part("curvature", "distilled", "better", "imp"),),
        twin=Part("curvature", "distilled", "better", "imp-rewound"),
    ),
)
"""In the order in which they are told. Primary ones first."""
