"""What trials reported to the scheduler of a sweep, in the order in which it heard of them.

Asynchronous schedulers decide by that order: a sweep that goes on tells its scheduler the same, and so decides as one
that was never interrupted.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass

from raydistill.sweeps.directory import SweepDirectory, TrialRecord


@dataclass(frozen=True)
class TrialReport:
    """A score that a trial reported."""

    trial: str
    epoch: int
    score: float
    ended: bool = False
    """Whether the trial ended with it."""
    stopped: bool = False
    """Whether the scheduler ended the trial early for it."""


class Journal:
    """The reports of a sweep, a line each in ``reports.jsonl``."""

    def __init__(self, sweep: SweepDirectory) -> None:
        self._output, self._file = sweep.output, sweep.path / "reports.jsonl"

    def read(self) -> list[TrialReport] | None:
        """Return the reports in their order; None where there is no journal.

        What cannot be read, as a line that a killed command was writing, is left out for good.
        """
        if not self._output.fetched(self._file).is_file():
            return None
        lines = self._file.read_text(encoding="utf-8", errors="replace").splitlines()
        found = [report for report in map(_parsed, lines) if report is not None]
        if len(found) < len(lines):
            self.write(found)
        return found

    def write(self, reports: list[TrialReport]) -> None:
        """Replace the journal."""
        self._output.write_text(self._file, "".join(f"{_line(report)}\n" for report in reports))

    def append(self, report: TrialReport) -> None:
        """Add a report, durably."""
        self._output.append_line(self._file, _line(report))


def reports_of_ended(sweep: SweepDirectory, records: list[TrialRecord], metric: str) -> list[TrialReport]:
    """Return what trials reported that ended before there was a journal: one after the other, in their order."""
    reports: list[TrialReport] = []
    for record in sorted((record for record in records if record.ended), key=lambda record: record.order):
        lines = [line for line in sweep.trial(record.name).run.lines() if f"val/{metric}" in line]
        own = [TrialReport(record.name, int(line["epoch"]), line[f"val/{metric}"]) for line in lines]
        if record.role == "searched":
            reports += own
        reports += [dataclasses.replace(last, ended=True) for last in own[-1:]]
    return reports


def ended_where_stopped(reports: list[TrialReport]) -> Iterator[TrialReport]:
    """Yield the reports, and an end after each that a trial was stopped for, if the command was killed before that."""
    ended = {report.trial for report in reports if report.ended}
    for report in reports:
        yield report
        if report.stopped and report.trial not in ended:
            yield dataclasses.replace(report, ended=True, stopped=False)


def _line(report: TrialReport) -> str:
    return json.dumps(dataclasses.asdict(report))


def _parsed(line: str) -> TrialReport | None:
    try:
        report = TrialReport(**json.loads(line))
        fits = isinstance(report.trial, str) and isinstance(report.epoch, int) and isinstance(report.score, int | float)
    except (ValueError, TypeError):
        return None
    return report if fits else None
