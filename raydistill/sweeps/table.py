"""What the user sees of a sweep: a live table of its trials on a terminal, a line per ended trial in a pipe."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

from raydistill.errors import printable
from raydistill.runs.events import EpochDone, Event, Note, StageStarted, StepDone, TrialEvent
from raydistill.runs.progress import Display, print_above, terminal
from raydistill.runs.scores import points
from raydistill.sweeps.directory import TrialRecord
from raydistill.sweeps.file import point_text
from raydistill.sweeps.live_table import Ended, LiveTable, Running

if TYPE_CHECKING:
    from rich.live import Live

_REFRESHES_PER_SECOND = 2


@dataclass(frozen=True)
class TrialStarted:
    """A trial begins or goes on."""

    record: TrialRecord


@dataclass(frozen=True)
class TrialEnded:
    """A trial is over, for good or for now."""

    record: TrialRecord
    score: float  # in the sweep's metric; NaN where there is none


@dataclass(frozen=True)
class TrialsKept:
    """Trials that ended before the sweep went on, each with its score in the sweep's metric."""

    trials: tuple[tuple[TrialRecord, float], ...]


Told = Event | TrialEvent | TrialsKept
SweepEvent = Told | TrialStarted | TrialEnded


class SweepListener(Protocol):
    """Hears of a sweep while it runs; several threads may share it."""

    def __call__(self, event: Told) -> None:
        """Hear one event."""

    def begins(self, record: TrialRecord) -> None:
        """Hear of a trial that is started."""

    def ends(self, record: TrialRecord, score: float) -> None:
        """Hear what became of a trial."""

    def close(self) -> None:
        """Hear that nothing more comes."""


@dataclass(frozen=True)
class SweepEvents:
    """Hands everything on to one function."""

    listener: Callable[[SweepEvent], object]

    def __call__(self, event: Told) -> None:
        """Hand on."""
        self.listener(event)

    def begins(self, record: TrialRecord) -> None:
        """Hand on as an event."""
        self.listener(TrialStarted(record))

    def ends(self, record: TrialRecord, score: float) -> None:
        """Hand on as an event."""
        self.listener(TrialEnded(record, score))

    def close(self) -> None:
        """Nothing: a function needs no end."""


def hand_on(event: SweepEvent, listener: SweepListener) -> None:
    """Let ``listener`` hear what ``SweepEvents`` made an event of."""
    if isinstance(event, TrialStarted):
        listener.begins(event.record)
    elif isinstance(event, TrialEnded):
        listener.ends(event.record, event.score)
    else:
        listener(event)


@dataclass
class SweepDisplay:
    """Shows events on ``stream``: call it with each of them, and say when trials begin and end.

    Several threads may share it.
    """

    metric: str
    mode: Literal["max", "min"]
    total: int
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _running: dict[str, Running] = field(default_factory=dict)
    _ended: dict[str, Ended] = field(default_factory=dict)
    _kept: set[str] = field(default_factory=set)  # of these, what ended before this display was there
    _live: Live | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)  # of the two dictionaries
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Show what comes before the trials as a run shows it."""
        self.before = Display(self.stream)

    def __call__(self, event: Told) -> None:
        """Show one event."""
        if isinstance(event, TrialEvent):
            with self._lock:
                self._of_trial(event)
        elif isinstance(event, TrialsKept):
            with self._lock:
                self._ended |= {record.name: Ended(record, score) for record, score in event.trials}
                self._kept |= self._ended.keys()
        elif isinstance(event, Note) and self._live is not None:
            self._line(_sentence(event))
        else:
            self.before(event)

    def begins(self, record: TrialRecord) -> None:
        """Show a trial that is started."""
        with self._lock:
            self._running[record.name] = Running(record)
        self.before.close()
        if self._live is None and (console := terminal(self.stream)) is not None:
            from rich.live import Live

            self._live = Live(
                console=console, get_renderable=self._table, refresh_per_second=_REFRESHES_PER_SECOND, transient=True
            )
            self._live.start()

    def ends(self, record: TrialRecord, score: float) -> None:
        """Show what became of a trial; scores from 0 to 1."""
        with self._lock:
            self._running.pop(record.name, None)
            self._ended[record.name] = Ended(record, score)
            self._kept.discard(record.name)
            done = f"[{len(self._ended) - len(self._kept)}/{self.total}]"
        parts = [done, record.name, point_text(record.settings), f"{self.metric} {points(score)}"]
        parts += [record.status + (f": {record.reason}" if record.reason else ""), f"{record.seconds:.0f} s"]
        self._line("  ".join(part for part in parts if part))

    def close(self) -> None:
        """Take the table away."""
        self.before.close()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _line(self, text: str) -> None:
        """Write a line above the table, without our lock: rich holds its own while it asks for the table."""
        live = self._live
        if live is not None:
            print_above(live.console, text)
        else:
            self.stream.write(printable(text, lines=True) + "\n")
            self.stream.flush()

    def _of_trial(self, message: TrialEvent) -> None:
        running, event = self._running.get(message.trial), message.event
        if running is None:
            return
        if isinstance(event, StageStarted):
            running.epoch, running.epochs = event.first_epoch, event.epochs
        elif isinstance(event, StepDone):
            running.images_per_second = event.images_per_second
        elif isinstance(event, EpochDone):
            running.epoch, running.epochs = event.epoch, event.epochs
            running.score = event.metrics.get(f"val/{self.metric}", running.score)

    def _table(self) -> LiveTable:
        """Return the running trials and those that ended, as they are now."""
        with self._lock:
            minutes = (time.monotonic() - self._started) / 60
            running, ended = [dataclasses.replace(own) for own in self._running.values()], [*self._ended.values()]
        return LiveTable(self.metric, self.mode, self.total, minutes, running, ended)


def _sentence(note: Note) -> str:
    return f"{'warning: ' if note.warning else ''}{note.text}"
