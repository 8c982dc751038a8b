"""The arms of the study: each a row of factors, with a name, a title and a colour.

An arm prunes in rounds. A round trains the ticket so far in an inner loop, drops the live weights with the smallest
magnitude, and rewinds. The factors say what that loop trains on, for how long, at which learning rate, and what a
rewind restores; `study.ticket` reads them. The paper line's published code uses ONE learning rate in all loops, long
loops on real images and short ones on distilled images, and rewinds weights only: in these factors `imp`, `imp-rewound`
and `distilled` are as there. Whatever differs in a second factor has it in its name: `-all` (norms and biases are
rewound too), `-gentle` (a lower learning rate, a factor of this study), `-long`, `-short`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lotto.config import Rewinding


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to a ticket, as a row of factors."""

    title: str
    colour: str
    images: str | None = None
    """What the inner loop trains on, a kind of `Images`; or what the score is taken on. None: nothing."""
    length: Literal["long", "short"] = "short"
    """Steps and batch of the inner loop: those of the outer recipe, or the study's `inner_steps` and `inner_batch`."""
    rate: Literal["outer", "gentle"] = "outer"
    """Its peak learning rate: the outer recipe's, or the study's `inner_lr`."""
    rewinding: Rewinding = "weights"
    from_k: bool = False
    """Whether the arm starts at, and rewinds to, step k of the dense training; else the initialisation."""
    score: Literal["magnitude", "random", "initial", "snip", "grasp", "synflow"] | None = "magnitude"
    """How weights are ranked: by magnitude after the loop, or without training. None: nothing is pruned, the arm is
    dense; with images it keeps the norms and biases that an inner loop on them leaves, as tickets do: is it the mask,
    or is it those?"""
    then: Literal["rewound", "new weights", "shuffled", "shuffled in filters", "imp"] | None = None
    """What follows: everything is rewound, so that nothing but the mask is left of the search; the mask over another
    initialisation; the same counts at random places of each layer, or of each filter; or rounds of IMP."""
    main: bool = False
    """Whether it is among the arms compared by default."""

    @property
    def dense(self) -> bool:
        """Whether it prunes nothing."""
        return self.score is None

    @property
    def factors(self) -> dict[str, str]:
        """The factors in words, for tables; a dash where one does not apply."""
        trains, rewinds = bool(self.images) and self.score in ("magnitude", None), self.score == "magnitude"
        return {
            "images": self.images or "-",
            "length": self.length if trains else "-",
            "rate": self.rate if trains else "-",
            "rewinds": self.rewinding if rewinds else "-",
            "start": "step k" if self.from_k else "initialisation",
            "score": self.score or "-",
            "then": self.then or "-",
        }


def _pale(colour: str) -> str:
    """A colour halfway to white."""
    return "#" + "".join(f"{(int(colour[i : i + 2], 16) + 255) // 2:02x}" for i in (1, 3, 5))


def _grid(
    name: str, title: str, images: str, length: str, colours: tuple[str, ...], main: tuple[str, ...]
) -> dict[str, Arm]:
    """The eight arms of one kind of images: length x rate x rewinding. `length` is the one that the plain name has.
    Pale: all rewound."""
    other = "short" if length == "long" else "long"
    found = {}
    for (long, rate), colour in zip(
        ((length, "outer"), (length, "gentle"), (other, "outer"), (other, "gentle")), colours, strict=True
    ):
        for what in ("weights", "all"):
            tags = [f for f, plain in ((long, length), (rate, "outer"), (what, "weights")) if f != plain]
            found["-".join([name, *tags])] = Arm(
                title=", ".join([title, *[{"all": "all rewound"}.get(t, t) for t in tags]]),
                colour=colour if what == "weights" else _pale(colour),
                images=images,
                length=long,
                rate=rate,
                rewinding=what,
                main="-".join([name, *tags]) in main,
            )
    return found


# blue: all real images; orange and red: distilled; green: as many real ones; purple: both in turn; grey: no training,
# or no pruning
ARMS: dict[str, Arm] = {
    "dense": Arm(title="dense", colour="#222222", score=None, main=True),
    "dense-rewound": Arm(title="dense, from step k", colour="#777777", score=None, from_k=True, main=True),
    "dense-norms": Arm(title="dense, IMP's norms", colour="#4a5a6a", score=None, images="real", length="long"),
    "dense-norms-distilled": Arm(title="dense, distilled norms", colour="#6a5a4a", score=None, images="distilled"),
    **_grid("imp", "IMP", "real", "long", ("#1f5fbf", "#3f7fd0", "#0f7c9b", "#49a7c4"), ("imp", "imp-short")),
    "imp-rewound": Arm(
        title="IMP rewound to k", colour="#6fa8f5", images="real", length="long", from_k=True, main=True
    ),
    "imp-rewound-all": Arm(
        title="IMP rewound to k, all rewound",
        colour="#9cc3f7",
        images="real",
        length="long",
        from_k=True,
        rewinding="all",
    ),
    **_grid(
        "distilled", "distilled", "distilled", "short", ("#d95f0e", "#f4a55f", "#b5651d", "#e8a33d"), ("distilled",)
    ),
    **_grid("subset", "random real", "subset", "short", ("#27ae74", "#63c48f", "#1b6e4a", "#8fbf4d"), ("subset",)),
    "herding": Arm(title="herding", colour="#a3c644", images="herding", main=True),
    "easy": Arm(title="easiest real", colour="#2e8b8b", images="easy"),
    "kcenter": Arm(title="k-centre", colour="#5b8c5a", images="kcenter"),
    "patches": Arm(title="patches", colour="#5c6b73", images="patches"),
    "noise": Arm(title="noise images", colour="#a89f3c", images="noise"),
    "permuted": Arm(title="distilled, labels permuted", colour="#c0392b", images="permuted"),
    "own": Arm(title="own set", colour="#d4a017", images="own"),
    "distilled-dist": Arm(title="distilled by distributions", colour="#ff7f3f", images="distilled-dist"),
    "distilled-grad": Arm(title="distilled by gradients", colour="#e7298a", images="distilled-grad"),
    "distilled-traj": Arm(title="distilled by trajectories", colour="#7570b3", images="distilled-traj"),
    "distilled-rewound": Arm(title="distilled, from step k", colour="#f0b27a", images="distilled", from_k=True),
    "distilled-signs": Arm(
        title="distilled, signs kept, norms rewound", colour="#a93226", images="distilled", rewinding="signs"
    ),
    "distilled-weights-signs": Arm(
        title="distilled, signs and norms kept", colour="#e59866", images="distilled", rewinding="weights and signs"
    ),
    "random-layerwise": Arm(
        title="random, layer-matched", colour="#b09fbd", images="distilled", then="shuffled", main=True
    ),
    "random-layerwise-all": Arm(
        title="random, layer-matched, all rewound",
        colour="#d7cfde",
        images="distilled",
        rewinding="all",
        then="shuffled",
    ),
    "random-filterwise": Arm(
        title="random, filter-matched", colour="#7d6b8a", images="distilled", then="shuffled in filters"
    ),
    "reinit": Arm(title="distilled mask, new weights", colour="#a0522d", images="distilled", then="new weights"),
    "reinit-all": Arm(
        title="distilled mask, new weights, all rewound",
        colour="#cfa896",
        images="distilled",
        rewinding="all",
        then="new weights",
    ),
    "imp-mask": Arm(title="IMP, mask alone", colour="#2b3f66", images="real", length="long", then="rewound"),
    "distilled-mask": Arm(title="distilled, mask alone", colour="#7f3808", images="distilled", then="rewound"),
    "subset-mask": Arm(title="random real, mask alone", colour="#0b5c3b", images="subset", then="rewound"),
    "hybrid": Arm(title="distilled, then IMP", colour="#8e44ad", images="distilled", then="imp"),
    "hybrid-real": Arm(title="all real short, then IMP", colour="#c39bd3", images="real", then="imp"),
    "initial": Arm(title="initial magnitude", colour="#9a8c7c", score="initial"),
    "random": Arm(title="random, global", colour="#c9bfb3", score="random"),
    "snip": Arm(title="SNIP", colour="#17868f", images="subset", score="snip"),
    "grasp": Arm(title="GraSP", colour="#4db6ac", images="subset", score="grasp"),
    "synflow": Arm(title="SynFlow", colour="#00596b", score="synflow"),
}
"""Every arm. The dense ones exist at level 0 only, the others at every level from 1."""

IMAGES = {"real": "all real", "distilled": "distilled", "subset": "random real"}
"""The kinds of images of the factorial -> what they are called beside one another."""

FACTORIAL = tuple(
    name
    for name, a in ARMS.items()
    if a.images in IMAGES and a.score == "magnitude" and a.rewinding in ("weights", "all") and not (a.then or a.from_k)
)
"""Images x length x rate x rewinding: the arms of notebook 06's main figure."""
