"""What each searched setting does to the score, over all other settings."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pandas as pd

from raydistill.config.cells import as_cell
from raydistill.reports.importance import importances, is_numeric
from raydistill.reports.settings import as_text
from raydistill.reports.summary import Mode

COLUMNS = [
    *("setting", "value", "low", "high", "n", "mean", "std", "best", "gain_over_baseline", "pairs", "stopped"),
    "importance",
]
_MOST_VALUES = 6  # more distinct numbers than this are put into bins
_BINS = 4


def effect_table(
    trials: pd.DataFrame, summary: pd.DataFrame, settings: Sequence[str], metric: str, mode: Mode, log: Collection[str]
) -> pd.DataFrame:
    """Return a row per setting and value, or range of values where there are many.

    Columns: ``setting, value`` (text), ``low, high`` (numbers; NaN for others), ``n, mean, std, best`` of ``metric``
    and ``gain_over_baseline`` (mean, over so many ``pairs``) over the trials that ``scored`` returns, ``stopped`` (the
    share that a scheduler ended early) and the setting's ``importance``: its share in what makes a point one of the
    best (PED-ANOVA), NaN for fewer than 8 points, and where scores without a meaning give as much.
    """
    tried = trials[of_interest(trials) & trials[metric].notna()].assign(scored=scored(trials, metric))
    shares = importances(summary[of_interest(summary)], settings, mode, log)
    rows = [
        {"setting": name, **_effect(group, metric, mode), **label, "importance": shares[name]}
        for name in settings
        for label, group in _by_value(tried, name)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def scored(trials: pd.DataFrame, metric: str) -> pd.Series[bool]:
    """Return which trials' scores can be compared: of those that finished, or all scores when none of interest did.

    A trial that was stopped after two epochs says little of its settings, and would drown those that finished.
    """
    has_score = of_interest(trials) & trials[metric].notna()
    final = has_score & (trials["status"] == "finished")
    return final if final.any() else has_score


def of_interest(table: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows are searched points (of a sweep) or distilled students (of runs)."""
    return table["role"] == "searched" if "role" in table else table["stage"] == "distilled"


def _effect(group: pd.DataFrame, metric: str, mode: Mode) -> dict[str, float]:
    compared = group[group["scored"]]
    scores = compared[metric]
    return {
        "n": len(scores),
        "mean": scores.mean(),
        "std": scores.std(ddof=1),
        "best": scores.max() if mode == "max" else scores.min(),
        "gain_over_baseline": compared["gain_over_baseline"].mean(),
        "pairs": compared["gain_over_baseline"].count(),
        "stopped": (group["status"] == "stopped").mean(),
    }


def _by_value(trials: pd.DataFrame, name: str) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield the trials in which the setting was active, value by value or range by range."""
    active = trials[trials[name].notna()]
    values = active[name]
    if not is_numeric(values):
        for value, group in active.groupby(name):
            yield {"value": _cell(value), "low": math.nan, "high": math.nan}, group
        return
    bins = values if values.nunique() <= _MOST_VALUES else pd.qcut(values, _BINS, labels=False, duplicates="drop")
    for _, group in active.groupby(bins):
        low, high = float(group[name].min()), float(group[name].max())
        text = as_text(low) if low == high else f"{low:.3g} to {high:.3g}"
        yield {"value": text, "low": low, "high": high}, group


def _cell(value: Any) -> str:
    """Return a value of a column that holds cells, or booleans."""
    return value if isinstance(value, str) else as_cell(bool(value))
