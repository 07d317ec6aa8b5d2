"""Population based training: settings change while a trial trains, and weak trials go on from better ones' weights."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray.tune
import ray.tune.schedulers

from raydistill.storage.files import versions
from raydistill.sweeps.directory import TrialDirectory
from raydistill.sweeps.file import LoadedSweep, PbtScheduler, Space

_FILES = ("checkpoint.pt", "last.pt", "best.pt", "metrics.jsonl")
_ORIGIN = "trial.txt"


def population_scheduler(
    loaded: LoadedSweep, settings: PbtScheduler, time_attr: str
) -> ray.tune.schedulers.PopulationBasedTraining:
    """Return Ray's scheduler; it changes the searched settings under ``settings`` in a trial's Ray config."""
    samplers: dict[str, Any] = {}
    for name, dimension in loaded.sweep.space.items():
        if dimension.discrete:
            samplers[name] = list(dimension.values)
        else:
            sampler = {"uniform": ray.tune.uniform, "loguniform": ray.tune.loguniform, "int": _whole_number}
            samplers[name] = sampler[dimension.kind](*dimension.values)
    return ray.tune.schedulers.PopulationBasedTraining(
        time_attr=time_attr,
        perturbation_interval=settings.interval,
        hyperparam_mutations={"settings": samplers},
        quantile_fraction=settings.quantile,
        resample_probability=settings.resample,
        custom_explore_fn=functools.partial(_within, space=loaded.sweep.space),
        log_config=False,
        synch=True,  # else a trial can be thrown back again and again while the better ones wait for a free place
    )


def _within(config: dict[str, Any], space: Space) -> dict[str, Any]:
    """Return a changed config whose settings stay in the space: Ray multiplies them by 0.8 or 1.2, time after time."""
    settings = dict(config["settings"])
    for name, dimension in space.items():
        if not dimension.discrete and name in settings:
            low, high = dimension.values
            value = min(max(settings[name], low), high)
            settings[name] = round(value) if dimension.kind == "int" else value
    return {**config, "settings": settings}


def _whole_number(low: int, high: int) -> Any:
    return ray.tune.randint(low, high + 1)  # Ray leaves the upper end out


@contextlib.contextmanager
def state_of(trial: TrialDirectory) -> Iterator[ray.tune.Checkpoint]:
    """Give Ray a copy of where a trial stands, for others to go on from."""
    with tempfile.TemporaryDirectory() as folder:
        for name in _FILES:
            if (trial.run.path / name).is_file():
                shutil.copy(trial.run.path / name, folder)
        (Path(folder) / _ORIGIN).write_text(trial.path.name, encoding="utf-8")
        yield ray.tune.Checkpoint.from_directory(folder)


def take_over(trial: TrialDirectory, settings: dict[str, Any]) -> None:
    """Put the files of a better trial in place of a trial's own, if Ray hands them over; the change is noted."""
    checkpoint = ray.tune.get_checkpoint()
    if checkpoint is None:
        return
    with checkpoint.as_directory() as folder:
        origin = (Path(folder) / _ORIGIN).read_text(encoding="utf-8")
        if origin == trial.path.name:
            return
        run = trial.run
        run.path.mkdir(parents=True, exist_ok=True)
        # earlier ones of its own are of another training
        for old in (run.result, *run.checkpoints(), *versions(run.best)):
            trial.output.remove(old)
        for name in _FILES:
            trial.output.remove(run.path / name)
            if (Path(folder) / name).is_file():
                shutil.copy(Path(folder) / name, run.path / name)
                trial.output.publish(run.path / name)
    change = {"epoch": run.lines()[-1]["epoch"], "from": origin, "settings": settings}
    trial.output.append_line(trial.path / "changes.jsonl", json.dumps(change))
