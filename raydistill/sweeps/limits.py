"""The ends of a sweep that its file names: a budget of time, and a score that is good enough."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from raydistill.runs.events import Note
from raydistill.runs.stopping import Stop
from raydistill.storage.regular import RECORD_BYTES, read_text
from raydistill.sweeps.directory import SweepDirectory, TrialRecord
from raydistill.sweeps.plan import Plan
from raydistill.sweeps.table import SweepListener, Told

_HOUR = 3600.0
_WRITE_SECONDS = 60
"""What a killed command may have spent without it being counted."""
_GOES_ON = "trials at work leave a checkpoint, and go on with a higher one"


@dataclass
class SpentTime:
    """The seconds that commands have worked on a sweep, kept in ``spent.json`` beside its trials."""

    directory: SweepDirectory
    before: float = 0.0

    def __post_init__(self) -> None:
        """Read what was spent before, and start the clock."""
        self._since = self._written = time.monotonic()
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            self.before = max(0.0, float(json.loads(read_text(self._file, RECORD_BYTES))["seconds"]))

    @property
    def seconds(self) -> float:
        """How many there are by now."""
        return self.before + time.monotonic() - self._since

    def write(self, at_once: bool = True) -> None:
        """Keep it; by default whenever that was."""
        if at_once or time.monotonic() - self._written > _WRITE_SECONDS:
            self._written = time.monotonic()
            self.directory.output.write_json(self._file, {"seconds": round(self.seconds, 1)})

    @property
    def _file(self) -> Path:
        return self.directory.path / "spent.json"


@dataclass
class _Limited:
    """Hands everything on to a listener, and ends the sweep when it is over."""

    plan: Plan
    listener: SweepListener
    stop: Stop
    spent: SpentTime
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _told_of_disk: bool = False  # by us or by the headline

    def __call__(self, event: Told) -> None:
        """Hand on."""
        self.listener(event)
        with self._lock:
            self.spent.write(at_once=False)

    def begins(self, record: TrialRecord) -> None:
        """Hand on."""
        self.listener.begins(record)

    def ends(self, record: TrialRecord, score: float) -> None:
        """Hand on; a target may be reached with it."""
        self.listener.ends(record, score)
        if not self._told_of_disk and (needed := self.plan.disk_needed):
            self._told_of_disk = True
            self.listener(Note(needed))
        reached = reached_target(self.plan)
        if reached and any(other.status == "unfinished" for other in self.plan.records):
            self.end(reached)

    def close(self) -> None:
        """Hand on."""
        self.listener.close()

    def end(self, why: str) -> None:
        """Begin no other trial, and let those at work leave a checkpoint."""
        with self._lock:
            if self.plan.over:
                return
            self.plan.over = why
        self.listener(Note(why))
        self.stop.ask()


@contextlib.contextmanager
def limited(plan: Plan, listener: SweepListener, stop: Stop) -> Iterator[SweepListener]:
    """Give a listener under which the sweep ends once its time is spent or its target is reached.

    Where that was so before, ``plan.over`` says it at once. What runs inside then ends as after Ctrl-C, which is no
    interruption: the rest of the command goes on.
    """
    spent = SpentTime(plan.directory)
    limited = _Limited(plan, listener, stop, spent, _told_of_disk=bool(plan.disk_needed))
    something_left = plan.unfinished or not plan.directory.teacher.finished
    timer = _timer(plan, limited) if plan.loaded.confirmation is None else None
    try:
        yield limited
    except KeyboardInterrupt:
        if not plan.over or stop.signalled:
            raise
    finally:
        if timer is not None:
            timer.cancel()
        if plan.over and not stop.signalled:
            stop.withdraw()
        if something_left:
            spent.write()


def _timer(plan: Plan, limited: _Limited) -> threading.Timer | None:
    """Start the clock, if there is a budget; end the sweep right away where it is over already."""
    budget = plan.loaded.sweep.time_budget
    if not plan.unfinished:
        return None
    if reached := reached_target(plan):
        plan.over = reached
        limited.listener(Note(reached))
    if budget is None or plan.over:
        return None
    before = limited.spent.before / _HOUR
    left, of = budget - before, f"time_budget: {_in_words(before)} of {_in_words(budget)}"
    if left <= 0:
        plan.over = f"{of} were spent before; give a higher one to go on"
        limited.listener(Note(plan.over))
        return None
    limited.listener(Note(f"{of} spent before; at the end {_GOES_ON}"))
    timer = threading.Timer(left * _HOUR, limited.end, [f"time_budget: {_in_words(budget)} are spent; {_GOES_ON}"])
    timer.daemon = True
    timer.start()
    return timer


def reached_target(plan: Plan) -> str:
    """Say that a point is as good as ``target`` asks; empty where none is."""
    target, mode = plan.loaded.sweep.target, plan.loaded.sweep.mode
    if target is None or plan.best is None or plan.loaded.confirmation is not None:
        return ""
    point, mean = plan.best
    if not (100 * mean >= target if mode == "max" else 100 * mean <= target):
        return ""
    return (
        f"target: point {point} has {plan.loaded.sweep.metric} {100 * mean:.1f}, {target:g} was asked for; no other "
        f"trial is begun: give {'a higher' if mode == 'max' else 'a lower'} one to go on"
    )


def _in_words(hours: float) -> str:
    """Return a time for people.

    >>> _in_words(7.25), _in_words(1.5), _in_words(0.5), _in_words(0.001)
    ('7.2 h', '1.5 h', '30 min', '4 s')
    """
    if hours >= 1:
        return f"{round(hours, 1):g} h"
    return f"{hours * 60:.3g} min" if hours * 60 >= 2 else f"{hours * _HOUR:.0f} s"
