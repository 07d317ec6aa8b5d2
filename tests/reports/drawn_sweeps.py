"""Sweeps of which only the scores exist, drawn at random: what a report says of them is computed without any files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from raydistill.reports import again
from raydistill.reports.build import Report
from raydistill.reports.effects import effect_table
from raydistill.reports.luck import best_point, with_needed_gains
from raydistill.reports.schedules import schedule_table, takeover_table
from raydistill.reports.summary import Mode, summarize
from raydistill.reports.trials import SCORES, against

Scores = npt.NDArray[np.float64]


def trials_of(points: Scores, baseline: Scores, constant: Scores | None = None, **columns: Any) -> pd.DataFrame:
    """Return the trials of a sweep, all finished, with their gains; ``points`` are scores [points, seeds].

    ``columns`` are settings, a value per point.
    """
    number, seeds = points.shape
    rows = [_row("baseline", -1, seed, baseline[seed]) for seed in range(len(baseline))]
    rows += [_row("constant", -2, seed, constant[seed]) for seed in range(seeds) if constant is not None]
    rows += [
        _row("searched", point, seed, points[point, seed], **{name: values[point] for name, values in columns.items()})
        for point in range(number)
        for seed in range(seeds)
    ]
    return with_gains(pd.DataFrame(rows))


def with_gains(trials: pd.DataFrame) -> pd.DataFrame:
    """Return trials with their gains over the controls of the same seed."""
    for control in ("baseline", "constant"):
        own = trials["role"].isin([control, f"confirmed_{control}"])
        gains = against(trials, trials[own & (trials["status"] == "finished")], ["seed"], ["AP"])["AP"]
        trials[f"gain_over_{control}"] = gains.mask(own)
    return trials


def report_of(trials: pd.DataFrame, settings: Sequence[str] = (), mode: Mode = "max", effects: bool = False) -> Report:
    """Return the report of a sweep with these trials; ``effects`` are left out unless they are asked for."""
    seeds = {"drawn": sorted(set(trials.loc[trials["role"] == "searched", "seed"]))}
    summary = summarize(trials, settings, "AP", mode, {"drawn": len(seeds["drawn"])})
    summary = with_needed_gains(trials, summary, ["role", "point"])
    best = best_point(trials, summary, "AP", mode)
    table = effect_table(trials, summary, settings if effects else (), "AP", mode, ())
    return Report(
        kind="sweep",
        title="drawn",
        metric="AP",
        mode=mode,
        settings=tuple(settings),
        trials=trials,
        epochs=pd.DataFrame(),
        summary=summary,
        effects=table,
        schedules=schedule_table([]),
        takeovers=takeover_table([]),
        sources=(),
        best=again.after(best, again.confirmation(summary, best)),
        confirmation=again.confirmation(summary, best),
        teachers={},
        log_settings=frozenset(),
        notes=(),
    )


def _row(role: str, point: int, seed: int, score: float, **settings: Any) -> dict[str, Any]:
    scores = dict.fromkeys(SCORES, np.nan) | {"AP": float(score)}
    more = {"distillation.teacher_precision": "fp32", "last_AP": score, "best_epoch": 1, "epochs": 1, "seconds": 1.0}
    trial = {"trial": f"{role}{point}-{seed}", "role": role, "point": point, "seed": seed}
    return {**trial, "status": "finished", "reason": "", **settings, **scores, **more}
