"""The settings that tell trials apart, as columns: numbers and booleans as they are, all else as cells at first.

So ``null``, ``true``, 1 and texts that look like them group apart while tables are computed; then they are values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from raydistill.config.cells import as_cell, from_cell, shown
from raydistill.config.sections import OF_DISTILLATION, WITHOUT_INFLUENCE
from raydistill.reports.reading import Source, Trial

MISSING = object()
"""Stands for a setting that a trial does not have; ``None`` is a value (``null``)."""
_NOT_A_SETTING = ("seed", "output")
_LARGEST_WHOLE = 2**53  # beyond it a column with an empty cell would round
_NO_SETTINGS = {
    *("trial", "run", "stage", "sweep", "role", "point", "status", "reason", "rules", "metric", "setting", "value"),
    *("from", "trained_in"),
}
"""Columns of texts that are none, and the values of ``effects``, which are cells already."""


def searched(sources: Sequence[Source]) -> list[str]:
    """Return the dotted names that sweeps search over, in the order of their files."""
    names: dict[str, None] = {}
    for source in sources:
        names |= dict.fromkeys(space_of(source))
        for trial in source.trials:
            if trial.role == "searched":
                names |= dict.fromkeys(trial.record.settings)
    return [name for name in names if name not in _NOT_A_SETTING]


def space_of(source: Source) -> dict[str, Any]:
    """Return the sweep's search space, dotted name -> specification."""
    space = source.sweep.get("space")
    return space if isinstance(space, dict) else {}


def differing(sources: Sequence[Source]) -> list[str]:
    """Return the dotted names of what differs between runs, the seed apart."""
    flats = []
    for source in sources:
        flat: dict[str, str] = {}
        for trial in source.trials:
            flat |= {name: json.dumps(value, sort_keys=True) for name, value in _flat(trial.recipe).items()}
        flats.append(flat)
    names = list(dict.fromkeys(name for flat in flats for name in flat))
    return [
        name
        for name in names
        if name not in (*_NOT_A_SETTING, *WITHOUT_INFLUENCE) and len({flat.get(name) for flat in flats}) > 1
    ]


def column(trials: Sequence[Trial], name: str) -> pd.Series[Any]:
    """Return the setting ``name`` of every trial; NaN where it has no part in the trial."""
    return tidy([_value(trial, name) for trial in trials])


def as_text(value: Any) -> str:
    """Return a setting's value for people; ``-`` where there is none.

    >>> as_text(0.30000000000000004), as_text(2.0), as_text(True), as_text(float("nan")), as_text("linear")
    ('0.3', '2', 'true', '-', 'linear')
    >>> as_text(None), as_text("null")
    ('null', '"null"')
    """
    return shown(value) if has_part(value) else "-"


def has_part(value: Any) -> bool:
    """Return whether a cell holds a value: ``None`` is one, ``null``; NaN says that the setting had no part there."""
    return value is not pd.NA and not (isinstance(value, float) and math.isnan(value))


def with_values(table: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """Return a table whose settings are the values themselves again: None, True, 2, "2" and lists where they mix."""
    return table.assign(**{name: _values(table[name]) for name in settings if not _is_plain(table[name])})


def with_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table for a file, its settings as cells; columns of numbers, and of booleans, stay what they are."""
    others = [str(name) for name in table if name not in _NO_SETTINGS and not _is_plain(table[name])]
    cells = {name: [as_cell(v) if has_part(v) else None for v in table[name]] for name in others}
    return table.assign(**{name: pd.Series(cells[name], index=table.index, dtype="str") for name in others})


def _is_plain(values: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(values) or isinstance(values.dtype, pd.CategoricalDtype)


def _values(cells: pd.Series[Any]) -> pd.Series[Any]:
    read = {cell: from_cell(cell) for cell in cells.dropna().unique()}
    values = [read[cell] if isinstance(cell, str) else math.nan for cell in cells]
    only_texts = all(isinstance(value, str) for value in read.values())
    return pd.Series(values, index=cells.index, dtype="str" if only_texts else object)


def _value(trial: Trial, name: str) -> Any:
    if name in trial.record.settings:
        return trial.record.settings[name]
    if trial.role in ("searched", "confirmed"):
        return MISSING  # a conditional setting that was not active: the recipe's value had no effect
    if trial.role in ("baseline", "confirmed_baseline") and name.partition(".")[0] in OF_DISTILLATION:
        # their values say nothing of a student alone, but for the weights, which are 0
        return 0.0 if name.endswith(".weight") else MISSING
    here: Any = trial.recipe
    for key in name.split("."):
        here = here.get(key, MISSING) if isinstance(here, dict) else MISSING
    return here


def tidy(values: list[Any]) -> pd.Series[Any]:
    """Give the values one type, so that they sort, group and fit into a file: numbers, booleans, or cells."""
    present = [value for value in values if value is not MISSING]
    if present and all(isinstance(value, bool) for value in present):
        return pd.Series([None if value is MISSING else value for value in values], dtype="boolean")
    if all(_is_number(value) for value in present):
        return pd.Series([math.nan if value is MISSING else value for value in values])
    return pd.Series([None if value is MISSING else as_cell(value) for value in values], dtype="str")


def _is_number(value: Any) -> bool:
    """Return whether a value is a number that a column of them holds as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) <= _LARGEST_WHOLE


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
