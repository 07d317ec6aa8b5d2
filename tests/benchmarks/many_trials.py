"""Sweeps of many tiny trials, and as many trials of Ray Tune by itself, on one Ray; a process of its own.

``python -m tests.benchmarks.many_trials FOLDER STARTED WHICH TRIALS ...`` prints a line of JSON for each; ``scaling``
calls it. ``ours`` is the sweep that ``raydistill.tune`` runs, its driver, records, display and workers, as the file
``ours_TRIALS/small.yaml`` in the folder says; its trials write the files of a finished run and train nothing. With
``trained`` they do train. ``bare`` is a function that reports a number per epoch, on the same resources, in actors that
are used again as ours are, without loggers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.processes import Own, own

SCORE = 0.25


@dataclass
class Readings:
    """Time and cost at the first trial's start and at the last one's end."""

    started: float  # when it was called for, as time.time()
    first: tuple[float, Own] | None = None
    last: tuple[float, Own] | None = None
    ended: int = 0

    def begins(self) -> None:
        """Note the first trial."""
        self.first = self.first or (time.time(), own())

    def ends(self, of: int) -> None:
        """Note the last trial."""
        self.ended += 1
        if self.ended == of:
            self.last = time.time(), own()

    def result(self) -> dict[str, float]:
        """Return what the trials cost; the start is what came before the first of them."""
        if self.first is None or self.last is None:
            raise SystemExit(f"{self.ended} trials ended")
        (begun, at_first), (done, at_last) = self.first, self.last
        return {
            "begun": begun,
            "done": done,
            "start_s": begun - self.started,
            "trials_s": done - begun,
            "driver_cpu_s": at_last.cpu - at_first.cpu,
            "driver_mib": at_last.rss,
            "driver_mib_more": at_last.rss - at_first.rss,
        }


@dataclass
class WatchedDisplay:
    """The sweep's display, and readings beside it."""

    inner: Any
    readings: Readings
    total: int

    def __call__(self, event: Any) -> None:
        """Hand on."""
        self.inner(event)

    def begins(self, record: Any) -> None:
        """Hand on, and note it."""
        self.inner.begins(record)
        self.readings.begins()

    def ends(self, record: Any, score: float) -> None:
        """Hand on, and note it."""
        self.inner.ends(record, score)
        self.readings.ends(self.total)

    def close(self) -> None:
        """Hand on."""
        self.inner.close()


def finished_at_once(
    sweep: Any,
    name: str,
    worker: Any,
    tell: Callable[[Any], None],
    on_epoch: Callable[[Any], None] | None,
    changed: Mapping[str, Any] | None = None,
    shipped: Mapping[str, Any] | None = None,
) -> str:
    """Stand in for ``run_trial``: the files and the events of a run, and no training."""
    from raydistill.config import load_config
    from raydistill.runs.events import EpochDone, StageStarted, TrialEvent
    from tests.reports.made_up import stage_directory

    trial = sweep.trial(name)
    epochs = load_config(str(trial.recipe)).training.epochs
    stage = "baseline" if trial.read().role == "baseline" else "distilled"
    tell(TrialEvent(name, StageStarted(stage, epochs, 1, 0)))
    stage_directory(trial.path / stage, stage, [SCORE] * epochs)
    for line in trial.run.lines():
        done = EpochDone(stage, int(line["epoch"]), epochs, line, 0.0)
        tell(TrialEvent(name, done))
        if on_epoch is not None:
            on_epoch(done)
    return ""


def trial_without_training(settings: dict[str, Any], order: Any) -> None:
    """Run in an actor: ``flat_trial`` with nothing in its middle."""
    from raydistill.on_ray import trial as trial_module
    from raydistill.sweeps import trial

    trial.run_trial = finished_at_once
    trial_module.flat_trial(settings, order)


def bare_trial(config: dict[str, Any]) -> None:
    """Report a number per epoch."""
    import ray.tune

    for epoch in range(1, config["epochs"] + 1):
        ray.tune.report({"score": SCORE, "epoch": epoch})


def ours(trials: int, folder: Path, readings: Readings, train: bool) -> None:
    """Run the sweep of ``trials`` trials in ``folder``, the two controls among them."""
    from raydistill.on_ray import sweep as sweep_module
    from raydistill.on_ray import trial as trial_module
    from raydistill.on_ray.room import Demand
    from raydistill.runs.stopping import Stop
    from raydistill.sweeps.file import load_sweep
    from raydistill.sweeps.table import SweepDisplay
    from tests.outputs import plan_of

    trial_function = trial_module.flat_trial if train else trial_without_training
    sweep_module.flat_trial = trial_function  # type: ignore[attr-defined]  # which the driver ships
    plan = plan_of(load_sweep(str(folder / "small.yaml")))
    for _ in range(trials, plan.total):  # of one trial only the first control is run
        plan._queue.pop()
    with (folder / "display.txt").open("w") as stream:
        display = WatchedDisplay(SweepDisplay("AP", "max", trials, stream), readings, trials)
        demand = Demand("resources", 1, {"CPU": 1}, "")
        sweep_module._run_trials(plan, display, demand, Stop())
    failed = [record for record in plan.records if record.seconds and record.status != "finished"]
    assert not failed, failed


def bare(trials: int, folder: Path, readings: Readings, epochs: int) -> None:
    """Let Ray Tune run a function ``trials`` times."""
    from raydistill.on_ray.callbacks import Silence
    from raydistill.on_ray.sweep import ray  # type: ignore[attr-defined]  # with what Ray reads from the environment set

    @dataclass
    class Watch(ray.tune.Callback):  # type: ignore[misc]
        watched: list[Readings] = field(default_factory=list)

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            readings.begins()

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            readings.ends(number)

    number = trials
    ray.tune.Tuner(
        ray.tune.with_resources(bare_trial, {"CPU": 1}),
        param_space={"epochs": epochs, "number": ray.tune.grid_search(list(range(trials)))},
        tune_config=ray.tune.TuneConfig(metric="score", mode="max", reuse_actors=True),
        run_config=ray.tune.RunConfig(storage_path=str(folder / "ray"), callbacks=[Watch(), Silence()], verbose=0),
    ).fit()


def main() -> int:
    """Run, and print what each cost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("started", type=float)
    parser.add_argument("runs", nargs="+", metavar="WHICH TRIALS")
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()
    from raydistill.on_ray.session import connected

    readings = Readings(options.started)
    with connected(1):
        for which, number in zip(options.runs[::2], map(int, options.runs[1::2]), strict=True):
            if which == "bare":
                bare(number, options.folder / f"bare_{number}", readings, options.epochs)
            else:
                ours(number, options.folder / f"{which}_{number}", readings, which == "trained")
            sys.stdout.write(f"{json.dumps({'what': which, 'trials': number, **readings.result()})}\n")
            sys.stdout.flush()
            readings = Readings(time.time())
    return 0


if __name__ == "__main__":
    sys.exit(main())
