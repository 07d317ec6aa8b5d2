"""Workers that Ray lost: what is said of each, while others are started in their place and when that is given up."""

from __future__ import annotations

from typing import Any

import ray
import ray.train
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

from raydistill.events import Note


class LossTeller(ray.train.UserCallback):  # type: ignore[misc]
    """Tells the board of workers that were lost; Ray calls it, in its controller."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Say which; what a worker raises it says itself."""
        for text in _losses(worker_exceptions):
            self._board.put.remote(Note(f"{text}; Ray starts the workers again", warning=True))


def lost_workers(error: Exception) -> list[str]:
    """Return how the workers were lost that made a run fail; nothing where the workers raised what made it fail."""
    return _losses(error.worker_failures) if isinstance(error, ray.train.WorkerGroupError) else []


def _losses(failures: dict[int, Exception]) -> list[str]:
    found = ((rank, _loss(error)) for rank, error in sorted(failures.items()))
    return [f"worker {rank} {loss}" for rank, loss in found if loss]


def _loss(error: Exception) -> str:
    """Return how a worker was lost, or nothing."""
    if isinstance(error, WorkerHealthCheckTimeoutError):
        return "stood still for scaling.hang_seconds"
    if not isinstance(error, WorkerHealthCheckFailedError):
        return ""
    if isinstance(error.health_check_failure, ray.exceptions.OutOfMemoryError):
        return "was ended by Ray as its machine ran out of memory (lower training.batch_size or loader.num_workers)"
    return "was lost: its process was killed, by the system where memory runs out, or its machine is gone"
