"""``python -m raydistill.tune``: a sweep over decay schedules and loss weights, and its report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raydistill import VERSION, api
from raydistill.command import run_command
from raydistill.config import SWEEPS
from raydistill.errors import printable
from raydistill.runs.stopping import stoppable

if TYPE_CHECKING:
    from raydistill.sweeps.file import LoadedSweep

STOPPED = "interrupted; the same command goes on where its trials stopped: ended ones are kept"
INTERRUPTED = "interrupted; the same command goes on: ended trials are kept, the others go on after their last epoch"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_intermixed_args(arguments)
    return run_command(lambda: _tune(options), STOPPED, INTERRUPTED)


def _tune(options: argparse.Namespace) -> int:
    """Run what is missing of a sweep and report; 1 when no searched trial has a result."""
    from raydistill.reports.screen import as_text
    from raydistill.sweeps.file import load_sweep

    if options.print_plan:
        sys.stdout.write(
            printable(plan_as_text(load_sweep(options.sweep, options.overrides, options.output)), lines=True)
        )
        return 0
    with stoppable():
        sweep = api.sweep(options.sweep, options.overrides, output=options.output, local=options.local)
        sys.stdout.write(f"\n{printable(as_text(sweep.write_report()), lines=True)}\n")
        return 0 if sweep.has_result else 1


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
