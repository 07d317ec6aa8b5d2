"""One trial of a sweep, as a worker runs it: a student beside the teacher that all trials share."""

from __future__ import annotations

import functools
import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydistill.config import load_config
from raydistill.config.sections import Data, Downloads
from raydistill.data.build import Splits, build_splits
from raydistill.errors import UserError, first_line
from raydistill.runs.directory import RunDirectory
from raydistill.runs.events import EpochDone, Event, Note, TrialEvent
from raydistill.runs.reporter import FileReporter
from raydistill.runs.worker import Worker
from raydistill.storage.mirror import named
from raydistill.storage.parcels import NOTHING, Shipped
from raydistill.sweeps.directory import SweepDirectory, TrialDirectory
from raydistill.training.out_of_memory import memory_explained
from raydistill.training.same_data import data_of
from raydistill.training.stages import run_student

Tell = Callable[[TrialEvent], None]
OnEpoch = Callable[[EpochDone], None]
"""Called on every worker after an epoch's checkpoint is written."""


def run_trial(
    sweep: SweepDirectory,
    name: str,
    worker: Worker,
    tell: Tell,
    on_epoch: OnEpoch | None,
    changed: Mapping[str, Any] | None = None,
    shipped: Shipped = NOTHING,
) -> str:
    """Train the student of one trial from where it stands; every worker of the trial calls it.

    Args:
        sweep: where the trial and the teacher lie.
        name: the trial's.
        worker: this process.
        tell: hears of epochs and steps; what else the trial says is left in its log.
        on_epoch: is asked after each epoch whether to go on; it may raise SystemExit. None: nobody asks, and an epoch's
            files are written while the next one is trained.
        changed: settings that are others now than in the trial's recipe, by dotted name.
        shipped: weights of the command's machine, by their names in the settings.

    Returns:
        What made the trial fail, in a sentence that is also left in its directory; empty when it is finished.
    """
    trial = sweep.trial(name)
    if worker.is_main:
        trial.output.remove(trial.failure)

    try:
        overrides = [f"{setting}={json.dumps(value)}" for setting, value in (changed or {}).items()]
        config = load_config(str(trial.recipe), overrides)

        def reporter_for(run: RunDirectory) -> TrialReporter:
            files = FileReporter(run, worker, _Listener(trial, tell), config.logging.tensorboard)
            return TrialReporter(files, on_epoch)

        with memory_explained(config):
            data = datasets(config.data, config.downloads)
            data_id, free, own = data_of(trial.output), tuple(changed or ()), trial.output.part(trial.path)
            speeds = _speeds_of(sweep.path)
            run_student(config, own, worker, reporter_for, data, sweep.teacher, shipped, data_id, free, speeds)
    except UserError as error:
        return _failed(trial, worker, str(error))
    except Exception as error:
        if worker.world_size > 1:
            raise  # another worker may have been lost: Ray starts the group again
        reason = f"{type(error).__name__}: {first_line(error)}"
        return _failed(trial, worker, reason, traceback.format_exc())
    return ""


def _failed(trial: TrialDirectory, worker: Worker, reason: str, details: str = "") -> str:
    text = named(f"{reason} (worker {worker.rank})" if worker.world_size > 1 else reason)
    trial.output.write_text(trial.failure, f"{' '.join(text.split())}\n{details}")
    return text


@functools.lru_cache(maxsize=1)
def datasets(data: Data, downloads: Downloads) -> Splits:
    """Return the data, read once for all trials of this process."""
    return build_splits(data, downloads)


@functools.lru_cache(maxsize=1)
def _speeds_of(_sweep: Path) -> dict[str, float]:
    """Return what this process knows of the speed of nets: trials with the same one are measured once."""
    return {}


@dataclass(frozen=True)
class _Listener:
    """Keeps what a trial says in its log, and tells of its epochs and steps."""

    trial: TrialDirectory
    tell: Tell

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self.trial.output.append_line(self.trial.log, f"{'warning: ' if event.warning else ''}{event.text}")
        else:
            self.tell(TrialEvent(self.trial.path.name, event))


@dataclass(frozen=True)
class TrialReporter:
    """The file reporter, and the scheduler asked after every epoch."""

    files: FileReporter
    on_epoch: OnEpoch | None

    @property
    def files_first(self) -> bool:
        """Whether anybody may end the trial, or take its files, after an epoch."""
        return self.on_epoch is not None

    def report(self, metrics: dict[str, float]) -> None:
        """Write the line."""
        self.files.report(metrics)

    def event(self, event: Event) -> None:
        """Hand on; after an epoch ask."""
        self.files.event(event)
        if isinstance(event, EpochDone) and self.on_epoch is not None:
            self.on_epoch(event)

    def resume_from(self) -> list[Path]:
        """Return the run directory's own checkpoints."""
        return self.files.resume_from()
