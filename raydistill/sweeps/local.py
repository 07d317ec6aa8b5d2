"""The trials of a sweep one after the other in this process, without Ray."""

from __future__ import annotations

import functools
import time

from raydistill.detectors.teacher import decide_precision
from raydistill.errors import UserError
from raydistill.runs.events import Note
from raydistill.runs.notices import log_to_notes
from raydistill.runs.reporter import FileReporter
from raydistill.runs.stopping import Stop
from raydistill.runs.weak_teacher import refuse_weakness, weakness
from raydistill.runs.worker import Worker, local_device
from raydistill.sweeps.announcement import refuse_missing_score
from raydistill.sweeps.file import LoadedSweep
from raydistill.sweeps.plan import Plan
from raydistill.sweeps.table import SweepListener
from raydistill.sweeps.trial import datasets, run_trial
from raydistill.training import stages
from raydistill.training.same_data import claim_data
from raydistill.training.scored import refuse_missing_metric


def run_sweep_locally(plan: Plan, display: SweepListener, stop: Stop) -> None:
    """Train the shared teacher if it is missing, then run every trial that is left.

    Raises:
        Stopped: when ``stop`` was asked for and the checkpoint of the trial at work is written.
    """
    sweep, config = plan.loaded.sweep, plan.loaded.config
    worker = Worker(device=local_device(sweep.resources.gpus_per_worker != 0), stop=stop)
    try:
        if plan.precision is None and plan.unfinished:
            display(Note(plan.decide_precision(decide_precision(config, worker))))
        if not plan.directory.teacher.finished:
            to_files = functools.partial(
                FileReporter, worker=worker, listener=display, tensorboard=config.logging.tensorboard
            )
            stages.run_stages(config, plan.directory.output, worker, to_files, only="teacher", metric=sweep.metric)
        elif plan.unfinished:
            with log_to_notes(display, worker):
                splits = datasets(config.data, config.downloads)
                claim_data(plan.directory.output, splits, begun=True)
                refuse_missing_metric(sweep.metric, config, splits)
        if plan.unfinished:
            refuse_weakness(weakness(plan.directory.teacher, config), config, display)
            refuse_missing_score(plan.directory, sweep.metric)
        while (record := plan.next()) is not None:
            started = time.monotonic()
            display.begins(record)
            try:
                run_trial(plan.directory, record.name, worker, display, None)
            except BaseException:
                plan.interrupted(record.name, time.monotonic() - started)
                raise
            plan.directory.output.drop_weights(plan.directory.trial(record.name).path)
            ended = plan.end(record.name, time.monotonic() - started)
            display.ends(ended, plan.score(record.name).value)
    finally:
        display.close()


def refuse_what_needs_ray(loaded: LoadedSweep) -> None:
    """Raise UserError for a sweep that cannot be run without Ray."""
    if loaded.sweep.scheduler.name != "none":
        raise UserError(f"scheduler: must be none with --local, got {loaded.sweep.scheduler.name}; it needs Ray")
