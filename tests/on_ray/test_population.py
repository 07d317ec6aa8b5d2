"""How a population changes settings and takes students over; with Ray's own scheduler and our workers' side, no Ray.

What Tune does is acted out: trials report at their own pace, wait for each other, and the command is killed on the way.
"""

from __future__ import annotations

import copy
import heapq
import importlib.util
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray.tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from raydistill.errors import UserError
from raydistill.on_ray import takeover
from raydistill.on_ray import trial as trial_module
from raydistill.on_ray.population import members, population_scheduler
from raydistill.on_ray.trial import EPOCH, SCORE
from raydistill.runs import weights_file
from raydistill.sweeps.file import LoadedSweep, Pb2Scheduler, PbtScheduler, load_sweep
from raydistill.sweeps.lineage import Part, Rounds, read_lineage, schedule_of
from raydistill.sweeps.plan import Plan
from tests.outputs import plan_of
from tests.small import small_sweep

EPOCHS = 6
PBT, PB2 = ({"name": name, "interval": 2, "quantile": 0.5} for name in ("pbt", "pb2"))
NEEDS_SKLEARN = pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn")
LISTED = [0.1, 0.5, 1.0, 2.0, 5.0]
SPACE: dict[str, Any] = {
    "methods.tar.feature.weight": {"uniform": [0.5, 1.0]},
    "training.optimizer.learning_rate": {"loguniform": [1e-3, 1e-2]},
    "methods.tar.rpn.weight": {"choice": LISTED},
    "methods.tar.regression.weight": {"int": [1, 4]},
    "methods.tar.classification.weight": {"choice": [2, 4, 6, 8]},  # whole numbers in steps
    "methods.tar.feature.background_weight": {"uniform": [0.0, 0.2]},
}


def _loaded(folder: Path, points: int = 4, **changes: Any) -> LoadedSweep:
    few = dict(list(SPACE.items())[:2])
    keys = {"search": {"method": "random", "seed": 5}, "num_trials": points, "space": few, "scheduler": PBT}
    return load_sweep(small_sweep(folder, {"training.epochs": EPOCHS}, **(keys | changes)))


def _scheduler(loaded: LoadedSweep) -> Any:
    if isinstance(loaded.sweep.scheduler, Pb2Scheduler):
        from raydistill.on_ray.bandit import bandit_scheduler

        return bandit_scheduler(loaded, loaded.sweep.scheduler, EPOCH, plan_of(loaded).directory)
    assert isinstance(loaded.sweep.scheduler, PbtScheduler)
    return population_scheduler(loaded, loaded.sweep.scheduler, EPOCH, Rounds(plan_of(loaded).directory))


def test_settings_stay_in_the_space_however_often_they_are_changed(tmp_path: Path) -> None:
    pbt = _scheduler(_loaded(tmp_path, space=SPACE))
    random.seed(0)
    np.random.seed(0)
    config: dict[str, Any] = {
        "trial": "p0000-seed0",
        "settings": {name: next(iter(spec.values()))[0] for name, spec in SPACE.items()},
    }
    seen: dict[str, list[float]] = {name: [] for name in SPACE}
    for _ in range(5000):
        trial = SimpleNamespace(config=config, evaluated_params={})
        config, _operations = pbt._get_new_config(trial, trial)
        assert config["trial"] == "p0000-seed0"
        for name, value in config["settings"].items():
            seen[name].append(value)
            assert type(value) in (int, float)
    weights, rates, listed, whole, steps, background = seen.values()
    assert min(weights) == 0.5  # both ends are reached, and not left
    assert max(weights) == 1.0
    assert min(rates) == 1e-3
    assert max(rates) == 1e-2
    assert set(listed) == set(LISTED)
    assert set(whole) == {1, 2, 3, 4}
    assert {type(value) for value in whole} == {int}
    assert set(steps) == {2, 4, 6, 8}
    assert 0 <= min(background) < max(background) == 0.2


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        ({"decay.shape": {"choice": ["linear", "cosine"]}}, "cannot change during training"),
        ({"training.batch_size": {"choice": [4, 8]}}, "cannot change during training"),
        ({"methods.tar.rpn.weight": {"choice": [0, 1]}}, "must stay above 0 with scheduler pbt"),
        ({"methods.tar.rpn.weight": {"int": [0, 3]}}, "must stay above 0 with scheduler pbt"),
        ({"methods.tar.rpn.weight": {"choice": [1, True]}}, "must hold numbers only"),
        (
            {
                "methods.tar.rpn.weight": {"choice": [1, 2]},
                "methods.tar.feature.weight": {"uniform": [1, 2], "when": {"methods.tar.rpn.weight": 1}},
            },
            "must have no conditions",
        ),
    ],
)
def test_what_cannot_change_in_a_student_is_no_population(space: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=problem):
        _loaded(tmp_path, space=space)


class Killed(BaseException):
    """The command is no more."""


@dataclass
class _Tune:
    """What runs a population, as far as our code and the scheduler see it."""

    plan: Plan
    folder: Path
    clocks: dict[str, float]
    at_once: int = 2
    hopeless: str = ""
    """A trial that fails in its third epoch."""
    now: float = 0.0
    running: list[tuple[float, str]] = field(default_factory=list)
    trials: dict[str, Any] = field(default_factory=dict)
    handed: dict[str, Any] = field(default_factory=dict)
    """The checkpoint that each trial is started with."""

    def __post_init__(self) -> None:
        while self.plan.controls_left:
            self.plan._queue.popleft()
        population = members(self.plan)
        self.scheduler = _scheduler(self.plan.loaded)
        self.scheduler.set_search_properties(SCORE, "max")
        self.next_round = self.scheduler.next_round
        for name in population["trial"]["grid_search"]:
            given = {"trial": name}
            config = given | {key: population[key].func(given) for key in ("settings", "left")}
            trial = Trial("raydistill", stub=True, config=config, trial_id=name)
            trial.custom_trial_name = name
            self.trials[name] = trial
            self.scheduler.on_trial_add(self, trial)

    search_alg = None

    def get_trials(self) -> list[Any]:
        return [*self.trials.values()]

    def get_live_trials(self) -> set[Any]:
        return {trial for trial in self.trials.values() if not trial.is_finished()}

    def steps(self) -> Iterator[None]:
        """Run to the end, a report at a time."""
        while self.get_live_trials():
            most = self.plan.loaded.sweep.max_concurrent
            assert most == "auto" or len(self.running) <= most
            while len(self.running) < self.at_once and (trial := self.scheduler.choose_trial_to_run(self)) is not None:
                self._start(trial)
            assert self.running, "all wait for ever"
            self.now, name = heapq.heappop(self.running)
            self._work(name)
            yield

    def _start(self, trial: Any) -> None:
        name = str(trial)
        trial.status = Trial.RUNNING
        self.plan.changed(name, trial.config["settings"])
        heapq.heappush(self.running, (self.clocks.setdefault(name, self.now + _pace(name)), name))
        self.handed[name] = trial.checkpoint
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ray.tune, "get_checkpoint", lambda: trial.checkpoint)
            takeover.take_over(self.plan.directory.trial(name), trial.config["settings"], trial.config["left"])

    def _work(self, name: str) -> None:
        """Let a trial report what it waited with, or train and report an epoch."""
        trial, directory = self.trials[name], self.plan.directory.trial(name)
        again: list[dict[str, Any]] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ray.tune, "get_checkpoint", lambda: self.handed[name])
            order = SimpleNamespace(next_round=self.next_round, metric="AP")
            trial_module._report_again(directory, order, again.append)  # type: ignore[arg-type]
        self.handed[name] = self.handed[name] or "its own"
        result = again[0] if again else _trained(directory, trial.config["settings"])
        self.clocks[name] = self.now + _pace(name)
        if name == self.hopeless and result[EPOCH] == 3:
            trial.status = Trial.ERROR
        elif result[EPOCH] == EPOCHS:
            trial.status = Trial.TERMINATED
            directory.run.result.write_text(json.dumps({"epoch": 1, "epochs": EPOCHS, "parameters": 1, "AP": 0.5}))
        if trial.is_finished():
            self.scheduler.on_trial_complete(self, trial, result)
            self.plan.end(name, 1.0, "lost" if trial.status == Trial.ERROR else "")
            return
        with takeover.state_of(directory) as state:
            place = self.folder / f"{name}-{result[EPOCH]}-{len(list(self.folder.glob('*')))}"
            shutil.copytree(state.path, place)
        manager = trial.run_metadata.checkpoint_manager
        manager._latest_checkpoint_result = SimpleNamespace(checkpoint=ray.tune.Checkpoint(str(place)), metrics=result)
        if self.scheduler.on_trial_result(self, trial, result) == TrialScheduler.CONTINUE:
            heapq.heappush(self.running, (self.clocks[name], name))
        else:
            trial.status = Trial.PAUSED

    def pause_trial(self, trial: Any, should_checkpoint: bool = True) -> None:
        trial.status = Trial.PAUSED

    def _schedule_trial_save(self, trial: Any, result: Any = None) -> Any:
        return trial.checkpoint


def _trained(directory: Any, settings: dict[str, float]) -> dict[str, Any]:
    """Train an epoch: every setting adds to the score, on what was reached before."""
    lines = directory.run.lines()
    epoch, before = (int(lines[-1]["epoch"]), lines[-1]["val/AP"]) if lines else (0, 0.0)
    score = before + sum(settings.values()) / 1000
    directory.run.path.mkdir(parents=True, exist_ok=True)
    directory.output.append_line(directory.run.metrics, json.dumps({"epoch": epoch + 1, "val/AP": score}))
    weights_file.save(directory.run.checkpoint, {"epoch": epoch + 1, "step": 0}, 2, directory.output)
    return {EPOCH: epoch + 1, SCORE: score}


def _pace(name: str) -> float:
    return 1 + int(name[1:5]) / 10


def _run(loaded: LoadedSweep, folder: Path, kills: list[int], **changes: Any) -> tuple[Plan, int]:
    """Run a population that is killed after so many reports, again and again; return its plan, and the reports."""
    clocks: dict[str, float] = {}
    now, reports = 0.0, 0
    folder.mkdir()
    for kill in [*kills, 10**9]:
        plan = plan_of(loaded)
        tune = _Tune(plan, folder, clocks, now=now, **changes)
        for number, _ in enumerate(tune.steps(), 1):
            reports += 1
            if number == kill:
                break
        now = tune.now
    return plan, reports


def _students(plan: Plan) -> dict[str, Any]:
    found = {}
    for record in plan.records:
        if record.role == "searched":
            trial = plan.directory.trial(record.name)
            found[record.name] = (record.settings, trial.run.lines(), read_lineage(trial))
    return found


@pytest.mark.parametrize("scheduler", [PBT, pytest.param(PB2, marks=NEEDS_SKLEARN)])
def test_an_interrupted_population_takes_over_what_it_would_have_taken_over(
    scheduler: dict[str, Any], tmp_path: Path
) -> None:
    plan, reports = _run(_loaded(tmp_path / "whole", scheduler=scheduler), tmp_path / "ray", [])
    whole = _students(plan)
    assert sum(len(lineage) > 1 for _, _, lineage in whole.values()) >= 2
    every = 2 if scheduler is PBT else 6  # its model takes a while
    for kills in [*([kill] for kill in range(6, 15, every)), [3, 4, 5, 6]]:  # around the rounds after 8 and 17 reports
        assert sum(kills) < reports
        folder = tmp_path / "-".join(map(str, kills))
        plan, _ = _run(_loaded(folder, scheduler=scheduler), tmp_path / f"ray-{folder.name}", kills)
        assert _students(plan) == whole, kills


@NEEDS_SKLEARN
def test_a_bandit_stays_in_the_space_and_goes_where_scores_gain_most(tmp_path: Path) -> None:
    """Here more of every setting gains more: what the model chooses lies above what was drawn."""
    plan, _ = _run(_loaded(tmp_path, scheduler=PB2 | {"interval": 1}), tmp_path / "ray", [])
    chosen = [part.settings for record in plan.records for part in read_lineage(plan.directory.trial(record.name))[1:]]
    assert len(chosen) >= 4
    for name, spec in list(SPACE.items())[:2]:
        low, high = next(iter(spec.values()))
        assert all(low <= settings[name] <= high for settings in chosen)
    weights = [settings["methods.tar.feature.weight"] for settings in chosen]
    drawn = [point["methods.tar.feature.weight"] for point in plan.loaded.points or []]
    assert sum(weights) / len(weights) > sum(drawn) / len(drawn)


@NEEDS_SKLEARN
def test_a_damaged_record_of_what_a_bandit_knows_is_passed_over(tmp_path: Path) -> None:
    loaded = _loaded(tmp_path, scheduler=PB2)
    plan, _ = _run(loaded, tmp_path / "ray", [12])
    file = plan.directory.path / "bandit.jsonl"
    rounds = Rounds(plan.directory)
    assert not _scheduler(loaded).data.empty
    file.write_text(f'{{"epoch": {rounds.last.epoch}}}\n[1]\n{{"ep')
    assert _scheduler(loaded).data.empty


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        ({"methods.tar.rpn.weight": {"choice": LISTED}}, "must be a range with scheduler pb2"),
        ({"training.batch_size": {"int": [2, 4]}}, "cannot change during training, as scheduler pb2 would have it"),
    ],
)
def test_what_a_bandit_cannot_choose_is_refused(space: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=problem):
        _loaded(tmp_path, space=space, scheduler=PB2)


def test_a_bandit_without_its_package_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        UserError, match=r"scheduler: pb2 needs the package scikit-learn; pip install 'raydistill\[pb2\]'"
    ):
        _loaded(tmp_path, scheduler=PB2)


def test_a_lineage_holds_the_settings_of_every_epoch_of_the_student(tmp_path: Path) -> None:
    plan, _ = _run(_loaded(tmp_path), tmp_path / "ray", [])
    for settings, lines, lineage in _students(plan).values():
        schedule = schedule_of(lineage)
        assert schedule[0]["epoch"] == 0
        assert schedule[-1]["settings"] == settings
        score = 0.0
        for epoch in range(EPOCHS):
            then = [change["settings"] for change in schedule if change["epoch"] <= epoch][-1]
            score += sum(then.values()) / 1000
            assert lines[epoch]["val/AP"] == pytest.approx(score, abs=1e-12)


def test_a_member_that_fails_keeps_nobody_waiting(tmp_path: Path) -> None:
    for at_once in (1, 2, 4):
        folder = tmp_path / str(at_once)
        plan, _ = _run(_loaded(folder), tmp_path / f"ray{at_once}", [], hopeless="p0003-seed0", at_once=at_once)
        statuses = [record.status for record in plan.records if record.role == "searched"]
        assert statuses.count("finished") == 3


def test_no_more_members_are_at_work_than_may_be_and_all_take_part(tmp_path: Path) -> None:
    limited, _ = _run(_loaded(tmp_path / "limited", max_concurrent=1), tmp_path / "ray1", [], at_once=4)
    free, _ = _run(_loaded(tmp_path / "free"), tmp_path / "ray4", [], at_once=4)
    assert _students(limited) == _students(free)


def test_a_schedule_leaves_out_what_did_not_change_and_what_trained_nothing() -> None:
    parts = [
        Part(0, "a", {"x": 1}),
        Part(2, "b", {"x": 2}),
        Part(4, "c", {"x": 3}),
        Part(4, "d", {"x": 2}),
        Part(6, "d", {"x": 5}),
    ]
    assert schedule_of(copy.deepcopy(parts)) == [
        {"epoch": 0, "settings": {"x": 1}},
        {"epoch": 2, "settings": {"x": 2}},
        {"epoch": 6, "settings": {"x": 5}},
    ]
