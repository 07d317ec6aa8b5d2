"""Starts a group of Ray Train workers, for a run or for a trial of a sweep, and says how it was lost."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from raydistill.errors import UserError, first_line
from raydistill.on_ray.stopping import TerminatedError, heed_sigterm, heeding
from raydistill.on_ray.watch import started_again
from raydistill.runs.stopping import Stop
from raydistill.storage.mirror import named

if TYPE_CHECKING:
    from raydistill.runs.worker import Worker

import ray

_OF_ANOTHER_WORKER = re.compile(r"[Cc]onnection (reset|closed) by|remote process exited")  # of gloo and of NCCL
_WAITED = re.compile(r"[Tt]imed out|collective operation timeout|before timing out")  # likewise


class Order(Protocol):
    """What every worker of a group does; it is sent to them, so it must be picklable."""

    def carry_out(self, worker: Worker) -> None:
        """Do it.

        Raises:
            UserError: what no other try mends.
        """


@dataclass(frozen=True)
class Group:
    """The workers of one launch of Ray Train."""

    name: str
    """What they are at work on: ``RUN``, or a trial's name."""
    num_workers: int | tuple[int, int]
    """The fewest and the most where the group is elastic."""
    resources: Mapping[str, float]
    """Of each worker, as Ray names them."""
    max_failures: int
    hang_seconds: int
    storage: str
    """Where Ray keeps its notes."""
    board: Any
    """The actor that hears what the workers say."""
    callbacks: tuple[Any, ...] = ()
    """Ray Train's, besides the one that tells of lost workers."""


@dataclass(frozen=True)
class _Launch:
    """What is sent to the workers of a group: their order, and what they need to carry it out."""

    id: str
    """The group's name and what makes it one of a kind: a trial is launched again where its actor was lost."""
    name: str
    num_threads: int
    board: Any
    order: Order


def run_group(group: Group, order: Order, stop: Stop) -> None:
    """Let every worker of ``group`` carry out ``order``; Ray starts them again when one is lost.

    Args:
        group: the workers.
        order: what they do.
        stop: whether the work was to end anyway.

    Raises:
        UserError: what a worker raised, or how the workers were lost once too often.
        KeyboardInterrupt: when they were lost after ``stop`` was asked for.
        ray.train.TrainingFailedError: for a mistake in code; its text holds the worker's traceback.
        ray.exceptions.RayError: when Ray itself, or its controller of the group, was lost.
    """
    import ray.train

    from raydistill.on_ray.lost_workers import explained

    launch = _Launch(
        id=f"{group.name}-{uuid.uuid4().hex[:8]}",
        name=group.name,
        num_threads=max(1, int(group.resources["CPU"])),
        board=group.board,
        order=order,
    )
    try:
        _trainer(group, launch).fit()
    except ray.train.TrainingFailedError as error:
        end = explained(error, stop, group.max_failures, None if stop.wanted else _users_error(launch))
        if end is None:
            raise
        raise end from error
    if message := _users_error(launch):
        raise UserError(message)


def _trainer(group: Group, launch: _Launch) -> Any:
    import ray.train.torch

    from raydistill.on_ray.lost_workers import LossTeller

    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(group.hang_seconds)  # for Ray itself
    return ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"launch": launch},
        torch_config=ray.train.torch.TorchConfig(timeout_s=group.hang_seconds),  # for the other workers
        scaling_config=ray.train.ScalingConfig(
            num_workers=group.num_workers,
            use_gpu="GPU" in group.resources,
            resources_per_worker=dict(group.resources),
        ),
        run_config=ray.train.RunConfig(
            name=launch.id,
            storage_path=group.storage,
            failure_config=ray.train.FailureConfig(max_failures=group.max_failures),
            callbacks=[LossTeller(group.board, group.name), *group.callbacks],
            worker_runtime_env={"env_vars": {"PYTHONWARNINGS": "ignore"}},
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
    )


def _work(loop_config: dict[str, _Launch]) -> None:
    """Run in every worker."""
    import ray.train.torch
    import torch

    from raydistill.runs.worker import Worker

    launch = loop_config["launch"]
    if _users_error(launch) is not None:
        return  # Ray restarted the workers, but no retry mends this
    torch.set_num_threads(launch.num_threads)
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    try:
        heed_sigterm()
        with heeding(launch.board, launch.name, worker):
            launch.order.carry_out(worker)
    except UserError as error:
        ray.get(launch.board.fail.remote(launch.id, named(str(error))))
        if worker.world_size > 1:
            raise  # the other workers may be waiting for this one: Ray ends them
    except TerminatedError:
        _tell(launch, f"worker {worker.rank} was told to end (SIGTERM); its checkpoint is written")
        raise
    except Exception as error:
        _tell(launch, named(f"worker {worker.rank} {reason_of(error, worker.world_size)}"))
        raise


def reason_of(error: Exception, world_size: int) -> str:
    """Return what befell a worker of so many that raised ``error``."""
    if world_size > 1 and _OF_ANOTHER_WORKER.search(str(error)):
        return "lost its connection to another worker"
    if world_size > 1 and isinstance(error, RuntimeError) and _WAITED.search(str(error)):
        return "waited scaling.hang_seconds for another worker; raise it where one takes that long on purpose"
    return f"failed: {type(error).__name__}: {first_line(error)}"


def _tell(launch: _Launch, text: str) -> None:
    ray.get(launch.board.put.remote(started_again(launch.name, text)))


def _users_error(launch: _Launch) -> str | None:
    """Return the error of the user's that a worker has left, if one has and the actor that keeps it is still there."""
    try:
        message: str | None = ray.get(launch.board.error.remote(launch.id))
    except ray.exceptions.RayError:
        return None
    return message
