"""``python -m raydistill.report``: tables, pictures and one page of runs or sweeps; ``load`` gives the tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from raydistill import VERSION
from raydistill.command import run_command
from raydistill.errors import printable
from raydistill.reports import load

__all__ = ["load", "main", "value"]


def value(cell: Any) -> Any:
    """Return the value of a setting that a cell of ``trials``, ``summary`` or ``effects`` (csv or parquet) stands for.

    >>> value("Null"), value("true"), value("1e3"), value('"true"')
    (None, True, 1000.0, 'true')
    """
    from raydistill.config.cells import from_cell

    return from_cell(cell)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_line()
    options = parser.parse_args(arguments)
    if len(options.directories) > 1 and options.output is None:
        parser.error("--output: must be given with several directories: none of them is the place for what joins them")
    return run_command(lambda: _report(options))


def _report(options: argparse.Namespace) -> int:
    from raydistill.reports import write_report
    from raydistill.reports.screen import as_text

    report = write_report(*options.directories, output=options.output, pictures=not options.no_pictures)
    sys.stdout.write(f"{printable(as_text(report), lines=True)}\n")
    return 0


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m raydistill.report",
        description="Write tables (csv, parquet), pictures and one page about runs or sweeps, finished or not; of a "
        "sweep the recipe of the point with the best score too, as best.yaml.",
    )
    parser.add_argument("directories", nargs="+", metavar="DIR", help="output of train or of tune; all of one kind")
    parser.add_argument(
        "--output", metavar="DIR", help="where the report goes (default: DIR/report; needed with several directories)"
    )
    parser.add_argument("--no-pictures", action="store_true", help="tables and page only")
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


if __name__ == "__main__":
    sys.exit(main())
