"""How much each searched setting has to do with a point being one of the best, as far as that is no chance."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from raydistill.reports.summary import Mode

if TYPE_CHECKING:
    import optuna

_FEWEST_POINTS = 8  # with fewer, the best share of them is a handful and says nothing of a setting
_MOST_POINTS = 2000  # more are drawn from: each round would take seconds
_TOP_POINTS = 5  # optuna's advice: compare at least this many of the best with all
_ROUNDS, _ROUNDS_OF_MANY, _MANY = 99, 39, 300  # of permuted scores; a round with many points takes long
_CHANCE = 0.05


def importances(points: pd.DataFrame, settings: Sequence[str], mode: Mode, log: Collection[str]) -> dict[str, float]:
    """Return each setting's share in what makes a point one of the best; of all of them the shares are 1.

    Where the same points with their scores permuted give as much, it is NaN: the divergence of PED-ANOVA (Watanabe et
    al., IJCAI 2023) is never 0. Every setting's is measured in standard deviations of its own over the rounds, and the
    largest of all settings counts in each round (Westfall and Young, *Resampling-Based Multiple Testing*, 1993): where
    no setting has an effect, one is named in a twentieth of the sweeps. NaN for all when there are too few points.
    """
    points = points[points["mean"].notna()]
    points = points if len(points) <= _MOST_POINTS else points.sample(_MOST_POINTS, random_state=0)
    varied = [name for name in settings if points[name].nunique() > 1]
    unknown = dict.fromkeys(settings, math.nan)
    if len(points) < _FEWEST_POINTS or not varied:
        return unknown
    scores = points["mean"].to_numpy(dtype=float) * (-1 if mode == "max" else 1)
    generator = np.random.default_rng(0)
    rounds = _ROUNDS if len(points) <= _MANY else _ROUNDS_OF_MANY
    with _silent_optuna():
        study = _study(points, varied, log)
        permuted = [_divergences(study, varied, generator.permutation(scores)) for _ in range(rounds)]
        found = np.array([_divergences(study, varied, scores), *permuted])
    total = found[0].sum()
    if not total > 0:
        return unknown
    shown = _beyond_chance(found)
    return unknown | {
        name: float(value / total) for name, value, is_shown in zip(varied, found[0], shown, strict=True) if is_shown
    }


def is_numeric(values: pd.Series[Any]) -> bool:
    """Return whether the values are numbers with an order, which true and false are not."""
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _beyond_chance(found: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return for which settings the first row is more than the others' [rounds, settings] largest mostly are."""
    spread = found.std(axis=0)
    standard = np.divide(found - found.mean(axis=0), spread, out=np.zeros_like(found), where=spread > 0)
    largest = standard.max(axis=1)
    as_large = (largest[:, None] >= standard[0]).mean(axis=0)
    return np.asarray(as_large <= _CHANCE)


def _study(points: pd.DataFrame, settings: list[str], log: Collection[str]) -> optuna.Study:
    """Return a study with a trial per point, in their order; its values mean nothing."""
    import optuna

    study = optuna.create_study()
    distributions = {name: _distribution(points[name], name in log) for name in settings}
    for _, row in points[settings].iterrows():
        active = {name: _plain(row[name]) for name in settings if pd.notna(row[name])}  # others were not active
        own = {name: distributions[name] for name in active}
        study.add_trial(optuna.create_trial(params=active, distributions=own, value=0.0))
    return study


def _divergences(study: optuna.Study, settings: list[str], scores: npt.NDArray[np.float64]) -> list[float]:
    """Return PED-ANOVA's divergence of every setting; low scores are good, a trial's number says which is its."""
    import optuna

    quantile = min(0.5, max(0.1, _TOP_POINTS / len(scores)))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
    found = optuna.importance.get_param_importances(
        study, evaluator=evaluator, target=lambda trial: float(scores[trial.number]), normalize=False
    )
    return [found.get(name, 0.0) for name in settings]


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
