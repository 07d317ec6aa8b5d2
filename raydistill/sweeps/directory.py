"""A sweep as a directory of plain files: what is known of every trial, and where its run lies."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from raydistill.config.renamed import current_names
from raydistill.errors import UserError
from raydistill.runs.directory import RunDirectory
from raydistill.storage.output import LOCAL, Output
from raydistill.storage.regular import RECORD_BYTES, read_text

LINEAGE = "lineage.jsonl"
Role = Literal["baseline", "constant", "searched", "confirmed_baseline", "confirmed"]
"""``baseline``: the student without distillation; ``constant``: the base's weights without decay; both are controls.
``confirmed``: a searched point again, under a seed that nothing was chosen on; ``confirmed_baseline``: its control."""
Status = Literal["unfinished", "finished", "stopped", "failed"]
"""``unfinished``: running, or interrupted; ``stopped``: ended early by the scheduler."""


@dataclass(frozen=True)
class TrialRecord:
    """One point of the search space under one seed, and what became of it."""

    name: str
    role: Role
    point: int  # counts the searched points from 0; -1 for the baseline, -2 for the constant weight
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)  # dotted name -> value; active ones only
    status: Status = "unfinished"
    reason: str = ""  # of a failure
    seconds: float = 0.0  # of all attempts, Ray's share included

    @property
    def ended(self) -> bool:
        """Whether nothing is left to be done; a failed trial is tried again when the command is repeated."""
        return self.status in ("finished", "stopped")

    @property
    def order(self) -> tuple[int, int, int]:
        """What trials are sorted by: the controls first, then by point and seed, and last what was run again."""
        part = {"searched": 1, "confirmed_baseline": 2, "confirmed": 3}.get(self.role, 0)
        return part, abs(self.point), self.seed


@dataclass(frozen=True)
class TrialDirectory:
    """The files of one trial."""

    path: Path
    output: Output = LOCAL
    """What it belongs to."""

    @property
    def record_file(self) -> Path:
        """The trial's record, as JSON."""
        return self.path / "trial.json"

    @property
    def recipe(self) -> Path:
        """The complete settings, as ``--print-config`` shows them."""
        return self.path / "recipe.yaml"

    @property
    def log(self) -> Path:
        """What the trial said, a line each."""
        return self.path / "log.txt"

    @property
    def failure(self) -> Path:
        """What made the trial fail: a sentence, then a traceback where the cause is not the user's."""
        return self.path / "failure.txt"

    @property
    def lineage(self) -> Path:
        """In a population: with which settings the student was trained, and in which trial, a line each."""
        return self.path / LINEAGE

    @property
    def changes(self) -> Path:
        """In a population: from which other trials it went on, a line each."""
        return self.path / "changes.jsonl"

    @property
    def run(self) -> RunDirectory:
        """The student's run directory."""
        alone = self.path / "baseline"
        return RunDirectory(alone if alone.is_dir() else self.path / "distilled", self.output)

    def read(self) -> TrialRecord:
        """Return the record.

        Raises:
            UserError: when there is none, or it is not ours.
        """
        try:
            record = TrialRecord(**json.loads(read_text(self.record_file, RECORD_BYTES)))
            if isinstance(record.settings, dict):
                record = dataclasses.replace(record, settings=current_names(record.settings))
            return record
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise UserError(f"{self.record_file}: must be the record of a trial, cannot be read ({error})") from error

    def write(self, record: TrialRecord) -> None:
        """Replace the record."""
        self.output.write_json(self.record_file, dataclasses.asdict(record))


@dataclass(frozen=True)
class SweepDirectory:
    """The files of a sweep."""

    path: Path
    output: Output = LOCAL
    """What it is."""

    @property
    def settings(self) -> Path:
        """What the sweep was begun with: ``sweep`` (the file) and ``config`` (its base's complete recipe)."""
        return self.path / "sweep.yaml"

    @property
    def teacher(self) -> RunDirectory:
        """The run directory of the teacher that all trials share."""
        return RunDirectory(self.path / "teacher", self.output)

    @property
    def report(self) -> Path:
        """The directory of tables, pictures and page."""
        return self.path / "report"

    @property
    def begun(self) -> bool:
        """Whether any trial was."""
        return any(self.path.glob("trials/*/trial.json"))

    @property
    def num_points(self) -> int:
        """How many points were begun, by the names of their trials: no record is read."""
        names = (file.parent.name for file in self.path.glob("trials/p*-seed*/trial.json"))
        return max((int(name[1:].partition("-")[0]) for name in names if re.match(r"p\d+-", name)), default=-1) + 1

    def trial(self, name: str) -> TrialDirectory:
        """Return the directory of the trial called ``name``."""
        return TrialDirectory(self.path / "trials" / name, self.output)

    def trials(self) -> list[TrialDirectory]:
        """Return every trial that was begun: the controls, then by point and seed."""
        return [directory for directory, _ in self._read()]

    def records(self) -> list[TrialRecord]:
        """Return the records of these trials."""
        return [record for _, record in self._read()]

    def _read(self) -> list[tuple[TrialDirectory, TrialRecord]]:
        found = [TrialDirectory(file.parent, self.output) for file in self.path.glob("trials/*/trial.json")]
        return sorted(((directory, directory.read()) for directory in found), key=lambda pair: pair[1].order)
