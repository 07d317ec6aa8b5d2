"""One trial of a sweep: finished, failed in a sentence, or tried again."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from raydistill.runs.events import EpochDone, StageStarted, TrialEvent
from raydistill.runs.reporter import FileReporter
from raydistill.runs.worker import Worker
from raydistill.sweeps import trial as trial_module
from raydistill.sweeps.directory import SweepDirectory, TrialDirectory
from raydistill.sweeps.file import load_sweep
from raydistill.sweeps.trial import run_trial
from raydistill.training.stages import run_stages
from tests.outputs import output_of, plan_of
from tests.small import Listener, metrics_of, same_weights, small_sweep, weights_of

BASELINE, POINT = "baseline-seed0", "p0000-seed0"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep whose teacher is trained; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("begun")
    config = load_sweep(small_sweep(folder)).config
    run_stages(config, output_of(config), Worker(), lambda run: FileReporter(run, Worker(), Listener()), only="teacher")
    return folder / "sweep"


def _ready(begun: Path, folder: Path) -> SweepDirectory:
    """Return a copy of a begun sweep, every trial made ready."""
    shutil.copytree(begun, folder / "sweep")
    trial_module.datasets.cache_clear()
    plan = plan_of(load_sweep(small_sweep(folder)))
    while plan.next() is not None:
        pass
    return plan.directory


@pytest.fixture
def sweep(begun: Path, tmp_path: Path) -> SweepDirectory:
    """A copy of that sweep, every trial made ready."""
    return _ready(begun, tmp_path)


@dataclass
class _Ran:
    """One attempt at a trial, and what was heard of it."""

    sweep: SweepDirectory
    name: str = POINT
    worker: Worker = field(default_factory=Worker)
    heard: list[TrialEvent] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    checkpoints: list[int] = field(default_factory=list)
    reason: str = ""

    def __post_init__(self) -> None:
        self.reason = run_trial(self.sweep, self.name, self.worker, self.heard.append, self._on_epoch)

    def _on_epoch(self, event: EpochDone) -> None:
        self.epochs.append(event.epoch)
        saved = torch.load(self.trial.run.checkpoint, weights_only=True)
        self.checkpoints.append(saved["epoch"])

    @property
    def trial(self) -> TrialDirectory:
        return self.sweep.trial(self.name)


def _change(trial: TrialDirectory, name: str, value: Any) -> None:
    """Change one setting of a trial's recipe."""
    recipe = yaml.safe_load(trial.recipe.read_text())
    *sections, key = name.split(".")
    inner = recipe
    for section in sections:
        inner = inner[section]
    inner[key] = value
    trial.recipe.write_text(yaml.safe_dump(recipe, sort_keys=False))


def _raising(error: BaseException) -> Any:
    def run(*_: Any, **__: Any) -> None:
        raise error

    return run


@dataclass(frozen=True)
class _Both:
    """A student alone and a distilled one, trained one after the other; and how often the data was read."""

    alone: _Ran
    distilled: _Ran
    reads: int


@pytest.fixture(scope="module")
def both(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> _Both:
    sweep, reads, build = _ready(begun, tmp_path_factory.mktemp("both")), [0], trial_module.build_splits

    def counting(*given: Any) -> Any:
        reads[0] += 1
        return build(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial_module, "build_splits", counting)
        alone, distilled = _Ran(sweep, BASELINE), _Ran(sweep, POINT)
    return _Both(alone, distilled, reads[0])


# The way it should go -------------------------------------------------------------------------------------------------
def test_a_trial_trains_its_student_to_the_end(both: _Both) -> None:
    ran = both.distilled
    assert ran.reason == ""
    assert ran.trial.run.finished
    assert [line["epoch"] for line in metrics_of(ran.trial.run)] == [1, 2]
    assert ran.trial.run.path == ran.trial.path / "distilled"
    assert not ran.trial.failure.exists()
    assert not (ran.trial.path / "teacher").exists()  # it is the sweep's


def test_trials_of_one_net_are_timed_once(both: _Both) -> None:
    alone, distilled = (json.loads(ran.trial.run.result.read_text()) for ran in (both.alone, both.distilled))
    assert alone["speed"] == distilled["speed"]
    assert alone["images_per_second"] == distilled["images_per_second"]
    assert alone["AP"] != distilled["AP"] or alone["weights"] != distilled["weights"]


def test_the_baseline_is_the_student_alone(both: _Both) -> None:
    ran = both.alone
    assert ran.reason == ""
    assert ran.trial.run.path == ran.trial.path / "baseline"
    assert not any("distillation" in name for name in metrics_of(ran.trial.run)[0])


def test_the_scheduler_is_asked_when_the_epochs_checkpoint_lies_there(both: _Both) -> None:
    assert (both.distilled.epochs, both.distilled.checkpoints) == ([1, 2], [1, 2])


def test_a_scheduler_can_end_a_trial_after_an_epoch_and_it_goes_on_there(sweep: SweepDirectory) -> None:
    """Ray ends the function by an exception that is no error, or the process altogether."""

    def stop(event: EpochDone) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        run_trial(sweep, POINT, Worker(), lambda _: None, stop)
    trial = sweep.trial(POINT)
    assert [line["epoch"] for line in metrics_of(trial.run)] == [1]
    assert not trial.run.finished
    assert not trial.failure.exists()
    _assert_it_goes_on(sweep)


def _assert_it_goes_on(sweep: SweepDirectory) -> None:
    """Assert that the trial goes on after its last epoch."""
    ran = _Ran(sweep)
    assert ran.epochs == [2]
    assert [event.event.first_epoch for event in ran.heard if isinstance(event.event, StageStarted)] == [1]
    assert [line["epoch"] for line in metrics_of(ran.trial.run)] == [1, 2]


def test_a_finished_trial_is_not_trained_again(both: _Both) -> None:
    again = _Ran(both.distilled.sweep)
    assert (again.reason, again.epochs, again.heard) == ("", [], [])


def test_a_trial_does_not_decide_in_what_the_teacher_answers(sweep: SweepDirectory) -> None:
    _change(sweep.trial(POINT), "distillation.teacher_precision", "auto")
    assert _Ran(sweep).reason == (
        "distillation.teacher_precision: must be decided for the whole sweep, got auto; repeat its command"
    )
    assert not sweep.trial(POINT).run.path.exists()


def test_what_a_trial_says_goes_into_its_log_and_its_epochs_to_the_display(both: _Both) -> None:
    ran = both.distilled
    log = ran.trial.log.read_text()
    assert log.startswith("distilled: random weights")
    assert "preflight: teacher: " in log
    assert {message.trial for message in ran.heard} == {POINT}
    kinds = {type(message.event).__name__ for message in ran.heard}
    assert {"StageStarted", "EpochDone"} <= kinds <= {"StageStarted", "StepDone", "EpochDone"}


def test_warnings_are_marked_in_the_log(sweep: SweepDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: Any) -> Any:
        trial_module._Listener(sweep.trial(POINT), lambda _: None)(trial_module.Note("look here", warning=True))
        trial_module._Listener(sweep.trial(POINT), lambda _: None)(trial_module.Note("fine"))

    monkeypatch.setattr(trial_module, "run_student", warn)
    _Ran(sweep)
    assert sweep.trial(POINT).log.read_text() == "warning: look here\nfine\n"


def test_the_data_is_read_once_for_trials_that_follow_one_another(both: _Both) -> None:
    assert both.reads == 1


def test_a_trial_is_the_same_after_others_as_alone(both: _Both, sweep: SweepDirectory) -> None:
    """Nothing of one trial's random numbers or data reaches the next."""
    after, alone = (weights_of(ran.trial.run.last) for ran in (both.distilled, _Ran(sweep)))
    assert same_weights(after, alone)


# Failures -------------------------------------------------------------------------------------------------------------
def test_a_loss_that_is_not_finite_is_a_sentence(sweep: SweepDirectory) -> None:
    trial = sweep.trial(POINT)
    _change(trial, "training.optimizer.learning_rate", 1e9)
    _change(trial, "training.epochs", 20)
    ran = _Ran(sweep)
    assert "the loss must be finite, got" in ran.reason
    assert "lower training.optimizer.learning_rate" in ran.reason
    assert trial.failure.read_text() == f"{ran.reason}\n"
    assert not trial.run.finished


def test_too_little_memory_is_a_sentence_with_advice(sweep: SweepDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_module, "run_student", _raising(MemoryError("no more\nof it")))
    ran = _Ran(sweep)
    assert ran.reason.startswith("training.batch_size: must fit into memory, got 4 (no more); lower it or raise")
    assert ran.trial.failure.read_text() == f"{ran.reason}\n"


def test_an_unexpected_error_is_a_sentence_and_its_traceback_lies_there(
    sweep: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_module, "run_student", _raising(ZeroDivisionError("by nothing\nat all")))
    ran = _Ran(sweep)
    assert ran.reason == "ZeroDivisionError: by nothing"
    first, *details = ran.trial.failure.read_text().splitlines()
    assert first == ran.reason
    assert details[0] == "Traceback (most recent call last):"
    assert any("in run_trial" in line for line in details)


def test_a_recipe_that_is_gone_is_a_sentence(sweep: SweepDirectory) -> None:
    sweep.trial(POINT).recipe.unlink()
    ran = _Ran(sweep)
    assert "recipe.yaml" in ran.reason
    assert "Traceback" not in ran.trial.failure.read_text()


def test_several_problems_are_one_line(sweep: SweepDirectory) -> None:
    trial = sweep.trial(POINT)
    _change(trial, "training.epochs", 0)
    _change(trial, "methods.tar.feature.weight", -1)
    ran = _Ran(sweep)
    (line,) = trial.failure.read_text().splitlines()
    assert "training.epochs" in line
    assert "methods.tar.feature.weight" in line
    assert ran.reason


def test_a_later_attempt_removes_the_failure(sweep: SweepDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_module, "run_student", _raising(ZeroDivisionError()))
    assert _Ran(sweep).trial.failure.is_file()
    monkeypatch.undo()
    ran = _Ran(sweep)
    assert ran.reason == ""
    assert not ran.trial.failure.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_an_interruption_is_no_failure(
    error: BaseException, sweep: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_module, "run_student", _raising(error))
    with pytest.raises(type(error)):
        _Ran(sweep)
    assert not sweep.trial(POINT).failure.exists()


# Several workers ------------------------------------------------------------------------------------------------------
def test_of_several_workers_an_unexpected_error_is_raised_for_ray_to_start_them_again(
    sweep: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_module, "run_student", _raising(RuntimeError("connection closed by peer")))
    with pytest.raises(RuntimeError, match="connection closed by peer"):
        _Ran(sweep, worker=Worker(1, 2))
    assert not sweep.trial(POINT).failure.exists()


def test_of_several_workers_any_may_tell_why_the_trial_failed(
    sweep: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_module, "run_student", _raising(MemoryError("full")))
    ran = _Ran(sweep, worker=Worker(1, 2))
    assert ran.reason.startswith("training.batch_size: must fit into memory, got 4 (full)")
    assert ran.reason.endswith(" (worker 1)")
    assert ran.trial.failure.read_text() == f"{ran.reason}\n"


def test_only_the_main_worker_removes_an_old_failure(sweep: SweepDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one's may be new."""
    monkeypatch.setattr(trial_module, "run_student", lambda *_: None)
    sweep.trial(POINT).failure.write_text("of worker 0\n")
    _Ran(sweep, worker=Worker(1, 2))
    assert sweep.trial(POINT).failure.is_file()
    _Ran(sweep, worker=Worker(0, 2))
    assert not sweep.trial(POINT).failure.exists()
