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
from typing import TYPE_CHECKING, Any

from raydistill.board import Board
from raydistill.config import Config
from raydistill.errors import UserError
from raydistill.events import Event, Note
from raydistill.progress import Display

if TYPE_CHECKING:
    from raydistill.checkpoint import RunDirectory
    from raydistill.runtime import FileReporter, Reporter

# Ray reads its environment when it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if not os.environ.get("RAY_ADDRESS"):
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # set later, Ray's servers would ask for a token that nobody made
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # an epoch's report waits for it; 2 s by default

import ray
import ray.train
import ray.train.torch

_POLL_SECONDS = 0.3
_PATIENCE_SECONDS = 60
_OBJECT_STORE_BYTES = 200 * 1024**2  # only small messages pass through it


def run_on_ray(config: Config, display: Display) -> None:
    """Run the stages of ``config`` on Ray workers, on the cluster that RAY_ADDRESS names or on this machine.

    Raises:
        UserError: as ``run_stages`` does, or when the cluster cannot hold the workers.
    """
    with _connected(config):
        use_gpu = _use_gpu(config)
        cpus = _cpus_per_worker(config)
        _check_resources(config, cpus, use_gpu)
        board = ray.remote(num_cpus=0)(Board).remote()
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
        except ray.exceptions.ActorDiedError as error:
            raise UserError(
                f"Ray's controller of the run died ({str(error).splitlines()[0]}); the same command goes on after the "
                "last finished epoch"
            ) from error
        _raise_users_error(board)
        shutil.rmtree(storage, ignore_errors=True)  # Ray's own notes; every result is in the run directories


def _train_loop(loop_config: dict[str, Any]) -> None:
    """Run in every Ray worker."""
    import torch

    from raydistill.runtime import FileReporter, Worker
    from raydistill.stages import run_stages

    board = loop_config["board"]
    if ray.get(board.error.remote()) is not None:
        return  # Ray restarted the workers, but no retry mends this
    torch.set_num_threads(loop_config["threads"])
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())

    def reporter_for(run: RunDirectory) -> Reporter:
        return _RayReporter(FileReporter(run, worker, board.put.remote), run.path.name)

    try:
        run_stages(Config.model_validate(loop_config["config"]), worker, reporter_for)
    except UserError as error:
        ray.get(board.fail.remote(str(error)))
        if worker.world_size > 1:
            raise  # the other workers may be waiting for this one: Ray ends them
    except torch.cuda.OutOfMemoryError as error:
        advice = "lower training.batch_size, or raise training.accumulation by as much"
        ray.get(board.fail.remote(f"training.batch_size: must fit into the GPU's memory ({error}); {advice}"))
        raise
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0]
        text = f"worker {worker.rank} failed: {type(error).__name__}: {first_line}; Ray starts the workers again"
        ray.get(board.put.remote(Note(text, warning=True)))
        raise


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
    address = os.environ.get("RAY_ADDRESS")
    if address:
        try:
            ray.init(log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, TimeoutError) as error:
            raise UserError(f"RAY_ADDRESS: must be a running Ray cluster, got {address} ({error})") from error
    else:
        _start_here(config)
    try:
        yield
    finally:
        ray.shutdown()


def _start_here(config: Config) -> None:
    """Start Ray on this machine. Its ports are open to the network: only who has the token may use them."""
    wanted = 1 if config.scaling.cpus_per_worker == "auto" else config.scaling.cpus_per_worker
    needed = config.scaling.num_workers * wanted
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ray.init(
        address="local",
        num_cpus=needed if needed > cores else None,  # more workers than cores is slow, not wrong; None: Ray counts
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level="ERROR",
    )
    token = Path.home() / ".ray" / "auth_token"
    if token.is_file():
        token.chmod(0o600)  # Ray leaves it readable to everyone


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
    nodes = [node["Resources"]["CPU"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    per_node = -(-config.scaling.num_workers // max(1, len(nodes)))
    return max(1, int(min(nodes, default=1) // per_node))


def _check_resources(config: Config, cpus: int, use_gpu: bool) -> None:
    """Refuse what can never be had; Ray itself would wait for ever."""
    wanted = {"CPU": cpus} | ({"GPU": config.scaling.gpus_per_worker} if use_gpu else {})
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    places = sum(min(int(node.get(kind, 0) // amount) for kind, amount in wanted.items()) for node in nodes)
    if places < config.scaling.num_workers:
        each = " and ".join(f"{amount} {kind}" for kind, amount in wanted.items())
        there = ", ".join(f"{node.get('CPU', 0):g} CPU {node.get('GPU', 0):g} GPU" for node in nodes)
        raise UserError(
            f"scaling.num_workers: must fit into the Ray cluster, got {config.scaling.num_workers} workers of {each} "
            f"for nodes of {there}, which hold {places}; lower it or scaling.cpus_per_worker, or add nodes"
        )


@contextlib.contextmanager
def _shown(board: Any, display: Display) -> Iterator[None]:
    """Show what arrives on the board while the workers run."""
    done = threading.Event()

    def watch() -> None:
        heard, started = False, time.monotonic()
        while not done.wait(_POLL_SECONDS):
            heard = _show_new(board, display) or heard
            if not heard and time.monotonic() - started > _PATIENCE_SECONDS:
                heard = True
                display(Note(f"no worker has begun after {_PATIENCE_SECONDS} s: is the cluster busy?", warning=True))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _show_new(board, display)
        display.close()


def _show_new(board: Any, display: Display) -> bool:
    """Show the events that came, and say whether there were any."""
    try:
        events: list[Event] = ray.get(board.take.remote())
    except ray.exceptions.RayError:
        return False  # Ray is going down: nothing more to show
    for event in events:
        display(event)
    return bool(events)


def _raise_users_error(board: Any) -> None:
    message = ray.get(board.error.remote())
    if message is not None:
        raise UserError(message)
