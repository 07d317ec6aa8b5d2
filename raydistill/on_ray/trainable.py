"""A student as a function for a user's own ``ray.tune.Tuner``: one process trains it and reports to Ray Tune."""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray
import ray.tune
from ray.tune.search.sample import Domain

from raydistill.config import Config
from raydistill.config.course import changeable
from raydistill.errors import one_error
from raydistill.runs.directory import RunDirectory, planned, stage_directory
from raydistill.runs.events import EpochDone, Event, Note
from raydistill.storage.output import Output
from raydistill.sweeps.trainable import student_config, student_problems

if TYPE_CHECKING:
    from raydistill.runs.worker import Worker

_log = logging.getLogger("trial_of_raydistill")  # the package's own is listened to while a stage runs
_SAMPLES = 3  # of a range, to be held against a setting
_SCORE = "val/"
_OF_A_CLASS = "val/class/"


def check_space(config: Config, space: Mapping[str, Any]) -> None:
    """Make sure that a ``param_space`` of Ray Tune's names settings of a student, with values that they may have.

    Raises:
        UserError: naming all that is wrong.
    """
    problems: dict[str, None] = {}
    for name, values in ((name, [*_samples(written)]) for name, written in space.items()):
        for value in values:
            problems |= dict.fromkeys(student_problems(config, {name: value}))
    if problems:
        raise one_error([*problems], "space: settings that a trial cannot use")


def trainable_with(config: Config) -> Callable[[dict[str, Any]], None]:
    """Return the function; ``config`` holds what a trial does not set, and the teacher lies in its output."""

    def raydistill(settings: dict[str, Any]) -> None:
        """Train a student with the settings of a trial, by dotted names."""
        _Trial(config, settings).run()

    return raydistill


def _samples(written: Any) -> Iterator[Any]:
    """Yield values that a part of a ``param_space`` may lead to; what depends on other parts is left out."""
    if isinstance(written, Mapping) and [*written] == ["grid_search"]:
        yield from written["grid_search"]
    elif isinstance(written, ray.tune.search.sample.Categorical):
        yield from written.categories
    elif isinstance(written, ray.tune.search.sample.Function):
        return
    elif isinstance(written, Domain):
        yield from (written.sample() for _ in range(_SAMPLES))
    else:
        yield written


@dataclass(frozen=True)
class _Trial:
    """One trial, in the process that trains it."""

    config: Config
    settings: dict[str, Any]
    reported: list[int] = field(default_factory=list)

    def run(self) -> None:
        """Train from where Ray's checkpoint stands, and report each evaluated epoch with a checkpoint.

        Raises:
            UserError: what cannot be done.
        """
        from raydistill.runs.reporter import FileReporter
        from raydistill.sweeps.trial import TrialReporter, datasets
        from raydistill.training.out_of_memory import memory_explained
        from raydistill.training.same_data import data_of
        from raydistill.training.stages import run_student

        worker, sweep = _worker(), Output.at(self.config.output)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = ray.tune.get_checkpoint()
            if checkpoint is not None:
                with checkpoint.as_directory() as before:
                    shutil.copytree(before, folder, dirs_exist_ok=True)
            config = student_config(self.config, self.settings, folder)
            own = Output.at(folder)
            run = stage_directory(own, planned(config)[-1])

            def on_epoch(event: EpochDone) -> None:
                if event.epoch < event.epochs and any(name.startswith(_SCORE) for name in event.metrics):
                    self._report(run, event.epoch, event.metrics)

            def reporter_for(of: RunDirectory) -> TrialReporter:
                return TrialReporter(FileReporter(of, worker, _tell), on_epoch)

            sweep.pull(sweep.folder / "teacher")
            free = [name for name in changeable(config) if name in self.settings]
            with memory_explained(config):
                data = datasets(config.data, config.downloads)
                teacher = stage_directory(sweep, "teacher")
                run_student(config, own, worker, reporter_for, data, teacher, data_id=data_of(sweep), free=free)
            self._report_end(run)

    def _report(self, run: RunDirectory, epoch: int, metrics: Mapping[str, float]) -> None:
        """Report an evaluated epoch; its files are a checkpoint, of which ``rd.load`` takes the weights."""
        checkpoint = ray.tune.Checkpoint.from_directory(run.path.parent)
        ray.tune.report({"epoch": epoch, **_by_plain_names(metrics)}, checkpoint=checkpoint)

    def _report_end(self, run: RunDirectory) -> None:
        """Report the last epoch, with the scores on a test split where there is one."""
        from raydistill.runs.records import read_result

        result = read_result(run.result)
        tested = {name: value for name, value in result.items() if name.startswith("test_")}
        for line in [line for line in run.lines() if any(name.startswith(_SCORE) for name in line)][-1:]:
            best = {"best_epoch": result.get("epoch", 0), f"best_{self._best_metric}": result[self._best_metric]}
            self._report(run, int(line.pop("epoch")), {**line, **best, **tested})

    @property
    def _best_metric(self) -> str:
        return self.config.evaluation.best_metric


def _by_plain_names(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return an epoch's metrics with its scores as ``AP``, ``AP50`` ...; one without objects is NaN."""
    found = {}
    for name, value in metrics.items():
        score = name.startswith(_SCORE)
        plain = name.removeprefix(_SCORE) if score and not name.startswith(_OF_A_CLASS) else name
        found[plain] = math.nan if score and value < 0 else value
    return found


def _worker() -> Worker:
    """Return this process on what Ray has given the trial: GPU or CPU, and as many threads as CPUs."""
    import torch

    from raydistill.runs.worker import Worker

    given = ray.get_runtime_context().get_assigned_resources()
    torch.set_num_threads(max(1, int(given.get("CPU", 1))))
    gpu = given.get("GPU", 0) > 0 and torch.cuda.is_available()
    return Worker(device=torch.device("cuda", 0) if gpu else torch.device("cpu"))


def _tell(event: Event) -> None:
    """Leave the words of a trial in its process's log, where Ray finds them."""
    if isinstance(event, Note):
        _log.log(logging.WARNING if event.warning else logging.INFO, event.text)
