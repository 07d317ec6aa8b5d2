"""How long a run of several stages still takes, by what its epochs took so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raydistill.config.sections import Config
from raydistill.runs.directory import epochs_of, planned, unfinished
from raydistill.storage.output import Output

_COST = {"teacher": 1.0, "baseline": 1.0, "distilled": 1.5}
"""An epoch's cost of a stage that has not begun, in epochs of one that has: a distilled student runs its teacher too
(1.1 to 1.7 plain epochs were measured), and what a teacher costs says little of its student."""


def of_run(config: Config) -> TimeLeft:
    """Return what follows a run from where it stands."""
    stages = planned(config)
    left = TimeLeft({stage: epochs_of(config, stage) for stage in stages})
    missing = unfinished(config, Output.at(config.output))
    for stage in stages:
        if stage not in missing:
            left.finished(stage)
    return left


@dataclass
class TimeLeft:
    """Follows the stages of a run; ``epochs`` says which there are, in order, and how many epochs each has."""

    epochs: Mapping[str, int] = field(default_factory=dict)
    _seconds: dict[str, float] = field(default_factory=dict)  # of an epoch
    _done: dict[str, int] = field(default_factory=dict)  # epochs

    def place(self, stage: str) -> str:
        """Return which of how many a stage is; empty where there is only one or it is none of them.

        >>> TimeLeft({"teacher": 8, "distilled": 6}).place("distilled")
        'stage 2 of 2'
        """
        stages = list(self.epochs)
        return f"stage {stages.index(stage) + 1} of {len(stages)}" if stage in stages and len(stages) > 1 else ""

    def epoch_done(self, stage: str, epoch: int, seconds: float) -> None:
        """Take in that a stage has ended an epoch after so many seconds."""
        before = self._seconds.get(stage)
        self._seconds[stage] = seconds if before is None else (before + seconds) / 2  # the first one warms up
        self._done[stage] = epoch

    def finished(self, stage: str) -> None:
        """Take in that a stage was finished before."""
        self._done[stage] = self.epochs.get(stage, 0)

    @property
    def seconds(self) -> float | None:
        """What is left of all stages; None before the first epoch has ended."""
        if not self._seconds:
            return None
        return sum(
            (epochs - self._done.get(stage, 0)) * self._seconds_of(stage)
            for stage, epochs in self.epochs.items()
            if epochs > self._done.get(stage, 0)
        )

    def _seconds_of(self, stage: str) -> float:
        """Return what an epoch of a stage takes, or will."""
        if stage in self._seconds:
            return self._seconds[stage]
        like = next(known for known in ("baseline", "distilled", "teacher") if known in self._seconds)
        return self._seconds[like] * _COST[stage] / _COST[like]


def in_words(seconds: float) -> str:
    """Return a time that is a guess, roughly.

    >>> [in_words(seconds) for seconds in (4, 50, 200, 5400, 200_000)]
    ['less than a minute', 'less than a minute', '3 min', '1 h 30 min', '2 days 7 h']
    """
    minutes = round(seconds / 60)
    if minutes < 1 or seconds < 60:
        return "less than a minute"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"
