"""What a worker says while it works; without torch, so that a process which only hands it on starts fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class StageStarted:
    """A stage of training begins or goes on."""

    stage: str
    epochs: int
    steps_per_epoch: int
    first_epoch: int  # 0 unless resumed
    first_step: int = 0  # of that epoch, likewise


@dataclass(frozen=True)
class StepDone:
    """An optimizer step was taken; sent about once a second."""

    stage: str
    epoch: int
    step: int  # of this epoch
    losses: dict[str, float]
    images_per_second: float


@dataclass(frozen=True)
class Evaluating:
    """An evaluation goes on; sent about once a second, at the end while the classes are scored."""

    stage: str
    epoch: int
    done: int  # images of this worker
    total: int


@dataclass(frozen=True)
class EpochDone:
    """An epoch was trained, and evaluated when its turn came."""

    stage: str
    epoch: int  # 1 is the first
    epochs: int
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Note:
    """A sentence for the user."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class TrialEvent:
    """What a trial of a sweep says."""

    trial: str
    event: StageStarted | StepDone | Evaluating | EpochDone | Note


Event = StageStarted | StepDone | Evaluating | EpochDone | Note
Listener = Callable[[Event], None]
