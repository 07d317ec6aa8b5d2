"""A row per trial and a row per trial, epoch and metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from raydistill.config.precision import TEACHER_PRECISION
from raydistill.reports.growth import space_numbers
from raydistill.reports.reading import Kind, Source, Trial
from raydistill.reports.settings import column

SIZES = ("AP_small", "AP_medium", "AP_large")
SCORES = ("AP", "AP50", "AP75", *SIZES, "AR100")
TEST = "test_"
"""Prefix of the columns that hold scores on the test split, and of the gains in them."""
OWN_KIND = {"baseline": ("baseline", "confirmed_baseline"), "constant": ("constant",), "teacher": ("teacher",)}
"""What trials are compared with, and the roles or stages that hold it."""
AGAIN = ("confirmed_baseline", "confirmed")
"""Roles of what was trained again under fresh seeds."""
SPACE = "space"
"""The column that says from which space a point was drawn, in a sweep that has grown."""
CLASS = "class/"
"""Prefix of the columns that hold one class's AP."""


def trial_table(sources: Sequence[Source], settings: Sequence[str], metric: str) -> pd.DataFrame:
    """Return a row per trial of a sweep, or per stage of a run.

    Columns: of a sweep (``sweep`` when there are several,) ``trial, role, point, seed``, of a run ``run, stage, seed``;
    then ``status, reason``, every setting under its dotted name, ``distillation.teacher_precision`` among them always,
    scores from 0 to 1 at the best epoch, ``last_AP``, the gains in ``metric`` over baseline, constant weight and
    teacher (paired by seed; NaN where the other is missing or not finished), where a test split was scored the same as
    ``test_AP`` and ``test_gain_over_...``, ``best_epoch, epochs, seconds`` and the AP of each class as
    ``class/<name>``. Where a score was made by an earlier version's rules, ``rules`` says of which; where a sweep grew
    by its space, ``space`` counts from 1 from which one a point was drawn.
    """
    several, kind = len(sources) > 1, sources[0].kind
    trials = [(source, trial) for source in sources for trial in source.trials]
    score_names = [*SCORES] if metric in SCORES else [*SCORES, metric]
    test = f"{TEST}{metric}"
    tested = any(test in (trial.result or {}) for _, trial in trials)
    table = pd.DataFrame(
        [_identity(source, trial, several) for source, trial in trials], columns=_identity_columns(kind, several)
    )
    drawn_from = space_numbers(trials)
    if drawn_from is not None:
        table[SPACE] = drawn_from
    for name in settings:
        table[name] = column([trial for _, trial in trials], name)
    if TEACHER_PRECISION not in table:
        table[TEACHER_PRECISION] = pd.Series([trial.teacher_precision for _, trial in trials], dtype="str")
    if any(trial.under_earlier_rules for _, trial in trials):
        table["rules"] = ["earlier" if trial.under_earlier_rules else "" for _, trial in trials]
    scores = pd.DataFrame([scores_of(trial, [*score_names, test]) for _, trial in trials])
    numbers = scores.reindex(columns=[*score_names, "last_AP", "best_epoch", "epochs", "seconds"])
    classes = scores[[name for name in scores.columns if name.startswith(CLASS)]]
    final = pd.Series([trial.finished for _, trial in trials], dtype=bool)
    owners = [source for source, _ in trials]
    gains = _gains(table, numbers[metric].astype(float), final, kind, _teachers_scores(owners, metric))
    if tested:
        on_test = scores[test].astype(float)
        over = _gains(table, on_test, final, kind, _teachers_scores(owners, test))
        gains = pd.concat([gains, on_test, over.add_prefix(TEST)], axis=1)
    at = len(score_names) + 1
    return pd.concat([table, numbers.iloc[:, :at], gains, numbers.iloc[:, at:], classes], axis=1)


def epoch_table(sources: Sequence[Source]) -> pd.DataFrame:
    """Return the columns ``trial, epoch, metric, value``, without the values that are missing; the teacher included."""
    named = [(name_of(source, trial, len(sources) > 1), trial) for source in sources for trial in _all(source)]
    named = [(name, trial) for name, trial in named if len(trial.curves)]
    if not named:
        nothing = pd.DataFrame(columns=["trial", "epoch", "metric", "value"])
        return nothing.astype({"trial": "category", "epoch": int, "metric": "category", "value": float})
    wide = pd.concat([trial.curves for _, trial in named])
    values = wide.to_numpy(dtype=float)
    there = ~np.isnan(values)
    rows, columns = np.nonzero(there)
    owner = np.repeat(np.arange(len(named)), [len(trial.curves) for _, trial in named])
    return pd.DataFrame(
        {
            "trial": pd.Categorical.from_codes(owner[rows], categories=pd.Index([name for name, _ in named])),
            "epoch": wide.index.to_numpy()[rows],
            "metric": pd.Categorical.from_codes(columns, categories=wide.columns),
            "value": values[there],
        }
    )


def against(table: pd.DataFrame, others: pd.DataFrame, keys: list[str], columns: list[str]) -> pd.DataFrame:
    """Return ``columns`` of ``table`` minus those of the row of ``others`` with the same ``keys``; NaN without one."""
    other = others.drop_duplicates(keys).set_index(keys)[columns]
    paired = other.reindex(pd.MultiIndex.from_frame(table[keys]) if len(keys) > 1 else pd.Index(table[keys[0]]))
    return table[columns].astype(float) - paired.to_numpy(dtype=float)


def pairing(table: pd.DataFrame) -> list[str]:
    """Return the columns in which a trial and the control it is compared with agree."""
    return ["run"] if "run" in table else [name for name in ("sweep", "seed") if name in table]


def name_of(source: Source, trial: Trial, several: bool) -> str:
    """Return the trial's name in every table; with several directories that of its directory goes before."""
    return f"{source.name}/{trial.record.name}" if several else trial.record.name


def scores_of(trial: Trial, names: Sequence[str]) -> dict[str, float]:
    """Return scores at the best epoch (so far), the last AP, and how long was trained."""
    curves, result = trial.curves, trial.result or {}
    best = _best_epoch(trial)
    at_best: dict[Any, float] = curves.loc[best].to_dict() if best in curves.index else {}
    evaluated = curves["val/AP"].dropna() if "val/AP" in curves else pd.Series(dtype=float)
    row = {name: _score(result, at_best, name) for name in names}
    row |= {
        "last_AP": float(evaluated.iloc[-1]) if len(evaluated) else row["AP"],
        "best_epoch": best,
        "epochs": len(curves) or int(result.get("epochs", 0)),
        "seconds": trial.record.seconds or float(curves["seconds"].sum() if "seconds" in curves else 0),
    }
    prefix = f"val/{CLASS}"
    return row | {name.removeprefix("val/"): value for name, value in at_best.items() if name.startswith(prefix)}


def _all(source: Source) -> list[Trial]:
    shared = source.kind == "sweep" and source.teacher is not None  # that of a run is one of its stages
    return [*([source.teacher] if shared and source.teacher else []), *source.trials]


def _identity_columns(kind: Kind, several: bool) -> list[str]:
    if kind == "run":
        return ["trial", "run", "stage", "seed", "status", "reason"]
    return [*(["sweep"] if several else []), "trial", "role", "point", "seed", "status", "reason"]


def _identity(source: Source, trial: Trial, several: bool) -> dict[str, Any]:
    record = trial.record
    return {
        "sweep": source.name,
        "run": source.name,
        "trial": name_of(source, trial, several),
        "role": trial.role,
        "stage": trial.role,
        "point": record.point,
        "seed": record.seed,
        "status": record.status,
        "reason": record.reason,
    }


def _best_epoch(trial: Trial) -> float:
    """Return the epoch of the weights that are scored; NaN before the first evaluation."""
    if trial.result is not None and "epoch" in trial.result:
        return float(trial.result["epoch"])
    section = trial.recipe.get("evaluation")
    metric = section.get("best_metric", "AP") if isinstance(section, dict) else "AP"
    evaluated = trial.curves.get(f"val/{metric}", pd.Series(dtype=float))
    scores = evaluated.dropna()
    if scores.empty:  # not evaluated yet, or without an object that this score is of: then the last one counts
        return float(evaluated.index[-1]) if len(evaluated) else math.nan
    return float(scores.index[int(scores.argmax())])


def _score(result: dict[str, Any], at_best: dict[Any, float], name: str) -> float:
    value = result.get(name)
    if isinstance(value, int | float):
        return math.nan if value < 0 else float(value)
    return at_best.get(f"val/{name}", at_best.get(name, math.nan))


def _gains(
    table: pd.DataFrame, scores: pd.Series[float], final: pd.Series[bool], kind: Kind, of_teacher: list[float]
) -> pd.DataFrame:
    """Return the gains over each control, and in a sweep over the score of each trial's teacher."""
    part = "stage" if kind == "run" else "role"
    keyed = table[pairing(table)].assign(score=scores)
    gains = pd.DataFrame(index=table.index)
    for other in ("baseline", "teacher") if kind == "run" else ("baseline", "constant"):
        is_other = table[part].isin(OWN_KIND[other])
        gain = against(keyed, keyed[is_other & final], pairing(table), ["score"])["score"]
        gains[f"gain_over_{other}"] = gain.mask(is_other)  # nothing is compared with itself
    if kind == "sweep":
        gains["gain_over_teacher"] = scores - of_teacher
    return gains


def _teachers_scores(owners: Sequence[Source], metric: str) -> list[float]:
    """Return for each trial the score of its sweep's teacher, which is looked up once."""
    scores = {name: _teachers_score(source, metric) for name, source in {own.name: own for own in owners}.items()}
    return [scores[source.name] for source in owners]


def _teachers_score(source: Source, metric: str) -> float:
    if source.teacher is None or source.teacher.result is None:
        return math.nan
    return scores_of(source.teacher, ["AP", metric])[metric]
