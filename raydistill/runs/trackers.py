"""MLflow and Weights & Biases: the driver of a run or a sweep hands on what its display hears, with Ray and without.

TensorBoard's event files are the reporter's: they lie in the run directory, whoever writes it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from raydistill.config import Config
from raydistill.config.logging import Mlflow, Wandb
from raydistill.errors import UserError, first_line
from raydistill.runs.events import EpochDone, Event, Listener, Note, StageStarted, TrialEvent
from raydistill.runs.scores import existing, told_apart
from raydistill.storage.mirror import named
from raydistill.storage.output import Output

_NOT_IN_A_METRIC = re.compile(r"[^\w\-./ ]")  # what MLflow refuses in a name
_AT_ONCE = 1000  # metrics that MLflow takes in a request
_ON_THEIR_WAY_SECONDS = 2  # the last numbers of a trial that was ended by a scheduler
_RUN = ""  # stands for the run itself, or a sweep's teacher, among the trials


class _Tracker(Protocol):
    def log(self, metrics: dict[str, float], epoch: int) -> None: ...

    def close(self) -> None: ...


_Opener = Callable[[str, Mapping[str, Any]], _Tracker]
"""From the name of a stage or trial, and the settings that a sweep gave it, to a run of a logger."""


def require(config: Config) -> None:
    """Raise when a logger that ``config`` asks for is not installed.

    Raises:
        UserError: naming the extra to install.
    """
    import importlib.util

    for name, wanted in (("mlflow", config.logging.mlflow), ("wandb", config.logging.wandb)):
        if wanted is not None and importlib.util.find_spec(name) is None:
            raise UserError(f"logging.{name}: needs the package {name}; pip install 'raydistill[{name}]'")


def tracked(config: Config, listener: Listener) -> Listener:
    """Return ``listener`` with the loggers that ``config`` asks for listening too; for ``train``."""
    trackers = Trackers(config)
    if not trackers:
        return listener

    def hear(event: Event) -> None:
        listener(event)
        for problem in trackers.hear(event):
            listener(problem)

    return hear


class Trackers:
    """The loggers that a run or a sweep asks for: each has a run per stage or trial, open while that trains.

    A logger that fails is left alone from then on, which the notes that come back say: training goes on without it.
    Several threads may share it.
    """

    def __init__(self, config: Config) -> None:
        """Open nothing yet.

        Raises:
            UserError: as ``require``.
        """
        require(config)
        self._openers = _openers(config)
        self._open: dict[str, dict[str, _Tracker]] = {}  # by trial and logger
        self._settings: dict[str, Mapping[str, Any]] = {}  # of the trials at work
        self._ended: dict[str, float] = {}  # when trials did
        self._lock = threading.RLock()

    def __bool__(self) -> bool:
        """Return whether there is any that works."""
        return bool(self._openers)

    def hear(self, event: Event | TrialEvent) -> list[Note]:
        """Hand the numbers of an epoch on; return what went wrong."""
        with self._lock:
            notes = self._close_ended(before=time.monotonic() - _ON_THEIR_WAY_SECONDS)
            if isinstance(event, TrialEvent):
                return [*notes, *self._hear(event.trial, event.trial, event.event)]
            return [*notes, *self._hear(_RUN, getattr(event, "stage", ""), event)]

    def begins(self, trial: str, settings: Mapping[str, Any]) -> None:
        """Take the settings of a trial that will be heard of, by dotted name."""
        with self._lock:
            self._settings[trial] = settings
            self._ended.pop(trial, None)

    def ends(self, trial: str) -> None:
        """Close a trial's runs soon: nothing is at work on it any more."""
        with self._lock:
            self._ended[trial] = time.monotonic()

    def close(self) -> list[Note]:
        """Close all that is open; return what went wrong."""
        with self._lock:
            return [note for name in [*self._open] for note in self._close(name)]

    def _hear(self, name: str, shown: str, event: Event) -> list[Note]:
        if isinstance(event, StageStarted):
            notes = self._close(name)  # of a worker that was lost
            settings = self._settings.get(name, {})
            for logger, opener in [*self._openers.items()]:
                notes += self._guarded(logger, lambda: self._start(name, logger, opener(shown, settings)))  # noqa: B023
            return notes
        if not isinstance(event, EpochDone):
            return []
        notes = []
        for logger, tracker in [*self._open.get(name, {}).items()]:
            notes += self._guarded(logger, lambda: tracker.log(existing(event.metrics), event.epoch))  # noqa: B023
        return [*notes, *(self._close(name) if event.epoch == event.epochs else [])]

    def _start(self, name: str, logger: str, tracker: _Tracker) -> None:
        self._open.setdefault(name, {})[logger] = tracker

    def _close_ended(self, before: float) -> list[Note]:
        ended = [name for name, when in self._ended.items() if when < before]
        notes: list[Note] = []
        for name in ended:
            del self._ended[name]
            self._settings.pop(name, None)
            notes += self._close(name)
        return notes

    def _close(self, name: str) -> list[Note]:
        opened = self._open.pop(name, {})
        return [note for logger, tracker in opened.items() for note in self._guarded(logger, tracker.close)]

    def _guarded(self, logger: str, act: Callable[[], None]) -> list[Note]:
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


def _openers(config: Config) -> dict[str, _Opener]:
    openers: dict[str, _Opener] = {}
    name, mlflow, wandb = Path(config.output).name, config.logging.mlflow, config.logging.wandb
    if mlflow is not None:
        openers["mlflow"] = lambda part, settings: _MlflowRun(mlflow, f"{name}/{part}", config, settings)
    if wandb is not None:
        openers["wandb"] = lambda part, settings: _WandbRun(wandb, f"{name}/{part}", config, settings)
    return openers


class _MlflowRun:
    """One run on an MLflow server."""

    def __init__(self, settings: Mlflow, name: str, config: Config, varied: Mapping[str, Any]) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient(settings.tracking_uri)
        experiment = self._client.get_experiment_by_name(settings.experiment)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(settings.experiment)
        self._run_id: str = self._client.create_run(experiment_id, run_name=name).info.run_id
        self._client.log_dict(self._run_id, config.model_dump(mode="json"), "config.yaml")
        if varied:
            self._client.log_batch(self._run_id, params=[Param(key, str(value)) for key, value in varied.items()])

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        from mlflow.entities import Metric

        now = time.time_ns() // 10**6
        names = told_apart(metrics, _metric_name)
        entries = [Metric(names[name], value, now, epoch) for name, value in metrics.items()]
        for start in range(0, len(entries), _AT_ONCE):
            self._client.log_batch(self._run_id, metrics=entries[start : start + _AT_ONCE])

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


class _WandbRun:
    """One run of Weights & Biases; several may be open."""

    def __init__(self, settings: Wandb, name: str, config: Config, varied: Mapping[str, Any]) -> None:
        import wandb

        self._run: Any = wandb.init(
            project=settings.project,
            entity=settings.entity,
            name=name,
            group=Path(config.output).name,
            config={**config.model_dump(mode="json"), **varied},
            dir=str(Output.at(config.output).folder),
            reinit="create_new",
        )

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        self._run.log(metrics, step=epoch)

    def close(self) -> None:
        self._run.finish()


def _metric_name(name: str) -> str:
    """Return a metric's path without the characters that MLflow refuses; class names may hold anything."""
    return _NOT_IN_A_METRIC.sub("_", name)
