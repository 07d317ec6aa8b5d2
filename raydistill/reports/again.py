"""What was trained again under fresh seeds: which rows hold it, and whether it still says what it was meant to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from raydistill.reports.luck import FEWEST_PAIRS, Best, is_gain
from raydistill.reports.trials import AGAIN


def no_longer_fresh(trials: pd.DataFrame, seeds: Mapping[str, Sequence[int]]) -> pd.Series[bool]:
    """Return which trials were run again under a seed that the search itself has used since.

    Args:
        trials: a row each.
        seeds: of every sweep, by its name.
    """
    if "role" not in trials:
        return pd.Series(False, index=trials.index)
    only = next(iter(seeds), "")
    sweeps = trials["sweep"] if "sweep" in trials else [only] * len(trials)
    used = [seed in seeds[sweep] for sweep, seed in zip(sweeps, trials["seed"], strict=True)]
    return trials["role"].isin(AGAIN) & pd.Series(used, index=trials.index, dtype=bool)


def confirmation(summary: pd.DataFrame, best: Best | None) -> pd.Series[Any] | None:
    """Return the row of the best point under fresh seeds; None when it has no score there."""
    if best is None:
        return None
    rows = summary[(summary["role"] == "confirmed") & (summary["n"] > 0)]
    for name in ("sweep", "point"):
        rows = rows[rows[name] == best.row[name]] if name in rows else rows
    return None if rows.empty else rows.iloc[0]


def after(best: Best | None, row: pd.Series[Any] | None) -> Best | None:
    """Return the best point after what came out under fresh seeds: three pairs without a gain refute one."""
    gain = "gain_over_baseline"
    if best is None or row is None or row[f"{gain}_pairs"] < FEWEST_PAIRS or is_gain(row, gain, best.mode):
        return best
    return dataclasses.replace(best, is_better=False, refuted=True)


def notes(trials: pd.DataFrame, summary: pd.DataFrame, best: Best | None, stale: pd.Series[bool]) -> list[str]:
    """Say what of it no longer answers the question."""
    said = []
    if stale.any():
        seeds = ", ".join(map(str, sorted(set(trials.loc[stale, "seed"]))))
        said.append(f"fresh seeds: the search itself has used {seeds} since; what was run again under them is left out")
    rows = summary[summary["role"] == "confirmed"] if "role" in summary else summary.iloc[:0]
    if best is not None and len(rows) and confirmation(summary, best) is None:
        others = ", ".join(f"point {point}" for point in rows["point"])
        said.append(f"fresh seeds: {others} was run again, and the {best.word} is now point {best.row['point']}")
    return said
