"""``python -m raydistill.tune``: a sweep over decay schedules and loss weights, and its report."""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raydistill import VERSION
from raydistill.config import SWEEPS
from raydistill.config.precision import TEACHER_PRECISION, precision_text
from raydistill.errors import UserError
from raydistill.runs.stopping import Stop, Stopped, stoppable
from raydistill.storage import mirror

if TYPE_CHECKING:
    from raydistill.sweeps.file import LoadedSweep
    from raydistill.sweeps.plan import Plan
    from raydistill.sweeps.table import SweepListener


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_intermixed_args(arguments)
    from raydistill.sweeps.file import load_sweep

    try:
        overrides = [*options.overrides, *([f"output={options.output}"] if options.output else [])]
        loaded = load_sweep(options.sweep, overrides)
        if options.print_plan:
            sys.stdout.write(plan_as_text(loaded))
            return 0
        with stoppable() as stop:
            return tune(loaded, options.local, stop)
    except UserError as error:
        sys.stderr.write(f"{mirror.named(str(error))}\n")
        return 2
    except Stopped:
        sys.stderr.write("interrupted; the same command goes on where its trials stopped: ended ones are kept\n")
        return 130
    except (KeyboardInterrupt, SystemExit):
        sys.stderr.write(
            "interrupted; the same command goes on: ended trials are kept, the others go on after their last epoch\n"
        )
        return 130


def tune(loaded: LoadedSweep, local: bool, stop: Stop) -> int:
    """Run what is missing of a sweep, in this process or on Ray, and report; 1 when no searched trial has a result.

    Raises:
        Stopped: when ``stop`` was asked for and the checkpoints of all trials at work are written.
    """
    from raydistill.inference.scoring import check_backend
    from raydistill.reports import write_report
    from raydistill.reports.screen import as_text
    from raydistill.runs.trackers import require
    from raydistill.storage.output import Output
    from raydistill.sweeps.plan import Plan
    from raydistill.sweeps.table import SweepDisplay
    from raydistill.sweeps.tracking import tracked_sweep

    require(loaded.config)
    check_backend(loaded.config.evaluation.backend)
    if local:
        _refuse_what_needs_ray(loaded)
    with Output.at(loaded.config.output).opened() as output:
        plan = Plan(loaded, replay=loaded.sweep.scheduler.name != "none")
        display = SweepDisplay(loaded.sweep.metric, loaded.sweep.mode, plan.total)
        listener = tracked_sweep(loaded.config, display)
        sys.stderr.write(_headline(plan))
        if local:
            _run_here(plan, listener, stop)
        elif plan.unfinished or not plan.directory.teacher.finished:  # Ray takes a while to start: not for nothing
            from raydistill.on_ray.sweep import run_sweep_on_ray

            run_sweep_on_ray(plan, listener, stop)
        output.pull()  # the teacher's records, where another machine has written them
        report = write_report(output.folder)
    sys.stdout.write(f"\n{as_text(report)}\n")
    return 0 if any(record.ended for record in plan.records if record.role == "searched") else 1


def plan_as_text(loaded: LoadedSweep) -> str:
    """Return what a sweep would run, a line per point."""
    from raydistill.sweeps.file import controls, point_text

    lines = [f"{name:<10} {point_text(point)}" for name, point in controls(loaded).items()]
    if loaded.points is None:
        lines.append(f"{loaded.sweep.num_trials} points that Optuna will choose")
    else:
        lines += [f"p{number:04d}      {point_text(point)}" for number, point in enumerate(loaded.points)]
    lines += loaded.dropped
    seeds = ", ".join(str(seed) for seed in loaded.sweep.seeds)
    return "\n".join([*lines, f"each under seed {seeds}", ""])


def _headline(plan: Plan) -> str:
    loaded = plan.loaded
    kept = sum(record.ended for record in plan.records)
    sentences = [f"{plan.total} trials in {loaded.config.output}"]
    if kept:
        sentences.append(f"{kept} of them ended before and are kept")
    lines = ["; ".join(sentences), *loaded.dropped]
    if plan.precision is not None and TEACHER_PRECISION not in loaded.sweep.space:
        lines.append(precision_text(plan.precision, loaded.config))
    return "\n".join([*lines, ""])


def _refuse_what_needs_ray(loaded: LoadedSweep) -> None:
    if loaded.sweep.scheduler.name != "none":
        raise UserError(f"scheduler: must be none with --local, got {loaded.sweep.scheduler.name}; it needs Ray")


def _run_here(plan: Plan, display: SweepListener, stop: Stop) -> None:
    """Run the trials one after the other in this process, without Ray."""
    import torch

    from raydistill.detectors.teacher import decide_precision
    from raydistill.runs.events import Note
    from raydistill.runs.reporter import FileReporter
    from raydistill.runs.worker import Worker
    from raydistill.sweeps.trial import run_trial
    from raydistill.training.stages import run_stages

    sweep, config = plan.loaded.sweep, plan.loaded.config
    use_gpu = sweep.resources.gpus_per_worker != 0 and torch.cuda.is_available()
    worker = Worker(device=torch.device("cuda", 0) if use_gpu else torch.device("cpu"), stop=stop)
    try:
        if plan.precision is None and plan.unfinished:
            display(Note(plan.decide_precision(decide_precision(config, worker))))
        if not plan.directory.teacher.finished:
            to_files = functools.partial(
                FileReporter, worker=worker, listener=display, tensorboard=config.logging.tensorboard
            )
            run_stages(config, worker, to_files, only="teacher")
        while (record := plan.next()) is not None:
            started = time.monotonic()
            display.begins(record)
            try:
                run_trial(plan.directory, record.name, worker, display, lambda _: None)
            except BaseException:
                plan.interrupted(record.name, time.monotonic() - started)
                raise
            mirror.drop_weights(plan.directory.trial(record.name).path)
            ended = plan.end(record.name, time.monotonic() - started)
            display.ends(ended, plan.score(record.name).value)
    finally:
        display.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m raydistill.tune",
        description="Search decay schedules and loss weights: one teacher, two controls, a student per point and seed. "
        "Repeating the command goes on where it stopped.",
    )
    parser.add_argument(
        "sweep", help=f"one of {', '.join(SWEEPS)}, or a YAML file; a file here that is called like one of them: ./NAME"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="keys of the sweep (seeds=1), or settings of its base"
    )
    parser.add_argument("--local", action="store_true", help="run the trials one by one in this process, without Ray")
    parser.add_argument("--output", metavar="DIR", help="where the results go (default: runs/tune/SWEEP)")
    parser.add_argument("--print-plan", action="store_true", help="check the sweep, print its points and stop")
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


if __name__ == "__main__":
    sys.exit(main())
