"""From run directories to tables, pictures and one page; cheap to import, pandas comes with the first call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raydistill.report.build import Report

__all__ = ["load", "write_report"]


def load(*directories: str | Path) -> Report:
    """Return the tables of one or several runs, or of one or several sweeps.

    Raises:
        UserError: when a directory is neither, when both kinds are mixed, or when sweeps do not share their metric.
    """
    from raydistill.report.build import build

    return build([Path(directory) for directory in directories])


def write_report(
    directory: str | Path, *more: str | Path, output: str | Path | None = None, pictures: bool = True
) -> Report:
    """Write tables, pictures, page and a sweep's ``best.yaml`` into ``output``, by default ``directory/report``.

    Raises:
        UserError: as ``load``, and when ``output`` cannot be written to.
    """
    from raydistill.report.write import write

    return write(load(directory, *more), Path(output or Path(directory) / "report"), pictures)
