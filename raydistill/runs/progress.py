"""What the user sees: a bar with losses and time left on a terminal, one plain line per epoch in a pipe."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, TextIO

from tqdm import tqdm

from raydistill.runs.events import EpochDone, Evaluating, Event, StageStarted, StepDone

_SHORT = {
    "total": "loss",
    "detection/total": "detection",
    "weighted/feature": "feature",
    "weighted/classification": "class",
    "weighted/regression": "box",
    "weighted/rpn": "rpn",
}


@dataclass
class Display:
    """Shows events on ``stream``; call it with each of them."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _bar: tqdm[Any] | None = None
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
        self._line(f"{event.stage}: {event.epochs} epochs of {event.steps_per_epoch} steps{resumed}")
        if self.stream.isatty():
            self._bar = tqdm(
                total=event.epochs * event.steps_per_epoch,
                initial=event.first_epoch * event.steps_per_epoch + event.first_step,
                desc=event.stage,
                unit="step",
                file=self.stream,
                dynamic_ncols=True,
                leave=False,
            )

    def _step(self, event: StepDone) -> None:
        if self._bar is not None:
            done = (event.epoch - 1) * self._steps_per_epoch + event.step
            self._bar.set_postfix_str(f"{_losses(event.losses)}, {event.images_per_second:.1f} images/s", refresh=False)
            self._bar.update(done - self._bar.n)

    def _evaluating(self, event: Evaluating) -> None:
        if self._bar is not None:
            what = "scoring" if event.done == event.total else f"evaluating image {event.done} of {event.total}"
            self._bar.set_postfix_str(what)

    def _epoch(self, event: EpochDone) -> None:
        if self._bar is not None:
            self._bar.update(event.epoch * self._steps_per_epoch - self._bar.n)
        losses = {name.removeprefix("train/"): value for name, value in event.metrics.items()}
        parts = [f"{event.stage} epoch {event.epoch}/{event.epochs}", _losses(losses)]
        if "train/images_per_second" in event.metrics:
            parts.append(f"{event.metrics['train/images_per_second']:.1f} images/s")
        parts.append(f"{event.seconds:.0f} s")
        if "val/AP" in event.metrics:
            parts.append(f"AP {100 * event.metrics['val/AP']:.1f}, AP50 {100 * event.metrics['val/AP50']:.1f}")
        self._line("  ".join(part for part in parts if part))
        if event.epoch == event.epochs:
            self.close()

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=self.stream)
        else:
            self.stream.write(text + "\n")
            self.stream.flush()


def _losses(losses: dict[str, float]) -> str:
    return " ".join(f"{short} {losses[name]:.3f}" for name, short in _SHORT.items() if name in losses)
