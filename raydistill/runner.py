"""A run or a sweep from its settings to its files: here or on Ray, alone in its output directory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raydistill.config import Config
    from raydistill.runs.directory import StageName
    from raydistill.runs.events import Listener
    from raydistill.runs.stopping import Stop
    from raydistill.sweeps.file import LoadedSweep
    from raydistill.sweeps.plan import Plan
    from raydistill.sweeps.table import SweepEvent, SweepListener


def run(config: Config, local: bool, listener: Listener, stop: Stop, only: StageName | None = None) -> None:
    """Run what is missing of ``config``, or one of its stages, in this process or on Ray workers.

    Raises:
        UserError: when it cannot be done.
        Stopped: when ``stop`` was asked for and a checkpoint is written.
    """
    from raydistill.inference.scoring import check_backend
    from raydistill.runs.directory import unfinished
    from raydistill.runs.settings import refuse_other_settings
    from raydistill.runs.trackers import tracked
    from raydistill.storage.output import Output

    with Output.at(config.output).opened() as output:
        refuse_other_settings(config, output, only)
        check_backend(config.evaluation.backend)
        with tracked(config, output, listener) as tracking:
            if local or not unfinished(config, output, only):  # Ray takes half a minute to start: not for nothing
                from raydistill.training.local import run_locally

                run_locally(config, output, tracking, stop, only)
            else:
                with _interrupted_by_exit():
                    from raydistill.on_ray.run import run_on_ray

                    run_on_ray(config, output, tracking, stop, only)
        output.pull()  # what workers on other machines have written


def run_sweep(loaded: LoadedSweep, local: bool, listener: SweepListener, stop: Stop) -> bool:
    """Run what is missing of a sweep, in this process or on Ray; return whether any searched trial has a score.

    Raises:
        UserError: when it cannot be done.
        Stopped: when ``stop`` was asked for and the checkpoints of all trials at work are written.
    """
    from raydistill.inference.scoring import check_backend
    from raydistill.runs.events import Note
    from raydistill.runs.trackers import require
    from raydistill.storage.output import Output
    from raydistill.sweeps.announcement import does_not_repeat
    from raydistill.sweeps.limits import limited
    from raydistill.sweeps.plan import Plan
    from raydistill.sweeps.table import TrialsKept
    from raydistill.sweeps.tracking import tracked_sweep

    require(loaded.config)
    check_backend(loaded.config.evaluation.backend)
    if local:
        from raydistill.sweeps.local import refuse_what_needs_ray

        refuse_what_needs_ray(loaded)
    with Output.at(loaded.config.output).opened() as output:
        plan = Plan(loaded, output)
        listener(Note("\n".join(filter(None, [plan.headline, does_not_repeat(plan.loaded, local)]))))
        if kept := tuple((record, plan.score(record.name).value) for record in plan.ended):
            listener(TrialsKept(kept))
        with tracked_sweep(plan, listener) as tracking, limited(plan, tracking, stop) as limits:
            _run_plan(plan, local, limits, stop)
        output.pull()  # the teacher's records, where another machine has written them
        return plan.has_score


def _run_plan(plan: Plan, local: bool, listener: SweepListener, stop: Stop) -> None:
    """Run what is missing of a sweep whose directory is open."""
    if not plan.unfinished and plan.directory.teacher.finished:
        _compare_data_of_finished(plan, listener)
    plan.trim_weights()
    if plan.over:
        return
    if local:
        from raydistill.sweeps.local import run_sweep_locally

        run_sweep_locally(plan, listener, stop)
    elif plan.unfinished or not plan.directory.teacher.finished:  # Ray takes a while to start: not for nothing
        with _interrupted_by_exit():
            from raydistill.on_ray.sweep import run_sweep_on_ray

            run_sweep_on_ray(plan, listener, stop)


def _compare_data_of_finished(plan: Plan, listener: SweepListener) -> None:
    """Raise where the data of a sweep with nothing left to do changed since; those that are made cannot."""
    from raydistill.runs.directory import DATA_RECORD

    if plan.loaded.config.data.format == "shapes" or not (plan.directory.path / DATA_RECORD).is_file():
        return
    from raydistill.runs.notices import log_to_notes
    from raydistill.runs.worker import Worker
    from raydistill.training.same_data import compare_data_of_finished

    with log_to_notes(listener, Worker()):
        compare_data_of_finished(plan.directory.output, plan.loaded.config)


def drive_run(config: Config, listener: Listener, stop: Stop) -> None:
    """Run what is missing of ``config`` on Ray workers, as ``run`` does."""
    run(config, False, listener, stop)


def drive_teacher(config: Config, listener: Listener, stop: Stop) -> None:
    """Train the teacher of ``config`` on Ray workers, as ``run`` does."""
    run(config, False, listener, stop, only="teacher")


def drive_sweep(loaded: LoadedSweep, listen: Callable[[SweepEvent], object], stop: Stop) -> bool:
    """Run what is missing of a sweep on Ray, as ``run_sweep`` does; ``listen`` hears everything."""
    from raydistill.sweeps.table import SweepEvents

    return run_sweep(loaded, False, SweepEvents(listen), stop)


@contextlib.contextmanager
def _interrupted_by_exit() -> Iterator[None]:
    """Raise KeyboardInterrupt where Ray ends what was interrupted as if it were a whole process."""
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
