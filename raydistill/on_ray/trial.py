"""The part of the Ray Tune adapter that runs in the workers: a trial in one actor, or on a group of workers."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from raydistill.on_ray.board import Board
from raydistill.on_ray.population import state_of, take_over
from raydistill.on_ray.session import started_here
from raydistill.on_ray.stopping import heed_sigterm, heeding
from raydistill.runs.events import EpochDone
from raydistill.runs.trackers import metric_name
from raydistill.storage.atomic import write_text
from raydistill.storage.mirror import drop_weights, fetched, folder, pull
from raydistill.sweeps.directory import SweepDirectory, TrialDirectory

if TYPE_CHECKING:
    from raydistill.runs.worker import Worker

import ray
import ray.tune

SCORE, EPOCH = "score", "epoch"
"""What schedulers look at, and when."""


def flat_trial(settings: dict[str, Any], shared: dict[str, Any]) -> None:
    """Run one trial in this actor; several of them follow one another in the same process."""
    import torch

    from raydistill.runs.worker import Worker

    torch.set_num_threads(max(1, int(shared["wanted"]["CPU"])))
    worker = Worker(device=torch.device("cuda", 0) if "GPU" in shared["wanted"] else torch.device("cpu"))
    name = ray.tune.get_context().get_trial_name()
    trial = SweepDirectory(folder(shared["sweep"])).trial(name)
    if not shared["population"]:
        with heeding(shared["board"], name, worker), _leaving_no_weights(trial):
            _run_and_report(name, shared, worker, ray.tune.report)
        return
    pull(trial.path, everything=True)
    take_over(trial, settings["settings"])

    def report(metrics: dict[str, Any]) -> None:
        with state_of(trial) as state:
            ray.tune.report(metrics, checkpoint=state)

    with heeding(shared["board"], name, worker):
        _run_and_report(name, shared, worker, report, settings["settings"])


def _run_and_report(
    name: str,
    shared: dict[str, Any],
    worker: Worker,
    report: Callable[[dict[str, Any]], None],
    changed: dict[str, Any] | None = None,
) -> str:
    """Run a trial; report its score after each evaluation, and last when all its files are written.

    The controls report at their end only: no scheduler may stop what everything is compared with.

    Returns:
        What made it fail; empty when it did not.
    """
    from raydistill.sweeps.trial import run_trial

    sweep, metric, board = SweepDirectory(folder(shared["sweep"])), shared["metric"], shared["board"]
    trial = sweep.trial(name)
    pull(trial.path)
    worker.wait()  # nobody looks for files where another has begun to write
    record = trial.read()

    def on_epoch(event: EpochDone) -> None:
        if record.role == "searched" and event.epoch < event.epochs and f"val/{metric}" in event.metrics:
            report(_for_ray(event.metrics, event.epoch, shared))

    if not record.ended:
        tell, shipped = (lambda event: board.put.remote(event)), shared["shipped"]
        reason = run_trial(sweep, name, worker, tell, on_epoch, changed, shipped)
        if reason:
            return reason
    evaluations = [line for line in trial.run.lines() if f"val/{metric}" in line]
    for line in evaluations if record.ended else evaluations[-1:]:
        report(_for_ray(line, int(line["epoch"]), shared))
    return ""


@contextlib.contextmanager
def _leaving_no_weights(trial: TrialDirectory) -> Iterator[None]:
    """Free this machine of a trial's weights afterwards, where an object store has them."""
    try:
        yield
    finally:
        drop_weights(trial.path)


def _for_ray(metrics: dict[str, float], epoch: int, shared: dict[str, Any]) -> dict[str, Any]:
    """Return an evaluated epoch as schedulers take it, and as Ray's loggers do where there are any.

    Ray keeps statistics of every metric of every trial in the driver: 2.5 KiB each, which thousands of trials feel.
    """
    logged = {metric_name(name): value for name, value in metrics.items()} if shared["logged"] else {}
    return {**logged, EPOCH: epoch, SCORE: metrics[f"val/{shared['metric']}"]}


def group_trial(settings: dict[str, Any], shared: dict[str, Any]) -> None:
    """Run one trial on a group of workers; this function only waits for them."""
    import ray.train.torch
    from ray.tune.integration.ray_train import TuneReportCallback

    name, wanted = settings["trial"], shared["wanted"]
    trial = SweepDirectory(folder(shared["sweep"])).trial(name)
    failures = started_here(Board)
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(shared["hang_seconds"])  # for Ray itself
    trainer = ray.train.torch.TorchTrainer(
        _group_loop,
        train_loop_config={"trial": name, "shared": shared, "failures": failures},
        torch_config=ray.train.torch.TorchConfig(timeout_s=shared["hang_seconds"]),
        scaling_config=ray.train.ScalingConfig(
            num_workers=shared["num_workers"], use_gpu="GPU" in wanted, resources_per_worker=wanted
        ),
        run_config=ray.train.RunConfig(
            name=f"{name}-{uuid.uuid4().hex[:8]}",
            storage_path=shared["storage"],
            callbacks=[TuneReportCallback()],
            failure_config=ray.train.FailureConfig(max_failures=shared["max_failures"]),
            worker_runtime_env={"env_vars": {"PYTHONWARNINGS": "ignore"}},
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        if not fetched(trial.failure).is_file():
            write_text(trial.failure, f"its workers failed: {' '.join(str(error).split())}\n")


def _group_loop(loop_config: dict[str, Any]) -> None:
    """Run in every worker of a trial's group."""
    import ray.train.torch
    import torch

    from raydistill.runs.worker import Worker

    shared, failures = loop_config["shared"], loop_config["failures"]
    if ray.get(failures.error.remote()) is not None:
        return  # Ray restarted the workers, but no retry mends this
    torch.set_num_threads(max(1, int(shared["wanted"]["CPU"])))
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    trial = SweepDirectory(folder(shared["sweep"])).trial(loop_config["trial"])
    heed_sigterm()
    with heeding(shared["board"], loop_config["trial"], worker), _leaving_no_weights(trial):
        reason = _run_and_report(loop_config["trial"], shared, worker, ray.train.report)
    if reason:
        ray.get(failures.fail.remote(reason))
        raise RuntimeError(reason)  # the other workers may be waiting for this one: Ray ends them
