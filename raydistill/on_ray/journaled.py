"""A scheduler of Ray's that decides in a resumed sweep as in one that was never interrupted."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from raydistill.on_ray.trial import EPOCH, SCORE
from raydistill.sweeps.journal import Journal, TrialReport

_NOBODY_WAITS: Any = SimpleNamespace(get_live_trials=list)  # what a scheduler asks the controller of Tune


@dataclass(frozen=True)
class _Known:
    """A trial as the scheduler knows it: by the plan's name, whichever of Ray's trials it is today."""

    trial_id: str


class JournaledScheduler(FIFOScheduler):  # type: ignore[misc]
    """Ray's scheduler, told of every report in the order in which the sweep made them: those of before first.

    What it hears is written down before it is acted on. A trial that reports an epoch again, as it was interrupted
    before its checkpoint was written, gets the decision of then.
    """

    def __init__(self, inner: TrialScheduler, journal: Journal, before: list[TrialReport]) -> None:
        super().__init__()
        self._inner, self._journal, self._before = inner, journal, before
        self._known: dict[str, _Known] = {}
        self._decided: dict[tuple[str, int], str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything out of Ray's snapshots: the journal is the state."""
        return {}

    @property
    def metric(self) -> str:
        """What it goes by."""
        return SCORE

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Tell the scheduler what it goes by, and then what was reported before."""
        known = bool(self._inner.set_search_properties(metric, mode, **spec))
        for report in self._before:
            self._add(report.trial)
            if report.ended:
                self._inner.on_trial_complete(_NOBODY_WAITS, self._known[report.trial], _result(report))
            else:
                self._decide(_NOBODY_WAITS, report)
        self._before = []
        return known

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:  # noqa: ARG002
        """Take a trial in, unless it is known from before."""
        self._add(str(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Write the report down and decide."""
        if SCORE not in result or EPOCH not in result:
            return str(TrialScheduler.CONTINUE)
        name, epoch = str(trial), int(result[EPOCH])
        if (name, epoch) in self._decided:
            return self._decided[name, epoch]
        report = TrialReport(name, epoch, float(result[SCORE]))
        decision = self._decide(tune_controller, report)
        stopped = decision == TrialScheduler.STOP
        self._journal.append(TrialReport(report.trial, report.epoch, report.score, stopped=stopped))
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Write down how a trial ended."""
        if SCORE in result and EPOCH in result:
            self._journal.append(TrialReport(str(trial), int(result[EPOCH]), float(result[SCORE]), ended=True))
        self._inner.on_trial_complete(tune_controller, self._known[str(trial)], result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Let the scheduler know."""
        self._inner.on_trial_error(tune_controller, self._known[str(trial)])

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Let the scheduler know."""
        self._inner.on_trial_remove(tune_controller, self._known[str(trial)])

    def debug_string(self) -> str:
        """Return what the scheduler says of itself."""
        return str(self._inner.debug_string())

    def _add(self, name: str) -> None:
        if name not in self._known:
            self._known[name] = _Known(name)
            self._inner.on_trial_add(_NOBODY_WAITS, self._known[name])

    def _decide(self, tune_controller: Any, report: TrialReport) -> str:
        decision = str(self._inner.on_trial_result(tune_controller, self._known[report.trial], _result(report)))
        self._decided[report.trial, report.epoch] = decision
        return decision


def _result(report: TrialReport) -> dict[str, Any]:
    return {EPOCH: report.epoch, SCORE: report.score}
