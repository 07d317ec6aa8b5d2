"""The files of a report."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable
from typing import IO, Any

import pandas as pd
import pyarrow
import pyarrow.csv

from raydistill.reports.best_recipe import best_recipe
from raydistill.reports.build import OF_POPULATIONS, Report
from raydistill.reports.page import page
from raydistill.reports.settings import with_cells
from raydistill.storage.output import Output

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a text begins with that a spreadsheet may run, the wide forms of East Asia too."""
_PICTURES = ("scores", "effects", "importance", "decay", "losses")


def write(report: Report, output: Output, pictures: bool = True) -> Report:
    """Write tables (csv, parquet), pictures (png), ``report.html`` and ``best.yaml`` into ``output``.

    Returns the report, which then says where it lies.

    Raises:
        UserError: when it cannot be written to.
    """
    folder = output.folder
    for name, values in report.tables.items():
        table = with_cells(values)
        output.write(folder / f"{name}.csv", _epochs_csv(table) if name == "epochs" else _csv(table))
        output.write(folder / f"{name}.parquet", _parquet(table))
    drawn = {}
    if pictures:
        from raydistill.reports.pictures import draw

        drawn = draw(report)
    files = {f"{name}.png": drawn[name].png if name in drawn else None for name in _PICTURES}
    recipe = best_recipe(report)
    files["best.yaml"] = None if recipe is None else recipe.encode()
    absent = [name for name in OF_POPULATIONS if name not in report.tables]
    files |= {f"{name}.{kind}": None for name in absent for kind in ("csv", "parquet")}
    files["report.html"] = page(report, drawn, has_recipe=recipe is not None).encode()
    for name, content in files.items():
        if content is None:  # an earlier report's must not pass for this one's
            output.remove(folder / name)
        else:
            output.write(folder / name, _bytes(content))
    return dataclasses.replace(report, output=folder)


def _bytes(content: bytes) -> Callable[[IO[bytes]], None]:
    return lambda file: file.writelines([content])


def _csv(table: pd.DataFrame) -> Callable[[IO[bytes]], None]:
    safe = without_formulas(table)
    # A lone carriage return is a line end to some readers, and Python's writer leaves it bare.
    texts = (safe[name] for name in safe.columns if not pd.api.types.is_numeric_dtype(safe[name].dtype))
    bare = any("\r" in str(text) for column in texts for text in column.dropna().unique())
    return lambda file: safe.to_csv(file, index=False, quoting=csv.QUOTE_NONNUMERIC if bare else csv.QUOTE_MINIMAL)


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table in whose texts no spreadsheet finds a formula: an apostrophe stands before those that begin so.

    One that begins with an apostrophe has another: taking away the first of any text gives back what it was.
    """
    changed = {}
    for name in table.columns:
        if pd.api.types.is_numeric_dtype(table[name].dtype):
            continue
        cells = {text: _as_cell(text) for text in table[name].dropna().unique()}
        if any(text != cell for text, cell in cells.items()):
            changed[name] = table[name].map(cells)
    return table.assign(**changed).rename(columns=_as_cell)


def _as_cell(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return value if value in ("-", "+") else f"'{value}"
    return value  # a number of a mixed column


def _epochs_csv(table: pd.DataFrame) -> Callable[[IO[bytes]], None]:
    """Write millions of rows; pandas takes ten times as long."""
    safe = without_formulas(table)
    return lambda file: pyarrow.csv.write_csv(pyarrow.Table.from_pandas(safe, preserve_index=False), file)


def _parquet(table: pd.DataFrame) -> Callable[[IO[bytes]], None]:
    def write_table(file: IO[bytes]) -> None:
        buffer = io.BytesIO()  # pandas closes what it is given
        table.to_parquet(buffer, index=False)
        file.write(buffer.getvalue())

    return write_table
