"""What is said of workers that Ray lost; without Ray running."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.train
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

from raydistill.errors import UserError
from raydistill.on_ray.lost_workers import LossTeller, explained, failure_in_code
from raydistill.runs.events import Note
from raydistill.runs.stopping import Stop, Stopped

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
    sentence = _sentence(ray.train.WorkerGroupError("failed", {1: failure, 0: OURS}))
    assert sentence.startswith(f"scaling.max_failures: 3 losses of workers survived, then worker 1 {said}")
    assert sentence.endswith("the same command goes on after the last checkpoint")


def _sentence(error: Exception, told: str | None = None) -> str:
    end = explained(error, Stop(), 3, told)
    assert isinstance(end, UserError)
    return str(end)


def test_a_ray_that_is_gone_is_a_sentence() -> None:
    assert _sentence(ray.exceptions.RpcError("failed to connect\nmore")) == (
        "Ray, or its controller of the run, was lost (failed to connect); the same command goes on after the last "
        "checkpoint"
    )


def test_what_a_worker_told_says_more_than_its_loss() -> None:
    assert _sentence(ray.train.WorkerGroupError("failed", {0: DEAD}), "the disk is full") == "the disk is full"


def test_a_run_that_was_to_end_anyway_ends_as_its_user_wished() -> None:
    stop = Stop()
    stop.ask()
    end = explained(ray.train.WorkerGroupError("failed", {0: DEAD}), stop, 3)
    assert isinstance(end, KeyboardInterrupt)
    assert not isinstance(end, Stopped)  # nobody knows whether a checkpoint was written


@pytest.mark.parametrize(
    "error",
    [
        ray.train.WorkerGroupError("failed", {0: OURS}),
        ray.train.ControllerError(OURS),
        ray.exceptions.RayTaskError("run", "Traceback", OURS),
    ],
)
def test_a_mistake_in_code_keeps_its_traceback(error: Exception) -> None:
    assert explained(error, Stop(), 3) is None


@pytest.mark.parametrize(("name", "subject"), [("run", ""), ("p0001-seed0", "p0001-seed0: ")])
def test_the_board_hears_of_losses_and_of_nothing_else(name: str, subject: str) -> None:
    heard: list[Note] = []
    board: Any = SimpleNamespace(put=SimpleNamespace(remote=heard.append))
    LossTeller(board, name).after_exception(None, {0: OURS, 1: DEAD})
    (note,) = heard
    assert note.warning
    assert note.text.startswith(f"{subject}worker 1 was lost")
    assert note.text.endswith("; Ray starts the workers again")


def test_a_failure_in_code_names_its_worker() -> None:
    assert failure_in_code(ray.train.WorkerGroupError("failed", {1: OURS})) == (
        "worker 1 failed: connection closed by peer"
    )
    assert failure_in_code(ray.train.ControllerError(OURS)).startswith("its workers failed: ")
