"""Who this worker is, what it says while it works, and where that goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist

from raydistill.checkpoint import RunDirectory

T = TypeVar("T")


@dataclass(frozen=True)
class Worker:
    """One process of the training group."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this worker writes the files."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Return every worker's ``value`` (picklable), by rank, on every worker."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """Return the main worker's ``value`` (picklable) on every worker."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of ``values`` over all workers."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values


@dataclass(frozen=True)
class StageStarted:
    """A stage of training begins or goes on."""

    stage: str
    epochs: int
    steps_per_epoch: int
    first_epoch: int  # 0 unless resumed


@dataclass(frozen=True)
class StepDone:
    """An optimizer step was taken; sent about once a second."""

    stage: str
    epoch: int
    step: int  # of this epoch
    losses: dict[str, float]
    images_per_second: float


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


Event = StageStarted | StepDone | EpochDone | Note
Listener = Callable[[Event], None]


class Reporter(Protocol):
    """What carries a stage's numbers away; every worker has one and all of them call ``report`` together."""

    def report(self, metrics: dict[str, float]) -> None:
        """Record one epoch's metrics, plain Python numbers; the checkpoint is written right after."""

    def event(self, event: Event) -> None:
        """Tell the user."""

    def resume_from(self) -> Path | None:
        """Return the checkpoint to go on from, if there is one."""


@dataclass(frozen=True)
class FileReporter:
    """Writes ``metrics.jsonl`` in the run directory and hands events on; only the main worker does either."""

    run: RunDirectory
    worker: Worker
    listener: Listener

    def report(self, metrics: dict[str, float]) -> None:
        """Append one line."""
        if self.worker.is_main:
            self.run.path.mkdir(parents=True, exist_ok=True)
            with self.run.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(metrics) + "\n")

    def event(self, event: Event) -> None:
        """Hand on."""
        if self.worker.is_main:
            self.listener(event)

    def resume_from(self) -> Path | None:
        """Return the run directory's own checkpoint."""
        return self.run.checkpoint if self.run.checkpoint.is_file() else None
