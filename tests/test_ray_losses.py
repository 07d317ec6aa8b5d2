"""What is said of workers that Ray lost; without Ray running."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.train
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

from raydistill.events import Note
from raydistill.ray_losses import LossTeller, lost_workers

DEAD = WorkerHealthCheckFailedError("failed", ray.exceptions.ActorDiedError())
OUT_OF_MEMORY = WorkerHealthCheckFailedError("failed", ray.exceptions.OutOfMemoryError("the node ran low on memory"))
STANDS_STILL = WorkerHealthCheckTimeoutError("hanging")
OURS = RuntimeError("connection closed by peer")


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (DEAD, "was lost: its process was killed"),
        (OUT_OF_MEMORY, "was ended by Ray as its machine ran out of memory (lower training.batch_size"),
        (STANDS_STILL, "stood still for scaling.hang_seconds"),
    ],
)
def test_each_way_to_lose_a_worker_has_its_words(failure: Exception, said: str) -> None:
    (text,) = lost_workers(ray.train.WorkerGroupError("failed", {1: failure, 0: OURS}))
    assert text.startswith(f"worker 1 {said}")


def test_what_workers_raise_is_no_loss() -> None:
    assert lost_workers(ray.train.WorkerGroupError("failed", {0: OURS})) == []
    assert lost_workers(ray.train.ControllerError(OURS)) == []


def test_the_board_hears_of_losses_and_of_nothing_else() -> None:
    heard: list[Note] = []
    board: Any = SimpleNamespace(put=SimpleNamespace(remote=heard.append))
    LossTeller(board).after_exception(None, {0: OURS, 1: DEAD})
    (note,) = heard
    assert note.warning
    assert note.text.startswith("worker 1 was lost")
    assert note.text.endswith("; Ray starts the workers again")
