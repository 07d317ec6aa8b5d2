"""What the user sees: a bar with losses and time left on a terminal, one plain line per epoch in a pipe."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from raydistill.errors import printable
from raydistill.runs.events import EpochDone, Evaluating, Event, StageStarted, StepDone
from raydistill.runs.scores import points
from raydistill.runs.time_left import TimeLeft, in_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_WEIGHTED = "weighted/"  # and a term's name, its method's before it
_SHORT = {"classification": "class", "regression": "box"}
"""What terms are called in a line; others by their own name."""
_SECONDS_BETWEEN_STEPS = 0.1  # drawing takes some milliseconds
_SECONDS_OF_SPEED = 600.0  # the time left is estimated from so many, evaluations among them


@dataclass
class Display:
    """Shows events on ``stream``; call it with each of them."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    left: TimeLeft = field(default_factory=TimeLeft)
    """Follows the run; by default nothing is known of its other stages."""
    _bar: _Bar | None = None
    _steps_per_epoch: int = 1

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, StageStarted):
            self._start(event)
        elif isinstance(event, StepDone):
            self._step(event)
        elif isinstance(event, Evaluating):
            self._evaluating(event)
        elif isinstance(event, EpochDone):
            self._epoch(event)
        else:
            self._line(f"{'warning: ' if event.warning else ''}{event.text}")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _start(self, event: StageStarted) -> None:
        self.close()
        self._steps_per_epoch = event.steps_per_epoch
        resumed = f", going on after epoch {event.first_epoch}" if event.first_epoch else ""
        if event.first_step:
            resumed = f", going on in epoch {event.first_epoch + 1} after step {event.first_step}"
        place = self.left.place(event.stage)
        self._line(
            f"{event.stage}{f' ({place})' if place else ''}: {event.epochs} epochs of {event.steps_per_epoch} "
            f"steps{resumed}"
        )
        console = terminal(self.stream)
        if console is not None:
            done = event.first_epoch * event.steps_per_epoch + event.first_step
            self._bar = _Bar(console, event.stage, event.epochs * event.steps_per_epoch, done)

    def _step(self, event: StepDone) -> None:
        if self._bar is not None:
            done = (event.epoch - 1) * self._steps_per_epoch + event.step
            self._bar.show_step(f"{_losses(event.losses)}, {event.images_per_second:.1f} images/s", done)

    def _evaluating(self, event: Evaluating) -> None:
        if self._bar is not None:
            what = "scoring" if event.done == event.total else f"evaluating image {event.done} of {event.total}"
            self._bar.show(what)

    def _epoch(self, event: EpochDone) -> None:
        if self._bar is not None:
            self._bar.show("", event.epoch * self._steps_per_epoch)
        losses = {name.removeprefix("train/"): value for name, value in event.metrics.items()}
        parts = [f"{event.stage} epoch {event.epoch}/{event.epochs}", _losses(losses)]
        if "train/images_per_second" in event.metrics:
            parts.append(f"{event.metrics['train/images_per_second']:.1f} images/s")
        parts.append(f"{event.seconds:.0f} s")
        if "val/AP" in event.metrics:
            scores = [(name, event.metrics[f"val/{name}"]) for name in ("AP", "AP50")]
            parts.append(", ".join(f"{name} {points(value)}" for name, value in scores))
        self.left.epoch_done(event.stage, event.epoch, event.seconds)
        if self.left.seconds:
            parts.append(f"{in_words(self.left.seconds)} left")
        self._line("  ".join(part for part in parts if part))
        if event.epoch == event.epochs:
            self.close()

    def _line(self, text: str) -> None:
        text = printable(text, lines=True)
        if self._bar is not None:
            print_above(self._bar.console, text)
        else:
            self.stream.write(text + "\n")
            self.stream.flush()


def terminal(stream: TextIO) -> Console | None:
    """Return the console of a terminal that can draw a line anew; None for a pipe, a file, a dumb terminal."""
    if not stream.isatty():  # asked first: FORCE_COLOR makes rich take a pipe for a terminal
        return None
    from rich.console import Console

    console = Console(file=stream, markup=False, emoji=False, highlight=False)
    return console if console.is_terminal and not console.is_dumb_terminal else None


def print_above(console: Console, text: str) -> None:
    """Write a line above what is drawn, as it is; the terminal breaks it where it is long."""
    console.print(text, soft_wrap=True)


class _Bar:
    """A bar over all steps of a stage, drawn anew with each event: about once a second.

    No thread draws it. One could hold rich's lock, or stderr, at the moment in which a loader process is forked.
    """

    def __init__(self, console: Console, stage: str, total: int, done: int) -> None:
        from rich import progress
        from rich.table import Column

        self.console = console
        self._next_step = 0.0
        if console.width >= 60:
            columns: list[str | progress.ProgressColumn] = ["{task.description}", progress.BarColumn(20)]
        else:  # what tells more than a bar keeps its place
            columns = ["{task.description}"]
        columns += [
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(compact=True),
            progress.TextColumn(
                "{task.fields[what]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
            ),
        ]
        self._progress: Progress = progress.Progress(
            *columns,
            console=console,
            auto_refresh=False,
            transient=True,
            expand=True,
            redirect_stdout=False,  # it may be a file
            speed_estimate_period=_SECONDS_OF_SPEED,
        )
        self._task: TaskID = self._progress.add_task(stage, total=total, completed=done, what="")
        self._progress.start()

    def show_step(self, what: str, done: int) -> None:
        """Show a step, unless one was drawn just now."""
        if time.monotonic() >= self._next_step:
            self._next_step = time.monotonic() + _SECONDS_BETWEEN_STEPS
            self.show(what, done)

    def show(self, what: str, done: int | None = None) -> None:
        """Show ``what`` behind the bar, and ``done`` steps; the same number as before when there is none."""
        self._progress.update(self._task, completed=done, what=what, refresh=True)

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()


def _losses(losses: dict[str, float]) -> str:
    shown = {
        label: losses[name] for name, label in (("total", "loss"), ("detection/total", "detection")) if name in losses
    }
    terms = {name.removeprefix(_WEIGHTED): value for name, value in losses.items() if name.startswith(_WEIGHTED)}
    own = [name.rpartition("/")[2] for name in terms]
    for name, term in zip(terms, own, strict=True):
        label = _SHORT.get(term, term) if own.count(term) == 1 else name  # two methods may call theirs the same
        shown[label] = terms[name]
    return " ".join(f"{label} {value:.3f}" for label, value in shown.items())
