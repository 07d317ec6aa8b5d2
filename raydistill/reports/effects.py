"""What each searched setting does to the score, over all other settings."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raydistill.reports.settings import as_text
from raydistill.reports.summary import Mode

if TYPE_CHECKING:
    import optuna

COLUMNS = [
    *("setting", "value", "low", "high", "n", "mean", "std", "best", "gain_over_baseline", "stopped", "importance"),
]
_MOST_VALUES = 6  # more distinct numbers than this are put into bins
_BINS = 4
_FEWEST_POINTS = 8  # with fewer, the best share of them is a handful and says nothing of a setting
_TOP_POINTS = 5  # optuna's advice: compare at least this many of the best with all


def effect_table(
    trials: pd.DataFrame, summary: pd.DataFrame, settings: Sequence[str], metric: str, mode: Mode, log: Collection[str]
) -> pd.DataFrame:
    """Return a row per setting and value, or range of values where there are many.

    Columns: ``setting, value`` (text), ``low, high`` (numbers; NaN for others), ``n, mean, std, best`` of ``metric``
    and ``gain_over_baseline`` (mean) over the trials that ``scored`` returns, ``stopped`` (the share that a scheduler
    ended early) and the setting's ``importance``: its share in what makes a point one of the best (PED-ANOVA), NaN for
    fewer than 8 points.
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


def importances(points: pd.DataFrame, settings: Sequence[str], mode: Mode, log: Collection[str]) -> dict[str, float]:
    """Return each setting's share, summing to 1; NaN for all of them when there are too few points to tell."""
    points = points[points["mean"].notna()]
    varied = [name for name in settings if points[name].nunique() > 1]
    unknown = dict.fromkeys(settings, math.nan)
    if len(points) < _FEWEST_POINTS or not varied:
        return unknown
    with _silent_optuna():
        shares = _ped_anova(points, varied, mode, log)
    total = sum(shares.values())
    if not total > 0:
        return unknown
    return {name: shares.get(name, 0.0) / total for name in settings}


def _effect(group: pd.DataFrame, metric: str, mode: Mode) -> dict[str, float]:
    compared = group[group["scored"]]
    scores = compared[metric]
    return {
        "n": len(scores),
        "mean": scores.mean(),
        "std": scores.std(ddof=1),
        "best": scores.max() if mode == "max" else scores.min(),
        "gain_over_baseline": compared["gain_over_baseline"].mean(),
        "stopped": (group["status"] == "stopped").mean(),
    }


def _by_value(trials: pd.DataFrame, name: str) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield the trials in which the setting was active, value by value or range by range."""
    active = trials[trials[name].notna()]
    values = active[name]
    if not is_numeric(values):
        for value, group in active.groupby(name):
            yield {"value": as_text(value), "low": math.nan, "high": math.nan}, group
        return
    bins = values if values.nunique() <= _MOST_VALUES else pd.qcut(values, _BINS, labels=False, duplicates="drop")
    for _, group in active.groupby(bins):
        low, high = float(group[name].min()), float(group[name].max())
        text = as_text(low) if low == high else f"{low:.3g} to {high:.3g}"
        yield {"value": text, "low": low, "high": high}, group


def is_numeric(values: pd.Series[Any]) -> bool:
    """Return whether the values are numbers with an order, which true and false are not."""
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _ped_anova(points: pd.DataFrame, settings: list[str], mode: Mode, log: Collection[str]) -> dict[str, float]:
    import optuna

    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
    distributions = {name: _distribution(points[name], name in log) for name in settings}
    for score, (_, row) in zip(points["mean"], points[settings].iterrows(), strict=True):
        active = {name: _plain(row[name]) for name in settings if pd.notna(row[name])}  # others were not active
        study.add_trial(
            optuna.create_trial(
                params=active, distributions={name: distributions[name] for name in active}, value=float(score)
            )
        )
    quantile = min(0.5, max(0.1, _TOP_POINTS / len(points)))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
    return optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)


def _distribution(values: pd.Series[Any], log: bool) -> optuna.distributions.BaseDistribution:
    import optuna

    if not is_numeric(values):
        return optuna.distributions.CategoricalDistribution([_plain(value) for value in values.dropna().unique()])
    low, high = float(values.min()), float(values.max())
    return optuna.distributions.FloatDistribution(low, high, log=log and low > 0)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


@contextlib.contextmanager
def _silent_optuna() -> Iterator[None]:
    """Keep its notices and warnings from a user who did not ask for a study."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
