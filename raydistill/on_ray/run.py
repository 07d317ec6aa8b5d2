"""The Ray Train adapter: one worker per device, each running the stages; the driver shows what they say."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill.config import Config
from raydistill.errors import UserError, first_line
from raydistill.on_ray.board import Board
from raydistill.on_ray.node import node_watched
from raydistill.on_ray.room import Demand, Queue, let_ray_count_nodes, places_for, wait_for_all, wait_for_room
from raydistill.on_ray.session import connected, in_a_thread, ray_storage, remove_ray_storage, started_here
from raydistill.on_ray.shipping import ship
from raydistill.on_ray.stopping import TerminatedError, heed_sigterm, heeding
from raydistill.on_ray.watch import RUN, shown
from raydistill.runs.directory import StageName
from raydistill.runs.events import Event, Listener, Note
from raydistill.runs.stopping import Stop
from raydistill.storage.mirror import named

if TYPE_CHECKING:
    from raydistill.runs.directory import RunDirectory
    from raydistill.runs.reporter import FileReporter, Reporter

import ray

_OF_ANOTHER_WORKER = re.compile(r"[Cc]onnection (reset|closed) by|remote process exited")  # of gloo and of NCCL
# Seconds that Ray tries to place as many workers of an elastic run as it has counted places for before it counts again,
# 60 by default: it still counts a node that was lost a moment ago. What the user has set stays.
_COUNT_AGAIN = ("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "20")


def run_on_ray(config: Config, listener: Listener, stop: Stop) -> None:
    """Run the stages of ``config`` on Ray workers, on the cluster that RAY_ADDRESS names or on this machine.

    Raises:
        UserError: as ``run_stages`` does, or when the cluster cannot hold the workers.
    """
    with connected(cpus_of(config), meanwhile="ray.train.torch"):
        run_on_workers(config, listener, stop)


def cpus_of(config: Config) -> int:
    """Return the CPUs that all workers of ``config`` need at least."""
    wanted = 1 if config.scaling.cpus_per_worker == "auto" else config.scaling.cpus_per_worker
    return config.scaling.num_workers * wanted


def run_on_workers(config: Config, listener: Listener, stop: Stop, only: StageName | None = None) -> None:
    """Run the stages of ``config``, or one of them, on workers of the Ray that is connected.

    Raises:
        UserError: as ``run_stages`` does, or when the cluster cannot hold the workers.
    """
    import ray.train.torch

    from raydistill.on_ray.lost_workers import LossTeller, explained

    demand, scaling = _had(config, listener, stop), config.scaling
    wanted = dict(demand.wanted)
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(scaling.hang_seconds)  # for Ray itself
    num_workers: int | tuple[int, int] = scaling.num_workers
    if scaling.min_workers is not None:
        num_workers = (scaling.min_workers, scaling.num_workers)
        os.environ.setdefault(*_COUNT_AGAIN)
        if os.environ.get("RAY_ADDRESS"):  # a Ray of this run knows its nodes
            let_ray_count_nodes()
    board = started_here(Board)
    trainer = ray.train.torch.TorchTrainer(
        _train_loop,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "board": board,
            "threads": wanted["CPU"],
            "only": only,
            "shipped": ship([config.teacher.weights, config.student.weights]),
        },
        torch_config=ray.train.torch.TorchConfig(timeout_s=scaling.hang_seconds),  # for the other workers
        scaling_config=ray.train.ScalingConfig(
            num_workers=num_workers, use_gpu="GPU" in wanted, resources_per_worker=wanted
        ),
        run_config=ray.train.RunConfig(
            name=f"launch-{uuid.uuid4().hex[:8]}",
            storage_path=ray_storage(config.output),
            failure_config=ray.train.FailureConfig(max_failures=scaling.max_failures),
            callbacks=[LossTeller(board)],
            worker_runtime_env={"env_vars": {"PYTHONWARNINGS": "ignore"}},
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        with node_watched(stop), shown(board, Queue(demand, scaling.wait_seconds, listener), listener, stop):
            in_a_thread(trainer.fit)
    except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
        end = explained(error, stop, scaling.max_failures, _told(board))
        if end is None:
            raise
        raise end from error
    if told := _told(board):
        raise UserError(told)
    remove_ray_storage(config.output)


def _train_loop(loop_config: dict[str, Any]) -> None:
    """Run in every Ray worker."""
    import ray.train.torch
    import torch

    from raydistill.runs.reporter import FileReporter
    from raydistill.runs.worker import Worker
    from raydistill.training.stages import run_stages

    board, config = loop_config["board"], Config.model_validate(loop_config["config"])
    if ray.get(board.error.remote()) is not None:
        return  # Ray restarted the workers, but no retry mends this
    torch.set_num_threads(loop_config["threads"])
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())

    def reporter_for(run: RunDirectory) -> Reporter:
        return _RayReporter(FileReporter(run, worker, board.put.remote, config.logging.tensorboard), run.path.name)

    try:
        heed_sigterm()
        with heeding(board, RUN, worker):
            run_stages(config, worker, reporter_for, loop_config["only"], loop_config["shipped"])
    except UserError as error:
        ray.get(board.fail.remote(named(str(error))))
        if worker.world_size > 1:
            raise  # the other workers may be waiting for this one: Ray ends them
    except TerminatedError:
        _tell(board, f"worker {worker.rank} was told to end (SIGTERM); its checkpoint is written")
        raise
    except Exception as error:
        reason = f"failed: {type(error).__name__}: {first_line(error)}"
        if worker.world_size > 1 and _OF_ANOTHER_WORKER.search(str(error)):
            reason = "lost its connection to another worker"
        _tell(board, named(f"worker {worker.rank} {reason}"))
        raise


def _tell(board: Any, text: str) -> None:
    ray.get(board.put.remote(Note(f"{text}; Ray starts the workers again", warning=True)))


@dataclass(frozen=True)
class _RayReporter:
    """The file reporter, and Ray told of every epoch."""

    files: FileReporter
    stage: str

    def report(self, metrics: dict[str, float]) -> None:
        """Write the line, then tell Ray; every worker calls it."""
        import ray.train

        self.files.report(metrics)
        ray.train.report({"stage": self.stage, **metrics})

    def event(self, event: Event) -> None:
        """Hand on."""
        self.files.event(event)

    def resume_from(self) -> list[Path]:
        """Return the run directory's own checkpoints."""
        return self.files.resume_from()


def _had(config: Config, listener: Listener, stop: Stop) -> Demand:
    """Return the workers that there will be at least and what each gets, once the cluster can hold them."""
    scaling = config.scaling
    advice = "lower it or scaling.cpus_per_worker, or add nodes"
    wanted = {"CPU": cpus_of(config) // scaling.num_workers}
    if _use_gpu(config):
        wanted["GPU"] = scaling.gpus_per_worker
    least = Demand("scaling.num_workers", scaling.min_workers or scaling.num_workers, wanted, advice)
    if scaling.min_workers is not None:
        wait_for_all(replace(least, num_workers=scaling.num_workers), scaling.elastic_wait_seconds, listener, stop)
    wait_for_room(least, scaling.wait_seconds, listener, stop)
    if scaling.cpus_per_worker == "auto":
        least = replace(least, wanted=wanted | {"CPU": _share(wanted, scaling.num_workers)})
    return least


def _use_gpu(config: Config) -> bool:
    wanted = config.scaling.use_gpu
    if wanted != "auto":
        return bool(wanted)
    needed = (config.scaling.min_workers or config.scaling.num_workers) * config.scaling.gpus_per_worker
    return bool(ray.cluster_resources().get("GPU", 0) >= needed)


def _share(wanted: Mapping[str, int], num_workers: int) -> int:
    """Return the most CPUs that each worker can have, on the nodes that are there now."""
    most_there = max(1, min(num_workers, places_for(wanted)))
    cpus = wanted["CPU"]
    while places_for({**wanted, "CPU": cpus + 1}) >= most_there:
        cpus += 1
    return cpus


def _told(board: Any) -> str | None:
    """Return the error of the user's that a worker has told the board, if it has and the board is still there."""
    try:
        message: str | None = ray.get(board.error.remote())
    except ray.exceptions.RayError:
        return None
    return message
