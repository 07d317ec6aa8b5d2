"""Population based bandits (PB2): a model of what scores gained so far chooses the settings that members go on with."""

from __future__ import annotations

import functools
import json
import warnings
from typing import Any

import numpy as np
import pandas as pd
from ray.tune.schedulers.pb2 import PB2

from raydistill.on_ray.population import InRounds, most_at_once, within
from raydistill.storage.regular import RECORD_BYTES, read_text
from raydistill.sweeps.directory import SweepDirectory
from raydistill.sweeps.file import LoadedSweep, Pb2Scheduler, RandomSearch
from raydistill.sweeps.lineage import Round, Rounds


class Bandit(InRounds, PB2):  # type: ignore[misc]
    """Ray's PB2 in step; what its model has seen is written down with each round, and read again by a resumed sweep."""

    def __init__(self, sweep: SweepDirectory, *arguments: Any, **settings: Any) -> None:
        rounds = Rounds(sweep)
        super().__init__(rounds, *arguments, **settings)
        self._sweep, self._file = sweep, sweep.path / "bandit.jsonl"
        self._remember(rounds.last.epoch)

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> Any:
        with warnings.catch_warnings():  # scikit-learn's words on a model of a few points
            warnings.simplefilter("ignore")
            return super()._get_new_config(trial, trial_to_clone)

    def _note(self, one: Round) -> None:
        """Write a round down, and before that what the model knows after it."""
        current = None if self.current is None else np.asarray(self.current).tolist()
        seen = {"columns": list(self.data.columns), "data": self.data.to_numpy().tolist()}
        state = {"epoch": one.epoch, "seen": seen, "last": int(self.last_exploration_time), "current": current}
        self._sweep.output.append_line(
            self._file, json.dumps(state, default=float)
        )  # numpy has whole numbers of its own
        super()._note(one)

    def _remember(self, epoch: int) -> None:
        """Take what the model knew after the round at ``epoch``; a line that cannot be read is left out."""
        if not epoch or not self._sweep.output.fetched(self._file).is_file():
            return
        for line in read_text(self._file, RECORD_BYTES, errors="replace").splitlines():
            try:
                state = json.loads(line)
                if state["epoch"] != epoch:
                    continue
                data = pd.DataFrame(state["seen"]["data"], columns=state["seen"]["columns"])
                current = None if state["current"] is None else np.array(state["current"])
                self.data, self.current, self.last_exploration_time = data, current, int(state["last"])
            except (ValueError, KeyError, TypeError):
                continue


def bandit_scheduler(
    loaded: LoadedSweep, settings: Pb2Scheduler, time_attr: str, sweep: SweepDirectory, storage: str = ""
) -> Bandit:
    """Return Ray's scheduler; it changes the searched settings under ``settings`` in a trial's Ray config."""
    return Bandit(
        sweep,
        loaded.sweep.search.seed if isinstance(loaded.sweep.search, RandomSearch) else 0,
        storage,
        most_at_once(loaded),
        time_attr=time_attr,
        perturbation_interval=settings.interval,
        hyperparam_bounds={"settings": {name: [*one.values] for name, one in loaded.sweep.space.items()}},
        quantile_fraction=settings.quantile,
        custom_explore_fn=functools.partial(within, space=loaded.sweep.space),
    )
