"""The weights of a sweep's best points, and the removal of the others' as the points end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from raydistill.sweeps.directory import SweepDirectory, TrialRecord
from raydistill.sweeps.file import LoadedSweep

_WORTH_SAYING = 1e9
"""Bytes."""
_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6))
_CONTROLS = ("baseline", "constant")


class BestWeights:
    """Knows which points have ended with which score, and removes the weights of all but the best ``keep``.

    A point that runs, was interrupted or has failed under any seed keeps all that it has: it may go on. So do the
    controls and what was run again to confirm a point. Scores, curves, recipes and logs are never removed.
    """

    def __init__(self, directory: SweepDirectory, keep: int | None, mode: str) -> None:
        self._directory, self._keep, self._sign = directory, keep, -1 if mode == "max" else 1
        self._ended: dict[int, tuple[bool, float, tuple[str, ...]]] = {}  # of points whose weights are there

    @property
    def wanted(self) -> bool:
        """Whether scores of points are of any use here."""
        return self._keep is not None

    def add(self, point: int, score: float, trials: Sequence[TrialRecord]) -> None:
        """Take in a point whose trials have all ended; as in reports those trained to the end come first."""
        stopped = any(trial.status == "stopped" for trial in trials)
        rank = math.inf if math.isnan(score) else self._sign * score
        self._ended[point] = stopped, rank, tuple(trial.name for trial in trials)

    def trim(self) -> None:
        """Remove the weights of the points that are not among the best any more."""
        if self._keep is None or len(self._ended) <= self._keep:
            return
        ranked = sorted(self._ended, key=lambda point: (*self._ended[point][:2], point))  # the first of equals stays
        for point in ranked[self._keep :]:
            for name in self._ended.pop(point)[-1]:
                self._directory.trial(name).run.remove_weights()


def disk_needed(directory: SweepDirectory, loaded: LoadedSweep, ended: Iterable[TrialRecord]) -> str:
    """Return what the weights of a whole sweep take, from what those of trials that have ended do.

    Empty where none has, or where that is nothing to speak of.
    """
    runs = (directory.trial(record.name).run for record in ended)
    size = max((sum(file.stat().st_size for file in run.weights()) for run in itertools.islice(runs, 10)), default=0)
    total = size * loaded.num_trials
    if total < _WORTH_SAYING:
        return ""
    text = f"weights: {_in_words(size)} a trial, {_in_words(total)} for all {loaded.num_trials}"
    keep, seeds = loaded.sweep.keep, len(loaded.sweep.seeds)
    if keep is None:
        return f"{text}; keep=3 would leave those of the 3 best points and of the controls"
    kept = min(keep, loaded.num_points) + len(_CONTROLS)
    return f"{text}, of which keep={keep} leaves {_in_words(size * seeds * kept)}"


def _in_words(number: float) -> str:
    """Return a number of bytes for people.

    >>> _in_words(1_234_000), _in_words(330e6 * 10_000)
    ('1.2 MB', '3.3 TB')
    """
    unit, size = next((pair for pair in _UNITS if number >= pair[1]), ("kB", 1e3))
    return f"{number / size:.1f} {unit}"
