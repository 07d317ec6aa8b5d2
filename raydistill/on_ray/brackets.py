"""HyperBand: the trials of a bracket wait for each other, and the worse ones end."""

from __future__ import annotations

from typing import Any

import ray.tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandScheduler, TrialScheduler

from raydistill.on_ray.trial import EPOCH, SCORE
from raydistill.sweeps.plan import Plan


class Brackets(HyperBandScheduler):  # type: ignore[misc]
    """Ray's scheduler, with all trials of the sweep in it from the start, those that ended before among them.

    A trial that begins again, as it waited or the sweep was interrupted, reports all its epochs again: what is known is
    passed over. A bracket decides when all its trials have come as far, so the order of reports means nothing, and a
    resumed sweep decides as one that was never interrupted.
    """

    def __init__(self, epochs: int, reduction_factor: int, at_once: float) -> None:
        super().__init__(time_attr=EPOCH, max_t=epochs, reduction_factor=reduction_factor)
        self._at_once, self._heard = at_once, dict[str, int]()

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything out of Ray's snapshots: the records of trials are the state."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide, unless the epoch is known."""
        epoch = int(result.get(EPOCH, 0))
        if SCORE not in result or epoch <= self._heard.get(str(trial), 0):
            return str(TrialScheduler.CONTINUE)
        self._heard[str(trial)] = epoch
        return str(super().on_trial_result(tune_controller, trial, result))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return who goes on, where there is room for one more."""
        running = sum(trial.status == Trial.RUNNING for trial in tune_controller.get_live_trials())
        return None if running >= self._at_once else super().choose_trial_to_run(tune_controller)


def all_trials(plan: Plan) -> dict[str, Any]:
    """Return the searched trials as a grid, those that ended among them, while any is left; else nothing."""
    if not [*iter(plan.next, None)]:
        return {}
    searched = sorted((record for record in plan.records if record.role == "searched"), key=lambda one: one.order)
    settings = {record.name: record.settings for record in searched}
    return {
        "trial": ray.tune.grid_search(list(settings)),
        "settings": ray.tune.sample_from(lambda config: dict(settings[config["trial"]])),
    }
