"""MLflow and Weights & Biases, stood in for by modules that keep what they are handed."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from raydistill import train
from raydistill.config import Config, load_config
from raydistill.errors import UserError
from raydistill.runs.events import EpochDone, Event, Note, StageStarted, StepDone
from raydistill.runs.trackers import require, tracked
from tests.small import Listener, small_run

EVENTS: list[Event] = [
    Note("device: cpu"),
    StageStarted("teacher", 2, 5, 0),
    StepDone("teacher", 1, 3, {"total": 1.5}, 20.0),
    EpochDone("teacher", 1, 2, {"train/total": 1.0}, 1.0),
    EpochDone("teacher", 2, 2, {"train/total": 0.5, "val/AP": 0.25}, 1.0),
    StageStarted("baseline", 4, 5, 3),
    EpochDone("baseline", 4, 4, {"train/total": 0.75}, 1.0),
]
_MLFLOW_TAKES = re.compile(r"^[/\w.\- ]*$")  # of a metric's name


@dataclass
class _Run:
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    logged: list[tuple[str, float, int]] = field(default_factory=list)
    closed: bool = False
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Mlflow:
    """The part of MLflow's client that is used."""

    runs: list[_Run] = field(default_factory=list)
    experiments: dict[str, str] = field(default_factory=dict)
    addresses: list[str | None] = field(default_factory=list)

    def __call__(self, tracking_uri: str | None) -> _Mlflow:
        self.addresses.append(tracking_uri)
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        found = self.experiments.get(name)
        return None if found is None else types.SimpleNamespace(experiment_id=found)

    def create_experiment(self, name: str) -> str:
        assert name not in self.experiments, "MLflow refuses to create an experiment twice"
        self.experiments[name] = f"experiment {len(self.experiments)}"
        return self.experiments[name]

    def create_run(self, experiment_id: str, run_name: str) -> Any:
        assert experiment_id in self.experiments.values()
        self.runs.append(_Run(run_name, more={"experiment": experiment_id}))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=str(len(self.runs) - 1)))

    def log_dict(self, run_id: str, dictionary: dict[str, Any], artifact_file: str) -> None:
        assert artifact_file == "config.yaml"
        self.runs[int(run_id)].settings = dictionary

    def log_metric(self, run_id: str, key: str, value: float, step: int) -> None:
        assert _MLFLOW_TAKES.match(key), f"MLflow refuses {key!r}"
        assert not self.runs[int(run_id)].closed
        self.runs[int(run_id)].logged.append((key, value, step))

    def set_terminated(self, run_id: str) -> None:
        self.runs[int(run_id)].closed = True


@dataclass
class _Wandb:
    """The part of wandb that is used; a run is open at a time, as there."""

    runs: list[_Run] = field(default_factory=list)

    def init(self, project: str, entity: str | None, name: str, group: str, config: Any, dir: str) -> _Wandb:  # noqa: A002
        assert all(run.closed for run in self.runs)
        more = {"project": project, "entity": entity, "group": group, "dir": dir}
        self.runs.append(_Run(name, config, more=more))
        return self

    def log(self, metrics: dict[str, float], step: int) -> None:
        assert not self.runs[-1].closed
        self.runs[-1].logged += [(name, value, step) for name, value in metrics.items()]

    def finish(self) -> None:
        self.runs[-1].closed = True


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both packages are there, whatever is installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.fixture
def mlflow(installed: None, monkeypatch: pytest.MonkeyPatch) -> _Mlflow:
    client = _Mlflow()
    tracking = types.ModuleType("mlflow.tracking")
    tracking.MlflowClient = client  # type: ignore[attr-defined]
    package = types.ModuleType("mlflow")
    package.tracking = tracking  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", tracking)
    return client


@pytest.fixture
def wandb(installed: None, monkeypatch: pytest.MonkeyPatch) -> _Wandb:
    runs = _Wandb()
    package = types.ModuleType("wandb")
    package.init = runs.init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", package)
    return runs


def _config(folder: Path, *overrides: str) -> Config:
    return small_run(folder / "here", *overrides)


def _play(config: Config, events: list[Event] = EVENTS) -> Listener:
    listener = Listener()
    heard = tracked(config, listener)
    for event in events:
        heard(event)
    return listener


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_package_that_is_missing_is_named_with_its_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == name else object())
    with pytest.raises(UserError, match=rf"^logging\.{name}: needs .* {name}; pip install 'raydistill\[{name}"):
        require(_config(tmp_path, "logging.mlflow={}", "logging.wandb={}"))


def test_what_is_not_asked_for_need_not_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None)
    require(_config(tmp_path))
    listener = Listener()
    assert tracked(_config(tmp_path), listener) is listener


def test_a_run_without_the_package_ends_before_it_has_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None)
    assert train.main(["quickstart", "logging.mlflow={}", "--local", "--output", str(tmp_path / "run")]) == 2
    assert "pip install 'raydistill[mlflow]'" in capsys.readouterr().err
    assert not (tmp_path / "run" / "teacher").exists()


def test_every_event_still_reaches_the_display(tmp_path: Path, mlflow: _Mlflow, wandb: _Wandb) -> None:
    assert _play(_config(tmp_path, "logging.mlflow={}", "logging.wandb={}")).events == EVENTS


def test_mlflow_has_a_run_per_stage_with_the_epoch_as_step(tmp_path: Path, mlflow: _Mlflow) -> None:
    _play(_config(tmp_path, "logging.mlflow={experiment: shapes, tracking_uri: 'http://there'}"))
    teacher, baseline = mlflow.runs
    assert (teacher.name, baseline.name) == ("here/teacher", "here/baseline")
    assert teacher.logged == [("train/total", 1.0, 1), ("train/total", 0.5, 2), ("val/AP", 0.25, 2)]
    assert baseline.logged == [("train/total", 0.75, 4)]
    assert set(mlflow.addresses) == {"http://there"}
    assert list(mlflow.experiments) == ["shapes"]  # made once


def test_an_mlflow_experiment_that_is_there_is_used(tmp_path: Path, mlflow: _Mlflow) -> None:
    mlflow.experiments["raydistill"] = "of old"
    _play(_config(tmp_path, "logging.mlflow={}"))
    assert {run.more["experiment"] for run in mlflow.runs} == {"of old"}


def test_wandb_has_a_run_per_stage_in_a_group(tmp_path: Path, wandb: _Wandb) -> None:
    _play(_config(tmp_path, "logging.wandb={project: shapes, entity: us}"))
    teacher, baseline = wandb.runs
    assert (teacher.name, baseline.name) == ("here/teacher", "here/baseline")
    assert teacher.logged == [("train/total", 1.0, 1), ("train/total", 0.5, 2), ("val/AP", 0.25, 2)]
    assert teacher.more == {"project": "shapes", "entity": "us", "group": "here", "dir": str(tmp_path / "here")}


def test_runs_hold_the_settings(tmp_path: Path, mlflow: _Mlflow, wandb: _Wandb) -> None:
    config = _config(tmp_path, "logging.mlflow={}", "logging.wandb={}")
    _play(config)
    assert [run.settings for run in (*mlflow.runs, *wandb.runs)] == [config.model_dump(mode="json")] * 4


def test_a_run_is_closed_after_the_last_epoch_and_not_before(tmp_path: Path, mlflow: _Mlflow, wandb: _Wandb) -> None:
    config = _config(tmp_path, "logging.mlflow={}", "logging.wandb={}")
    heard = tracked(config, Listener())
    for event in EVENTS[:4]:
        heard(event)
    assert [run.closed for run in (*mlflow.runs, *wandb.runs)] == [False, False]
    heard(EVENTS[4])
    assert [run.closed for run in (*mlflow.runs, *wandb.runs)] == [True, True]


def test_a_stage_that_starts_again_closes_the_run_that_was_lost(tmp_path: Path, wandb: _Wandb) -> None:
    """Ray has lost its worker and starts another."""
    again = [EVENTS[1], EVENTS[3], StageStarted("teacher", 2, 5, 1), EVENTS[4]]
    _play(_config(tmp_path, "logging.wandb={}"), again)
    assert [run.closed for run in wandb.runs] == [True, True]
    assert [run.logged[-1][2] for run in wandb.runs] == [1, 2]


def test_names_that_mlflow_refuses_are_changed(tmp_path: Path, mlflow: _Mlflow) -> None:
    metrics = {"val/class/cat (small)": 0.5, "val/class/50% off": 0.25, "val/class/chat-huant_2.0": 0.125}
    _play(_config(tmp_path, "logging.mlflow={}"), [EVENTS[1], EpochDone("teacher", 1, 2, metrics, 1.0)])
    assert mlflow.runs[0].logged == [
        ("val/class/cat _small_", 0.5, 1),
        ("val/class/50_ off", 0.25, 1),
        ("val/class/chat-huant_2.0", 0.125, 1),
    ]


def test_a_password_in_a_setting_is_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match=r"logging\.mlflow\.tracking_uri: must hold no user and no password") as caught:
        load_config("quickstart", ["logging.mlflow={tracking_uri: 'https://me:hunter2@tracking.example/path'}"])
    assert "hunter2" not in str(caught.value)
    load_config("quickstart", ["logging.mlflow={tracking_uri: 'https://tracking.example/path'}"])
