"""MLflow and Weights & Biases: the driver of a run or a sweep hands on what its display hears, with Ray and without.

TensorBoard's event files are the reporter's: they lie in the run directory, whoever writes it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydistill.config import Config
from raydistill.errors import UserError, first_line
from raydistill.runs.directory import RunDirectory, planned
from raydistill.runs.events import EpochDone, Event, Listener, Note, StageStarted, TrialEvent
from raydistill.runs.loggers import End, LoggerRun, RunGoneError, openers
from raydistill.runs.scores import existing
from raydistill.storage.mirror import named
from raydistill.storage.output import Output
from raydistill.storage.regular import RECORD_BYTES, read_text

_ON_THEIR_WAY_SECONDS = 2  # the last numbers of a trial that was ended by a scheduler
_RECORD = "loggers.json"  # in a run directory: the id of its run with each logger, and the last epoch that it has
Ended = tuple[str, RunDirectory, End]
"""The name of a stage or a trial, its run directory, and how it ended."""
_NOT_METRICS = ("epoch", "step", "seconds")  # what a line of metrics.jsonl holds besides an event


def require(config: Config) -> None:
    """Raise when a logger that ``config`` asks for is not installed.

    Raises:
        UserError: naming the extra to install.
    """
    import importlib.util

    for name, wanted in (("mlflow", config.logging.mlflow), ("wandb", config.logging.wandb)):
        if wanted is not None and importlib.util.find_spec(name) is None:
            raise UserError(f"logging.{name}: needs the package {name}; pip install 'raydistill[{name}]'")


@contextlib.contextmanager
def tracked(config: Config, output: Output, listener: Listener) -> Iterator[Listener]:
    """Give ``listener`` with the loggers that ``config`` asks for listening too, and close these; for ``train``."""
    trackers = Trackers(config, output)
    if not trackers:
        yield listener
        return
    runs = {stage: RunDirectory(output.folder / stage, output) for stage in planned(config)}

    def hear(event: Event) -> None:
        listener(event)
        for problem in trackers.hear(event):
            listener(problem)

    with closing(trackers, listener, lambda: [(stage, run, "finished") for stage, run in runs.items() if run.finished]):
        yield hear


@contextlib.contextmanager
def closing(trackers: Trackers, listener: Listener, ended: Callable[[], Iterable[Ended]]) -> Iterator[None]:
    """Close what is open when the work has ended, with how it did; say what went wrong.

    Args:
        trackers: the loggers.
        listener: hears of it.
        ended: returns all that has ended, also before this command: one that was killed has not closed its runs.
    """
    end: End = "failed"
    for problem in trackers.settle(ended()):
        listener(problem)
    try:
        yield
        end = "finished"
    except KeyboardInterrupt:
        end = "interrupted"
        raise
    finally:
        for problem in [*trackers.close(end), *trackers.settle(ended())]:
            listener(problem)


@dataclass
class _Open:
    """A run of a logger that is written to."""

    logger: str
    run: LoggerRun
    epoch: int  # the last one that it has


@dataclass
class _Part:
    """A stage or a trial at work."""

    directory: RunDirectory
    open: list[_Open]


class Trackers:
    """The loggers that a run or a sweep asks for: each has one run per stage or trial, however often that goes on.

    Its id is kept in the run directory, an epoch is its step and is handed on once. A logger that fails is left alone
    from then on, which the notes that come back say: training goes on without it. Several threads may share it.
    """

    def __init__(self, config: Config, output: Output, of_trial: Callable[[str], Path] | None = None) -> None:
        """Open nothing yet.

        Args:
            config: asks for the loggers.
            output: where the run or the sweep lies.
            of_trial: the folder of a trial, of a sweep.

        Raises:
            UserError: as ``require``.
        """
        require(config)
        self._openers, self._output, self._of_trial = openers(config), output, of_trial
        self._parts: dict[str, _Part] = {}  # by trial, or stage where there are none
        self._settings: dict[str, Mapping[str, Any]] = {}  # of the trials at work
        self._ended: dict[str, tuple[float, End]] = {}  # when trials did, and how
        self._lock = threading.RLock()

    def __bool__(self) -> bool:
        """Return whether there is any that works."""
        return bool(self._openers)

    def hear(self, event: Event | TrialEvent) -> list[Note]:
        """Hand the numbers of an epoch on; return what went wrong."""
        with self._lock:
            notes = self._close_ended(before=time.monotonic() - _ON_THEIR_WAY_SECONDS)
            trial, inner = (event.trial, event.event) if isinstance(event, TrialEvent) else ("", event)
            if isinstance(inner, StageStarted):
                return notes + self._start(trial, inner)
            if isinstance(inner, EpochDone):
                return notes + self._log(trial, inner)
            return notes

    def begins(self, trial: str, settings: Mapping[str, Any]) -> None:
        """Take the settings of a trial that will be heard of, by dotted name."""
        with self._lock:
            self._settings[trial] = settings
            self._ended.pop(trial, None)

    def ends(self, trial: str, end: End) -> None:
        """Close a trial's runs soon: nothing is at work on it any more."""
        with self._lock:
            self._ended[trial] = time.monotonic(), end

    def close(self, end: End) -> list[Note]:
        """Close all that is open; return what went wrong.

        Args:
            end: how a run has ended; trials of a sweep of which nobody said so are interrupted.
        """
        with self._lock:
            notes = self._close_ended(before=float("inf"))
            for name in [*self._parts]:
                notes += self._close(name, end if self._is_stage(name) else "interrupted")
            return notes

    def settle(self, ended: Iterable[Ended]) -> list[Note]:
        """Close the runs of what has ended where that was not done; return what went wrong."""
        notes: list[Note] = []
        with self._lock:
            for name, directory, end in ended:
                for logger, entry in self._recorded(directory).items():
                    if entry.get("end") != end and name not in self._parts:
                        part = self._parts[name] = _Part(directory, [])
                        notes += self._guarded(logger, lambda: self._reopen(name, part, logger))  # noqa: B023
                        notes += self._close(name, end)
        return notes

    def _is_stage(self, name: str) -> bool:
        return self._parts[name].directory.path.parent == self._output.folder

    def _start(self, trial: str, event: StageStarted) -> list[Note]:
        """Open the runs of a stage or trial, unless it only goes on after a loss."""
        notes: list[Note] = []
        name = trial or event.stage
        for other in [other for other in self._parts if not trial and other != name and self._is_stage(other)]:
            notes += self._close(other, "finished")  # earlier than its settings say
        if name not in self._parts:
            folder = self._of_trial(trial) if trial and self._of_trial is not None else self._output.folder
            self._parts[name] = _Part(RunDirectory(folder / event.stage, self._output), [])
            for logger in [*self._openers]:
                notes += self._guarded(logger, lambda: self._open(name, logger))  # noqa: B023
        return notes + self._catch_up(name, event.first_epoch)

    def _open(self, name: str, logger: str) -> None:
        """Open the run of a stage or trial again, or a new one."""
        part = self._parts[name]
        if not self._reopen(name, part, logger):
            run = self._openers[logger](name, self._settings.get(name, {}), "")
            part.open.append(_Open(logger, run, 0))
        self._record(part)

    def _reopen(self, name: str, part: _Part, logger: str) -> bool:
        """Open the run again that a logger has of a stage or trial; return whether it has one."""
        before = self._recorded(part.directory).get(logger)
        if before is None:
            return False
        with contextlib.suppress(RunGoneError):
            run = self._openers[logger](name, self._settings.get(name, {}), before["run"])
            part.open.append(_Open(logger, run, max(before["epoch"], run.last_epoch)))
        return bool(part.open and part.open[-1].logger == logger)

    def _log(self, trial: str, event: EpochDone) -> list[Note]:
        name = trial or event.stage
        notes = self._hand_on(name, event.epoch, event.metrics)
        return notes if trial or event.epoch < event.epochs else notes + self._close(name, "finished")

    def _hand_on(self, name: str, epoch: int, metrics: Mapping[str, float]) -> list[Note]:
        """Log an epoch with each logger that does not have it."""
        notes: list[Note] = []
        part = self._parts.get(name)
        lacking = [] if part is None else [opened for opened in part.open if opened.epoch < epoch]
        for opened in lacking:
            notes += self._guarded(opened.logger, lambda: opened.run.log(existing(metrics), epoch))  # noqa: B023
            opened.epoch = epoch
        if part is not None and lacking:
            self._record(part)
        return notes

    def _catch_up(self, name: str, last_epoch: float) -> list[Note]:
        """Log the epochs that a logger lacks, as when the command was killed before it heard of them."""
        notes: list[Note] = []
        part = self._parts[name]
        if part.open:
            for line in part.directory.lines():
                if line["epoch"] <= last_epoch:
                    metrics = {key: value for key, value in line.items() if key not in _NOT_METRICS}
                    notes += self._hand_on(name, int(line["epoch"]), metrics)
        return notes

    def _close_ended(self, before: float) -> list[Note]:
        notes: list[Note] = []
        for name, (_, end) in [(name, ended) for name, ended in self._ended.items() if ended[0] < before]:
            del self._ended[name]
            self._settings.pop(name, None)
            notes += self._close(name, end)
        return notes

    def _close(self, name: str, end: End) -> list[Note]:
        if name not in self._parts:
            return []
        notes = self._catch_up(name, float("inf"))
        part = self._parts.pop(name)
        for opened in part.open:
            notes += self._guarded(opened.logger, lambda: opened.run.close(end))  # noqa: B023
        self._record(part, end)
        return notes

    def _recorded(self, run: RunDirectory) -> dict[str, dict[str, Any]]:
        """Return what is known of a stage's or trial's runs with loggers; a file that is damaged tells nothing."""
        try:
            file = self._output.fetched(run.path / _RECORD)
            found = json.loads(read_text(file, RECORD_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        known = found.items() if isinstance(found, dict) else ()
        return {
            logger: entry
            for logger, entry in known
            if isinstance(entry, dict) and isinstance(entry.get("run"), str) and isinstance(entry.get("epoch"), int)
        }

    def _record(self, part: _Part, end: End | None = None) -> None:
        runs = {opened.logger: {"run": opened.run.id, "epoch": opened.epoch, "end": end} for opened in part.open}
        if runs:
            with contextlib.suppress(OSError):  # a full disk: whoever writes results says so
                self._output.write_json(part.directory.path / _RECORD, self._recorded(part.directory) | runs)

    def _guarded(self, logger: str, act: Callable[[], object]) -> list[Note]:
        """Do something with a logger that is still used; give it up where that fails."""
        if logger not in self._openers:
            return []
        try:
            act()
        except Exception as error:  # noqa: BLE001  (a server may fail in any way, and no training ends for it)
            del self._openers[logger]
            why = named(f"{type(error).__name__}: {first_line(error)}")
            return [Note(f"logging.{logger}: failed ({why}); no more numbers are sent there", warning=True)]
        return []
