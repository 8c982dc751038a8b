"""What each product is made from: frozen descriptions that hold all that lies upstream of them, and nothing that does
not change a result.

From them come the keys of the store; device, workers and logging are not here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from lotto.config import Config, Float, Int, Net, Recipe, Rewinding, one_of
from lotto.distill.recipes import Distill, Gradient, Trajectory

DATA = (
    "digits",
    "cifar10",
    "cifar100",
    "mnist",
    "fashion-mnist",
)
"""Data sets that have a name; `sources.READERS` reads them."""

DataName = Annotated[str, AfterValidator(one_of(DATA, r".+\.npz", "a file.npz"))]


class Data(Config):
    """The real images: which set, at what size, how many of them."""

    name: DataName = "digits"
    """Data set: digits, one of torchvision's (cifar10, cifar100, mnist, fashion-mnist), or a file.npz of your own."""
    image_size: Annotated[Int, Field(ge=4, le=512)] | None = None
    """Side to which images are resized, in pixels; None keeps theirs."""
    train_size: Annotated[Int, Field(ge=10)] | None = None
    """Training images kept, drawn class by class; None keeps all."""
    held_out: Annotated[Int, Field(ge=0)] = 97
    """Training images set aside for choices, so that none is made on test images."""


CONTROLS = ("subset", "easy", "herding", "kcenter", "patches", "noise")
"""Small sets that are not distilled."""


class Images(Config):
    """What an inner loop trains on."""

    kind: Literal[
        "real", "distilled", "permuted", "subset", "easy", "herding", "kcenter", "patches", "noise", "own"
    ] = "real"
    """All real training images; a distilled set, or one with its labels permuted; equally many real ones: drawn at
    random, the easiest, by herding, as centres, or four times as many at half the size; noise images; a set in a
    file."""
    file: str | None = None
    """That file, for kind `own`: whatever `SynSet.load` reads."""
    ipc: Annotated[Int, Field(ge=1)] | None = None
    """Images a class, for the sets that are not distilled."""
    distill: Distill | Gradient | Trajectory | None = None
    """How the distilled set is made."""
    seed: Annotated[Int, Field(ge=0)] = 0
    """Seed of the distillation, the subset or the noise."""

    @model_validator(mode="after")
    def _complete(self):
        if (self.kind in ("distilled", "permuted")) != (self.distill is not None):
            raise ValueError(f"images of kind {self.kind!r} {'need' if self.distill is None else 'take no'} `distill`")
        if (self.kind == "own") != (self.file is not None):
            raise ValueError(f"images of kind {self.kind!r} {'need' if self.file is None else 'take no'} `file`")
        if (self.kind in CONTROLS) != (self.ipc is not None):
            raise ValueError(f"images of kind {self.kind!r} {'need' if self.ipc is None else 'take no'} `ipc`")
        return self


class SetOf(Config):
    """A small set and the real data it stands for."""

    data: Data
    images: Images


class Judges(Config):
    """The fresh nets that say how hard each real training image is."""

    data: Data
    seed: int = 0
    nets: int = 3
    net: Net = Net(name="convnet", width=32, depth=2, norm="instance")
    recipe: Recipe = Recipe(steps=100, lr=0.1)


class Expert(Config):
    """One training on all real images whose way is kept, epoch by epoch."""

    data: Data
    net: Net
    recipe: Recipe
    """Of one epoch's length."""
    epochs: Annotated[Int, Field(ge=1)]
    number: Annotated[Int, Field(ge=0)] = 0
    """Which of the experts: its initialisation and its noise."""


class Judging(Config):
    """One fresh net trained on one small set (or, for `real`, on all training images: the ceiling)."""

    data: Data
    images: Images
    net: Net
    recipe: Recipe
    seed: Annotated[Int, Field(ge=0)] = 0
    """Of the fresh net: its initialisation and its noise."""


class Setup(Config):
    """An initialised network and its data."""

    data: Data = Data()
    net: Net = Net()
    seed: Annotated[Int, Field(ge=0)] = 0
    """Initialisation; the streams of its trainings are keyed by it too."""
    pretrain: Recipe = Recipe()
    """The dense training on real data whose step `rewind` a ticket may go back to; where that is 0 nothing depends on
    it, and it is the default."""
    rewind: Annotated[Int, Field(ge=0)] = 0
    """Step k of that training to which weights are rewound; 0 is the initialisation."""

    @model_validator(mode="after")
    def _rewind_in_range(self):
        if self.rewind == 0:
            object.__setattr__(self, "pretrain", Recipe())
        if self.rewind > self.pretrain.steps:
            raise ValueError(
                f"rewind = {self.rewind}: beyond the {self.pretrain.steps} steps of the dense training; give 0 "
                f"to {self.pretrain.steps}"
            )
        return self


class Round(Config):
    """One round of iterative pruning: how the weights are scored, after which training."""

    score: Literal["magnitude", "nothing", "random", "initial", "snip", "grasp", "synflow"] = "magnitude"
    """|w| after the inner loop (`nothing`: the loop alone, without pruning); or without training: uniform random; |w|
    at the rewind point; SNIP, GraSP, SynFlow there."""
    images: Images | None = None
    """What the inner loop trains on (for `magnitude`, `nothing`), or what the gradients are of (for `snip` and
    `grasp`)."""
    recipe: Recipe | None = None
    """The inner loop's recipe (for `magnitude`, `nothing`)."""

    @model_validator(mode="after")
    def _complete(self):
        for name, scores in (
            ("images", ("magnitude", "nothing", "snip", "grasp")),
            ("recipe", ("magnitude", "nothing")),
        ):
            if (getattr(self, name) is not None) != (self.score in scores):
                raise ValueError(
                    f"a round scored by {self.score!r} {'needs' if self.score in scores else 'takes no'} `{name}`"
                )
        return self


class Ticket(Config):
    """A mask over one initialised network: its rounds of pruning, one after the other. No round: the dense net."""

    setup: Setup = Setup()
    rounds: tuple[Round, ...] = ()
    """The rounds so far; level r of a long search is its first r rounds, so searches share their prefixes."""
    fraction: Annotated[Float, Field(gt=0, lt=1)] = 0.36
    """Share of the live weights that a round removes, ranked globally."""
    rewinding: Rewinding = "all"
    """What is restored after each round, and before the ticket is trained (`tickets.rewind`)."""
    then: Literal["rewound", "new weights", "shuffled", "shuffled in filters"] | None = None
    """Control: what is trained in the ticket's place. Its mask alone, with all else rewound once the search has ended;
    its mask over the initial weights of another seed; or as many live weights in each layer, or in each filter, at
    random places. What the rewinding leaves of the inner loop is left to the last three too."""

    @property
    def level(self) -> int:
        """Rounds of pruning done."""
        return len(self.rounds)

    @property
    def parent(self) -> Ticket:
        """The ticket one level up."""
        return self.upto(self.level - 1)

    def upto(self, level: int) -> Ticket:
        """The ticket after its first `level` rounds. Without a round nothing has been rewound, so all searches begin
        with one dense net."""
        return self.but(rounds=self.rounds[:level], **({} if level else {"rewinding": "all", "then": None}))


class Training(Config):
    """One run of SGD from a ticket. Children of one ticket differ in `child`, so in data order AND augmentation."""

    ticket: Ticket = Ticket()
    images: Images = Images()
    recipe: Recipe = Recipe()
    child: Annotated[Int, Field(ge=0)] = 1
    """SGD noise: 0 is the searches' own, children are 1, 2, ...: no child repeats the noise its mask was found with."""


class Segment(Config):
    """The straight line between two children."""

    a: Training
    b: Training
    points: Annotated[Int, Field(ge=3, le=101)] = 11
    """Points on it, both ends included."""
    train_images: Annotated[Int, Field(ge=2)] = 500
    """Training images, at most, for the training curves and the batch-norm recalibration."""


class Scape(Config):
    """A plane through three children of one ticket."""

    a: Training
    b: Training
    c: Training
    points: int = 9
    """Grid points along each side."""
    train_images: int = 500
    """Training images, at most, for the training loss and the batch-norm recalibration."""


class Curvature(Config):
    """The Hessian of one net on its live prunable weights."""

    training: Training
    """The training from whose ticket, or at whose end, it is taken."""
    trained: bool = True
    """At the end of that training; else at the rewind point of its initialisation, under the ticket's mask."""
    images: int = 256
    """Training images in the loss (the first so many), and in the recalibration of batch norm."""
    probes: int = 16
    """Hutchinson probes."""
    ends: int = 0
    """Eigenvalues at each end of the spectrum; 0 leaves the spectrum out and keeps the diagonal instead."""
    tolerance: float = 0.05
    """Relative accuracy of the eigenvalues."""
