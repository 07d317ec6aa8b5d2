"""Sweeps without Ray's processes: trials report at their own pace to Ray's own schedulers, by our search and records.

What Tune does is acted out: several trials at once, and the command is killed on the way.
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

from ray.tune.schedulers import TrialScheduler

from raydistill.on_ray import sweep as sweep_module
from raydistill.on_ray.callbacks import PlannedSearch
from raydistill.on_ray.trial import EPOCH, SCORE
from raydistill.sweeps.file import LoadedSweep, load_sweep
from raydistill.sweeps.plan import Plan
from tests.outputs import plan_of
from tests.small import small_sweep

EPOCHS = 8
ASHA = {"name": "asha", "grace_period": 1, "reduction_factor": 2}
MEDIAN = {"name": "median", "grace_period": 2, "min_trials": 3}
_CONTROLLER = SimpleNamespace(get_live_trials=list)  # Tune's, where no trial waits


@dataclass
class Tune:
    """What runs trials, as far as our code and the scheduler see it."""

    plan: Plan
    at_once: int
    clocks: dict[str, float]
    """When each trial that was begun reports next; the same before and after it was interrupted."""
    now: float = 0.0
    salt: str = ""
    """Makes other scores and paces of the same names."""
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
        heapq.heappush(self.running, (self.clocks.setdefault(name, self.now + self._pace(name)), name))

    def _report(self, name: str) -> Iterator[None]:
        """Let a trial report its next epoch, as its worker, Tune and the recorder do."""
        trial = self.plan.directory.trial(name)
        searched = self.plan.record(name).role == "searched"
        trained = len(trial.run.lines()) if trial.run.metrics.is_file() else 0
        epoch = min(trained + 1, EPOCHS)  # one that is finished says so again
        result = {EPOCH: epoch, SCORE: self._score(name, epoch)}
        trial.run.path.mkdir(parents=True, exist_ok=True)
        if epoch > trained:
            with trial.run.metrics.open("a") as file:
                file.write(json.dumps({"epoch": epoch, "val/AP": result[SCORE]}) + "\n")
        self.clocks[name] = self.now + (self._pace(name) if epoch < EPOCHS else 0)  # nothing is trained to say it again
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

    def _pace(self, name: str) -> float:
        return 1 + _chance(self.salt + name)

    def _score(self, name: str, epoch: int) -> float:
        name = self.salt + name
        return _chance(f"{name} at its best") * (1 - math.exp(-epoch * (0.2 + _chance(f"{name}, how soon"))))


def _chance(text: str) -> float:
    """Return a number from 0 to 1 that looks drawn."""
    value = 0
    for letter in text:
        value = (value * 1103515245 + ord(letter) * 12345 + 17) % 2**31
    return value / 2**31


def sweep_of(folder: Path, scheduler: dict[str, Any], points: int) -> LoadedSweep:
    space = {"training.optimizer.learning_rate": {"uniform": [0.01, 0.1]}}
    settings = {"training.epochs": EPOCHS}
    file = small_sweep(
        folder, settings, search="random", num_trials=points, space=space, scheduler=scheduler, max_concurrent="auto"
    )
    return load_sweep(file)


def run(loaded: LoadedSweep, at_once: int, kills: list[int], salt: str = "") -> tuple[dict[str, tuple[str, int]], int]:
    """Run a sweep that is killed after so many reports, again and again; return how trials ended, and the reports."""
    clocks: dict[str, float] = {}
    now, reports = 0.0, 0
    for kill in [*kills, 10**9]:
        plan = plan_of(loaded)
        tune = Tune(plan, at_once, clocks, now, salt)
        for number, _ in enumerate(tune.steps(), 1):
            reports += 1
            if number == kill:
                break
        now = tune.now
    ends = {r.name: (r.status, len(plan.directory.trial(r.name).run.lines())) for r in plan.records}
    return ends, reports
