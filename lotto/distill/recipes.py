"""How distilled sets are made: what all methods have in common, and what is each one's own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lotto.config import Config, Float, Int, Ops


class Matching(Config):
    """What all distillations have in common."""

    ipc: Annotated[Int, Field(ge=1)] = 10
    """Stored images a class."""
    steps: Annotated[Int, Field(ge=0)] = 400
    """Pixel updates."""
    batch: Annotated[Int, Field(ge=1)] = 32
    """Images a step: real ones of each class (`Distill`, `Gradient`), or distilled ones that the student sees
    (`Trajectory`)."""
    width: Annotated[Int, Field(ge=1)] = 32
    """Channels of the ConvNets (instance norm)."""
    depth: Annotated[Int, Field(ge=1, le=6)] = 2
    """Their blocks."""
    shift: Annotated[Int, Field(ge=0)] = 1
    """Shifts, in pixels; siamese: the same for real and distilled images of a step (`Trajectory`: each image its
    own)."""
    flip: bool = False
    """Flips, likewise."""
    ops: Ops = ()
    """Further augmentations, likewise."""
    factor: Annotated[Int, Field(ge=1, le=4)] = 1
    """A stored image holds factor x factor smaller ones (multi-formation, Kim et al. 2022, arXiv 2205.14959)."""


class Distill(Matching):
    """How a distilled set is made by distribution matching (Zhao & Bilen 2023, arXiv 2110.04181; pool and `ce` as in
    Zhao et al. 2023, arXiv 2307.09742)."""

    method: Literal["dist"] = "dist"
    lr: Annotated[Float, Field(gt=0)] = 0.03
    """Learning rate of the pixels (SGD, momentum 0.5; multiplied by ipc, as a class mean spreads its gradient over ipc
    images)."""
    pool: Annotated[Int, Field(ge=0, le=100)] = 0
    """Nets that take turns, each trained a little after its turn; 0: a fresh random net each step."""
    life: Annotated[Int, Field(ge=1)] = 50
    """Turns after which a net of the pool is replaced by a fresh one."""
    net_steps: Annotated[Int, Field(ge=0)] = 1
    """Steps on real images that it takes after each turn."""
    net_lr: Annotated[Float, Field(gt=0)] = 0.01
    """Their learning rate."""
    ce: Annotated[Float, Field(ge=0)] = 0.0
    """Weight of the distilled images' cross-entropy under the net, times the share of real images that it lately got
    right."""

    @model_validator(mode="after")
    def _taught(self):
        if self.ce and not self.pool:
            raise ValueError(f"ce = {self.ce}: random nets know no classes; give pool = 1 or more")
        return self


class Gradient(Matching):
    """How a distilled set is made by gradient matching (Kim et al. 2022, arXiv 2205.14959, with all classes in one
    step)."""

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
            raise ValueError(
                f"latest = {self.latest}: from there an expert has no {self.span} epochs left; give 0 to {last}"
            )
        return self


DISTILLATIONS = {"dist": "distributions", "grad": "gradients", "traj": "trajectories"}
"""Method of a distillation -> what it matches."""
