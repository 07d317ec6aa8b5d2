"""The settings that tell trials apart, as columns: scalars as they are, everything else as compact JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from raydistill.config.sections import OF_DISTILLATION, WITHOUT_INFLUENCE
from raydistill.reports.reading import Source, Trial

MISSING = object()
"""Stands for a setting that a trial does not have; ``None`` is a value (``null``)."""
_NOT_A_SETTING = ("seed", "output")


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
    """
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.6g}" if _is_number(value) else _compact(value)


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
    """Give the values one type, so that they sort, group and fit into a file."""
    present = [value for value in values if value is not MISSING]
    if present and all(isinstance(value, bool) for value in present):
        return pd.Series([None if value is MISSING else value for value in values], dtype="boolean")
    if all(_is_number(value) for value in present):
        return pd.Series([math.nan if value is MISSING else value for value in values])
    return pd.Series([None if v is MISSING else v if isinstance(v, str) else _compact(v) for v in values], dtype="str")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _compact(value: Any) -> str:
    """Write a value as YAML's flow style would, which is what a user may paste into an override.

    >>> _compact({"shape": "step", "milestones": [0.5, 0.75]})
    '{"shape": "step", "milestones": [0.5, 0.75]}'
    """
    return json.dumps(value, ensure_ascii=False, default=str)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
