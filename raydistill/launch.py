"""The Ray Train adapter: one worker per device, each running the stages; the driver shows what they say."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from raydistill.checkpoint import RunDirectory
from raydistill.config import Config
from raydistill.errors import UserError
from raydistill.progress import Display
from raydistill.runtime import Event, FileReporter, Reporter, Worker
from raydistill.stages import run_stages

# Ray reads its environment when it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
import ray.train
import ray.train.torch

_POLL_SECONDS = 0.3
_OBJECT_STORE_BYTES = 200 * 1024**2  # only small messages pass through it


class _Board:
    """An actor that carries events from the main worker to the driver, and remembers an error that no retry mends."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._error: str | None = None

    def put(self, event: Event) -> None:
        """Add an event."""
        self._events.append(event)

    def take(self) -> list[Event]:
        """Return the events that came since the last call."""
        events, self._events = self._events, []
        return events

    def fail(self, message: str) -> None:
        """Remember the first error of the user's making."""
        self._error = self._error or message

    def error(self) -> str | None:
        """Return that error."""
        return self._error


def run_on_ray(config: Config, display: Display) -> None:
    """Run the stages of ``config`` on Ray workers, on the cluster that RAY_ADDRESS names or on this machine.

    Raises:
        UserError: as ``run_stages`` does, or when the cluster cannot hold the workers.
    """
    with _connected(config):
        use_gpu = _use_gpu(config)
        cpus = _cpus_per_worker(config)
        _check_resources(config, cpus, use_gpu)
        board = ray.remote(num_cpus=0)(_Board).remote()
        storage = Path(config.output) / "ray"
        trainer = ray.train.torch.TorchTrainer(
            _train_loop,
            train_loop_config={"config": config.model_dump(mode="json"), "board": board, "threads": cpus},
            scaling_config=ray.train.ScalingConfig(
                num_workers=config.scaling.num_workers,
                use_gpu=use_gpu,
                resources_per_worker={"CPU": cpus} | ({"GPU": config.scaling.gpus_per_worker} if use_gpu else {}),
            ),
            run_config=ray.train.RunConfig(
                name=f"launch-{uuid.uuid4().hex[:8]}",
                storage_path=str(storage),
                failure_config=ray.train.FailureConfig(max_failures=config.scaling.max_failures),
                worker_runtime_env={"env_vars": {"PYTHONWARNINGS": "ignore"}},
                logging_config=ray.train.LoggingConfig(log_level="ERROR"),
            ),
        )
        try:
            with _shown(board, display):
                trainer.fit()
        except ray.train.TrainingFailedError:
            _raise_users_error(board)
            raise
        _raise_users_error(board)
        shutil.rmtree(storage, ignore_errors=True)  # Ray's own notes; every result is in the run directories


def _train_loop(loop_config: dict[str, Any]) -> None:
    """Run in every Ray worker."""
    board = loop_config["board"]
    if ray.get(board.error.remote()) is not None:
        return  # Ray restarted the workers, but no retry mends this
    torch.set_num_threads(loop_config["threads"])
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())

    def reporter_for(run: RunDirectory) -> Reporter:
        return _RayReporter(FileReporter(run, worker, lambda event: _send(board, event)), run.path.name)

    try:
        run_stages(Config.model_validate(loop_config["config"]), worker, reporter_for)
    except UserError as error:
        ray.get(board.fail.remote(str(error)))
        raise


def _send(board: Any, event: Event) -> None:
    board.put.remote(event)


@dataclass(frozen=True)
class _RayReporter:
    """The file reporter, and Ray told of every epoch."""

    files: FileReporter
    stage: str

    def report(self, metrics: dict[str, float]) -> None:
        """Write the line, then tell Ray; every worker calls it."""
        self.files.report(metrics)
        ray.train.report({"stage": self.stage, **metrics})

    def event(self, event: Event) -> None:
        """Hand on."""
        self.files.event(event)

    def resume_from(self) -> Path | None:
        """Return the run directory's own checkpoint."""
        return self.files.resume_from()


@contextlib.contextmanager
def _connected(config: Config) -> Iterator[None]:
    """Connect to the cluster, or start Ray on this machine; leave either as it was found."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for name in ("ray", "ray.train", "ray.tune", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level="ERROR")
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # listens on this machine only
        cores = os.cpu_count() or 1
        wanted = 0 if config.scaling.cpus_per_worker == "auto" else config.scaling.cpus_per_worker
        ray.init(
            address="local",
            num_cpus=max(
                cores, config.scaling.num_workers * max(1, wanted)
            ),  # more workers than cores is slow, not wrong
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level="ERROR",
        )
    try:
        yield
    finally:
        ray.shutdown()


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
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    per_node = -(-config.scaling.num_workers // max(1, len(nodes)))
    return max(1, int(max(nodes, default=1) // per_node))


def _check_resources(config: Config, cpus: int, use_gpu: bool) -> None:
    """Refuse what can never be had; Ray itself would wait for ever."""
    there = ray.cluster_resources()
    wanted = {"CPU": cpus * config.scaling.num_workers}
    if use_gpu:
        wanted["GPU"] = config.scaling.gpus_per_worker * config.scaling.num_workers
    for kind, amount in wanted.items():
        if there.get(kind, 0) < amount:
            raise UserError(
                f"scaling: {config.scaling.num_workers} workers need {amount} {kind}s, the Ray cluster has "
                f"{there.get(kind, 0):g}; lower scaling.num_workers or add nodes"
            )


@contextlib.contextmanager
def _shown(board: Any, display: Display) -> Iterator[None]:
    """Show what arrives on the board while the workers run."""
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            time.sleep(_POLL_SECONDS)
            _show_new(board, display)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _show_new(board, display)
        display.close()


def _show_new(board: Any, display: Display) -> None:
    with contextlib.suppress(ray.exceptions.RayError):  # Ray is going down: nothing more to show
        for event in ray.get(board.take.remote()):
            display(event)


def _raise_users_error(board: Any) -> None:
    message = ray.get(board.error.remote())
    if message is not None:
        raise UserError(message)
