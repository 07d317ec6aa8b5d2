"""What a result may owe to luck: on how many pairs it rests, and of how many points it is the highest.

Every gain that a report may call better or worse counts as a comparison, and the more there are the more each needs: in
a sweep in which nothing has an effect, something is called so in one of twenty at most (Bonferroni's bound; Miller,
*Simultaneous Statistical Inference*, 1981, chapter 2). The noise is that of all points together, as in Dunnett's
comparisons with a control (JASA 50, 1955), in a two-way layout: a seed that is easy for all points is no noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from raydistill.reports.summary import Mode
from raydistill.reports.trials import TEST

FEWEST_PAIRS = 3
"""With fewer pairs nothing is called better or worse."""
_LEVEL = 0.05
_DIGITS = 12  # scores that agree in so many are the same
_NOTHING = 1e-9  # what a gain may differ from 0 by as it was computed
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Best:
    """The point of a sweep with the best mean, which ``best.yaml`` takes, and what may be said of it."""

    row: pd.Series[Any]  # of the summary
    mode: Mode
    complete: bool  # chosen among points whose trials all finished; else among all that have a score
    points: int  # that have a score: of so many it was chosen
    differs: bool  # whether another has another score; of a single point, whether it has any
    is_better: bool  # than the student alone, by more than chance
    stands_out: bool  # from the other points, by more than chance
    alike: int  # complete points that cannot be told from it
    rivals: int  # complete points besides it
    by_chance: float  # its gain over the student alone if nothing had an effect; NaN where nothing tells the noise
    seeds: int  # that this was learnt from
    refuted: bool = False  # by fresh seeds, which show no gain: then it is not better

    @property
    def word(self) -> Literal["best", "highest", "lowest"]:
        """What the point may be called."""
        if self.is_better and self.stands_out:
            return "best"
        return "lowest" if self.mode == "min" else "highest"


def expected_maximum(number: int) -> float:
    """Return the expected maximum of ``number`` independent standard normal values.

    It is the integral of x over the density n phi(x) Phi(x)^(n-1) of the maximum (David and Nagaraja, *Order
    Statistics*, 2003, section 3.1), here by parts: of 1 - Phi^n above 0, less that of Phi^n below.

    >>> [round(expected_maximum(number), 3) for number in (1, 2, 10, 40)]
    [0.0, 0.564, 1.539, 2.161]
    """
    from scipy.special import log_ndtr

    x = np.linspace(0, 12, 6001)
    return float(np.trapezoid(-np.expm1(number * log_ndtr(x)) - np.exp(number * log_ndtr(-x)), x))


def residual(table: Numbers) -> tuple[float, int]:
    """Return the sum of squares that rows and columns do not explain, and its degrees of freedom: [points, seeds]."""
    centred = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    return float((centred**2).sum()), (table.shape[0] - 1) * (table.shape[1] - 1)


def error_of_gains(gains: Numbers) -> tuple[float, int]:
    """Return the standard error of each point's mean gain, and its degrees of freedom.

    Args:
        gains: over a control of the same seed [points, seeds].

    With N points and n seeds the control is a row of zeros among the gains, and s2 the residual mean square of these
    N + 1 rows; a mean gain has the variance (s2 + s2) / n. A control that is noisier than the points would be drowned
    among them: where the variance c2 of the seeds' mean gain shows it, which is s2 (1 + 1 / N) otherwise, its part is
    c2 - s2 / N. For one point this is the error of Student's paired test.
    """
    points, seeds = gains.shape
    squares, freedom = residual(np.vstack([np.zeros(seeds), gains]))
    noise = squares / freedom
    of_control = max(noise, float(gains.mean(axis=0).var(ddof=1)) - noise / points)
    return math.sqrt((noise + of_control) / seeds), freedom


def with_needed_gains(trials: pd.DataFrame, summary: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return the summary with ``gain_over_X_needed`` behind each gain: the size at which it is more than chance.

    It is half of the wider of two intervals: the gain's own at 95%, and that at the level which all comparisons of the
    report share. NaN where a trial of the point is missing or did not finish, or where there are under three pairs.
    What was run again under fresh seeds was chosen before: its own interval is enough, over the pairs there are so far.

    Args:
        trials: with the gains of each.
        summary: of them.
        keys: columns in which the trials of a row of the summary agree.
    """
    rows = summary[[*keys]].assign(row=summary.index)
    trials = trials.assign(row=trials[[*keys]].merge(rows, how="left", on=[*keys])["row"].to_numpy())
    again = summary["role"] == "confirmed" if "role" in summary else pd.Series(False, index=summary.index)
    families = {name: _compared(summary, name) for name in _gains(summary)}
    level = 1 - _LEVEL / 2 / max(1, sum(int(own.sum()) for own in families.values()))
    for name, compared in families.items():
        own = (summary[f"{name}_high"] - summary[f"{name}_low"]) / 2
        enough = (summary["complete"] | again) & (summary[f"{name}_pairs"] >= FEWEST_PAIRS)
        shared = _shared_needs(trials[trials["row"].isin(summary.index[compared & enough])], name, level)
        wider = pd.concat([own, shared.reindex(summary.index)], axis=1).max(axis=1, skipna=False)
        wider = wider.where(~again, own)
        summary.insert(list(summary).index(f"{name}_high") + 1, f"{name}_needed", wider.where(enough).clip(_NOTHING))
    return summary


def is_clear(row: pd.Series[Any], gain: str) -> bool:
    """Return whether a gain of a row of the summary is more than chance; what nobody measured is not."""
    return bool(abs(row[gain]) > row.get(f"{gain}_needed", math.nan))


def is_gain(row: pd.Series[Any], gain: str, mode: Mode) -> bool:
    """Return whether it is more than chance, and for the better."""
    return is_clear(row, gain) and bool(row[gain] > 0) == (mode == "max")


def best_point(trials: pd.DataFrame, summary: pd.DataFrame, metric: str, mode: Mode) -> Best | None:
    """Return the searched point with the best mean, by preference among those whose trials all finished."""
    if "role" not in summary:
        return None
    scored = summary[(summary["role"] == "searched") & (summary["n"] > 0)]
    if scored.empty:
        return None
    complete = scored[scored["complete"]]
    candidates = scored if complete.empty else complete
    means = candidates["mean"].round(_DIGITS)
    row = candidates.loc[means[means == (means.min() if mode == "min" else means.max())].index[0]]
    noise = _Noise.of(trials, complete, metric)
    return Best(
        row=row,
        mode=mode,
        complete=not complete.empty,
        points=len(scored),
        differs=means.nunique() > 1 if len(means) > 1 else bool(row["mean"] != 0),
        is_better=is_gain(row, "gain_over_baseline", mode),
        stands_out=noise.stands_out(row["mean"], complete["mean"]),
        alike=noise.alike(row["mean"], complete["mean"]),
        rivals=max(0, len(complete) - 1),
        by_chance=(-1 if mode == "min" else 1) * noise.error * expected_maximum(len(scored)),
        seeds=noise.seeds,
    )


@dataclass(frozen=True)
class _Noise:
    """How far the mean of a complete point lies from where it would be under all seeds there are."""

    error: float  # standard error of a mean; NaN where nothing tells it
    freedom: int  # 0: it is the spread of the points, of which some may be their own
    seeds: int

    @classmethod
    def of(cls, trials: pd.DataFrame, complete: pd.DataFrame, metric: str) -> _Noise:
        """Measure it, in each sweep among its own seeds."""
        seeds = int(complete["n"].min()) if len(complete) else 0
        if seeds < 2:
            return cls(float(complete["mean"].std(ddof=1)), 0, seeds)
        searched, squares, freedom = trials[trials["role"] == "searched"], 0.0, 0
        for sweep, points in _by_sweep(complete):
            own = searched[searched["point"].isin(points["point"])]
            own = own if sweep is None else own[own["sweep"] == sweep]
            found, free = residual(_by_seed(own, "point", metric).to_numpy(dtype=float))
            squares, freedom = squares + found, freedom + free
        return cls(math.sqrt(squares / freedom / seeds) if freedom else math.nan, freedom, seeds)

    def stands_out(self, best: float, means: pd.Series[float]) -> bool:
        """Return whether the best lies further from the mean of all than the furthest of so many does by chance."""
        number = len(means)
        if self.freedom == 0 or self.seeds < FEWEST_PAIRS or number < 2:
            return False
        error = self.error * math.sqrt(1 - 1 / number)
        return bool(abs(best - means.mean()) > max(_NOTHING, error * _quantile(1 - _LEVEL / number, self.freedom)))

    def alike(self, best: float, means: pd.Series[float]) -> int:
        """Return how many others lie so near that they may be as good (Hsu, *Multiple Comparisons*, 1996, 4.2)."""
        others = len(means) - 1
        if self.freedom == 0 or others < 1:
            return max(0, others)
        near = max(_NOTHING, self.error * math.sqrt(2) * _quantile(1 - _LEVEL / others, self.freedom))
        return int(((best - means).abs() <= near).sum()) - 1


def _gains(summary: pd.DataFrame) -> list[str]:
    """Return the gains that can be called better or worse: the teacher's score is that of one run, chance and all."""
    names = [f"{split}gain_over_{control}" for split in ("", TEST) for control in ("baseline", "constant")]
    return [name for name in names if name in summary]


def _compared(summary: pd.DataFrame, gain: str) -> pd.Series[bool]:
    """Return which rows are compared with a control for what they are, and have a gain."""
    part, parts = ("stage", ["distilled"]) if "stage" in summary else ("role", ["searched", "constant"])
    return summary[part].isin(parts) & summary[gain].notna()


def _shared_needs(trials: pd.DataFrame, gain: str, level: float) -> pd.Series[float]:
    """Return for rows of the summary how large a gain must be at a level, from the noise of all of them."""
    needs: dict[Any, float] = {}
    if "run" in trials:  # every run has a control of its own
        groups = trials.groupby("row")[gain]
        freedom = int((groups.count() - 1).sum())
        if freedom:
            noise = float((groups.var(ddof=1) * (groups.count() - 1)).sum()) / freedom
            return (noise / groups.count()) ** 0.5 * _quantile(level, freedom)
    for _, own in _by_sweep(trials):
        table = _by_seed(own, "row", gain)
        if table.shape[1] >= FEWEST_PAIRS:
            error, freedom = error_of_gains(table.to_numpy(dtype=float))
            needs |= dict.fromkeys(table.index, error * _quantile(level, freedom))
    return pd.Series(needs, dtype=float)


def _by_sweep(table: pd.DataFrame) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Yield the rows of every sweep with its name; of a single one, without."""
    if "sweep" in table:
        yield from table.groupby("sweep", sort=False)
    elif len(table):
        yield None, table


def _by_seed(trials: pd.DataFrame, rows: str, values: str) -> pd.DataFrame:
    """Return a table with a column per seed that all rows have."""
    keys = [rows, "seed"]
    return trials.drop_duplicates(keys).set_index(keys)[values].unstack("seed").dropna(axis=1)


def _quantile(level: float, freedom: int) -> float:
    from scipy.stats import t  # takes a second

    return float(t.ppf(level, freedom))
