"""The part of the Ray Tune adapter that runs in the workers: a trial in one actor, or on a group of workers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from raydistill.config.own import Carried
from raydistill.errors import UserError
from raydistill.on_ray.group import Group, run_group
from raydistill.on_ray.stopping import heeding
from raydistill.on_ray.takeover import position, state_of, take_over
from raydistill.runs.events import EpochDone
from raydistill.runs.stopping import Stop
from raydistill.storage.mirror import named
from raydistill.storage.output import Output
from raydistill.storage.parcels import Shipped
from raydistill.sweeps.directory import SweepDirectory, TrialDirectory

if TYPE_CHECKING:
    from raydistill.runs.worker import Worker

import ray
import ray.train
import ray.tune

SCORE, EPOCH = "score", "epoch"
"""What schedulers look at, and when."""


@dataclass(frozen=True)
class SweepOrder:
    """What all trials of a sweep share, as it is sent to their workers."""

    output: Output
    metric: str
    population: bool
    """Whether settings change while trials train."""
    brackets: bool
    """Whether a trial that begins again reports all its epochs again."""
    shipped: Shipped
    group: Group
    """The workers of each trial, which gives them its own name."""
    next_round: int
    """The epoch at which the members of a population are compared next."""
    own: Carried
    """What settings name and trials cannot import."""

    @property
    def directory(self) -> SweepDirectory:
        """Where the sweep lies."""
        return SweepDirectory(self.output.folder, self.output)

    def trial(self, name: str) -> TrialDirectory:
        """Return where a trial lies."""
        return self.directory.trial(name)


def flat_trial(settings: dict[str, Any], order: SweepOrder) -> None:
    """Run one trial in this actor; several of them follow one another in the same process."""
    import torch

    from raydistill.runs.worker import Worker

    resources, board = order.group.resources, order.group.board
    torch.set_num_threads(max(1, int(resources["CPU"])))
    worker = Worker(device=torch.device("cuda", 0) if "GPU" in resources else torch.device("cpu"))
    name = ray.tune.get_context().get_trial_name()
    trial = order.trial(name)
    if not order.population:
        with heeding(board, name, worker), _leaving_no_weights(trial):
            _run_and_report(name, order, worker, ray.tune.report)
        return
    order.output.pull(trial.path, everything=True)
    take_over(trial, settings["settings"], settings["left"])

    def report(metrics: dict[str, Any]) -> None:
        with state_of(trial) as state:
            ray.tune.report(metrics, checkpoint=state)

    with heeding(board, name, worker):
        _report_again(trial, order, report)
        _run_and_report(name, order, worker, report, settings["settings"])


def _report_again(trial: TrialDirectory, order: SweepOrder, report: Callable[[dict[str, Any]], None]) -> None:
    """Report once more what a trial came to that waited for the others when the sweep was interrupted."""
    epoch, step = position(trial)
    if ray.tune.get_checkpoint() is not None or step or epoch < order.next_round:
        return
    for line in [line for line in trial.run.lines() if line["epoch"] == epoch and f"val/{order.metric}" in line]:
        report(_for_ray(line, epoch, order))


def _run_and_report(
    name: str,
    order: SweepOrder,
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

    sweep, metric, board = order.directory, order.metric, order.group.board
    trial = sweep.trial(name)
    order.output.pull(trial.path)
    worker.wait()  # nobody looks for files where another has begun to write
    record = trial.read()

    def on_epoch(event: EpochDone) -> None:
        if record.role == "searched" and event.epoch < event.epochs and f"val/{metric}" in event.metrics:
            report(_for_ray(event.metrics, event.epoch, order))

    if order.brackets and record.role == "searched":
        for line in [line for line in trial.run.lines() if f"val/{metric}" in line]:
            report(_for_ray(line, int(line["epoch"]), order))
        if record.ended:
            return ""
    tell, shipped = (lambda event: board.put.remote(event)), order.shipped
    reason = run_trial(sweep, name, worker, tell, on_epoch, changed, shipped)
    if reason:
        return reason
    for line in [line for line in trial.run.lines() if f"val/{metric}" in line][-1:]:
        report(_for_ray(line, int(line["epoch"]), order))
    return ""


@contextlib.contextmanager
def _leaving_no_weights(trial: TrialDirectory) -> Iterator[None]:
    """Free this machine of a trial's weights afterwards, where an object store has them."""
    try:
        yield
    finally:
        trial.output.drop_weights(trial.path)


def _for_ray(metrics: Mapping[str, float], epoch: int, order: SweepOrder) -> dict[str, float]:
    """Return an evaluated epoch as schedulers take it.

    Ray keeps statistics of every metric of every trial in the driver: 2.5 KiB each, which thousands of trials feel.
    """
    return {EPOCH: epoch, SCORE: metrics[f"val/{order.metric}"]}


def group_trial(settings: dict[str, Any], order: SweepOrder) -> None:
    """Run one trial on a group of workers; this function only waits for them."""
    from ray.tune.integration.ray_train import TuneReportCallback

    from raydistill.on_ray.lost_workers import failure_in_code

    name = settings["trial"]
    group = replace(order.group, name=name, callbacks=(TuneReportCallback(),))
    failure = order.trial(name).failure
    try:
        run_group(group, TrialOrder(name, order), Stop())
    except UserError as error:
        if not order.output.fetched(failure).is_file():  # else a worker has written more
            order.output.write_text(failure, f"{' '.join(str(error).split())}\n")
    except ray.train.TrainingFailedError as error:
        order.output.write_text(failure, f"{named(failure_in_code(error))}\n{error}\n")


@dataclass(frozen=True)
class TrialOrder:
    """A trial, as it is sent to the workers of its group."""

    name: str
    sweep: SweepOrder

    def carry_out(self, worker: Worker) -> None:
        """Run what is missing of it.

        Raises:
            UserError: what made it fail.
        """
        with _leaving_no_weights(self.sweep.trial(self.name)):
            reason = _run_and_report(self.name, self.sweep, worker, ray.train.report)
        if reason:
            raise UserError(reason)
