"""The Ray Train adapter: one worker per device, each running the stages; the driver shows what they say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill.config import Config
from raydistill.on_ray.board import Board
from raydistill.on_ray.group import Group, run_group
from raydistill.on_ray.head import Patience
from raydistill.on_ray.inputs import check_devices, check_inputs_here, check_inputs_there
from raydistill.on_ray.node import node_watched
from raydistill.on_ray.room import Demand, Queue, let_ray_count_nodes, places_for, wait_for_all, wait_for_room
from raydistill.on_ray.session import connected, in_a_thread, ray_storage, remove_ray_storage, started_here
from raydistill.on_ray.shipping import ship
from raydistill.on_ray.watch import RUN, shown
from raydistill.runs.directory import StageName, unfinished
from raydistill.runs.events import Event, Listener
from raydistill.runs.stopping import Stop
from raydistill.storage.output import Output
from raydistill.storage.parcels import Shipped
from raydistill.training.inputs import Inputs, inputs_of

if TYPE_CHECKING:
    from raydistill.runs.directory import RunDirectory
    from raydistill.runs.reporter import FileReporter, Reporter
    from raydistill.runs.worker import Worker

import ray

# Seconds that Ray tries to place as many workers of an elastic run as it has counted places for before it counts again,
# 60 by default: it still counts a node that was lost a moment ago. What the user has set stays.
_COUNT_AGAIN = ("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "20")


def run_on_ray(config: Config, output: Output, listener: Listener, stop: Stop, only: StageName | None = None) -> None:
    """Run the stages of ``config``, or one, on Ray workers, on the cluster that RAY_ADDRESS names or on this machine.

    Raises:
        UserError: as ``run_stages`` does, or when the cluster cannot hold the workers.
    """
    scaling = config.scaling
    gpus = (scaling.min_workers or scaling.num_workers) * scaling.gpus_per_worker if scaling.use_gpu is True else 0
    check_devices("scaling.use_gpu", gpus, config.training.precision)
    unseen = check_inputs_here(inputs_of(config, unfinished(config, output, only)))
    with connected(cpus_of(config), False, "ray.train.torch", patience_of(config, listener, stop), scaling.dashboard):
        run_on_workers(config, output, listener, stop, only, unseen)


def patience_of(config: Config, listener: Listener, stop: Stop) -> Patience:
    """Return how a cluster's head is waited for."""
    return Patience(config.scaling.connect_seconds, listener, stop)


def cpus_of(config: Config) -> int:
    """Return the CPUs that all workers of ``config`` need at least."""
    wanted = 1 if config.scaling.cpus_per_worker == "auto" else config.scaling.cpus_per_worker
    return config.scaling.num_workers * wanted


def run_on_workers(
    config: Config,
    output: Output,
    listener: Listener,
    stop: Stop,
    only: StageName | None = None,
    unseen: Inputs | None = None,
    metric: str = "AP",
) -> None:
    """Run the stages of ``config``, or one of them, on workers of the Ray that is connected.

    Args:
        config: the run's settings.
        output: where it lies.
        listener: hears what the workers say.
        stop: ends them.
        only: the one stage to run.
        unseen: files that a node is to look at before.
        metric: must have something to score.

    Raises:
        UserError: as ``run_stages`` does, or when the cluster cannot hold the workers.
    """
    demand, scaling = _had(config, listener, stop), config.scaling
    if unseen:
        check_inputs_there(unseen, demand, stop)
    num_workers: int | tuple[int, int] = scaling.num_workers
    if scaling.min_workers is not None:
        num_workers = (scaling.min_workers, scaling.num_workers)
        os.environ.setdefault(*_COUNT_AGAIN)
        if os.environ.get("RAY_ADDRESS"):  # a Ray of this run knows its nodes
            let_ray_count_nodes()
    board = started_here(Board)
    group = Group(
        name=RUN,
        num_workers=num_workers,
        resources=demand.wanted,
        max_failures=scaling.max_failures,
        hang_seconds=scaling.hang_seconds,
        storage=ray_storage(output.place),
        board=board,
    )
    shipped = ship([config.teacher.weights, config.student.weights])
    order = RunOrder(config, output, board, only, shipped, metric)
    try:
        with node_watched(stop), shown(board, Queue(demand, scaling.wait_seconds, listener), listener, stop):
            in_a_thread(lambda: run_group(group, order, stop))
    except ray.exceptions.RayError as error:
        from raydistill.on_ray.lost_workers import explained

        end = explained(error, stop, scaling.max_failures)
        if end is None:
            raise
        raise end from error
    remove_ray_storage(output.place)


@dataclass(frozen=True)
class RunOrder:
    """The stages of a run, as they are sent to its workers."""

    config: Config
    output: Output
    board: Any
    only: StageName | None
    shipped: Shipped
    metric: str = "AP"

    def carry_out(self, worker: Worker) -> None:
        """Run what is missing of them."""
        from raydistill.runs.reporter import FileReporter
        from raydistill.training.stages import run_stages

        def reporter_for(run: RunDirectory) -> Reporter:
            files = FileReporter(run, worker, self.board.put.remote, self.config.logging.tensorboard)
            return _RayReporter(files, run.path.name)

        run_stages(self.config, self.output, worker, reporter_for, self.only, self.shipped, self.metric)


@dataclass(frozen=True)
class _RayReporter:
    """The file reporter, and Ray told of every epoch."""

    files: FileReporter
    stage: str
    files_first: bool = False

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
