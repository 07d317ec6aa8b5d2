"""MLflow and Weights & Biases, stood in for by modules that keep what they are handed."""

from __future__ import annotations

import importlib.util
import json
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
from raydistill.runs.directory import RunDirectory
from raydistill.runs.events import EpochDone, Event, Note, StageStarted, StepDone, TrialEvent
from raydistill.runs.trackers import Trackers, require, tracked
from raydistill.storage.output import Output
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
    end: str = ""
    """Empty while it is open."""
    tags: dict[str, str] = field(default_factory=dict)
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

    def get_run(self, run_id: str) -> Any:
        if run_id not in self.there:
            raise _MlflowError
        run = self.runs[int(run_id)]
        info = types.SimpleNamespace(lifecycle_stage="active")
        data = types.SimpleNamespace(params=run.more, metrics={name: value for name, value, _ in run.logged})
        return types.SimpleNamespace(info=info, data=data)

    @property
    def there(self) -> set[str]:
        return {str(number) for number, run in enumerate(self.runs) if not run.more.get("removed")}

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        logged = self.runs[int(run_id)].logged
        return [types.SimpleNamespace(step=step) for name, _, step in logged if name == key]

    def update_run(self, run_id: str, status: str) -> None:
        assert status == "RUNNING"
        self.runs[int(run_id)].end = ""

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self.runs[int(run_id)].tags[key] = value

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
        assert not run.end
        for param in params:
            assert run.more.setdefault(param.key, param.value) == param.value, "MLflow refuses to change a param"
        for metric in metrics:
            assert _MLFLOW_TAKES.match(metric.key), f"MLflow refuses {metric.key!r}"
            run.logged.append((metric.key, metric.value, metric.step))

    def set_terminated(self, run_id: str, status: str) -> None:
        self.runs[int(run_id)].end = status


class _MlflowError(Exception):
    """Of a run that is not there."""

    error_code = "RESOURCE_DOES_NOT_EXIST"


@dataclass
class _Wandb:
    """The part of wandb that is used; several runs are open only where that was asked for, as there."""

    runs: list[_Run] = field(default_factory=list)
    by_id: dict[str, _Run] = field(default_factory=dict)

    def init(
        self,
        project: str,
        entity: str | None,
        name: str,
        group: str,
        config: Any,
        dir: str,  # noqa: A002
        reinit: str,
        id: str,  # noqa: A002
        resume: str,
    ) -> Any:
        assert (reinit, resume) == ("create_new", "allow")
        run, resumed = self.by_id.get(id), id in self.by_id
        if run is None:
            more = {"project": project, "entity": entity, "group": group, "dir": dir}
            run = self.by_id[id] = _Run(name, dict(config), more=more)
            self.runs.append(run)
        opened, step = run, max((step for _, _, step in run.logged), default=-1)
        opened.end = ""

        def log(metrics: dict[str, float], step: int) -> None:
            assert not opened.end
            opened.logged += [(name, value, step) for name, value in metrics.items()]

        return types.SimpleNamespace(
            log=log,
            finish=lambda exit_code: setattr(opened, "end", f"exit code {exit_code}"),
            config=types.SimpleNamespace(update=lambda changes, allow_val_change: opened.settings.update(changes)),
            summary=opened.tags,
            resumed=resumed,
            starting_step=step + 1,
        )


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
    exceptions = types.ModuleType("mlflow.exceptions")
    exceptions.MlflowException = _MlflowError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", exceptions)
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
    with tracked(config, Output.at(config.output), listener) as heard:
        for event in events:
            heard(event)
    return listener


def _ends(*loggers: Any) -> list[str]:
    return [run.end for logger in loggers for run in logger.runs]


def _trackers(tmp_path: Path, *overrides: str) -> Trackers:
    config = _config(tmp_path, *overrides)
    output = Output.at(config.output)
    return Trackers(config, output, lambda trial: output.folder / "trials" / trial)


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
    with tracked(_config(tmp_path), Output.at(str(tmp_path)), listener) as heard:
        assert heard is listener


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
    config = _config(tmp_path, *BOTH)
    with tracked(config, Output.at(config.output), Listener()) as heard:
        for event in EVENTS[:4]:
            heard(event)
        assert _ends(mlflow, wandb) == ["", ""]
        heard(EVENTS[4])
        assert _ends(mlflow, wandb) == ["FINISHED", "exit code 0"]


def test_a_stage_that_starts_again_goes_on_in_its_run(tmp_path: Path, wandb: _Wandb) -> None:
    """Ray has lost its worker and starts another."""
    again = [EVENTS[1], EVENTS[3], StageStarted("teacher", 2, 5, 0), EVENTS[3], EVENTS[4]]
    _play(_config(tmp_path, "logging.wandb={}"), again)
    (run,) = wandb.runs
    assert ([step for _, _, step in run.logged], run.end) == ([1, 2, 2], "exit code 0")


@pytest.mark.parametrize(
    ("error", "ends", "status"),
    [
        (KeyboardInterrupt(), ["KILLED", "exit code 255"], "interrupted"),
        (UserError("wrong"), ["FAILED", "exit code 1"], "failed"),
    ],
)
def test_a_run_that_ends_before_its_last_epoch_is_closed_with_how_it_did(
    error: BaseException, ends: list[str], status: str, tmp_path: Path, mlflow: _Mlflow, wandb: _Wandb
) -> None:
    config = _config(tmp_path, *BOTH)
    with pytest.raises(type(error)), tracked(config, Output.at(config.output), Listener()) as heard:
        heard(EVENTS[1])
        raise error
    assert _ends(mlflow, wandb) == ends
    assert [run.tags["raydistill.status"] for run in (*mlflow.runs, *wandb.runs)] == [status] * 2


def test_a_run_that_was_interrupted_goes_on_under_its_id_and_no_epoch_is_logged_twice(
    tmp_path: Path, mlflow: _Mlflow, wandb: _Wandb
) -> None:
    config = _config(tmp_path, *BOTH)
    with pytest.raises(KeyboardInterrupt), tracked(config, Output.at(config.output), Listener()) as heard:
        for event in (EVENTS[1], EVENTS[3]):
            heard(event)
        raise KeyboardInterrupt
    _play(config, [EVENTS[1], EVENTS[3], EVENTS[4]])  # again from its first epoch: it was stopped in it
    for runs in (mlflow.runs, wandb.runs):
        (run,) = runs
        assert [step for _, _, step in run.logged] == [1, 2, 2]
    assert _ends(mlflow, wandb) == ["FINISHED", "exit code 0"]


def test_what_a_killed_command_had_not_handed_on_is_handed_on_by_the_next(
    tmp_path: Path, mlflow: _Mlflow, wandb: _Wandb
) -> None:
    """The run's own record is complete; a process that is killed closes nothing."""
    config = _config(tmp_path, *BOTH)
    output = Output.at(config.output)
    killed = Trackers(config, output)
    killed.hear(EVENTS[1])
    metrics = RunDirectory(output.folder / "teacher", output).metrics
    output.append_line(metrics, json.dumps({"epoch": 1, "step": 5, "seconds": 1.0, "train/total": 1.0}))
    _play(config, [StageStarted("teacher", 2, 5, 1), EVENTS[4]])
    for runs in (mlflow.runs, wandb.runs):
        (run,) = runs
        assert run.logged == [("train/total", 1.0, 1), ("train/total", 0.5, 2), ("val/AP", 0.25, 2)]


def test_a_run_of_which_mlflow_knows_more_than_was_noted_is_not_given_it_again(tmp_path: Path, mlflow: _Mlflow) -> None:
    config = _config(tmp_path, "logging.mlflow={}")
    output = Output.at(config.output)
    _play(config, [EVENTS[1], EVENTS[3]])
    record = output.folder / "teacher" / "loggers.json"
    record.write_text(json.dumps({"mlflow": json.loads(record.read_text())["mlflow"] | {"epoch": 0}}))
    _play(config, [EVENTS[1], EVENTS[3]])
    assert [run.logged for run in mlflow.runs] == [[("train/total", 1.0, 1)]]


def test_what_had_ended_when_a_command_was_killed_is_closed_by_the_next(
    tmp_path: Path, mlflow: _Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(tmp_path, "logging.mlflow={}")
    killed = Trackers(config, Output.at(config.output))
    for event in EVENTS[1:4]:
        killed.hear(event)
    assert _ends(mlflow) == [""]
    monkeypatch.setattr(RunDirectory, "finished", property(lambda run: run.path.name == "teacher"))
    _play(config, [])
    assert _ends(mlflow) == ["FINISHED"]
    addresses = len(mlflow.addresses)
    _play(config, [])
    assert len(mlflow.addresses) == addresses, "what is closed is left alone"


def test_a_run_that_was_removed_from_mlflow_is_begun_anew(tmp_path: Path, mlflow: _Mlflow) -> None:
    config = _config(tmp_path, "logging.mlflow={}")
    _play(config, [EVENTS[1], EVENTS[3]])
    mlflow.runs[0].more["removed"] = True
    assert _play(config, [EVENTS[1], EVENTS[4]]).warnings == ""
    assert [step for _, _, step in mlflow.runs[1].logged] == [2, 2]


@pytest.mark.parametrize("text", ["", "[1", "[]", '{"mlflow": 1}', '{"mlflow": {"run": 1, "epoch": 2}}'])
def test_a_damaged_record_of_loggers_begins_a_new_run(text: str, tmp_path: Path, mlflow: _Mlflow) -> None:
    config = _config(tmp_path, "logging.mlflow={}")
    _play(config, [EVENTS[1]])
    (tmp_path / "here" / "teacher" / "loggers.json").write_text(text)
    assert _play(config, [EVENTS[1]]).warnings == ""
    assert len(mlflow.runs) == 2


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs mlflow")
def test_the_real_mlflow_has_one_run_of_a_stage_that_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)  # where it puts what is no number
    store = f"sqlite:///{tmp_path}/mlflow.db"
    config = _config(tmp_path, f"logging.mlflow={{tracking_uri: '{store}', experiment: shapes}}")
    with pytest.raises(KeyboardInterrupt), tracked(config, Output.at(config.output), Listener()) as heard:
        for event in (EVENTS[1], EVENTS[3]):
            heard(event)
        raise KeyboardInterrupt
    client = MlflowClient(store)
    experiments = [client.get_experiment_by_name("shapes").experiment_id]
    assert [run.info.status for run in client.search_runs(experiments)] == ["KILLED"]
    assert _play(config, [EVENTS[1], EVENTS[3], EVENTS[4]]).warnings == ""
    (run,) = client.search_runs(experiments)
    steps = [entry.step for entry in client.get_metric_history(run.info.run_id, "train/total")]
    assert (run.info.status, run.data.tags["raydistill.status"], steps) == ("FINISHED", "finished", [1, 2])


BOTH = ("logging.mlflow={}", "logging.wandb={}")


def _hear(trackers: Trackers, *events: tuple[str, Event]) -> list[Note]:
    return [note for trial, event in events for note in trackers.hear(TrialEvent(trial, event))]  # type: ignore[arg-type]


def test_trials_that_train_at_the_same_time_have_a_run_each_with_their_settings(
    tmp_path: Path, mlflow: _Mlflow, wandb: _Wandb
) -> None:
    trackers = _trackers(tmp_path, *BOTH)
    for rate, trial in ((1.5, "p0000-seed0"), (3.0, "p0001-seed0")):
        trackers.begins(trial, {"decay.rate": rate})
        _hear(trackers, (trial, StageStarted("distilled", 2, 5, 0)))
    for epoch in (1, 2):
        for value, trial in enumerate(("p0000-seed0", "p0001-seed0")):
            assert _hear(trackers, (trial, EpochDone("distilled", epoch, 2, {"val/AP": value}, 1.0))) == []
    for runs in (mlflow.runs, wandb.runs):
        assert [run.name for run in runs] == ["here/p0000-seed0", "here/p0001-seed0"]
        assert [run.logged for run in runs] == [[("val/AP", ap, 1), ("val/AP", ap, 2)] for ap in (0, 1)]
    for trial in ("p0000-seed0", "p0001-seed0"):
        trackers.ends(trial, "finished")
    trackers.close("finished")
    assert _ends(mlflow, wandb) == ["FINISHED", "FINISHED", "exit code 0", "exit code 0"]
    assert [run.more["decay.rate"] for run in mlflow.runs] == ["1.5", "3.0"]
    assert [run.settings["decay.rate"] for run in wandb.runs] == [1.5, 3.0]


def test_a_trial_that_is_ended_early_is_closed_once_its_last_numbers_have_come(
    tmp_path: Path, wandb: _Wandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    trackers = _trackers(tmp_path, "logging.wandb={}")
    trackers.begins("p0000-seed0", {})
    _hear(trackers, ("p0000-seed0", StageStarted("distilled", 9, 5, 0)))
    trackers.ends("p0000-seed0", "stopped")
    clock.now = 1.0
    _hear(trackers, ("p0000-seed0", EpochDone("distilled", 3, 9, {"val/AP": 0.5}, 1.0)))
    (run,) = wandb.runs
    assert (run.logged, run.end) == ([("val/AP", 0.5, 3)], "")
    clock.now = 4.0
    trackers.hear(Note("another trial goes on"))
    assert (run.end, run.tags) == ("exit code 0", {"raydistill.status": "stopped"})


def test_settings_that_changed_since_are_a_tag_as_mlflow_changes_no_param(
    tmp_path: Path, mlflow: _Mlflow, wandb: _Wandb
) -> None:
    """Population based training changes them while a trial trains."""
    for rate in (1.5, 2.5):
        trackers = _trackers(tmp_path, *BOTH)
        trackers.begins("p0000-seed0", {"decay.rate": rate})
        assert _hear(trackers, ("p0000-seed0", StageStarted("distilled", 2, 5, 0))) == []
        trackers.close("interrupted")
    (run,) = mlflow.runs
    assert (run.more["decay.rate"], run.tags["changed.decay.rate"], run.end) == ("1.5", "2.5", "KILLED")
    assert wandb.runs[0].settings["decay.rate"] == 2.5


def test_everything_is_closed_at_the_end(tmp_path: Path, wandb: _Wandb) -> None:
    trackers = _trackers(tmp_path, "logging.wandb={}")
    _hear(trackers, ("p0000-seed0", StageStarted("distilled", 9, 5, 0)))
    assert trackers.close("failed") == []
    assert _ends(wandb) == ["exit code 255"]  # of a trial that goes on another day


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
        assert [(run.name, run.logged) for run in runs] == [("sweep/baseline-seed0", [("val/AP", 0.5, 1)])]
    assert _ends(mlflow, wandb) == ["KILLED", "exit code 255"]


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
