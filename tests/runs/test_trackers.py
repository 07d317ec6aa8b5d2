"""MLflow and Weights & Biases, stood in for by modules that keep what they are handed."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from raydistill import train, tune
from raydistill.config import Config, load_config
from raydistill.errors import UserError
from raydistill.runs import trackers as module
from raydistill.runs.events import EpochDone, Event, Note, StageStarted, StepDone, TrialEvent
from raydistill.runs.trackers import Trackers, require, tracked
from tests.small import Listener, small_run, small_sweep

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


class _Metric(NamedTuple):
    key: str
    value: float
    timestamp: int
    step: int


class _Param(NamedTuple):
    key: str
    value: str


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

    def log_batch(self, run_id: str, metrics: Sequence[_Metric] = (), params: Sequence[_Param] = ()) -> None:
        assert len(metrics) <= 1000 and len(params) <= 100, "MLflow refuses so many at once"
        run = self.runs[int(run_id)]
        assert not run.closed
        run.more |= {param.key: param.value for param in params}
        for metric in metrics:
            assert _MLFLOW_TAKES.match(metric.key), f"MLflow refuses {metric.key!r}"
            run.logged.append((metric.key, metric.value, metric.step))

    def set_terminated(self, run_id: str) -> None:
        self.runs[int(run_id)].closed = True


@dataclass
class _Wandb:
    """The part of wandb that is used; several runs are open only where that was asked for, as there."""

    runs: list[_Run] = field(default_factory=list)

    def init(
        self,
        project: str,
        entity: str | None,
        name: str,
        group: str,
        config: Any,
        dir: str,  # noqa: A002
        reinit: str,
    ) -> Any:
        assert reinit == "create_new"
        more = {"project": project, "entity": entity, "group": group, "dir": dir}
        run = _Run(name, config, more=more)
        self.runs.append(run)

        def log(metrics: dict[str, float], step: int) -> None:
            assert not run.closed
            run.logged += [(name, value, step) for name, value in metrics.items()]

        return types.SimpleNamespace(log=log, finish=lambda: setattr(run, "closed", True))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both packages are there, whatever is installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.fixture
def mlflow(installed: None, monkeypatch: pytest.MonkeyPatch) -> _Mlflow:
    client = _Mlflow()
    tracking = types.ModuleType("mlflow.tracking")
    tracking.MlflowClient = client  # type: ignore[attr-defined]
    entities = types.ModuleType("mlflow.entities")
    entities.Metric, entities.Param = _Metric, _Param  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
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


BOTH = ("logging.mlflow={}", "logging.wandb={}")


def _hear(trackers: Trackers, *events: tuple[str, Event]) -> list[Note]:
    return [note for trial, event in events for note in trackers.hear(TrialEvent(trial, event))]  # type: ignore[arg-type]


def test_trials_that_train_at_the_same_time_have_a_run_each_with_their_settings(
    tmp_path: Path, mlflow: _Mlflow, wandb: _Wandb
) -> None:
    trackers = Trackers(_config(tmp_path, *BOTH))
    for rate, trial in ((1.5, "p0000-seed0"), (3.0, "p0001-seed0")):
        trackers.begins(trial, {"decay.rate": rate})
        _hear(trackers, (trial, StageStarted("distilled", 2, 5, 0)))
    for epoch in (1, 2):
        for value, trial in enumerate(("p0000-seed0", "p0001-seed0")):
            assert _hear(trackers, (trial, EpochDone("distilled", epoch, 2, {"val/AP": value}, 1.0))) == []
    for runs in (mlflow.runs, wandb.runs):
        assert [run.name for run in runs] == ["here/p0000-seed0", "here/p0001-seed0"]
        assert [run.logged for run in runs] == [[("val/AP", ap, 1), ("val/AP", ap, 2)] for ap in (0, 1)]
        assert all(run.closed for run in runs)
    assert [run.more["decay.rate"] for run in mlflow.runs] == ["1.5", "3.0"]
    assert [run.settings["decay.rate"] for run in wandb.runs] == [1.5, 3.0]


def test_a_trial_that_is_ended_early_is_closed_once_its_last_numbers_have_come(
    tmp_path: Path, wandb: _Wandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    trackers = Trackers(_config(tmp_path, "logging.wandb={}"))
    trackers.begins("p0000-seed0", {})
    _hear(trackers, ("p0000-seed0", StageStarted("distilled", 9, 5, 0)))
    trackers.ends("p0000-seed0")
    clock.now = 1.0
    _hear(trackers, ("p0000-seed0", EpochDone("distilled", 3, 9, {"val/AP": 0.5}, 1.0)))
    (run,) = wandb.runs
    assert (run.logged, run.closed) == ([("val/AP", 0.5, 3)], False)
    clock.now = 4.0
    trackers.hear(Note("another trial goes on"))
    assert run.closed


def test_everything_is_closed_at_the_end(tmp_path: Path, wandb: _Wandb) -> None:
    trackers = Trackers(_config(tmp_path, "logging.wandb={}"))
    _hear(trackers, ("p0000-seed0", StageStarted("distilled", 9, 5, 0)))
    assert trackers.close() == []
    assert [run.closed for run in wandb.runs] == [True]


def test_a_logger_that_fails_is_given_up_with_a_sentence_and_the_other_goes_on(
    tmp_path: Path, mlflow: _Mlflow, wandb: _Wandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is gone for a while must not end a training of days."""

    def gone(*_: Any, **__: Any) -> None:
        raise ConnectionError("nobody answers\nat length")

    monkeypatch.setattr(mlflow, "log_batch", gone)
    heard = _play(_config(tmp_path, *BOTH))
    assert heard.warnings == (
        "logging.mlflow: failed (ConnectionError: nobody answers); no more numbers are sent there"
    )
    assert len(mlflow.runs) == 1
    assert [run.logged[-1][2] for run in wandb.runs] == [2, 4]


def test_a_sweep_in_this_process_sends_its_numbers_too(
    tmp_path: Path, mlflow: _Mlflow, wandb: _Wandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_here(plan: Any, display: Any, stop: Any) -> None:
        record = plan.next()
        display.begins(record)
        for event in (StageStarted("baseline", 2, 5, 0), EpochDone("baseline", 1, 2, {"val/AP": 0.5}, 1.0)):
            display(TrialEvent(record.name, event))
        display.close()
        raise UserError("enough")

    monkeypatch.setattr("raydistill.sweeps.local.run_sweep_locally", run_here)
    assert tune.main([small_sweep(tmp_path), *BOTH, "--local"]) == 2
    for runs in (mlflow.runs, wandb.runs):
        assert [(run.name, run.logged, run.closed) for run in runs] == [
            ("sweep/baseline-seed0", [("val/AP", 0.5, 1)], True)
        ]


def test_more_metrics_than_mlflow_takes_at_once_are_parted(tmp_path: Path, mlflow: _Mlflow) -> None:
    metrics = {f"val/class/{number}": 0.5 for number in range(1203)}
    _play(_config(tmp_path, "logging.mlflow={}"), [EVENTS[1], EpochDone("teacher", 1, 2, metrics, 1.0)])
    assert len(mlflow.runs[0].logged) == 1203


def test_classes_whose_names_are_changed_to_the_same_keep_a_metric_each(tmp_path: Path, mlflow: _Mlflow) -> None:
    metrics = {"val/class/a#b": 0.5, "val/class/a_b": 0.25, "val/class/a?b": 0.125, "val/AP_small": -1.0}
    _play(_config(tmp_path, "logging.mlflow={}"), [EVENTS[1], EpochDone("teacher", 1, 2, metrics, 1.0)])
    assert mlflow.runs[0].logged == [
        ("val/class/a_b", 0.5, 1),
        ("val/class/a_b_2", 0.25, 1),
        ("val/class/a_b_3", 0.125, 1),
    ]


def test_names_that_mlflow_refuses_are_changed(tmp_path: Path, mlflow: _Mlflow) -> None:
    metrics = {"val/class/cat (small)": 0.5, "val/class/50% off": 0.25, "val/class/chat-huant_2.0": 0.125}
    _play(_config(tmp_path, "logging.mlflow={}"), [EVENTS[1], EpochDone("teacher", 1, 2, metrics, 1.0)])
    assert mlflow.runs[0].logged == [
        ("val/class/cat _small_", 0.5, 1),
        ("val/class/50_ off", 0.25, 1),
        ("val/class/chat-huant_2.0", 0.125, 1),
    ]


def test_a_password_in_a_setting_is_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match=r"logging\.mlflow\.tracking_uri: must hold no user, no password") as caught:
        load_config("quickstart", ["logging.mlflow={tracking_uri: 'https://me:hunter2@tracking.example/path'}"])
    assert "hunter2" not in str(caught.value)
    load_config("quickstart", ["logging.mlflow={tracking_uri: 'https://tracking.example/path'}"])
