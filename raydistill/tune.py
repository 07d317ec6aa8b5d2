"""``python -m raydistill.tune``: a sweep over decay schedules and loss weights, and its report."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raydistill import VERSION, api
from raydistill.command import run_command
from raydistill.config import SWEEPS
from raydistill.errors import printable
from raydistill.runs.stopping import stoppable

if TYPE_CHECKING:
    from raydistill.sweeps.file import LoadedSweep

STOPPED = "interrupted; the same command goes on where its trials stopped: ended ones are kept"
INTERRUPTED = "interrupted; the same command goes on: ended trials are kept, the others go on after their last epoch"

_SEEDS_OFFERED = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = command_line().parse_intermixed_args(arguments)
    return run_command(lambda: _tune(options), STOPPED, INTERRUPTED)


def _tune(options: argparse.Namespace) -> int:
    from raydistill.sweeps.claim import as_it_goes_on
    from raydistill.sweeps.confirm import check_confirmation
    from raydistill.sweeps.file import load_sweep

    overrides = [*options.overrides, *(["failed=only"] if options.retry_failed else [])]
    if options.print_plan:
        loaded = as_it_goes_on(load_sweep(options.sweep, overrides, options.output))
        check_confirmation(loaded, options.confirm)
        sys.stdout.write(printable(plan_as_text(loaded, options.confirm, options.local), lines=True))
        return 0
    words = [options.sweep, *options.overrides, *(["--local"] if options.local else [])]
    words += ["--output", options.output] if options.output else []
    return run_sweep(options.sweep, overrides, options.output, options.local, options.confirm, words)


def run_sweep(
    file: str | Mapping[str, Any],
    overrides: Sequence[str],
    output: str | None,
    local: bool,
    confirm: int = 0,
    words: Sequence[str] = (),
) -> int:
    """Run what is missing of a sweep and print its report; return 1 when no searched trial has a result.

    Where the command's ``words`` are given, the command that runs the best point again is offered.
    """
    from raydistill.reports.screen import as_text
    from raydistill.results import nothing_to_confirm

    with stoppable():
        sweep = api.sweep(file, overrides, output=output, local=local, confirm=confirm)
        report = sweep.write_report()
        sys.stdout.write(f"\n{printable(as_text(report), lines=True)}\n")
        if words and report.confirmation is None and not nothing_to_confirm(report):
            command = shlex.join(["python", "-m", "raydistill.tune", *words, "--confirm", str(_SEEDS_OFFERED)])
            sys.stdout.write(f"Under {_SEEDS_OFFERED} seeds that nothing was chosen on: {printable(command)}\n")
        if not sweep.has_result:
            sys.stderr.write(f"{printable(sweep.output)}: no searched trial has a score\n")
            return 1
        return 0


def plan_as_text(loaded: LoadedSweep, confirm: int = 0, local: bool = False) -> str:
    """Return what a sweep would run, a line per point.

    Args:
        loaded: the sweep.
        confirm: the number of fresh seeds at its end.
        local: whether its trials run one by one.
    """
    from raydistill.sweeps.announcement import does_not_repeat, said_beforehand
    from raydistill.sweeps.file import controls, point_text
    from raydistill.sweeps.file.confirmation import fresh_seeds, seeds_text

    lines = [f"{name:<10} {point_text(point)}" for name, point in controls(loaded).items()]
    if loaded.points is None:
        lines += [f"given      {point_text(point)}" for point in loaded.given]
        lines.append(f"{loaded.num_points - len(loaded.given)} points that Optuna will choose")
    else:
        lines += [f"p{number:04d}      {point_text(point)}" for number, point in enumerate(loaded.points)]
    lines += [*said_beforehand(loaded), *filter(None, [does_not_repeat(loaded, local)])]
    seeds = ", ".join(str(seed) for seed in loaded.sweep.seeds)
    lines.append(f"each under seed {seeds}")
    if confirm:
        score = f"{'lowest' if loaded.sweep.mode == 'min' else 'highest'} {loaded.sweep.metric}"
        fresh = seeds_text(fresh_seeds(confirm, loaded.config.seed, loaded.sweep.seeds))
        lines.append(f"then the point of the {score} and the student alone again, under seed {fresh}")
    return "\n".join([*lines, ""])


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
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
    parser.add_argument(
        "--confirm",
        metavar="K",
        type=int,
        default=0,
        help="at the end run the point with the best score and the student alone again, under K seeds that nothing was "
        "chosen on; more can follow",
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="run only the trials that failed before (failed=only); failed=leave leaves them, otherwise they are tried "
        "again with the others",
    )
    parser.add_argument("--print-plan", action="store_true", help="check the sweep, print its points and stop")
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


if __name__ == "__main__":
    sys.exit(main())
