"""Faults inside the processes of a run, and the count of the steps that it takes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from raydistill.runs.worker import Worker
from raydistill.storage import retry

Fault = Callable[[Worker, int, Any], None]
"""Called by every rank as its process begins (0), and before each step: the worker, which step of this process it is,
counted from 1, and the training's state."""


def take_counted_steps(engine: ModuleType, folder: Path, fault: Fault | None) -> None:
    """Note every step that the main rank takes in ``folder``, and let the fault come before it."""
    original, begun = engine.take_step, [0]

    def step(state: Any, parts: Any, decay: float, global_step: int, sums: Any) -> Any:
        begun[0] += 1
        if fault is not None:
            fault(state.worker, begun[0], state)
        losses = original(state, parts, decay, global_step, sums)
        if state.worker.is_main:
            with (folder / "steps.txt").open("a", encoding="utf-8") as file:
                file.write(f"{state.job.run.path} {global_step}\n")
        return losses

    engine.take_step = step  # type: ignore[attr-defined]


@dataclass(frozen=True)
class StorageFails:
    """From a step on, writing fails with a number of the system's, so many times."""

    step: int
    number: int
    times: int

    def __call__(self, worker: Worker, begun: int, state: Any) -> None:
        if begun != self.step or not worker.is_main:
            return
        sync, left = os.fsync, [self.times]

        def failing(handle: int) -> None:
            left[0] -= 1
            if left[0] >= 0:
                raise OSError(self.number, os.strerror(self.number))
            sync(handle)

        os.fsync = failing  # type: ignore[assignment]
        retry.WAITS = (0.01, 0.02, 0.03, 0.04)


@dataclass(frozen=True)
class KilledWriting:
    """SIGKILL of the main rank just before it makes a file durable, renames or removes one, for the so-many-th time.

    Every such moment is noted in ``note``, so that they can be counted.
    """

    moment: int
    note: str

    def __call__(self, worker: Worker, begun: int, state: Any) -> None:
        if begun or not worker.is_main:
            return
        seen = [0]

        def watched(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*given: Any, **named: Any) -> Any:
                seen[0] += 1
                with Path(self.note).open("a", encoding="utf-8") as file:
                    file.write(f"{function.__name__} {given[0]}\n")
                if seen[0] == self.moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*given, **named)

            return call

        for name in ("fsync", "replace", "unlink"):  # pathlib calls them too
            setattr(os, name, watched(getattr(os, name)))


@dataclass(frozen=True)
class OutOfMemory:
    """A rank finds no memory at a step."""

    step: int
    rank: int

    def __call__(self, worker: Worker, begun: int, state: Any) -> None:
        if (begun, worker.rank) == (self.step, self.rank):
            raise MemoryError("DefaultCPUAllocator: can't allocate memory")


@dataclass(frozen=True)
class NotANumber:
    """The loss of a rank is not a number at a step: a weight of its net is none."""

    step: int
    rank: int

    def __call__(self, worker: Worker, begun: int, state: Any) -> None:
        import torch

        if (begun, worker.rank) == (self.step, self.rank):
            with torch.no_grad():
                next(state.student.parameters()).fill_(torch.nan)
