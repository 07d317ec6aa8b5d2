"""MLflow and Weights & Biases for a sweep, a run of each per trial; with Ray and without."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from raydistill.runs.loggers import End
from raydistill.runs.trackers import Ended, Trackers, closing
from raydistill.sweeps.directory import Status, TrialRecord
from raydistill.sweeps.plan import Plan
from raydistill.sweeps.table import SweepListener, Told, TrialsKept

_ENDS: dict[Status, End] = {
    "finished": "finished",
    "stopped": "stopped",
    "failed": "failed",
    "unfinished": "interrupted",
}


@contextlib.contextmanager
def tracked_sweep(plan: Plan, listener: SweepListener) -> Iterator[SweepListener]:
    """Give ``listener`` with the loggers that the sweep's base asks for listening too, and close these.

    Raises:
        UserError: when one of them is not installed.
    """
    sweep = plan.directory
    trackers = Trackers(plan.loaded.config, sweep.output, lambda name: sweep.trial(name).path)
    if not trackers:
        yield listener
        return

    def ended() -> Iterator[Ended]:
        if sweep.teacher.finished:
            yield "teacher", sweep.teacher, "finished"
        for record in plan.records:
            if record.ended:
                yield record.name, sweep.trial(record.name).run, _ENDS[record.status]

    with closing(trackers, listener, ended):
        yield _TrackedSweep(listener, trackers)


@dataclass(frozen=True)
class _TrackedSweep:
    """Hands everything on, and the numbers to the loggers too."""

    listener: SweepListener
    trackers: Trackers

    def __call__(self, event: Told) -> None:
        """Hand an event on."""
        self.listener(event)
        if isinstance(event, TrialsKept):
            return
        for problem in self.trackers.hear(event):
            self.listener(problem)

    def begins(self, record: TrialRecord) -> None:
        """Hand on that a trial is started, and with which settings."""
        self.trackers.begins(record.name, record.settings)
        self.listener.begins(record)

    def ends(self, record: TrialRecord, score: float) -> None:
        """Hand on that a trial is over."""
        self.trackers.ends(record.name, _ENDS[record.status])
        self.listener.ends(record, score)

    def close(self) -> None:
        """Hand on that nothing more will be shown."""
        self.listener.close()
