"""A scheduler that goes on where it was, with Ray's own ASHA and median rule, our search and our records; without Ray.

What Tune does is acted out: trials report at their own pace, several at once, and the command is killed on the way.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from raydistill.on_ray import sweep as sweep_module
from raydistill.on_ray.callbacks import PlannedSearch
from raydistill.on_ray.trial import EPOCH, SCORE
from raydistill.sweeps.file import LoadedSweep, load_sweep
from raydistill.sweeps.journal import Journal, TrialReport
from raydistill.sweeps.plan import Plan
from tests.outputs import plan_of
from tests.small import small_sweep

EPOCHS = 8
ASHA = {"name": "asha", "grace_period": 1, "reduction_factor": 2}
MEDIAN = {"name": "median", "grace_period": 2, "min_trials": 3}
_CONTROLLER = SimpleNamespace(get_live_trials=list)  # Tune's, where no trial waits


class Killed(BaseException):
    """The command is no more."""


@dataclass
class _Tune:
    """What runs trials, as far as our code and the scheduler see it."""

    plan: Plan
    at_once: int
    clocks: dict[str, float]
    """When each trial that was begun reports next; the same before and after it was interrupted."""
    now: float = 0.0
    running: list[tuple[float, str]] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.search = PlannedSearch(self.plan, False, lambda: self.at_once)
        self.scheduler = sweep_module._scheduler(self.plan)
        self.scheduler.set_search_properties(SCORE, "max")

    def steps(self) -> Iterator[None]:
        """Run to the end, a report at a time."""
        while True:
            while isinstance(config := self.search.suggest(str(len(self.ids))), dict):
                self._begin(config["trial"])
            if not self.running:
                return
            self.now, name = heapq.heappop(self.running)
            yield from self._report(name)

    def _begin(self, name: str) -> None:
        self.ids[name] = str(len(self.ids))
        self.scheduler.on_trial_add(_CONTROLLER, name)
        heapq.heappush(self.running, (self.clocks.setdefault(name, self.now + _pace(name)), name))

    def _report(self, name: str) -> Iterator[None]:
        """Let a trial report its next epoch, as its worker, Tune and the recorder do."""
        trial = self.plan.directory.trial(name)
        searched = self.plan.record(name).role == "searched"
        trained = len(trial.run.lines()) if trial.run.metrics.is_file() else 0
        epoch = min(trained + 1, EPOCHS)  # one that is finished says so again
        result = {EPOCH: epoch, SCORE: _score(name, epoch)}
        trial.run.path.mkdir(parents=True, exist_ok=True)
        if epoch > trained:
            with trial.run.metrics.open("a") as file:
                file.write(json.dumps({"epoch": epoch, "val/AP": result[SCORE]}) + "\n")
        self.clocks[name] = self.now + _pace(name)
        decision = TrialScheduler.CONTINUE
        if epoch == EPOCHS:
            trial.run.result.write_text(json.dumps({"epoch": epoch, "epochs": epoch, "parameters": 1, "AP": 0.5}))
            decision = TrialScheduler.STOP
        elif searched:
            decision = self.scheduler.on_trial_result(_CONTROLLER, name, result)
        yield  # here a command may be killed: after the decision, before it is carried out
        if decision == TrialScheduler.STOP:
            self.scheduler.on_trial_complete(_CONTROLLER, name, result)
            self.plan.end(name, 1.0)
            self.search.on_trial_complete(self.ids[name])
        else:
            heapq.heappush(self.running, (self.clocks[name], name))


def _pace(name: str) -> float:
    return 1 + _chance(name)


def _score(name: str, epoch: int) -> float:
    return _chance(f"{name} at its best") * (1 - math.exp(-epoch * (0.2 + _chance(f"{name}, how soon"))))


def _chance(text: str) -> float:
    """Return a number from 0 to 1 that looks drawn."""
    value = 0
    for letter in text:
        value = (value * 1103515245 + ord(letter) * 12345 + 17) % 2**31
    return value / 2**31


def _loaded(folder: Path, scheduler: dict[str, Any], points: int) -> LoadedSweep:
    space = {"training.optimizer.learning_rate": {"uniform": [0.01, 0.1]}}
    settings = {"training.epochs": EPOCHS}
    file = small_sweep(
        folder, settings, search="random", num_trials=points, space=space, scheduler=scheduler, max_concurrent="auto"
    )
    return load_sweep(file)


def _run(loaded: LoadedSweep, at_once: int, kills: list[int]) -> tuple[dict[str, tuple[str, int]], int]:
    """Run a sweep that is killed after so many reports, again and again; return how trials ended, and the reports."""
    clocks: dict[str, float] = {}
    now, reports = 0.0, 0
    for kill in [*kills, 10**9]:
        plan = plan_of(loaded)
        tune = _Tune(plan, at_once, clocks, now)
        for number, _ in enumerate(tune.steps(), 1):
            reports += 1
            if number == kill:
                break
        now = tune.now
    ends = {r.name: (r.status, len(plan.directory.trial(r.name).run.lines())) for r in plan.records}
    return ends, reports


@pytest.mark.parametrize(("scheduler", "at_once"), [(ASHA, 1), (ASHA, 2), (ASHA, 8), (ASHA, 16), (MEDIAN, 8)])
def test_an_interrupted_sweep_stops_the_trials_that_it_would_have_stopped(
    scheduler: dict[str, Any], at_once: int, tmp_path: Path
) -> None:
    whole, reports = _run(_loaded(tmp_path / "whole", scheduler, 16), at_once, [])
    assert {status for status, _ in whole.values()} == {"finished", "stopped"}
    for kills in ([1], [reports // 3], [reports // 2, 7, 1], [reports - 2]):
        folder = tmp_path / "-".join(map(str, kills))
        interrupted, _ = _run(_loaded(folder, scheduler, 16), at_once, kills)
        assert interrupted == whole


def test_a_sweep_from_before_there_were_journals_tells_what_its_ended_trials_reported(tmp_path: Path) -> None:
    loaded = _loaded(tmp_path, ASHA, 6)
    plan = plan_of(loaded)
    for _ in zip(range(40), _Tune(plan, 1, {}).steps(), strict=False):
        pass
    written = (plan.directory.path / "reports.jsonl").read_text()
    (plan.directory.path / "reports.jsonl").unlink()
    sweep_module._scheduler(plan_of(loaded))
    rebuilt = Journal(plan.directory).read()
    assert rebuilt is not None
    ended = {record.name for record in plan.records if record.ended}
    assert {report.trial for report in rebuilt} == ended
    before = [json.loads(line) for line in written.splitlines()]
    assert [(r.trial, r.epoch, r.score) for r in rebuilt if not r.ended and r.trial == "p0000-seed0"][:2] == [
        (line["trial"], line["epoch"], line["score"]) for line in before if line["trial"] == "p0000-seed0"
    ][:2]


def test_a_line_that_was_cut_off_is_left_out_for_good(tmp_path: Path) -> None:
    plan = plan_of(_loaded(tmp_path, ASHA, 2))
    journal = Journal(plan.directory)
    assert journal.read() is None
    for report in (TrialReport("a", 1, 0.5), TrialReport("b", 1, 0.25, stopped=True)):
        journal.append(report)
    with (plan.directory.path / "reports.jsonl").open("a") as file:
        file.write('{"trial": "c", "epo')
    assert journal.read() == [TrialReport("a", 1, 0.5), TrialReport("b", 1, 0.25, stopped=True)]
    journal.append(TrialReport("c", 2, 0.75, ended=True))
    assert journal.read() == [
        TrialReport("a", 1, 0.5),
        TrialReport("b", 1, 0.25, stopped=True),
        TrialReport("c", 2, 0.75, ended=True),
    ]
