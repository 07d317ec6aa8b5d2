"""Where a worker's numbers and words go: files in the run directory, and whoever listens."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from raydistill.errors import UserError
from raydistill.runs.directory import RunDirectory
from raydistill.runs.events import EpochDone, Event, Listener, Note
from raydistill.runs.scores import existing, told_apart
from raydistill.runs.worker import Worker
from raydistill.storage.mirror import named

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


_NOT_IN_A_TAG = re.compile(r"[^-/\w.]")  # what tensorboardX replaces in a name


class Reporter(Protocol):
    """What carries a stage's numbers away; every worker has one and all of them call ``report`` together."""

    @property
    def files_first(self) -> bool:
        """Whether an epoch's files must lie there when its ``EpochDone`` comes; else they are still being written."""

    def report(self, metrics: dict[str, float]) -> None:
        """Record one epoch's metrics, plain Python numbers; the checkpoint is written right after."""

    def event(self, event: Event) -> None:
        """Tell the user."""

    def resume_from(self) -> list[Path]:
        """Return the checkpoints to go on from, newest first; an older one is for when those before it are damaged."""


@dataclass(frozen=True)
class FileReporter:
    """Writes ``metrics.jsonl`` in the run directory and hands events on; only the main worker does either.

    With ``tensorboard`` event files are written beside it.
    """

    run: RunDirectory
    worker: Worker
    listener: Listener
    tensorboard: bool = False
    files_first: bool = False
    _event_file: list[SummaryWriter] = field(default_factory=list)  # the open one

    def report(self, metrics: dict[str, float]) -> None:
        """Append one line."""
        if self.worker.is_main:
            try:
                self.run.output.append_line(self.run.metrics, json.dumps(metrics))
            except OSError as error:
                raise UserError(
                    f"{self.run.metrics}: cannot be written ({error}); make room, then repeat the command"
                ) from error
            if self.tensorboard:
                self._to_tensorboard(metrics)

    def event(self, event: Event) -> None:
        """Hand on."""
        if self.worker.is_main:
            self.listener(Note(named(event.text), event.warning) if isinstance(event, Note) else event)
            if isinstance(event, EpochDone) and event.epoch == event.epochs and self._event_file:
                self._event_file.pop().close()

    def resume_from(self) -> list[Path]:
        """Return the run directory's own checkpoints."""
        self.run.output.pull(self.run.path, everything=True)
        return self.run.checkpoints()

    def _to_tensorboard(self, metrics: dict[str, float]) -> None:
        """Write every metric as a scalar over epochs; after a restart those of lost epochs are purged."""
        epoch = int(metrics["epoch"])
        if not self._event_file:
            from tensorboardX import SummaryWriter  # takes a second or two

            self._event_file.append(SummaryWriter(str(self.run.path), purge_step=epoch, flush_secs=1))
        names = told_apart(metrics, lambda name: _NOT_IN_A_TAG.sub("_", name))
        for name, value in existing(metrics).items():
            self._event_file[0].add_scalar(names[name], value, epoch)
        if self.run.output.remote:
            self._event_file[0].flush()
            self.run.output.publish(max(self.run.path.glob("events.out.tfevents.*")))  # their names begin with the time
