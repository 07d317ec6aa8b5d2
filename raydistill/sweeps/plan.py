"""Which trials a sweep runs and in which order; the records in its directory are the plan's memory."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from raydistill.config import dump, load_config
from raydistill.config.loader import read_text
from raydistill.config.precision import TEACHER_PRECISION, Precision, precision_of, precision_text, with_precision
from raydistill.errors import UserError, one_error
from raydistill.runs.comparison import comparison
from raydistill.runs.directory import DATA_RECORD
from raydistill.runs.events import Note
from raydistill.runs.scores import exists
from raydistill.runs.settings import is_begun, stored_precision
from raydistill.storage.mirror import place_of
from raydistill.storage.output import Output
from raydistill.sweeps.confirm import headline, trials_of
from raydistill.sweeps.directory import Role, Status, SweepDirectory, TrialRecord
from raydistill.sweeps.file import (
    Confirmation,
    LoadedSweep,
    Point,
    controls,
    differences,
    dump_sweep,
    precision_then,
    trial_config,
    with_teachers_precision,
)
from raydistill.sweeps.suggestions import Suggestions

_OPEN = "teacher_precision: auto"  # so in the recipes of an earlier version, whose trials decided by themselves
_POINT_OF: dict[Role, int] = {"baseline": -1, "constant": -2}


@dataclass(frozen=True)
class Score:
    """A trial's result so far."""

    value: float  # the sweep's metric at the best epoch; NaN before the first evaluation
    epoch: int  # evaluated last


class Plan:
    """The trials that are still to be run: the controls first, then every point under every seed."""

    def __init__(self, loaded: LoadedSweep, output: Output) -> None:
        """Read what was recorded before.

        Raises:
            UserError: when the directory holds a sweep with other settings.
        """
        self.loaded = loaded
        self._output = output
        self.directory = SweepDirectory(output.folder, output)
        self._claim()
        self._records = {record.name: record for record in self._recorded()}
        self._of_point: dict[int, set[str]] = {}  # names of a point's trials, to find them among many
        for record in self._records.values():
            if record.role != "confirmed":  # a search learns nothing from those
                self._of_point.setdefault(record.point, set()).add(record.name)
        self._suggestions = Suggestions(loaded) if loaded.points is None else None
        self._waiting: dict[int, set[int]] = {}  # seeds of a suggested point that have not ended
        self._queue: deque[TrialRecord] = deque()
        for role, settings in controls(loaded).items():
            self._line_up(role, _POINT_OF[role], settings)
        for number, point in enumerate(loaded.points or self._suggested_before()):
            self._line_up("searched", number, point)
        self._next_number = len(self._waiting)
        if loaded.confirmation is not None:
            self._line_up_again(loaded.confirmation)

    @property
    def precision(self) -> Precision | None:
        """In what the teacher of every trial answers; None until that is decided."""
        return precision_of(self.loaded.config)

    def decide_precision(self, precision: Precision) -> str:
        """Write down in what the teacher answers in all trials that are still to be run, on any machine; say it."""
        before = self.loaded.config
        self.loaded = with_teachers_precision(self.loaded, precision)
        self._output.write_text(self.directory.settings, dump_sweep(self.loaded))
        return precision_text(precision, before)

    @property
    def missing_metric(self) -> Note | None:
        """A warning where the scores of the teacher show that the validation split has no object for the metric."""
        metric = self.loaded.sweep.metric
        for row in comparison(self.directory.path):
            if row.stage == "teacher" and not exists(row.scores[metric]):
                text = f"metric: must exist on the validation split, got {metric} without an object of its size there"
                return Note(f"{text}: no trial is better than another; choose another metric", warning=True)
        return None

    @property
    def total(self) -> int:
        """How many trials the sweep has, controls included."""
        return self.loaded.num_trials

    @property
    def headline(self) -> str:
        """How much there is to do, what was left out, and in what the teacher answers where that is known."""
        if self.loaded.confirmation is not None:
            return headline(self.loaded.confirmation, self._records)
        kept = sum(record.ended for record in self.records)
        sentences = [f"{self.total} trials in {self.loaded.config.output}"]
        if kept:
            sentences.append(f"{kept} of them ended before and are kept")
        lines = ["; ".join(sentences), *self.loaded.dropped]
        sweep = self.loaded.sweep
        if sweep.mode == "min":
            lines.append(
                f"mode: min takes the lowest {sweep.metric} for the best, which is the worst; leave it out for max"
            )
        if self.precision is not None and TEACHER_PRECISION not in self.loaded.sweep.space:
            lines.append(precision_text(self.precision, self.loaded.config))
        return "\n".join(lines)

    @property
    def unfinished(self) -> bool:
        """Whether any trial is left."""
        if any(not self._records[record.name].ended for record in self._queue):
            return True
        return self._suggestions is not None and self._next_number < (self.loaded.sweep.num_trials or 0)

    @property
    def controls_left(self) -> bool:
        """Whether the next trial is a control."""
        return bool(self._queue) and self._queue[0].role != "searched"

    @property
    def records(self) -> list[TrialRecord]:
        """Every trial that is known so far; those that were not begun are unfinished."""
        return list(self._records.values())

    def next(self) -> TrialRecord | None:
        """Return the trial to run next, its directory made ready; None when there is no other."""
        while True:
            if not self._queue and not self._suggest():
                return None
            record = self._queue.popleft()
            if self._records[record.name].ended:  # it was stopped before it could be
                continue
            try:
                self._make_ready(record)
            except UserError as error:
                self._end(dataclasses.replace(record, status="failed", reason=str(error)))
                continue
            self._records[record.name] = record
            return record

    def record(self, name: str) -> TrialRecord:
        """Return what is known of a trial that was begun."""
        return self._records[name]

    def score(self, name: str) -> Score:
        """Return how far a trial has come."""
        best_metric = self.loaded.config.evaluation.best_metric
        lines = [line for line in self.directory.trial(name).run.lines() if f"val/{best_metric}" in line]
        if not lines:
            return Score(math.nan, 0)
        best = max(lines, key=lambda line: line[f"val/{best_metric}"])  # the first of equals, as best.pt
        if not exists(best[f"val/{best_metric}"]):
            best = lines[-1]
        value = best[f"val/{self.loaded.sweep.metric}"]
        return Score(value if value >= 0 else math.nan, int(lines[-1]["epoch"]))

    def end(self, name: str, seconds: float, lost: str = "") -> TrialRecord:
        """Record what became of a trial that runs no longer.

        Args:
            name: the trial's.
            seconds: that it took this time.
            lost: why its worker was lost, if it was.
        """
        record, trial = self._records[name], self.directory.trial(name)
        self._output.pull(trial.path)  # a worker on another machine may have written it
        reason = lost or (
            trial.failure.read_text(encoding="utf-8").partition("\n")[0] if trial.failure.is_file() else ""
        )
        status: Status = "failed" if reason else "finished" if trial.run.finished else "stopped"
        ended = dataclasses.replace(record, status=status, reason=reason, seconds=record.seconds + seconds)
        self._end(ended)
        return ended

    def changed(self, name: str, settings: Point) -> None:
        """Record that a trial goes on with other settings than before."""
        record, trial = self._records[name], self.directory.trial(name)
        if record.settings != settings:
            self._records[name] = dataclasses.replace(record, settings=settings)
            self._output.remove(trial.recipe)
            self._make_ready(self._records[name])

    def interrupted(self, name: str, seconds: float) -> None:
        """Record the time of a trial that will go on another day."""
        record = self._records[name]
        if not record.ended:
            self.directory.trial(name).write(dataclasses.replace(record, seconds=record.seconds + seconds))

    def _claim(self) -> None:
        """Write what the sweep is, or compare with what it was."""
        file = self.directory.settings
        if file.is_file():
            before = read_text(file, str(file))
            begun = self._with_precision_then(before)
            changed = differences(before, begun)
            if changed and self.directory.begun:
                raise one_error(
                    changed,
                    f"{self.directory.path}: holds another sweep; choose another --output, or remove the directory",
                )
            self.loaded = self.loaded if changed else begun
        if not self.directory.begun and not is_begun(self.directory.teacher):
            self._output.remove(self.directory.path / DATA_RECORD)  # of an attempt that never began
        self._output.write_text(file, dump_sweep(self.loaded))

    def _with_precision_then(self, before: str) -> LoadedSweep:
        """Return the sweep with what its teacher answered in, where that is left open now.

        An earlier version left it to every trial: what all that were begun have in common is the sweep's.

        Raises:
            UserError: where they have another one in common than is set now.
        """
        then = precision_then(before)
        if then is None:
            found = {stored_precision(trial.run) for trial in self.directory.trials()} - {None}
            then = found.pop() if len(found) == 1 else None
            if then is not None and self.precision not in (None, then):
                raise UserError(
                    f"{self.directory.path}: {TEACHER_PRECISION}: must stay {then}, as its trials were begun, got "
                    f"{self.precision}; give {TEACHER_PRECISION}={then}, or choose another --output"
                )
        if then is None or self.precision is not None:
            return self.loaded
        return with_teachers_precision(self.loaded, then)

    def _recorded(self) -> Iterator[TrialRecord]:
        for record in self.directory.records():
            yield dataclasses.replace(record, status="unfinished", reason="") if record.status == "failed" else record

    def _suggested_before(self) -> list[Point]:
        points = {record.point: record.settings for record in self._records.values() if record.role == "searched"}
        for number in sorted(points):
            if self._suggestions is not None:
                self._suggestions.repeat(number, points[number])
        return [points[number] for number in sorted(points)]

    def _suggest(self) -> bool:
        """Line up the trials of a new point; False when there is none."""
        if self._suggestions is None or self._next_number >= (self.loaded.sweep.num_trials or 0):
            return False
        point = self._suggestions.ask(self._next_number)
        if point is None:
            return False
        self._line_up("searched", self._next_number, point)
        self._next_number += 1
        return True

    def _line_up(self, role: Role, number: int, settings: Point) -> None:
        """Queue a point under every seed, as far as it has not ended."""
        if role == "searched":
            self._waiting[number] = set(self.loaded.sweep.seeds)
        for seed in self.loaded.sweep.seeds:
            name = f"p{number:04d}-seed{seed}" if role == "searched" else f"{role}-seed{seed}"
            record = self._records.setdefault(name, TrialRecord(name, role, number, seed, settings))
            self._of_point.setdefault(number, set()).add(name)
            if not record.ended:
                self._queue.append(record)
            else:
                self._tell(record)

    def _line_up_again(self, confirmation: Confirmation) -> None:
        """Queue what is to be confirmed instead of all else: the sweep has had its turn."""
        self._suggestions = None
        asked = trials_of(confirmation, controls(self.loaded)["baseline"])
        known = [self._records.setdefault(record.name, record) for record in asked]
        self._queue = deque(record for record in known if not record.ended)

    def _make_ready(self, record: TrialRecord) -> None:
        trial = self.directory.trial(record.name)
        if not trial.recipe.is_file():
            config = trial_config(self.loaded, record.settings, record.seed, place_of(trial.path))
            self._output.write_text(trial.recipe, dump(config))
        elif self.precision is not None and _OPEN in read_text(trial.recipe, str(trial.recipe)):
            precision = stored_precision(trial.run) or self.precision
            self._output.write_text(trial.recipe, dump(with_precision(load_config(str(trial.recipe)), precision)))
        trial.write(record)

    def _end(self, record: TrialRecord) -> None:
        trial = self.directory.trial(record.name)
        self._records[record.name] = record
        trial.write(record)
        if record.ended:  # three fifths of its disk space, for nothing: it will not go on
            trial.run.remove_checkpoints()
        self._tell(record)

    def _tell(self, record: TrialRecord) -> None:
        """Let the search learn from a point once all its seeds have ended."""
        if record.role != "searched":
            return
        waiting = self._waiting[record.point]
        waiting.discard(record.seed)
        if waiting or self._suggestions is None:
            return
        same_point = [self._records[name] for name in sorted(self._of_point[record.point])]
        scores = [score for score in (self.score(other.name) for other in same_point) if not math.isnan(score.value)]
        if len(scores) < len(same_point) or any(other.status == "failed" for other in same_point):
            self._suggestions.tell_failed(record.point)
        else:
            pairs = zip(scores, same_point, strict=True)
            stopped = [score.epoch for score, other in pairs if other.status == "stopped"]
            self._suggestions.tell(record.point, fmean(score.value for score in scores), min(stopped, default=0))
