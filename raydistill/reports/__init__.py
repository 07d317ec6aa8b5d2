"""From run directories to tables, pictures and one page; cheap to import, pandas comes with the first call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raydistill.reports.build import Report
    from raydistill.storage.output import Output

__all__ = ["load", "write_report"]


def load(*directories: str | Path | Output) -> Report:
    """Return the tables of one or several runs, or of one or several sweeps; by path or by URI (``s3://``, ``gs://``).

    Raises:
        UserError: when a directory is neither, when both kinds are mixed, or when sweeps do not share their metric.
    """
    from raydistill.reports.build import build

    return build([_here(directory) for directory in directories])


def write_report(
    directory: str | Path | Output,
    *more: str | Path,
    output: str | Path | None = None,
    pictures: bool = True,
) -> Report:
    """Write tables, pictures, page and a sweep's ``best.yaml`` into ``output``, by default ``directory/report``.

    Raises:
        UserError: as ``load``, and when ``output`` cannot be written to.
    """
    from raydistill.reports.write import write
    from raydistill.storage.output import Output

    first = directory if isinstance(directory, Output) else Output.to_read(directory)
    place = Output.to_read(output) if output else first.part(first.folder / "report")
    return write(load(directory, *more), place, pictures)


def _here(directory: str | Path | Output) -> Output:
    """Return the directory, its records fetched where it is on an object store; of an output they are here."""
    from raydistill.storage.output import Output

    if isinstance(directory, Output):
        return directory
    found = Output.to_read(directory)
    found.pull()
    return found
