"""HyperBand in a sweep that is interrupted: with Ray's own scheduler, without Ray's processes."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from raydistill.errors import UserError
from raydistill.on_ray.brackets import Brackets, all_trials
from raydistill.on_ray.trial import EPOCH, SCORE
from raydistill.sweeps.file import load_sweep
from tests.outputs import plan_of
from tests.small import small_sweep

EPOCHS, POINTS = 9, 17
SWEEP = {
    "search": {"method": "random", "seed": 0},
    "num_trials": POINTS,
    "scheduler": "hyperband",
    "space": {"methods.tar.feature.weight": {"uniform": [0.5, 1.0]}},
}


def _score(name: str, epoch: int) -> float:
    return random.Random(name).random() + epoch / 100


@dataclass
class _Tune:
    """What Tune does with the trials: in any order, as many at once as there is room."""

    order: random.Random
    done: dict[str, int]
    """The last epoch of each trial, in its files."""
    ended: set[str]
    """Trials that have ended, now or in an earlier session."""
    at_once: int = 3
    trials: list[Any] = field(default_factory=list)
    said: dict[str, int] = field(default_factory=dict)
    """The last epoch that each trial has reported since it was started."""

    def __post_init__(self) -> None:
        self.scheduler = Brackets(EPOCHS, 3, float("inf"))
        self.scheduler.set_search_properties(SCORE, "max")
        for name in self.done:
            trial = Trial("raydistill", stub=True, trial_id=name)
            trial.custom_trial_name = name
            self.trials.append(trial)
            self.scheduler.on_trial_add(self, trial)

    def get_live_trials(self) -> set[Any]:
        return {trial for trial in self.trials if not trial.is_finished()}

    def stop_trial(self, trial: Any) -> None:
        trial.status = Trial.TERMINATED
        self.ended.add(str(trial))
        self.scheduler.on_trial_remove(self, trial)

    def run(self, kill_after: int) -> bool:
        """Run to the end, or until so many epochs were trained; return whether the end was reached."""
        trained = 0
        while self.get_live_trials():
            running = [trial for trial in self.trials if trial.status == Trial.RUNNING]
            while len(running) < self.at_once and (trial := self.scheduler.choose_trial_to_run(self)) is not None:
                trial.status, self.said[str(trial)] = Trial.RUNNING, 0
                running.append(trial)
            trial = self.order.choice(running)
            name = str(trial)
            epoch = self.said[name] = self.said[name] + 1
            if epoch > self.done[name]:
                assert name not in self.ended, "trained on after its end"
                self.done[name], trained = epoch, trained + 1
            self._report(trial, epoch)
            if trained >= kill_after:
                return False
        return True

    def _report(self, trial: Any, epoch: int) -> None:
        result = {EPOCH: epoch, SCORE: _score(str(trial), epoch)}
        if epoch == EPOCHS:
            trial.status = Trial.TERMINATED
            self.ended.add(str(trial))
            self.scheduler.on_trial_complete(self, trial, result)
            return
        decision = self.scheduler.on_trial_result(self, trial, result)
        if decision == TrialScheduler.STOP:
            self.stop_trial(trial)
        elif decision == TrialScheduler.PAUSE:
            trial.status = Trial.PAUSED


def _epochs_of(seed: int, kills: list[int]) -> dict[str, int]:
    """Return how far each trial came in a sweep that was killed after so many epochs, again and again."""
    done = {f"p{number:04d}-seed0": 0 for number in range(POINTS)}
    ended: set[str] = set()
    for session, kill in enumerate([*kills, 10**9]):
        if _Tune(random.Random(f"{seed}-{session}"), done, ended).run(kill):
            break
    return done


def test_a_resumed_sweep_decides_as_one_that_was_never_interrupted_whatever_comes_first() -> None:
    whole = _epochs_of(0, [])
    assert sorted(whole.values())[0] < EPOCHS and sorted(whole.values())[-1] == EPOCHS
    for seed in range(1, 25):
        assert _epochs_of(seed, [seed, 2 * seed, 7][: seed % 4]) == whole, seed


def test_all_trials_are_in_the_brackets_and_none_where_none_is_left(tmp_path: Path) -> None:
    loaded = load_sweep(small_sweep(tmp_path, {"training.epochs": 4}, **(SWEEP | {"num_trials": 3})))
    plan = plan_of(loaded)
    while plan.controls_left:
        plan.next()
    ended = plan.next()
    assert ended is not None
    plan._end(type(ended)(ended.name, ended.role, ended.point, ended.seed, ended.settings, "stopped"))
    names = ["p0000-seed0", "p0001-seed0", "p0002-seed0"]
    found = all_trials(plan)
    assert found["trial"]["grid_search"] == names
    assert [found["settings"].func({"trial": name}) for name in names] == list(loaded.points or ())
    assert all_trials(plan) == {}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"search": {"method": "optuna"}},
            "search: must be known beforehand with scheduler hyperband.*got optuna",
        ),
        ({"resources": {"num_workers": 2}}, "resources.num_workers: must be 1 with scheduler hyperband, got 2"),
    ],
)
def test_what_brackets_cannot_hold_is_refused(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=problem):
        load_sweep(small_sweep(tmp_path, {"training.epochs": 4}, **(SWEEP | changes)))
