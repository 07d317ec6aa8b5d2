"""MLflow and Weights & Biases for ``train``: the driver hands on what the display hears. Sweeps use Ray's callbacks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from raydistill.config import Config
from raydistill.config.logging import Mlflow, Wandb
from raydistill.errors import UserError
from raydistill.runs.events import EpochDone, Event, Listener, StageStarted
from raydistill.storage.mirror import folder

_NOT_IN_A_METRIC = re.compile(r"[^\w\-./ ]")  # what MLflow refuses in a name


class _Tracker(Protocol):
    def log(self, metrics: dict[str, float], epoch: int) -> None: ...

    def close(self) -> None: ...


def require(config: Config) -> None:
    """Raise when a logger that ``config`` asks for is not installed.

    Raises:
        UserError: naming the extra to install.
    """
    import importlib.util

    for name, wanted in (("mlflow", config.logging.mlflow), ("wandb", config.logging.wandb)):
        if wanted is not None and importlib.util.find_spec(name) is None:
            raise UserError(f"logging.{name}: needs the package {name}; pip install 'raydistill[{name}]'")


def metric_name(name: str) -> str:
    """Return a metric's path without the characters that MLflow refuses; class names may hold anything."""
    return _NOT_IN_A_METRIC.sub("_", name)


def tracked(config: Config, listener: Listener) -> Listener:
    """Return ``listener`` with the loggers that ``config`` asks for listening too."""
    require(config)
    openers: list[Callable[[str], _Tracker]] = []
    name = Path(config.output).name
    if config.logging.mlflow is not None:
        mlflow = config.logging.mlflow
        openers.append(lambda stage: _MlflowRun(mlflow, f"{name}/{stage}", config))
    if config.logging.wandb is not None:
        wandb = config.logging.wandb
        openers.append(lambda stage: _WandbRun(wandb, f"{name}/{stage}", config))
    return _Tracked(listener, openers) if openers else listener


class _Tracked:
    """Opens a run of each logger when a stage starts, and closes it after the last epoch."""

    def __init__(self, listener: Listener, openers: list[Callable[[str], _Tracker]]) -> None:
        self._listener, self._openers = listener, openers
        self._open: list[_Tracker] = []

    def __call__(self, event: Event) -> None:
        self._listener(event)
        if isinstance(event, StageStarted):
            self._close()
            self._open = [opener(event.stage) for opener in self._openers]
        elif isinstance(event, EpochDone):
            for tracker in self._open:
                tracker.log(event.metrics, event.epoch)
            if event.epoch == event.epochs:
                self._close()

    def _close(self) -> None:
        for tracker in self._open:
            tracker.close()
        self._open = []


class _MlflowRun:
    """One run on an MLflow server."""

    def __init__(self, settings: Mlflow, name: str, config: Config) -> None:
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient(settings.tracking_uri)
        experiment = self._client.get_experiment_by_name(settings.experiment)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(settings.experiment)
        self._run_id: str = self._client.create_run(experiment_id, run_name=name).info.run_id
        self._client.log_dict(self._run_id, config.model_dump(mode="json"), "config.yaml")

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self._run_id, metric_name(name), value, step=epoch)

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


class _WandbRun:
    """One run of Weights & Biases."""

    def __init__(self, settings: Wandb, name: str, config: Config) -> None:
        import wandb

        self._run: Any = wandb.init(
            project=settings.project,
            entity=settings.entity,
            name=name,
            group=Path(config.output).name,
            config=config.model_dump(mode="json"),
            dir=str(folder(config.output)),
        )

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        self._run.log(metrics, step=epoch)

    def close(self) -> None:
        self._run.finish()
