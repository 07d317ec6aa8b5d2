"""MLflow and Weights & Biases for a sweep, a run of each per trial; with Ray and without."""

from __future__ import annotations

from dataclasses import dataclass

from raydistill.config import Config
from raydistill.runs.events import Event, TrialEvent
from raydistill.runs.trackers import Trackers
from raydistill.sweeps.directory import TrialRecord
from raydistill.sweeps.table import SweepListener


def tracked_sweep(config: Config, listener: SweepListener) -> SweepListener:
    """Return ``listener`` with the loggers that the sweep's base asks for listening too.

    Raises:
        UserError: when one of them is not installed.
    """
    trackers = Trackers(config)
    return _TrackedSweep(listener, trackers) if trackers else listener


@dataclass(frozen=True)
class _TrackedSweep:
    """Hands everything on, and the numbers to the loggers too."""

    listener: SweepListener
    trackers: Trackers

    def __call__(self, event: Event | TrialEvent) -> None:
        """Hand an event on."""
        self.listener(event)
        for problem in self.trackers.hear(event):
            self.listener(problem)

    def begins(self, record: TrialRecord) -> None:
        """Hand on that a trial is started, and with which settings."""
        self.trackers.begins(record.name, record.settings)
        self.listener.begins(record)

    def ends(self, record: TrialRecord, score: float) -> None:
        """Hand on that a trial is over."""
        self.trackers.ends(record.name)
        self.listener.ends(record, score)

    def close(self) -> None:
        """Close what is open."""
        for problem in self.trackers.close():
            self.listener(problem)
        self.listener.close()
