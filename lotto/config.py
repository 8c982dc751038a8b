"""WHAT to compute: frozen, validated, coercing descriptions, and the presets and methods built of them.

A `Study` is flat, because its fields are the parameters of the notebooks. From it come the nested descriptions that the
cached functions take: `Setup` (data, net, seed), `Recipe` (one training), `Ticket` (one mask), `Training` (one run of SGD
from a ticket), `Segment` (the straight line between two children). Each holds all that lies upstream of it, and
nothing that does not change the result: device, workers and logging are not here.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_serializer, model_validator

from lotto.lab.arms import ARMS, Arm, Rewinding


class ConfigError(ValueError):
    """A parameter that cannot be: one sentence with the name, the value and the fix."""


def nearest(name: str, known: list[str]) -> str:
    """` Did you mean 'x'?`, or the known names, for an error about `name`."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}."


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("is true or false, but a number belongs here")
    return value


def _a_list(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError("is text, but a list belongs here; write it as '[4, 8]'")
    return value


Int = Annotated[int, BeforeValidator(_not_bool)]
Float = Annotated[float, BeforeValidator(_not_bool), Field(allow_inf_nan=False)]
Levels = Annotated[tuple[Annotated[Int, Field(ge=0)], ...], BeforeValidator(_a_list)]
Names = Annotated[tuple[str, ...], BeforeValidator(_a_list)]
Rates = Annotated[tuple[Annotated[Float, Field(gt=0, le=100)], ...], BeforeValidator(_a_list), Field(min_length=1)]
Counts = Annotated[tuple[Annotated[Int, Field(ge=1)], ...], BeforeValidator(_a_list), Field(min_length=1)]
NETS = ("resnet18", "resnet20", "resnet10", "vgg16", "convnet")
DATA = ("digits", "cifar10", "cifar100", "mnist", "fashion-mnist")
NetName = Annotated[str, Field(pattern=rf"^({'|'.join(NETS)}|[\w.]+:\w+)$")]
DataName = Annotated[str, Field(pattern=rf"^({'|'.join(DATA)}|.+\.npz)$")]
Norm = Literal["batch", "instance", "group", "none"]
Init = Literal["torch", "he"]
Schedule = Literal["onecycle", "cosine", "step", "constant"]
Precision = Literal["float32", "tf32", "bfloat16"]
Ops = Annotated[tuple[Literal["color", "scale", "rotate", "cutout"], ...], BeforeValidator(_a_list)]


class Config(BaseModel):
    """Base of all descriptions: frozen, hashable, no unknown fields, text such as "1e-3" taken as the number it spells."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())

    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that came when there were products already: not written while they have their defaults, so that those keep their keys."""

    @model_serializer(mode="wrap")
    def _without_later(self, write):
        fields = type(self).model_fields
        return {n: v for n, v in write(self).items() if n not in self.later or getattr(self, n) != fields[n].default}

    def __init__(self, **values: Any):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(self._sentence(error)) from None

    @classmethod
    def _sentence(cls, error: ValidationError) -> str:
        parts = []
        for e in error.errors():
            name = ".".join(str(p) for p in e["loc"])
            field = cls.model_fields.get(str(e["loc"][0])) if e["loc"] else None
            if e["type"] == "extra_forbidden":
                parts.append(f"{name!r} is not a parameter of {cls.__name__}; {nearest(name, list(cls.model_fields))}")
            elif not e["loc"]:
                parts.append(e["msg"].removeprefix("Value error, "))
            else:
                what = f" ({field.description.rstrip('.')})" if field and field.description else ""
                rule = e["msg"].removeprefix("Value error, ")
                if "pattern" in e.get("ctx", {}):  # a net's name or a data set's
                    known, own = (NETS, "'package.module:factory'") if "factory" in (field.description or "") else (DATA, "a file.npz")
                    rule = f"not known: use {', '.join(known)} or {own}"
                parts.append(f"{name} = {e['input']!r}: {rule[0].lower() + rule[1:]}{what}.")
        return " ".join(parts)

    def but(self, **changes: Any):
        """A copy with some fields changed, validated anew."""
        return type(self)(**{**{k: getattr(self, k) for k in type(self).model_fields}, **changes})


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


class Net(Config):
    """The network, without its weights."""

    name: NetName = "resnet18"
    """resnet18, resnet20, resnet10, vgg16, convnet, or "package.module:factory" called as factory(channels, classes, image_size)."""
    width: Annotated[Int, Field(ge=1, le=4096)] = 8
    """Channels of the first stage (64 is the usual ResNet-18, ResNet-10 and VGG-16, 16 ResNet-20, 128 ConvNet)."""
    norm: Norm = "batch"
    """Normalisation layers."""
    init: Init = "torch"
    """Initial weights: PyTorch's default (uniform, deviation 1/sqrt(3 fan-in)), or He's (normal, sqrt(2/fan-out), convolutions)."""
    depth: Annotated[Int, Field(ge=1, le=6)] = 3
    """Blocks of a ConvNet; the ResNets have theirs by name."""


class Recipe(Config):
    """One training by SGD."""

    later: ClassVar = frozenset({"ops", "cutmix"})

    steps: Annotated[Int, Field(ge=0)] = 200
    """Optimiser steps of the schedule."""
    first: Annotated[Int, Field(ge=0)] = 0
    """Step of the schedule at which the training begins: a net rewound to step k goes on from there, and takes `steps` steps in all."""
    lr: Annotated[Float, Field(gt=0)] = 0.8
    """Peak learning rate."""
    batch: Annotated[Int, Field(ge=2)] = 64
    """Images a step."""
    momentum: Annotated[Float, Field(ge=0, lt=1)] = 0.9
    """Momentum (Nesterov's when above 0)."""
    weight_decay: Annotated[Float, Field(ge=0)] = 5e-4
    """Weight decay, on all parameters."""
    schedule: Schedule = "onecycle"
    """Learning-rate schedule: one-cycle (up to lr over 20 %, down to 0, linear), cosine, step (x0.2 at 2/3 and 5/6), constant."""
    shift: Annotated[Int, Field(ge=0, le=16)] = 0
    """Random shifts, up to so many pixels each way (zero padding after normalisation: mean colour)."""
    flip: bool = False
    """Random horizontal flips."""
    precision: Precision = "float32"
    """Arithmetic of the forward and backward pass; weights are float32 always."""
    ops: Ops = ()
    """Further augmentations, each image its own: color, scale, rotate, cutout (Zhao & Bilen 2021, arXiv 2102.08259)."""
    cutmix: Annotated[Float, Field(ge=0, le=1)] = 0.0
    """Share of the steps in which each image has a box of another, and of its label (Yun et al. 2019, arXiv 1905.04899)."""

    @model_validator(mode="after")
    def _within(self):
        if self.first > self.steps:
            raise ValueError(f"first = {self.first}: the schedule has {self.steps} steps; give 0 to {self.steps}")
        return self


class Matching(Config):
    """What all distillations have in common."""

    ipc: Annotated[Int, Field(ge=1)] = 10
    """Stored images a class."""
    steps: Annotated[Int, Field(ge=0)] = 400
    """Pixel updates."""
    batch: Annotated[Int, Field(ge=1)] = 32
    """Images a step: real ones of each class (`Distill`, `Gradient`), or distilled ones that the student sees (`Trajectory`)."""
    width: Annotated[Int, Field(ge=1)] = 32
    """Channels of the ConvNets (instance norm)."""
    depth: Annotated[Int, Field(ge=1, le=6)] = 2
    """Their blocks."""
    shift: Annotated[Int, Field(ge=0)] = 1
    """Shifts, in pixels; siamese: the same for real and distilled images of a step (`Trajectory`: each image its own)."""
    flip: bool = False
    """Flips, likewise."""
    ops: Ops = ()
    """Further augmentations, likewise."""
    factor: Annotated[Int, Field(ge=1, le=4)] = 1
    """A stored image holds factor x factor smaller ones (multi-formation, Kim et al. 2022, arXiv 2205.14959)."""


class Distill(Matching):
    """How a distilled set is made by distribution matching (Zhao & Bilen 2023, arXiv 2110.04181; pool and `ce` as in Zhao et al. 2023,
    arXiv 2307.09742)."""

    later: ClassVar = frozenset({"method", "ops", "factor", "pool", "life", "net_steps", "net_lr", "ce"})

    method: Literal["dist"] = "dist"
    lr: Annotated[Float, Field(gt=0)] = 0.03
    """Learning rate of the pixels (SGD, momentum 0.5; multiplied by ipc, as a class mean spreads its gradient over ipc images)."""
    pool: Annotated[Int, Field(ge=0, le=100)] = 0
    """Nets that take turns, each trained a little after its turn; 0: a fresh random net each step."""
    life: Annotated[Int, Field(ge=1)] = 50
    """Turns after which a net of the pool is replaced by a fresh one."""
    net_steps: Annotated[Int, Field(ge=0)] = 1
    """Steps on real images that it takes after each turn."""
    net_lr: Annotated[Float, Field(gt=0)] = 0.01
    """Their learning rate."""
    ce: Annotated[Float, Field(ge=0)] = 0.0
    """Weight of the distilled images' cross-entropy under the net, times the share of real images that it lately got right."""

    @model_validator(mode="after")
    def _taught(self):
        if self.ce and not self.pool:
            raise ValueError(f"ce = {self.ce}: random nets know no classes; give pool = 1 or more")
        return self


class Gradient(Matching):
    """How a distilled set is made by gradient matching (Kim et al. 2022, arXiv 2205.14959, with all classes in one step)."""

    method: Literal["grad"] = "grad"
    lr: Annotated[Float, Field(gt=0)] = 0.1
    """Learning rate of the pixels at 10 images a class; it grows with them."""
    pool: Annotated[Int, Field(ge=1, le=100)] = 1
    """Nets that take turns."""
    life: Annotated[Int, Field(ge=1)] = 50
    """Turns after which a net is replaced by a fresh one."""
    net_steps: Annotated[Int, Field(ge=0)] = 1
    """Steps on real images that it takes after each turn."""
    net_lr: Annotated[Float, Field(gt=0)] = 0.01
    """Their learning rate."""


class Trajectory(Matching):
    """How a distilled set is made by trajectory matching (Cazenavette et al. 2022, arXiv 2203.11932)."""

    method: Literal["traj"] = "traj"
    lr: Annotated[Float, Field(gt=0)] = 1.0
    """Learning rate of the pixels (SGD, momentum 0.5)."""
    experts: Annotated[Int, Field(ge=1)] = 10
    """Nets whose trainings on the real images are to be followed; made once, and shared by all sets."""
    epochs: Annotated[Int, Field(ge=2)] = 10
    """Epochs of each such training."""
    expert_lr: Annotated[Float, Field(gt=0)] = 0.05
    """Its learning rate (SGD without momentum, constant)."""
    expert_batch: Annotated[Int, Field(ge=2)] = 64
    """Its batch size."""
    span: Annotated[Int, Field(ge=1)] = 2
    """Epochs of an expert that a student is to follow."""
    latest: Annotated[Int, Field(ge=0)] | None = None
    """Latest epoch of an expert from which a student starts; None: as late as `span` allows."""
    student_steps: Annotated[Int, Field(ge=1)] = 10
    """Steps that a student takes on distilled images."""
    student_lr: Annotated[Float, Field(gt=0)] = 0.05
    """Its learning rate at the start of the distillation; it is learned."""
    student_lr_lr: Annotated[Float, Field(ge=0)] = 0.01
    """Learning rate of that rate's logarithm."""

    @model_validator(mode="after")
    def _within(self):
        last = self.epochs - self.span
        if last < 0:
            raise ValueError(f"span = {self.span}: an expert trains for {self.epochs} epochs; give 1 to {self.epochs}")
        if self.latest is not None and self.latest > last:
            raise ValueError(f"latest = {self.latest}: from there an expert has no {self.span} epochs left; give 0 to {last}")
        return self


DISTILLATIONS = {"dist": "distributions", "grad": "gradients", "traj": "trajectories"}
"""Method of a distillation -> what it matches."""
CONTROLS = ("subset", "easy", "herding", "kcenter", "patches", "noise")
"""Small sets that are not distilled."""


class Images(Config):
    """What an inner loop trains on."""

    later: ClassVar = frozenset({"file"})

    kind: Literal["real", "distilled", "permuted", "subset", "easy", "herding", "kcenter", "patches", "noise", "own"] = "real"
    """All real training images; a distilled set, or one with its labels permuted; equally many real ones: drawn at random, the easiest,
    by herding, as centres, or four times as many at half the size; noise images; a set in a file."""
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


class Setup(Config):
    """An initialised network and its data."""

    data: Data = Data()
    net: Net = Net()
    seed: Annotated[Int, Field(ge=0)] = 0
    """Initialisation; the streams of its trainings are keyed by it too."""
    pretrain: Recipe = Recipe()
    """The dense training on real data whose step `rewind` a ticket may go back to."""
    rewind: Annotated[Int, Field(ge=0)] = 0
    """Step k of that training to which weights are rewound; 0 is the initialisation."""

    @model_validator(mode="after")
    def _rewind_in_range(self):
        if self.rewind > self.pretrain.steps:
            raise ValueError(
                f"rewind = {self.rewind}: beyond the {self.pretrain.steps} steps of the dense training; give 0 to {self.pretrain.steps}"
            )
        return self


class Round(Config):
    """One round of iterative pruning: how the weights are scored, after which training."""

    score: Literal["magnitude", "nothing", "random", "initial", "snip", "grasp", "synflow"] = "magnitude"
    """|w| after the inner loop (`nothing`: the loop alone, without pruning); or without training: uniform random; |w| at the rewind point;
    SNIP, GraSP, SynFlow there."""
    images: Images | None = None
    """What the inner loop trains on (for `magnitude`, `nothing`), or what the gradients are of (for `snip` and `grasp`)."""
    recipe: Recipe | None = None
    """The inner loop's recipe (for `magnitude`, `nothing`)."""

    @model_validator(mode="after")
    def _complete(self):
        for name, scores in (("images", ("magnitude", "nothing", "snip", "grasp")), ("recipe", ("magnitude", "nothing"))):
            if (getattr(self, name) is not None) != (self.score in scores):
                raise ValueError(f"a round scored by {self.score!r} {'needs' if self.score in scores else 'takes no'} `{name}`")
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
    then: Literal["new weights", "shuffled"] | None = None
    """Control: what is trained in the ticket's place. Its mask over the initial weights of another seed; or as many live weights in each
    layer at random places (layer-matched random). What the rewinding leaves of the inner loop is left to the controls too."""

    @property
    def level(self) -> int:
        """Rounds of pruning done."""
        return len(self.rounds)

    @property
    def parent(self) -> Ticket:
        """The ticket one level up."""
        return self.upto(self.level - 1)

    def upto(self, level: int) -> Ticket:
        """The ticket after its first `level` rounds. Without a round nothing has been rewound, so all searches begin with one dense net."""
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


class Study(Config):
    """Everything the notebooks ask for; the fields are their parameters."""

    preset: str = "digits"
    """The preset this study was made from."""
    seeds: Annotated[Int, Field(ge=1, le=1000)] = 3
    """Initialisations, each with its own distillation, subset and mask search."""
    first_seed: Annotated[Int, Field(ge=0, lt=10_000)] = 0
    """Number of the first of them."""
    levels: Levels = (4, 8)
    """Rounds of pruning after which tickets are trained and compared."""
    methods: Names = ()
    """Arms to compare, by their names in lotto/lab/arms.py; empty means the main ones."""
    children: Annotated[Int, Field(ge=2, le=10)] = 2
    """Children of each ticket; all pairs are compared."""
    points: Annotated[Int, Field(ge=3, le=101)] = 11
    """Points on a path."""
    path_images: Annotated[Int, Field(ge=2)] = 500
    """Training images, at most, for the training curves and the batch-norm recalibration of paths and planes."""
    data: DataName = "digits"
    """Data set: digits, cifar10, cifar100, mnist, fashion-mnist, or a file.npz."""
    image_size: Annotated[Int, Field(ge=4, le=512)] | None = None
    """Side to which images are resized, in pixels."""
    train_size: Annotated[Int, Field(ge=10)] | None = None
    """Training images kept."""
    held_out: Annotated[Int, Field(ge=0)] = 97
    """Training images set aside."""
    net: NetName = "resnet18"
    """Network: resnet18, resnet20, resnet10, vgg16, convnet or 'package.module:factory'."""
    width: Annotated[Int, Field(ge=1, le=4096)] = 8
    """Channels of its first stage."""
    norm: Norm = "batch"
    """Its normalisation."""
    init: Init = "torch"
    """Its initial weights."""
    steps: Annotated[Int, Field(ge=1)] = 200
    """Steps of a training on real data (200 of 64 images: 11 epochs of the 1,200 digits)."""
    lr: Annotated[Float, Field(gt=0, le=100)] = 0.8
    """Peak learning rate of all loops, but for the gentle arms' inner one."""
    batch: Annotated[Int, Field(ge=2)] = 64
    """Its batch size."""
    momentum: Annotated[Float, Field(ge=0, lt=1)] = 0.9
    """Momentum of every training."""
    weight_decay: Annotated[Float, Field(ge=0, lt=1)] = 5e-4
    """Weight decay of every training."""
    schedule: Schedule = "onecycle"
    """Learning-rate schedule of every training."""
    shift: Annotated[Int, Field(ge=0, le=16)] = 0
    """Random shifts in pixels."""
    flip: bool = False
    """Random horizontal flips."""
    precision: Precision = "float32"
    """Arithmetic of the trainings."""
    inner_steps: Annotated[Int, Field(ge=1)] = 60
    """Steps of a short inner loop."""
    inner_lr: Annotated[Float, Field(gt=0, le=100)] = 0.1
    """Peak learning rate of a gentle inner loop."""
    inner_batch: Annotated[Int, Field(ge=2)] = 64
    """Batch size of a short inner loop."""
    fraction: Annotated[Float, Field(gt=0, lt=1)] = 0.36
    """Share of the live weights removed in a round."""
    rewind: Annotated[Int, Field(ge=1)] = 40
    """Step to which the rewound arms go back."""
    switch: Annotated[Int, Field(ge=0)] = 4
    """Short rounds of a hybrid before it goes on with IMP (0: it is IMP; from the level on, it is the short search alone)."""
    high_levels: Levels = (4, 8, 12)
    """Levels of notebook 05, which goes to higher sparsity."""
    high_methods: Names = ("dense", "dense-rewound", "imp", "imp-rewound", "distilled", "random-layerwise", "hybrid")
    """Methods that it takes there, unless `methods` are given."""
    switches: Levels = (0, 4, 12)
    """Switch points of the hybrid that notebook 05 compares."""
    why: Names = ("distilled-all", "distilled-signs", "distilled-gentle", "imp-all", "reinit")
    """Arms of notebook 06 beside the study's methods."""
    map_methods: Names = ("distilled-gentle",)
    """Methods whose inner recipe notebook 06 varies."""
    map_lrs: Rates = (0.1, 0.8)
    """Peak learning rates of that recipe."""
    map_steps: Counts = (60,)
    """Steps of that recipe."""
    outer_lrs: Rates = (0.2, 0.8)
    """Peak learning rates of the outer recipe at which notebook 06 looks at the dense net."""
    outer_steps: Counts = (200,)
    """Steps of the outer recipe at which it does."""
    rewinds: Counts = (10, 40)
    """Steps k from which notebook 06 trains anew (those within the outer recipe's)."""
    rewind_methods: Names = ("dense-rewound",)
    """Methods that it rewinds to each of them."""
    match_methods: Names = ("dense", "imp", "distilled")
    """Methods between whose trained nets it walks, also up to permutation."""
    ipc: Annotated[Int, Field(ge=1)] = 10
    """Distilled images a class; the subset and the noise have as many."""
    distill_method: Literal["dist", "grad", "traj"] = "dist"
    """Distillation by matching distributions of features, gradients, or trajectories of weights."""
    distill_steps: Annotated[Int, Field(ge=0)] = 400
    """Steps of the distillation."""
    distill_lr: Annotated[Float, Field(gt=0)] | None = None
    """Its learning rate; None: the method's own."""
    distill_batch: Annotated[Int, Field(ge=1)] = 32
    """Real images a class in a step of it (`traj`: distilled images in a step of the student)."""
    distill_width: Annotated[Int, Field(ge=1)] = 32
    """Channels of the nets it matches in."""
    distill_depth: Annotated[Int, Field(ge=1, le=6)] = 2
    """Their blocks."""
    distill_factor: Annotated[Int, Field(ge=1, le=4)] = 1
    """A stored image holds factor x factor smaller ones."""
    distill_ops: Ops = ()
    """Augmentations of the distillation beside shift and flip: color, scale, rotate, cutout."""
    distill_pool: Annotated[Int, Field(ge=0, le=100)] | None = None
    """`dist`, `grad`: nets that take turns, trained meanwhile (`dist`, 0: a fresh random net each step); None: the method's own."""
    distill_life: Annotated[Int, Field(ge=1)] = 50
    """`dist` with a pool, `grad`: turns after which a net is replaced by a fresh one."""
    distill_net_steps: Annotated[Int, Field(ge=0)] = 1
    """`dist` with a pool, `grad`: steps on real images that a net takes after each turn."""
    distill_ce: Annotated[Float, Field(ge=0)] = 0.0
    """`dist` with a pool: weight of the distilled images' cross-entropy."""
    experts: Annotated[Int, Field(ge=1)] = 10
    """`traj`: nets whose trainings on real images are followed."""
    expert_epochs: Annotated[Int, Field(ge=2)] = 10
    """`traj`: epochs of each."""
    expert_span: Annotated[Int, Field(ge=1)] = 2
    """`traj`: epochs that a student is to follow."""
    student_steps: Annotated[Int, Field(ge=1)] = 10
    """`traj`: steps on distilled images in which it is to."""
    own_set: str | None = None
    """File of a distilled set of yours, or of others, for the arm `own`; {seed} in its name stands for the initialisation."""
    ipcs: Counts = (1, 10)
    """Images a class at which sets are judged."""
    judge_kinds: Names = ("distilled", "subset", "herding", "patches", "noise")
    """Kinds of sets that are judged, each of equal size."""
    judge_nets: Annotated[Int, Field(ge=1)] = 3
    """Fresh nets that judge each set."""
    judge_steps: Annotated[Int, Field(ge=1)] = 100
    """Steps each of them takes."""
    judge_lr: Annotated[Float, Field(gt=0)] = 0.1
    """Their peak learning rate."""
    judge_batch: Annotated[Int, Field(ge=2)] = 64
    """Their batch size."""
    judge_on: Names = ("convnet",)
    """Nets in which a set's robustness is judged: convnet (the one it was matched in), pruned (the study's own), or another by name."""
    judge_recipes: Names = ("plain", "augmented")
    """Recipes in which it is: plain, augmented (color, scale, rotate, cutout, and CutMix in half the steps)."""
    sharp_images: Annotated[Int, Field(ge=2)] = 128
    """Training images in the loss whose curvature is measured."""
    sharp_probes: Annotated[Int, Field(ge=4)] = 8
    """Hutchinson probes for its diagonal and trace (a ticket's; the dense net has four times as many)."""
    eigenvalues: Annotated[Int, Field(ge=1, le=20)] = 2
    """Eigenvalues at each end of the spectrum."""
    planes: Names = ("dense", "imp", "distilled", "imp-rewound")
    """Methods for which a plane through three children is drawn."""
    plane_points: Annotated[Int, Field(ge=3, le=101)] = 7
    """Grid points along each side of a plane."""

    @model_validator(mode="after")
    def _consistent(self):
        for field in ("methods", "high_methods", "planes", "why", "map_methods", "rewind_methods", "match_methods"):
            for name in getattr(self, field):
                if name not in ARMS:
                    raise ValueError(f"{field}: {name!r} is not known; {nearest(name, list(ARMS))}")
        if self.rewind > self.steps:
            raise ValueError(f"rewind = {self.rewind}: beyond the {self.steps} steps of a training; give 1 to {self.steps}")
        kinds = ("distilled", *(f"distilled-{m}" for m in DISTILLATIONS), "permuted", "own", *CONTROLS)
        if other := [k for k in self.judge_kinds if k not in kinds]:
            raise ValueError(f"judge_kinds: {other[0]!r} is not a kind of set; use {', '.join(kinds)}")
        if self.own_set is None and "own" in (
            *self.methods,
            *self.why,
            *self.judge_kinds,
            *self.planes,
            *self.map_methods,
            *self.match_methods,
        ):
            raise ValueError("own_set = None: the arm 'own' needs the file of its images; give own_set = 'set.safetensors', say")
        if other := [n for n in self.judge_on if n not in ("pruned", *NETS)]:
            raise ValueError(f"judge_on: {other[0]!r} is not a net; use pruned, {', '.join(NETS)}")
        if other := [r for r in self.judge_recipes if r not in ("plain", "augmented")]:
            raise ValueError(f"judge_recipes: {other[0]!r} is not known; use plain, augmented")
        if other := [m for m in self.map_methods if (ARMS[m].length, ARMS[m].rate) != ("short", "gentle")]:
            known = ", ".join(m for m, a in ARMS.items() if (a.length, a.rate) == ("short", "gentle"))
            raise ValueError(f"map_methods: {other[0]!r} has no recipe that could vary; use {known}")
        if other := [m for m in self.rewind_methods if not ARMS[m].from_k]:
            known = ", ".join(m for m in ARMS if ARMS[m].from_k)
            raise ValueError(f"rewind_methods: {other[0]!r} is not rewound to a step k; use {known}")
        for field in ("levels", "high_levels"):
            found = getattr(self, field)
            if not found or 0 in found:
                raise ValueError(f"{field} = {list(found)}: give at least one level from 1; the dense net (level 0) is there always")
        for field in ("levels", "high_levels", "switches", "ipcs", "map_lrs", "map_steps", "outer_lrs", "outer_steps", "rewinds"):
            found = getattr(self, field)
            if found != tuple(sorted(set(found))):
                raise ValueError(f"{field} = {list(found)}: give them rising, each once")
        if self.sharp_probes % 2:
            raise ValueError(f"sharp_probes = {self.sharp_probes}: give an even number, for two halves")
        return self

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms compared, in the order of ARMS."""
        return tuple(name for name in ARMS if (name in self.methods if self.methods else ARMS[name].main))

    @property
    def initialisations(self) -> range:
        """The seeds of the study's initialisations."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def outer(self) -> Recipe:
        """How a ticket, and the dense net, is trained on real data; IMP's inner loop too."""
        return Recipe(
            steps=self.steps,
            lr=self.lr,
            batch=self.batch,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            shift=self.shift,
            flip=self.flip,
            precision=self.precision,
        )

    def inner(self, arm: Arm) -> Recipe:
        """The recipe of an arm's inner loop. On real images from step k, the schedule goes on from there; a small set has its own."""
        recipe = self.outer if arm.rate == "outer" else self.outer.but(lr=self.inner_lr)
        if arm.length == "short":
            return recipe.but(steps=self.inner_steps, batch=self.inner_batch)
        return recipe.but(first=self.rewind) if arm.from_k and arm.images == "real" else recipe

    @property
    def dataset(self) -> Data:
        """The real images."""
        return Data(name=self.data, image_size=self.image_size, train_size=self.train_size, held_out=self.held_out)

    @property
    def distillation(self) -> Distill | Gradient | Trajectory:
        """How the distilled sets are made."""
        given = dict(ipc=self.ipc, steps=self.distill_steps, batch=self.distill_batch, width=self.distill_width, depth=self.distill_depth)
        given |= dict(shift=self.shift, flip=self.flip, ops=self.distill_ops, factor=self.distill_factor)
        given |= {"lr": self.distill_lr} if self.distill_lr else {}
        if self.distill_method == "traj":
            return Trajectory(
                **given, experts=self.experts, epochs=self.expert_epochs, span=self.expert_span, student_steps=self.student_steps
            )
        given |= {"life": self.distill_life, "net_steps": self.distill_net_steps} | (
            {} if self.distill_pool is None else {"pool": self.distill_pool}
        )
        return Gradient(**given) if self.distill_method == "grad" else Distill(**given, ce=self.distill_ce)

    def by(self, method: str) -> Study:
        """This study with its sets distilled by another method, at that method's own learning rate and pool."""
        other = self.distill_method != method
        return self.but(distill_method=method, **(dict(distill_lr=None, distill_pool=None, distill_ce=0.0) if other else {}))

    def setup(self, seed: int, rewind: int = 0) -> Setup:
        """Initialisation number `seed`."""
        return Setup(
            data=self.dataset,
            net=Net(name=self.net, width=self.width, norm=self.norm, init=self.init),
            seed=seed,
            pretrain=self.outer,
            rewind=rewind,
        )

    def images(self, kind: str, seed: int) -> Images:
        """What an inner loop trains on, for initialisation `seed`."""
        return {
            "real": lambda: Images(),
            "own": lambda: Images(kind="own", file=self.own_set.replace("{seed}", str(seed)), seed=seed),
            **{k: lambda k=k: Images(kind=k, distill=self.distillation, seed=seed) for k in ("distilled", "permuted")},
            **{f"distilled-{m}": lambda m=m: Images(kind="distilled", distill=self.by(m).distillation, seed=seed) for m in DISTILLATIONS},
            **{k: lambda k=k: Images(kind=k, ipc=self.ipc, seed=seed) for k in CONTROLS},
        }[kind]()

    def ticket(self, method: str, level: int, seed: int) -> Ticket:
        """The ticket that the arm `method` finds at `level` rounds of pruning for initialisation `seed`."""
        if method not in ARMS:
            raise ConfigError(f"method {method!r} is not known; {nearest(method, list(ARMS))}")
        arm = ARMS[method]
        if arm.dense and level:
            raise ConfigError(f"level = {level}: the arm {method!r} has level 0 only, as it prunes nothing")
        loops = 1 if arm.dense and arm.images else level
        whole = Ticket(
            setup=self.setup(seed, self.rewind if arm.from_k else 0),
            fraction=self.fraction,
            rewinding=arm.rewinding if arm.score in ("magnitude", None) else "all",
            rounds=tuple(self.round(arm, r, seed) for r in range(loops)),
            then=arm.then if arm.then != "imp" else None,
        )
        return whole.upto(loops)

    def round(self, arm: Arm, number: int, seed: int) -> Round:
        """Round `number` (from 0) of an arm: what its weights are scored by, for initialisation `seed`."""
        if arm.then == "imp" and number >= self.switch:
            arm = ARMS["imp"]
        images = self.images(arm.images, seed) if arm.images else None
        recipe = self.inner(arm) if arm.score in ("magnitude", None) else None
        return Round(score=arm.score or "nothing", images=images, recipe=recipe)

    def training(self, method: str, level: int, seed: int, child: int) -> Training:
        """Child number `child` (from 1) of that ticket, trained on the real images up to the outer recipe's last step."""
        recipe = self.outer.but(first=self.rewind) if ARMS[method].from_k else self.outer
        return Training(ticket=self.ticket(method, level, seed), images=Images(), recipe=recipe, child=child)

    def density(self, level: int) -> float:
        """Share of prunable weights alive after `level` rounds."""
        return (1 - self.fraction) ** level


_CIFAR: dict[str, Any] = dict(
    data="cifar10",
    held_out=5000,
    width=64,
    steps=10_500,
    lr=0.2,
    batch=128,
    shift=4,
    flip=True,
    precision="tf32",
    levels=(4, 8, 12),
    high_levels=(4, 8, 12, 16, 20, 24),
    switches=(0, 4, 8, 12),
    rewind=1000,
    switch=8,
    fraction=0.2,
    inner_steps=1500,
    inner_lr=0.01,
    distill_steps=10_000,
    distill_batch=128,
    distill_width=128,
    distill_depth=3,
    judge_steps=3000,
    judge_lr=0.01,
    sharp_images=2000,
    path_images=5000,
    map_lrs=(0.01, 0.2),
    map_steps=(1500,),
    outer_lrs=(0.02, 0.2),
    outer_steps=(10_500,),
    rewinds=(250, 500, 1000, 2000),
)

_SMALL: dict[str, Any] = dict(
    data="cifar10",
    train_size=2500,
    image_size=16,
    held_out=5000,
    width=16,
    steps=1500,
    lr=0.2,
    shift=2,
    flip=True,
    levels=(4, 8),
    high_levels=(4, 8),
    switches=(0, 4, 8),
    rewind=75,
    inner_steps=300,
    inner_lr=0.02,
    distill_steps=1000,
    distill_width=64,
    judge_steps=300,
    points=5,
    path_images=1000,
    sharp_images=512,
    map_lrs=(0.02, 0.2),
    map_steps=(300,),
    outer_lrs=(0.02, 0.2),
    outer_steps=(1500,),
    rewinds=(25, 75, 250),
)
"""What a CPU can do of CIFAR-10: 2,500 of its images at 16 x 16 pixels."""

PRESETS: dict[str, dict[str, Any]] = {
    "digits": {},
    "cifar10-small": _SMALL,
    "cifar10": _CIFAR,
    "cifar10-resnet20": {
        **_CIFAR,
        "net": "resnet20",
        "width": 16,
        "lr": 0.1,
        "steps": 63_000,
        "schedule": "step",
        "weight_decay": 1e-4,
        "rewind": 2000,
        "map_lrs": (0.01, 0.1),
        "outer_lrs": (0.01, 0.1),
        "outer_steps": (63_000,),
    },
    "cifar10-convnet": {
        **_CIFAR,
        "net": "convnet",
        "width": 128,
        "norm": "instance",
        "lr": 0.01,
        "batch": 64,
        "steps": 21_000,
        "schedule": "step",
        "map_lrs": (0.01,),
        "outer_lrs": (0.01, 0.1),
        "outer_steps": (21_000,),
    },
    "cifar100": {**_CIFAR, "data": "cifar100"},
}
"""Values that differ from Study's own. `digits` takes minutes on a CPU, `cifar10-small` hours; the others are meant for one GPU."""


def study(preset: str = "digits", **parameters: Any) -> Study:
    """The study that a preset and some parameters describe; a parameter that is None keeps the preset's value.

    >>> study("digits", seeds="2").seeds
    2
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset = {preset!r}: not known; {nearest(str(preset), list(PRESETS))}")
    given = {name: value for name, value in parameters.items() if value is not None}
    return Study(**{**PRESETS[preset], "preset": preset, **given})
