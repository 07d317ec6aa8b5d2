"""The Ray Train adapter: one worker per device, each running the stages; the driver shows what they say."""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill.board import Board
from raydistill.config import Config
from raydistill.errors import UserError, first_line
from raydistill.events import Event, Listener, Note
from raydistill.ray_node import node_watched
from raydistill.ray_session import (
    TerminatedError,
    connected,
    heed_sigterm,
    heeding,
    in_a_thread,
    nodes,
    refuse_what_cannot_be_had,
    shown,
)
from raydistill.ray_waiting import wait_for_room
from raydistill.run_settings import StageName
from raydistill.stopping import Stop

if TYPE_CHECKING:
    from raydistill.checkpoint import RunDirectory
    from raydistill.runtime import FileReporter, Reporter

import ray


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

    from raydistill.ray_losses import LossTeller, explained

    wanted = _had_by_each(config, listener, stop)
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(config.scaling.hang_seconds)  # for Ray itself
    board = ray.remote(num_cpus=0)(Board).remote()
    storage = Path(config.output) / "ray"
    trainer = ray.train.torch.TorchTrainer(
        _train_loop,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "board": board,
            "threads": wanted["CPU"],
            "only": only,
        },
        torch_config=ray.train.torch.TorchConfig(timeout_s=config.scaling.hang_seconds),  # for the other workers
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.scaling.num_workers, use_gpu="GPU" in wanted, resources_per_worker=wanted
        ),
        run_config=ray.train.RunConfig(
            name=f"launch-{uuid.uuid4().hex[:8]}",
            storage_path=str(storage),
            failure_config=ray.train.FailureConfig(max_failures=config.scaling.max_failures),
            callbacks=[LossTeller(board)],
            worker_runtime_env={"env_vars": {"PYTHONWARNINGS": "ignore"}},
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        with node_watched(stop), shown(board, listener, stop):
            in_a_thread(trainer.fit)
    except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
        end = explained(error, stop, config.scaling.max_failures, _told(board))
        if end is None:
            raise
        raise end from error
    if told := _told(board):
        raise UserError(told)
    shutil.rmtree(storage, ignore_errors=True)  # Ray's own notes; every result is in the run directories


def _train_loop(loop_config: dict[str, Any]) -> None:
    """Run in every Ray worker."""
    import ray.train.torch
    import torch

    from raydistill.runtime import FileReporter, Worker
    from raydistill.stages import run_stages

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
        with heeding(board, "run", worker):
            run_stages(config, worker, reporter_for, loop_config["only"])
    except UserError as error:
        ray.get(board.fail.remote(str(error)))
        if worker.world_size > 1:
            raise  # the other workers may be waiting for this one: Ray ends them
    except TerminatedError:
        _tell(board, f"worker {worker.rank} was told to end (SIGTERM); its checkpoint is written")
        raise
    except Exception as error:
        _tell(board, f"worker {worker.rank} failed: {type(error).__name__}: {first_line(error)}")
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


def _had_by_each(config: Config, listener: Listener, stop: Stop) -> dict[str, int]:
    """Return what each worker gets, once the cluster can hold them all."""
    scaling, setting = config.scaling, "scaling.num_workers"
    advice = "lower it or scaling.cpus_per_worker, or add nodes"
    least = {"CPU": cpus_of(config) // scaling.num_workers}
    if _use_gpu(config):
        least["GPU"] = scaling.gpus_per_worker
    wait_for_room(setting, scaling.num_workers, least, advice, scaling.wait_seconds, listener, stop)
    wanted = least | {"CPU": _cpus_per_worker(config)}  # an equal share is that of the nodes which are there now
    refuse_what_cannot_be_had(setting, scaling.num_workers, wanted, advice)
    return wanted


def _use_gpu(config: Config) -> bool:
    wanted = config.scaling.use_gpu
    if wanted != "auto":
        return bool(wanted)
    needed = config.scaling.num_workers * config.scaling.gpus_per_worker
    return bool(ray.cluster_resources().get("GPU", 0) >= needed)


def _cpus_per_worker(config: Config) -> int:
    """Return what each worker gets: asked for, or an equal share of the machines."""
    if config.scaling.cpus_per_worker != "auto":
        return config.scaling.cpus_per_worker
    cpus = [node["CPU"] for node in nodes() if node.get("CPU")]
    per_node = -(-config.scaling.num_workers // max(1, len(cpus)))
    return max(1, int(min(cpus, default=1) // per_node))


def _told(board: Any) -> str | None:
    """Return the error of the user's that a worker has told the board, if it has and the board is still there."""
    try:
        message: str | None = ray.get(board.error.remote())
    except ray.exceptions.RayError:
        return None
    return message
