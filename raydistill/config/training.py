"""How a stage is trained, evaluated and spread over workers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from raydistill.config.base import (
    Count,
    Fraction,
    Millions,
    NonNegative,
    Number,
    Positive,
    Processes,
    Section,
    Whole,
    WholeNumber,
    ascending,
)


class Optimizer(Section):
    """The optimizer; norms and biases never carry weight decay."""

    name: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 0.02
    weight_decay: NonNegative = 1e-4
    momentum: Fraction = 0.9
    """SGD only."""

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if self.name == "adamw" and self.momentum != 0.9:
            raise ValueError("momentum has no effect with adamw; remove it")
        return self


class StepSchedule(Section):
    """Learning rate times ``factor`` at each milestone, a fraction of the training (1x schedule: 8/12 and 11/12)."""

    shape: Literal["step"]
    milestones: tuple[Fraction, ...] = (0.6667, 0.9167)
    factor: Fraction = 0.1
    warmup_steps: WholeNumber = 500
    """Optimizer steps over which the learning rate rises linearly from ``warmup_factor``."""
    warmup_factor: Fraction = 0.001

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ascending("milestones", self.milestones)
        return self


class CosineSchedule(Section):
    """Learning rate falls from 1 to ``final_factor`` along half a cosine."""

    shape: Literal["cosine"]
    final_factor: Fraction = 0.0
    warmup_steps: WholeNumber = 500
    warmup_factor: Fraction = 0.001


Schedule = Annotated[StepSchedule | CosineSchedule, Field(discriminator="shape")]


class Training(Section):
    """One stage of training; teacher, baseline and distilled student share it."""

    epochs: Millions = 12
    horizon: Millions | None = None
    """Epochs that learning rate and decay are laid out for; after those both stay what they ended at. Unset:
    ``epochs``. A teacher's own ``epochs`` are its horizon too. A finished run can get more epochs while it stays."""
    patience: Count | None = None
    """A stage ends where so many epochs have brought no better ``evaluation.best_metric``; unset: after ``epochs``."""
    batch_size: Millions = 16
    """Images per optimizer step, over all workers and accumulated parts."""
    accumulation: Millions = 1
    """Parts that a batch is worked off in, one after the other, where memory does not hold all of it."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = StepSchedule(shape="step")
    clip_grad_norm: Positive | None = None
    """Largest gradient norm; unset: no clipping."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast type of the forward passes; weights stay fp32."""
    roi_align: Literal["fast", "exact"] = "fast"
    """Who pools the regions of all nets on a CPU, in training and its evaluations. ``fast``: this program, in a fifth
    of torchvision's time; its sums differ by rounding (1e-6), from which two trainings part in time. ``exact``:
    torchvision, to the bit. What was begun ``exact``, as all was before there was a choice, goes on so. On a GPU and in
    exported files it is always torchvision; for weights from a file (``evaluate``, ``predict``) it is always ``fast``.
    """


class Change(Section):
    """Other values of some settings from an epoch on."""

    epoch: WholeNumber
    """How many epochs are trained before; 0: from the start."""
    settings: dict[str, Number]
    """By dotted name: weights of terms, ``methods.tar.feature.background_weight``, ``decay.rate``, ``power`` or
    ``factor``, and ``training.optimizer.learning_rate``."""

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if not self.settings:
            raise ValueError("settings must name at least one setting, got {}")
        return self


class Checkpoint(Section):
    """What a run that was interrupted goes on from; written after every epoch."""

    every_steps: Count | None = None
    """Write one after every so many optimizer steps of a stage too; unset: after epochs only."""
    keep: Annotated[Whole, Field(ge=2, le=1000)] = 2
    """How many are kept: where the last one is damaged, a run goes on from the one before."""


MOST_DETECTIONS, AREA_RANGES = 100, (32.0**2, 96.0**2)
"""COCO's rules of scoring, see ``Evaluation``."""
MOST_TO_COUNT = 100_000
"""Detections of an image that can be made to count."""
Backend = Literal["pycocotools", "faster_coco_eval"]


class Evaluation(Section):
    """When and how the student is scored on the validation split."""

    every: Millions = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    batch_size: Millions = 4
    """Images per worker and forward pass."""
    best_metric: Literal["AP", "AP50", "AP75"] = "AP"
    """``best.pt`` is the epoch with the highest of this; it is what the comparison table and the distillation use."""
    max_detections: Annotated[Count, Field(le=MOST_TO_COUNT)] = MOST_DETECTIONS
    """Detections of an image and class that count, those with the highest scores. With more than COCO's 100 the nets
    give as many: their ``box_detections_per_img`` is at least that."""
    area_ranges: tuple[Positive, Positive] = AREA_RANGES
    """Areas in square pixels at which small objects end and medium ones begin, and medium ones end and large ones
    begin, for ``AP_small``, ``AP_medium`` and ``AP_large``; COCO's are the squares of 32 and 96."""
    backend: Backend = "pycocotools"
    """Who computes the scores; ``faster_coco_eval`` gives the same numbers sooner (extra ``fast-eval``)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ascending("area_ranges", self.area_ranges)
        return self


class Scaling(Section):
    """Ray Train's workers."""

    num_workers: Processes = 1
    min_workers: Processes | None = None
    """Begin, and go on after a loss, with as few as these, and with more again once there is room; the batch stays as
    large, the result is no longer the same to the bit. Unset: always ``num_workers``."""
    elastic_wait_seconds: WholeNumber | Literal["auto"] = "auto"
    """How long a run with ``min_workers`` waits for nodes that hold all ``num_workers`` before it begins with fewer.
    ``auto``: a minute for nodes that join a cluster, five for those its autoscaler starts. Only at the start: nodes
    that come later are taken in at the price of a restart from the last checkpoint, which Ray considers once a minute,
    and after a loss training goes on with what is left, as soon as Ray has noticed it."""
    use_gpu: bool | Literal["auto"] = "auto"
    """``auto``: yes where there is a GPU for every worker."""
    cpus_per_worker: Processes | Literal["auto"] = "auto"
    """CPUs (and threads) of a worker; ``auto``: the most that all of them can have."""
    gpus_per_worker: Processes = 1
    max_failures: Annotated[Whole, Field(ge=0, le=10**6)] = 3
    """Lost workers or nodes survived before the run gives up."""
    connect_seconds: Annotated[Whole, Field(ge=0, le=86_400)] = 30
    """How long the head of the cluster that RAY_ADDRESS names is waited for, as it may just be starting."""
    dashboard: bool = False
    """Run Ray's dashboard beside a Ray of this machine only, and say where it is."""
    wait_seconds: WholeNumber | Literal["auto"] = "auto"
    """How long room for the workers is waited for. ``auto``: a minute for nodes that join a cluster which cannot hold
    them, a quarter of an hour for those that its autoscaler starts or that were lost, and without end where others are
    at work on nodes which could. A Ray of this machine only is not waited for."""
    hang_seconds: Count = 1200
    """How long a worker that stands still is waited for, by Ray and by the other workers (gloo's and NCCL's timeout);
    then Ray starts all workers of the run again."""

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if self.use_gpu is False and self.gpus_per_worker != 1:
            raise ValueError("gpus_per_worker has no effect with use_gpu false; remove it")
        if self.min_workers is None and self.elastic_wait_seconds != "auto":
            raise ValueError("elastic_wait_seconds has no effect without min_workers; remove it")
        if self.min_workers is not None and self.min_workers >= self.num_workers:
            raise ValueError(f"min_workers must be below num_workers = {self.num_workers}, got {self.min_workers}")
        if self.min_workers is not None and self.max_failures == 0:
            raise ValueError("min_workers has no effect with max_failures 0, which ends a run with its first loss")
        return self
