"""A run of MLflow or of Weights & Biases: opened anew or again under its id, and closed with how its training ended."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from raydistill.config import Config
from raydistill.config.logging import Mlflow, Wandb
from raydistill.runs.scores import told_apart
from raydistill.storage.output import Output

End = Literal["finished", "stopped", "failed", "interrupted"]
"""How training ended: ``stopped`` by a scheduler, ``interrupted`` to go on another day."""
_NOT_IN_A_METRIC = re.compile(r"[^\w\-./ ]")  # what MLflow refuses in a name
_AT_ONCE = 1000  # metrics that MLflow takes in a request
_HOW_IT_ENDED = "raydistill.status"
_OF_MLFLOW = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_OF_WANDB = {"finished": 0, "stopped": 0, "failed": 1, "interrupted": 255}  # 255: killed


class RunGoneError(Exception):
    """There is no run of that id any more."""


class LoggerRun(Protocol):
    """One run of a logger."""

    id: str
    """By which it is opened again."""
    last_epoch: int
    """The last one that the logger itself has; 0 where there is none, or it does not say."""

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        """Hand on the numbers of an epoch, which is their step."""

    def close(self, end: End) -> None:
        """Say how it ended."""


Opener = Callable[[str, Mapping[str, Any], str], LoggerRun]
"""From the name of a stage or trial, the settings that a sweep gave it, and the id of its run before or an empty text.

Raises:
    RunGoneError: when there is no run of that id any more.
"""


def openers(config: Config) -> dict[str, Opener]:
    """Return what opens runs of the loggers that ``config`` asks for, by logger."""
    found: dict[str, Opener] = {}
    name, mlflow, wandb = Path(config.output).name, config.logging.mlflow, config.logging.wandb
    if mlflow is not None:
        found["mlflow"] = lambda part, varied, run_id: _MlflowRun(mlflow, f"{name}/{part}", config, varied, run_id)
    if wandb is not None:
        found["wandb"] = lambda part, varied, run_id: _WandbRun(wandb, f"{name}/{part}", config, varied, run_id)
    return found


class _MlflowRun:
    """One run on an MLflow server."""

    def __init__(self, settings: Mlflow, name: str, config: Config, varied: Mapping[str, Any], run_id: str) -> None:
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient(settings.tracking_uri)
        self.last_epoch = 0
        if run_id:
            self._go_on(run_id, varied)
        else:
            self._begin(settings, name, config, varied)

    def _begin(self, settings: Mlflow, name: str, config: Config, varied: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        experiment = self._client.get_experiment_by_name(settings.experiment)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(settings.experiment)
        self.id: str = self._client.create_run(experiment_id, run_name=name).info.run_id
        self._client.log_dict(self.id, config.model_dump(mode="json"), "config.yaml")
        if varied:
            self._client.log_batch(self.id, params=[Param(key, str(value)) for key, value in varied.items()])

    def _go_on(self, run_id: str, varied: Mapping[str, Any]) -> None:
        """Open the run again.

        Raises:
            RunGoneError: when somebody has removed it.
        """
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise RunGoneError(run_id) from error
        if run.info.lifecycle_stage != "active":
            raise RunGoneError(run_id)
        self.id = run_id
        self._client.update_run(run_id, status="RUNNING")
        for key in [key for key, value in varied.items() if run.data.params.get(key) != str(value)]:
            self._client.set_tag(run_id, f"changed.{key}", str(varied[key]))  # params cannot change, those of PBT do
        known = next(iter(run.data.metrics), None)
        history = self._client.get_metric_history(run_id, known) if known else []
        self.last_epoch = max((entry.step for entry in history), default=0)

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        from mlflow.entities import Metric

        now = time.time_ns() // 10**6
        names = told_apart(metrics, _metric_name)
        entries = [Metric(names[name], value, now, epoch) for name, value in metrics.items()]
        for start in range(0, len(entries), _AT_ONCE):
            self._client.log_batch(self.id, metrics=entries[start : start + _AT_ONCE])

    def close(self, end: End) -> None:
        self._client.set_tag(self.id, _HOW_IT_ENDED, end)
        self._client.set_terminated(self.id, status=_OF_MLFLOW[end])


class _WandbRun:
    """One run of Weights & Biases; several may be open."""

    def __init__(self, settings: Wandb, name: str, config: Config, varied: Mapping[str, Any], run_id: str) -> None:
        import wandb

        self.id = run_id or uuid.uuid4().hex
        folder = Output.at(config.output).folder
        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            project=settings.project,
            entity=settings.entity,
            name=name,
            group=Path(config.output).name,
            config={**config.model_dump(mode="json"), **varied},
            dir=str(folder),
            reinit="create_new",
            id=self.id,
            resume="allow",
        )
        self._run.config.update(dict(varied), allow_val_change=True)
        self.last_epoch = int(self._run.starting_step) - 1 if run_id and self._run.resumed else 0

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        self._run.log(metrics, step=epoch)

    def close(self, end: End) -> None:
        self._run.summary[_HOW_IT_ENDED] = end
        self._run.finish(exit_code=_OF_WANDB[end])


def _metric_name(name: str) -> str:
    """Return a metric's path without the characters that MLflow refuses; class names may hold anything."""
    return _NOT_IN_A_METRIC.sub("_", name)
