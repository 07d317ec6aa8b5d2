"""What trials and points of a sweep have scored so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from raydistill.runs.directory import RunDirectory
from raydistill.runs.scores import exists
from raydistill.sweeps.file import LoadedSweep


@dataclass(frozen=True)
class Score:
    """A trial's result so far."""

    value: float  # the sweep's metric at the best epoch; NaN before the first evaluation
    epoch: int  # evaluated last


def score_of(run: RunDirectory, loaded: LoadedSweep) -> Score:
    """Return how far a trial has come."""
    best_metric = loaded.config.evaluation.best_metric
    lines = [line for line in run.lines() if f"val/{best_metric}" in line]
    if not lines:
        return Score(math.nan, 0)
    best = max(lines, key=lambda line: line[f"val/{best_metric}"])  # the first of equals, as best.pt
    if not exists(best[f"val/{best_metric}"]):
        best = lines[-1]
    value = best[f"val/{loaded.sweep.metric}"]
    return Score(value if value >= 0 else math.nan, int(lines[-1]["epoch"]))


def mean_of(scores: Sequence[Score]) -> float:
    """Return a point's score: the mean over its seeds, NaN where one of them has none."""
    return fmean(score.value for score in scores) if scores else math.nan
