"""Workers that Ray lost: what is said of each, while others are started in their place and when that is given up."""

from __future__ import annotations

from typing import Any

import ray
import ray.train
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

from raydistill.errors import UserError, first_line
from raydistill.on_ray.watch import started_again
from raydistill.runs.stopping import Stop


class LossTeller(ray.train.UserCallback):  # type: ignore[misc]
    """Tells the board of workers of a group that were lost; Ray calls it, in its controller."""

    def __init__(self, board: Any, name: str) -> None:
        self._board, self._name = board, name

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Say which; what a worker raises it says itself."""
        for text in _losses(worker_exceptions):
            self._board.put.remote(started_again(self._name, text))


def explained(error: Exception, stop: Stop, max_failures: int, told: str | None = None) -> BaseException | None:
    """Return what a run ends with that Ray let fail; None where it is a mistake in code, which needs its traceback.

    Args:
        error: what Ray raised.
        stop: whether the run was to end anyway, as where everything on a machine is told to end.
        max_failures: how many losses were survived.
        told: what a worker has told of the user's making.
    """
    if stop.wanted:
        return stop.interruption()
    sentence = told or _sentence(error, max_failures)
    return UserError(sentence) if sentence else None


def failure_in_code(error: Exception) -> str:
    """Return what failed in a group of workers, for a sentence; where Ray does not say, its own first line."""
    if isinstance(error, ray.train.WorkerGroupError) and error.worker_failures:
        rank, failure = min(error.worker_failures.items(), key=lambda item: item[0])
        return f"worker {rank} failed: {first_line(failure)}"
    return f"its workers failed: {first_line(error)}"


def _sentence(error: Exception, max_failures: int) -> str:
    again = "the same command goes on after the last checkpoint"
    lost = _losses(error.worker_failures) if isinstance(error, ray.train.WorkerGroupError) else []
    if lost:
        number = "1 loss" if max_failures == 1 else f"{max_failures} losses"
        return f"scaling.max_failures: {number} of workers survived, then {'; '.join(lost)}; mend that, and {again}"
    if isinstance(error, ray.exceptions.RayError) and not isinstance(error, ray.exceptions.RayTaskError):
        return f"Ray, or its controller of the run, was lost ({first_line(error)}); {again}"
    return ""


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
    return (
        "was lost: its process was killed, by the system where memory runs out, by NCCL where another worker kept it "
        "waiting for scaling.hang_seconds, or its machine is gone"
    )
