"""All seeds of a point together: mean, spread and paired gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from raydistill.reports.trials import AGAIN, CLASS, OWN_KIND, SIZES, SPACE, TEST, against, pairing

Mode = Literal["max", "min"]
GAIN_BY_CLASS = "gain/class/"
"""Prefix of the columns that hold the gain in one class's AP over the baseline."""


def summarize(
    trials: pd.DataFrame, settings: Sequence[str], metric: str, mode: Mode, seeds: Mapping[Any, int]
) -> pd.DataFrame:
    """Return a row per point of a sweep, or per stage and differing settings of runs, best first, the complete before.

    Columns: ``role, point`` or ``stage``, the settings, ``n`` (trials with a score), ``mean, std`` (of a sample; NaN
    for one trial) and ``best`` of ``metric``; ``gain_over_X`` with ``_std`` (of the paired differences), ``_pairs``
    (how many there are), ``_low`` and ``_high`` (the 95% interval of their mean by Student's t; NaN for one pair);
    where a test split was scored ``test_mean, test_std`` and ``test_gain_over_X`` likewise; ``gain_AP_small`` ... and
    ``gain/class/<name>`` over the baseline, ``trials``, ``epochs`` (of all together), the shares ``finished, stopped,
    failed``, how many seeds have no trial yet (``missing``) and whether every one has finished (``complete``).

    Args:
        trials: a row each, with their gains.
        settings: columns that hold what was searched, or differs.
        metric: what is averaged.
        mode: whether the highest or the lowest is the best.
        seeds: how many every point of a sweep is to have, by the sweep's name.
    """
    keys = group_keys(trials, settings)
    failed = trials["status"] == "failed"  # its score so far is no result
    trials = trials.assign(**{metric: trials[metric].mask(failed)})
    measured = pd.concat([trials[keys], _measured(trials, metric).mask(failed)], axis=1)
    grouped = measured.groupby(keys, sort=False, dropna=False)
    means, stds, pairs = grouped.mean(), grouped.std(ddof=1), grouped.count()
    by_key = trials.groupby(keys, sort=False, dropna=False)
    table = pd.DataFrame(index=means.index)
    for name in (*settings, SPACE):
        if name not in keys and name in trials:
            table[name] = by_key[name].first()  # they are cells, and none of them is None
    table["n"] = by_key[metric].count()
    table["mean"], table["std"] = means["score"], stds["score"]
    table["best"] = by_key[metric].max() if mode == "max" else by_key[metric].min()
    for name in measured.columns[len(keys) + 1 :]:
        if name == f"{TEST}score":
            table[f"{TEST}mean"], table[f"{TEST}std"] = means[name], stds[name]
            continue
        table[name] = means[name]
        if "gain_over_" in name:
            table[f"{name}_std"] = stds[name]
            table[f"{name}_pairs"] = pairs[name]
            half = half_interval(stds[name], pairs[name])
            table[f"{name}_low"], table[f"{name}_high"] = means[name] - half, means[name] + half
    table["trials"] = by_key.size()
    table["epochs"] = by_key["epochs"].sum()
    for status in ("finished", "stopped", "failed"):
        table[status] = (trials["status"] == status).groupby([trials[key] for key in keys], dropna=False).mean()
    table = table.reset_index()
    wanted = table["sweep"].map(seeds) if "sweep" in table else 1 if "stage" in table else max(seeds.values())
    table["missing"] = (wanted - table["trials"]).clip(lower=0)
    if "role" in table:
        table.loc[table["role"].isin(AGAIN), "missing"] = 0
    table["complete"] = (table["finished"] == 1) & (table["missing"] == 0) & (table["n"] == table["trials"])
    return table.sort_values(["complete", "mean"], ascending=[False, mode == "min"], kind="stable", ignore_index=True)


def half_interval(stds: pd.Series[float], counts: pd.Series[int]) -> pd.Series[float]:
    """Return half the 95% interval of each mean of ``counts`` values with sample deviations ``stds``; NaN for one."""
    from scipy.stats import t  # takes a second

    pairs = counts.where(counts > 1)
    return stds * t.ppf(0.975, pairs - 1) / np.sqrt(pairs)


def group_keys(trials: pd.DataFrame, settings: Sequence[str]) -> list[str]:
    """Return the columns that the seeds of one point share."""
    if "stage" in trials:
        return ["stage", *settings]
    return [name for name in ("sweep", "role", "point") if name in trials]


def _measured(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return what is averaged: score, gains, and the gains by size and class over the baseline of the same seed."""
    part = "stage" if "stage" in trials else "role"
    classes = [name for name in trials.columns if name.startswith(CLASS)]
    gains = [name for name in trials.columns if name.startswith("gain_over_")]
    on_test = [name for name in trials.columns if name.startswith(f"{TEST}gain_over_")]
    is_baseline = trials[part].isin(OWN_KIND["baseline"])
    baselines = trials[is_baseline & (trials["status"] == "finished")]
    detail = against(trials, baselines, pairing(trials), [*SIZES, *classes])
    detail = detail.mask(is_baseline).rename(
        columns={name: f"gain_{name}" for name in SIZES} | {name: f"gain/{name}" for name in classes}
    )
    parts = [trials[[metric]].set_axis(["score"], axis=1), trials[gains]]
    if on_test:
        parts += [trials[[f"{TEST}{metric}"]].set_axis([f"{TEST}score"], axis=1), trials[on_test]]
    return pd.concat([*parts, detail], axis=1)
