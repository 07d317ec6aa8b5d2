"""How Ray changes the settings of a population; without Ray running."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from raydistill.on_ray.population import population_scheduler
from raydistill.sweeps.file import PbtScheduler, load_sweep
from tests.small import small_sweep

SPACE = {
    "methods.tar.feature.weight": {"uniform": [0.5, 1.0]},
    "training.optimizer.learning_rate": {"loguniform": [1e-3, 1e-2]},
    "methods.tar.rpn.weight": {"choice": [0.5, 1.0, 2.0]},
}


def test_settings_stay_in_the_space_however_often_they_are_changed(tmp_path: Path) -> None:
    scheduler: dict[str, Any] = {"name": "pbt", "interval": 1}
    file = small_sweep(tmp_path, search="random", num_trials=4, space=SPACE, scheduler=scheduler)
    loaded = load_sweep(file)
    assert isinstance(loaded.sweep.scheduler, PbtScheduler)
    pbt = population_scheduler(loaded, loaded.sweep.scheduler, "epoch")
    random.seed(0)
    np.random.seed(0)
    config = {"trial": "p0000-seed0", "settings": {name: spec[next(iter(spec))][0] for name, spec in SPACE.items()}}
    seen: dict[str, list[float]] = {name: [] for name in SPACE}
    for _ in range(300):
        trial = SimpleNamespace(config=config, evaluated_params={})
        config, _operations = pbt._get_new_config(trial, trial)
        assert config["trial"] == "p0000-seed0"
        for name, value in config["settings"].items():
            seen[name].append(value)
    weights, rates, choices = seen.values()
    assert min(weights) >= 0.5
    assert max(weights) == 1.0  # it is reached, and not left
    assert 1e-3 <= min(rates) < max(rates) <= 1e-2
    assert set(choices) == {0.5, 1.0, 2.0}
