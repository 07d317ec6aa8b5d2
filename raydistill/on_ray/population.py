"""Population based training: settings change while a trial trains, and weak trials go on from better ones' weights."""

from __future__ import annotations

import contextlib
import functools
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import ray.tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining

from raydistill.sweeps.file import LoadedSweep, PbtScheduler, RandomSearch, Space
from raydistill.sweeps.lineage import Round, Rounds, Takeover
from raydistill.sweeps.plan import Plan


class InRounds(PopulationBasedTraining):  # type: ignore[misc]
    """Ray's scheduler with all members in step, and a record of its rounds: a resumed population goes on with the next.

    Else a trial could be thrown back again and again while better ones wait for a free place. What is drawn follows
    from the seed, the trial and its epoch: it is the same after an interruption.
    """

    def __init__(self, rounds: Rounds, seed: int, storage: str, at_once: float, **settings: Any) -> None:
        super().__init__(synch=True, log_config=False, **settings)
        self._rounds, self._seed, self._storage, self._at_once = rounds, seed, storage, at_once
        self._before = rounds.last.epoch
        self._next_perturbation_sync = self.next_round
        self._takeovers: dict[str, Takeover] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything out of Ray's snapshots: the rounds are the state."""
        return {}

    @property
    def next_round(self) -> int:
        """The epoch that all have to reach for the first round of this session."""
        return self._before + int(self._perturbation_interval)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take a trial in, which was in the last round."""
        super().on_trial_add(tune_controller, trial)
        self._trial_state[trial].last_perturbation_time = self._before

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Let Ray decide, and write a round down before any trial acts upon it."""
        planned = self._next_perturbation_sync
        decision = str(super().on_trial_result(tune_controller, trial, result))
        if self._next_perturbation_sync != planned:
            self._note(Round(int(result[self._time_attr]), self._takeovers))
            self._takeovers = {}
        return decision

    def _note(self, one: Round) -> None:
        """Write a round down."""
        self._rounds.append(one)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return who goes on; where one was waited for that has ended or failed, the others have their round now.

        Tune itself would let no other member begin before one of those at work has come to its end.
        """
        if sum(trial.status == Trial.RUNNING for trial in tune_controller.get_live_trials()) >= self._at_once:
            return None
        chosen = super().choose_trial_to_run(tune_controller)
        live = tune_controller.get_live_trials()
        waiting = [trial for trial in tune_controller.get_trials() if trial in live]
        if chosen is not None or not waiting or any(trial.status != Trial.PAUSED for trial in waiting):
            return chosen
        last = max(waiting, key=lambda trial: self._trial_state[trial].last_train_time)
        self.on_trial_result(tune_controller, last, self._trial_state[last].last_result)
        return super().choose_trial_to_run(tune_controller)

    def _checkpoint_or_exploit(self, trial: Any, *others: Any) -> None:
        with _drawing(f"{self._seed} {trial} {self._trial_state[trial].last_train_time}"):
            super()._checkpoint_or_exploit(trial, *others)

    def _exploit(self, tune_controller: Any, trial: Any, trial_to_clone: Any) -> None:
        super()._exploit(tune_controller, trial, trial_to_clone)
        state = getattr(self._trial_state[trial_to_clone].last_checkpoint, "path", "")
        scheme, mark, _ = self._storage.rpartition("://")
        place = f"{scheme}{mark}{state}" if mark else state
        self._takeovers[str(trial)] = Takeover(str(trial_to_clone), trial.config["settings"], place)


def most_at_once(loaded: LoadedSweep) -> float:
    """Return how many trials may run at once, where all are known to the scheduler."""
    most = loaded.sweep.max_concurrent
    return math.inf if most == "auto" else most


def population_scheduler(
    loaded: LoadedSweep, settings: PbtScheduler, time_attr: str, rounds: Rounds, storage: str = ""
) -> InRounds:
    """Return Ray's scheduler; it changes the searched settings under ``settings`` in a trial's Ray config."""
    samplers: dict[str, Any] = {}
    for name, dimension in loaded.sweep.space.items():
        if dimension.discrete:
            samplers[name] = list(dimension.values)
        else:
            sampler = {"uniform": ray.tune.uniform, "loguniform": ray.tune.loguniform, "int": _whole_number}
            samplers[name] = sampler[dimension.kind](*dimension.values)
    return InRounds(
        rounds,
        loaded.sweep.search.seed if isinstance(loaded.sweep.search, RandomSearch) else 0,
        storage,
        most_at_once(loaded),
        time_attr=time_attr,
        perturbation_interval=settings.interval,
        hyperparam_mutations={"settings": samplers},
        quantile_fraction=settings.quantile,
        resample_probability=settings.resample,
        custom_explore_fn=functools.partial(within, space=loaded.sweep.space),
    )


def members(plan: Plan) -> dict[str, Any]:
    """Return the trials that are left as a grid: population based training takes no search; nothing where none is."""
    rounds = Rounds(plan.directory)
    records = {record.name: record for record in iter(plan.next, None)}
    if not records:
        return {}
    left = {name: rounds.takeover_left(plan.directory.trial(name)) for name in records}
    told = {name: takeover for name, takeover in left.items() if takeover is not None}
    settings = {name: told[name].settings if name in told else record.settings for name, record in records.items()}
    return {
        "trial": ray.tune.grid_search(list(records)),
        "settings": ray.tune.sample_from(lambda config: dict(settings[config["trial"]])),
        "left": ray.tune.sample_from(lambda config: told[config["trial"]].state if config["trial"] in told else ""),
    }


def within(config: dict[str, Any], space: Space) -> dict[str, Any]:
    """Return a changed config whose settings stay in the space: Ray multiplies them by 0.8 or 1.2, time after time."""
    settings = dict(config["settings"])
    for name, dimension in space.items():
        if not dimension.discrete and name in settings:
            low, high = dimension.values
            value = min(max(settings[name], low), high)
            settings[name] = round(value) if dimension.kind == "int" else float(value)
    return {**config, "settings": settings}


def _whole_number(low: int, high: int) -> Any:
    return ray.tune.randint(low, high + 1)  # Ray leaves the upper end out


@contextlib.contextmanager
def _drawing(seed: str) -> Iterator[None]:
    """Let what Ray draws follow from ``seed``; the generators, which are everybody's, are left as they were."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(random.getrandbits(32))
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
