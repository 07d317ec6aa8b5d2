"""What Ray Tune calls while a sweep runs: the plan as its search, and the recorder of what became of trials."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray.tune
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.search import Searcher

from raydistill.on_ray.trial import SCORE
from raydistill.runs.events import Note
from raydistill.sweeps.plan import Plan
from raydistill.sweeps.table import SweepListener


class PlannedSearch(Searcher):  # type: ignore[misc]
    """Hands Ray the plan's trials; the plan itself remembers what becomes of them."""

    def __init__(self, plan: Plan, controls_only: bool, at_once: Callable[[], int]) -> None:
        super().__init__(metric=SCORE, mode=plan.loaded.sweep.mode)
        self._plan, self._controls_only, self._at_once = plan, controls_only, at_once
        self._running: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the plan out of Ray's snapshots: the records are the state, and no sweep is restored from a pickle."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial's name and settings; None where it has to wait for another to end."""
        if self._controls_only and not self._plan.controls_left:
            return Searcher.FINISHED
        if len(self._running) >= self._at_once():
            return None
        record = self._plan.next()
        if record is None:
            return Searcher.FINISHED
        self._running.add(trial_id)
        return {"trial": record.name, "settings": record.settings}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:  # noqa: ARG002
        """Make room; the recorder has told the plan."""
        self._running.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the records are the state."""


class Silence(TrialProgressCallback):  # type: ignore[misc]
    """Takes the place of Ray's own words on trials, some of which no verbosity turns off."""

    def _print(self, msg: str) -> None:
        """Nothing: the display says it."""


@dataclass
class Recorder(ray.tune.Callback):  # type: ignore[misc]
    """Tells plan and display when trials begin and end; runs in the driver."""

    plan: Plan
    display: SweepListener
    started: dict[str, float] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything out of Ray's snapshots, as the search does."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Start its clock."""
        name = str(trial)
        if self.plan.record(name).ended:  # it only says again what it came to
            return
        self.started.setdefault(name, time.monotonic())
        self.plan.changed(name, trial.config["settings"])
        self.display.begins(self.plan.record(name))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Say that it goes on: Ray has taken note of a loss and starts it again."""
        self.display(Note(f"{trial}: its worker was lost; the trial goes on from its last checkpoint", warning=True))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Record how it ended."""
        self._end(trial, "")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Record why its worker was lost for good."""
        error = trial.get_error()
        first_line = (str(error).strip().splitlines() or [""])[0]
        self._end(trial, f"its worker was lost ({type(error).__name__}: {first_line})")

    def _end(self, trial: Any, lost: str) -> None:
        name = str(trial)
        if self.plan.record(name).ended:
            return
        seconds = time.monotonic() - self.started.pop(name, time.monotonic())
        record = self.plan.end(name, seconds, lost)
        self.display.ends(record, self.plan.score(name).value)
