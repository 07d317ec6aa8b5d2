"""Settings that change on the way: at exactly their epochs, also after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raydistill.errors import UserError
from raydistill.runs.worker import Worker
from raydistill.training import loop
from tests.ranks import on_ranks
from tests.small import ProcessEndedError, Stage, ending, repeatable, same_weights, small_run, weights_of

FIRST = ("methods.tar.feature.weight=2.0", "decay.shape=exponential", "decay.rate=3.0")
LATER = (
    *("methods.tar.feature.weight=0.5", "methods.tar.feature.background_weight=0.3", "decay.rate=1.0"),
    "training.optimizer.learning_rate=0.005",
)
_SETTINGS = ", ".join(setting.replace("=", ": ") for setting in LATER)
CHANGE = f"{{epoch: 1, settings: {{{_SETTINGS}}}}}"


def _stage(folder: Path, *settings: str, name: Any = "distilled") -> Stage:
    fixed = ("student.box_score_thresh=0", "training.epochs=3", "data.num_train=8", "data.num_val=2")
    return Stage(small_run(folder, *fixed, *FIRST, *settings), name)


def _assert_same(one: Stage, other: Stage) -> None:
    assert repeatable(one.lines()) == repeatable(other.lines())
    assert same_weights(weights_of(one.run.last), weights_of(other.run.last))
    assert same_weights(weights_of(one.run.best), weights_of(other.run.best))


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A student that followed a schedule without an interruption."""
    stage = _stage(tmp_path_factory.mktemp("followed"), f"schedule=[{CHANGE}]")
    stage.fit()
    return stage


def test_a_schedule_gives_what_going_on_with_other_settings_gives(tmp_path: Path, followed: Stage) -> None:
    """As a member of a population does: its checkpoint is gone on from with the settings that it is handed."""
    with pytest.raises(ProcessEndedError):
        _stage(tmp_path).fit(interrupt_after=1)
    later = _stage(tmp_path, *LATER)
    later.fit()
    _assert_same(followed, later)
    rates = [line["train/learning_rate"] for line in followed.lines()]
    assert rates[0] > 0.009 > 0.005 > rates[1] > rates[2]


def test_an_interrupted_run_goes_on_in_the_middle_of_its_schedule(tmp_path: Path, followed: Stage) -> None:
    for step in (1, 2, 3, 5):  # two steps an epoch: before the change, at it, after it
        cut = _stage(tmp_path, f"schedule=[{CHANGE}]", "checkpoint.every_steps=1")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "take_step", ending(loop.take_step, step))
            with pytest.raises(ProcessEndedError):
                cut.fit()
    again = _stage(tmp_path, f"schedule=[{CHANGE}]")
    again.fit()
    _assert_same(followed, again)


def test_a_change_from_the_start_is_as_if_it_stood_in_the_settings(tmp_path: Path) -> None:
    plain, changed = (
        _stage(tmp_path / "plain", *LATER),
        _stage(tmp_path / "changed", f"schedule=[{CHANGE}]".replace("1", "0", 1)),
    )
    for stage in (plain, changed):
        stage.fit()
    _assert_same(plain, changed)


def test_the_student_alone_follows_the_learning_rate(tmp_path: Path) -> None:
    alone = _stage(tmp_path, f"schedule=[{CHANGE}]", name="baseline")
    alone.fit()
    rates = [line["train/learning_rate"] for line in alone.lines()]
    assert rates[0] > 0.009 > 0.005 > rates[1]


OFF_AND_ON = "[{epoch: 1, settings: {methods.tar.feature.weight: 0, methods.tar.rpn.weight: 1}}]"


def _off_and_on(folder: Path, worker: Worker) -> Stage:
    settings = (f"schedule={OFF_AND_ON}", "methods.tar.rpn.weight=0")
    stage = _stage(folder, *settings)
    stage.worker = worker
    return stage


def _train(worker: Worker, folder: Path) -> None:
    _off_and_on(folder, worker).fit()


def test_a_term_may_end_and_another_begin_on_the_way_on_several_workers_too(tmp_path: Path) -> None:
    assert on_ranks(_train, 2, tmp_path) == [0, 0]
    lines = _off_and_on(tmp_path, Worker()).lines()
    feature, rpn = ([line[f"train/weighted/tar/{term}"] for line in lines] for term in ("feature", "rpn"))
    assert feature[0] > 0 == feature[1] == feature[2]
    assert rpn[0] == 0 < rpn[1]


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("[{epoch: 1, settings: {data.size: 3}}]", "schedule.0.settings.data.size: cannot change during training"),
        ("[{epoch: 1, settings: {decay.rat: 3}}]", "schedule.0.settings.decay.rat: no such setting; did you mean"),
        ("[{epoch: 1, settings: {decay.power: 3}}]", "schedule.0.settings.decay.power: cannot change"),
        ("[{epoch: 1, settings: {decay.rate: -1}}]", "schedule.0.settings.decay.rate: must be greater than 0"),
        ("[{epoch: 3, settings: {decay.rate: 1}}]", "training.epochs = 3, got a change after 3"),
        ("[{epoch: 1, settings: {}}]", "schedule.0.settings: must name at least one setting"),
        ("[{epoch: 1, settings: {decay.rate: 1}}, {epoch: 1, settings: {decay.rate: 2}}]", "without repeats"),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused(schedule: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        _stage(tmp_path, f"schedule={schedule}")
    assert problem in str(refused.value)
