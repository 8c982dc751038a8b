"""The study: everything that is compared, and how. Its fields are the parameters of the notebooks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lotto.config import (
    NETS,
    Config,
    ConfigError,
    Counts,
    Float,
    Init,
    Int,
    Levels,
    Names,
    Net,
    NetName,
    Norm,
    Ops,
    Precision,
    Rates,
    Recipe,
    Schedule,
    nearest,
)
from lotto.distill.recipes import DISTILLATIONS, Distill, Gradient, Trajectory
from lotto.lab.arms import ARMS, Arm
from lotto.lab.describe import CONTROLS, Data, DataName, Images, Round, Setup, Ticket, Training


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
