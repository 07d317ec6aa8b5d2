"""Which trials a sweep runs and in which order; the records in its directory are the plan's memory."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterator

from raydistill.config import dump, load_config
from raydistill.config.loader import read_text
from raydistill.config.pooling import with_exact_pooling
from raydistill.config.precision import TEACHER_PRECISION, Precision, precision_of, precision_text, with_precision
from raydistill.errors import UserError
from raydistill.runs.settings import stored_precision
from raydistill.storage.mirror import place_of
from raydistill.storage.output import Output
from raydistill.sweeps.announcement import counts, said_beforehand
from raydistill.sweeps.claim import claim
from raydistill.sweeps.confirm import ended_of, headline, trials_of
from raydistill.sweeps.directory import Role, Status, SweepDirectory, TrialRecord
from raydistill.sweeps.file import (
    Confirmation,
    LoadedSweep,
    Point,
    controls,
    dump_sweep,
    trial_config,
    with_teachers_precision,
)
from raydistill.sweeps.keep import BestWeights, disk_needed
from raydistill.sweeps.scores import Score, mean_of, score_of
from raydistill.sweeps.suggestions import Suggestions

_POOLING = "roi_align: "  # not in the recipes of an earlier version
_OPEN = "teacher_precision: auto"  # so in the recipes of an earlier version, whose trials decided by themselves
_POINT_OF: dict[Role, int] = {"baseline": -1, "constant": -2}


class Plan:
    """The trials that are still to be run: the controls first, then every point under every seed."""

    def __init__(self, loaded: LoadedSweep, output: Output) -> None:
        """Read what was recorded before.

        Raises:
            UserError: when the directory holds a sweep with other settings.
        """
        self._output = output
        self.directory = SweepDirectory(output.folder, output)
        self.loaded = claim(self.directory, loaded)
        self.over = ""
        """Why no other trial is begun though some are left; empty while they are."""
        self.best: tuple[int, float] | None = None
        """The point with the best score under all seeds, and that; looked for where ``target`` is set."""
        self._best_weights = BestWeights(self.directory, self.loaded.sweep.keep, self.loaded.sweep.mode)
        self._failed: set[str] = set()  # before, and not tried again yet
        self._records = {record.name: record for record in self._recorded()}
        self._of_point: dict[int, set[str]] = {}  # names of a point's trials, to find them among many
        for record in self._records.values():
            if record.role != "confirmed":  # a search learns nothing from those
                self._of_point.setdefault(record.point, set()).add(record.name)
        self._suggestions = Suggestions(self.loaded) if self.loaded.points is None else None
        self._exhausted = False  # the search finds no other point
        self._waiting: dict[int, set[int]] = {}  # seeds of a point that have not ended
        self._queue: deque[TrialRecord] = deque()
        for role, settings in controls(self.loaded).items():
            self._line_up(role, _POINT_OF[role], settings)
        for number, point in enumerate(self.loaded.points or self._suggested_before()):
            self._line_up("searched", number, point)
        self._next_number = len(self._waiting)
        if self.loaded.confirmation is not None:
            self._line_up_again(self.loaded.confirmation)
        elif not self._queue:
            self._suggest()  # whether there is another point decides whether anything is left

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
    def has_score(self) -> bool:
        """Whether any searched trial has ended with one."""
        ended = (record for record in self.records if record.role == "searched" and record.ended)
        return any(not math.isnan(self.score(record.name).value) for record in ended)

    @property
    def total(self) -> int:
        """How many trials the sweep has, controls included."""
        return self.loaded.num_trials

    @property
    def headline(self) -> str:
        """How much there is to do, what was left out, and in what the teacher answers where that is known."""
        if self.loaded.confirmation is not None:
            return headline(self.loaded.confirmation, self._records)
        lines = [counts(self.loaded, len(self.ended), len(self._failed))]
        lines += [*filter(None, [self.loaded.data_found]), *said_beforehand(self.loaded)]
        if needed := self.disk_needed:
            lines.append(needed)
        if self.precision is not None and TEACHER_PRECISION not in self.loaded.sweep.space:
            lines.append(precision_text(self.precision, self.loaded.config))
        return "\n".join(lines)

    @property
    def disk_needed(self) -> str:
        """What the weights of the whole sweep take; empty until a trial has ended, and where it is little."""
        return disk_needed(self.directory, self.loaded, [record for record in self.records if record.ended])

    @property
    def unfinished(self) -> bool:
        """Whether any trial is left."""
        return any(not self._records[record.name].ended for record in self._queue) or self._may_suggest

    @property
    def controls_left(self) -> bool:
        """Whether the next trial is a control."""
        return bool(self._queue) and self._queue[0].role != "searched"

    @property
    def records(self) -> list[TrialRecord]:
        """Every trial that is known so far; those that were not begun are unfinished."""
        return list(self._records.values())

    @property
    def ended(self) -> list[TrialRecord]:
        """Those of them that have ended; what was run again under fresh seeds counts where that is the plan."""
        return ended_of(self.loaded, self._records)

    def next(self) -> TrialRecord | None:
        """Return the trial to run next, its directory made ready; None when there is no other."""
        while True:
            if self.over or (not self._queue and not self._suggest()):
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
        return score_of(self.directory.trial(name).run, self.loaded)

    def trim_weights(self) -> None:
        """Remove the weights that the sweep does not keep, of what had ended before."""
        self._best_weights.trim()

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

    def _recorded(self) -> Iterator[TrialRecord]:
        """Yield what is recorded; what has failed is unfinished, unless it is to be left."""
        for record in self.directory.records():
            if record.status == "failed":
                self._failed.add(record.name)
            again = record.status == "failed" and self.loaded.sweep.failed != "leave"
            yield dataclasses.replace(record, status="unfinished", reason="") if again else record

    def _is_asked_for(self, record: TrialRecord) -> bool:
        """Return whether a trial that has not ended is to be run: ``failed`` may say otherwise."""
        if self.loaded.sweep.failed == "retry":
            return True
        return (record.name in self._failed) == (self.loaded.sweep.failed == "only")

    def _suggested_before(self) -> list[Point]:
        points = {record.point: record.settings for record in self._records.values() if record.role == "searched"}
        for number in sorted(points):
            if self._suggestions is not None:
                self._suggestions.repeat(number, points[number])
        return [points[number] for number in sorted(points)]

    def _suggest(self) -> bool:
        """Line up the trials of a new point; False when there is none."""
        if self._suggestions is None or not self._may_suggest:
            return False
        point = self._suggestions.ask(self._next_number)
        if point is None:
            self._exhausted = True
            return False
        self._line_up("searched", self._next_number, point)
        self._next_number += 1
        return True

    @property
    def _may_suggest(self) -> bool:
        """Whether the search may have another point."""
        if self._suggestions is None or self._exhausted or self.loaded.sweep.failed == "only":
            return False
        return self._next_number < self.loaded.num_points

    def _line_up(self, role: Role, number: int, settings: Point) -> None:
        """Queue a point under every seed, as far as it has not ended."""
        if role == "searched":
            self._waiting[number] = set(self.loaded.sweep.seeds)
        for seed in self.loaded.sweep.seeds:
            name = f"p{number:04d}-seed{seed}" if role == "searched" else f"{role}-seed{seed}"
            record = self._records.setdefault(name, TrialRecord(name, role, number, seed, settings))
            self._of_point.setdefault(number, set()).add(name)
            if record.ended or record.status == "failed":
                self._tell(record)
            elif self._is_asked_for(record):
                self._queue.append(record)

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
        if _POOLING not in read_text(trial.recipe, str(trial.recipe)):
            self._output.write_text(trial.recipe, dump(with_exact_pooling(load_config(str(trial.recipe)))))
        trial.write(record)

    def _end(self, record: TrialRecord) -> None:
        trial = self.directory.trial(record.name)
        self._records[record.name] = record
        trial.write(record)
        if record.ended:  # three fifths of its disk space, for nothing: it will not go on
            trial.run.remove_checkpoints()
        self._tell(record)
        self._best_weights.trim()

    def _tell(self, record: TrialRecord) -> None:
        """Let those learn from a point who want to know, once all its seeds have ended."""
        if record.role != "searched":
            return
        waiting = self._waiting[record.point]
        waiting.discard(record.seed)
        wanted = self._suggestions is not None or self._best_weights.wanted or self.loaded.sweep.target is not None
        if waiting or not wanted:
            return
        same_point = [self._records[name] for name in sorted(self._of_point[record.point])]
        scores = [self.score(other.name) for other in same_point]
        mean, failed = mean_of(scores), any(other.status == "failed" for other in same_point)
        if not failed:
            self._best_weights.add(record.point, mean, same_point)
            self._compare(record.point, mean)
        if self._suggestions is None:
            return
        if failed or math.isnan(mean):
            self._suggestions.tell_failed(record.point)
        else:
            pairs = zip(scores, same_point, strict=True)
            stopped = [score.epoch for score, other in pairs if other.status == "stopped"]
            self._suggestions.tell(record.point, mean, min(stopped, default=0))

    def _compare(self, point: int, mean: float) -> None:
        """Remember the best point."""
        sign = 1 if self.loaded.sweep.mode == "max" else -1
        if not math.isnan(mean) and (self.best is None or sign * mean > sign * self.best[1]):
            self.best = point, mean
