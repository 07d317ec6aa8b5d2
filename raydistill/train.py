"""``python -m raydistill.train``: teacher, student alone and distilled student, and the table that compares them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from raydistill import VERSION, api
from raydistill.command import run_command
from raydistill.config import RECIPES, load_config
from raydistill.config.described import dump_with_comments
from raydistill.config.loader import settings_of_folder
from raydistill.errors import printable
from raydistill.runs.stopping import stoppable

STOPPED = "interrupted; the same command goes on where it stopped"
INTERRUPTED = "interrupted; the same command goes on after the last finished epoch"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = command_line().parse_intermixed_args(arguments)
    if options.overrides and "=" not in options.overrides[0]:
        folder, *rest = options.overrides
        options.overrides = [*settings_of_folder(options.recipe, folder), *rest]
    return run_command(lambda: _main(options), STOPPED, INTERRUPTED)


def _main(options: argparse.Namespace) -> int:
    of_a_run = [override for override in options.overrides if not override.startswith("seeds=")]
    if options.print_config:
        from raydistill.data.recognise import with_known_data

        config, _ = with_known_data(load_config(options.recipe, of_a_run, options.output))
        sys.stdout.write(dump_with_comments(config))
        return 0
    if of_a_run != options.overrides:
        return _train_under_seeds(options, of_a_run)
    _train(options)
    return 0


def _train(options: argparse.Namespace) -> None:
    """Run what is missing and print the comparison."""
    from raydistill.runs.comparison import as_text

    with stoppable():
        run = api.distill(options.recipe, options.overrides, output=options.output, local=options.local)
        sys.stdout.write(f"\n{as_text(run.rows)}\n\nStudent's weights: {printable(str(run.weights))}\n")
        sys.stdout.flush()  # the report takes some seconds more
        run.write_report()
        sys.stdout.write(f"Report: {printable(str(run.output))}/report/report.html\n")


def _train_under_seeds(options: argparse.Namespace, of_a_run: Sequence[str]) -> int:
    """Run a sweep that searches nothing, where the run would be: it shares the run's teacher."""
    from raydistill.tune import run_sweep

    output = load_config(options.recipe, of_a_run, options.output).output
    return run_sweep({"base": options.recipe}, options.overrides, output, options.local)


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m raydistill.train",
        description="Train a teacher, a student alone and a distilled student, and compare them. Repeating the command "
        "goes on where it stopped.",
    )
    parser.add_argument(
        "recipe",
        help=f"one of {', '.join(RECIPES)}, or a YAML file; a file here that is called like one of them: ./NAME",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="FOLDER | section.key=value",
        help="a folder of data as a tool has exported it, recognised (data.root); settings to change; seeds=3 trains "
        "both students under three seeds, as tune does",
    )
    parser.add_argument("--local", action="store_true", help="run in this process, without Ray")
    parser.add_argument("--output", metavar="DIR", help="where the results go (default: runs/RECIPE)")
    parser.add_argument("--print-config", action="store_true", help="print every setting and stop")
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


if __name__ == "__main__":
    sys.exit(main())
