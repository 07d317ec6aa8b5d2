"""What the functions of ``api`` return: where a run or a sweep lies, and what can be read of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raydistill.storage.mirror import place_of, places_named
from raydistill.storage.output import Output

if TYPE_CHECKING:
    import pandas as pd

    from raydistill.config import Config
    from raydistill.detectors.base import Detector
    from raydistill.reports.build import Report
    from raydistill.runs.comparison import Row
    from raydistill.runs.directory import StageName


@dataclass(frozen=True)
class Run:
    """A run to its end; what it made is read from its files when it is asked for."""

    config: Config
    """All of its settings."""
    rows: tuple[Row, ...]
    """The comparison, a row per stage."""

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """The comparison as a frame, a row per stage; scores from 0 to 1."""
        import pandas as pd

        return pd.DataFrame([row.columns for row in self.rows])

    @property
    def output(self) -> str:
        """Where its files are."""
        return self.config.output

    @property
    def weights(self) -> str:
        """The file of the student's best weights."""
        from raydistill.runs.directory import stage_directory

        return place_of(stage_directory(Output.at(self.output), self._student_stage).best)

    @functools.cached_property
    def student(self) -> Detector:
        """The student at its best, ready to detect."""
        from raydistill.inference.on_data import load_student

        with places_named():
            return load_student(f"{self.output}/{self._student_stage}")

    @functools.cached_property
    def report(self) -> Report:
        """Its tables: ``report.trials``, ``report.epochs``, ``report.summary``."""
        return _load_report(self.output)

    def write_report(self, pictures: bool = True) -> Report:
        """Write the report as files, ``report/report.html`` among them, and return it."""
        return _write_report(self.output, pictures)

    @property
    def _student_stage(self) -> StageName:
        from raydistill.runs.directory import planned

        return planned(self.config)[-1]


@dataclass(frozen=True)
class BestPoint:
    """The point of a sweep that did best."""

    number: int
    """The point's, in the tables."""
    settings: dict[str, Any]
    """What it sets, by dotted name."""
    score: float
    """The mean of the sweep's metric over its seeds."""
    path: str
    """The run directory of its student; ``load`` takes it."""
    recipe: dict[str, Any]
    """A complete recipe; ``distill`` takes it."""


@dataclass(frozen=True)
class SweepRun:
    """A sweep to its end; what it made is read from its files when it is asked for."""

    output: str
    """Where its files are."""
    has_result: bool
    """Whether any searched trial came to an end."""

    @property
    def trials(self) -> pd.DataFrame:
        """A row per trial: role, settings, scores from 0 to 1, gains over the controls."""
        return self.report.trials

    @property
    def best(self) -> BestPoint | None:
        """The best point, chosen among those whose trials all finished if there are any; None without a score."""
        return _best_point(self.report)

    @property
    def nothing_to_confirm(self) -> str:
        """Why no point can be run again under fresh seeds; empty where one can."""
        best = self.report.best
        return "" if best is not None and best.complete else "no point has finished on every seed, so none is run again"

    @functools.cached_property
    def report(self) -> Report:
        """Its tables: ``report.trials``, ``report.epochs``, ``report.summary``, ``report.effects``."""
        return _load_report(self.output)

    def write_report(self, pictures: bool = True) -> Report:
        """Write the report as files, ``report/report.html`` and ``best.yaml`` among them, and return it."""
        return _write_report(self.output, pictures)


def _load_report(output: str) -> Report:
    from raydistill import reports

    with places_named():
        return reports.load(output)


def _write_report(output: str, pictures: bool) -> Report:
    from raydistill import reports

    with places_named():
        return reports.write_report(Output.at(output), pictures=pictures)  # all of it is here just now


def _best_point(report: Report) -> BestPoint | None:
    from raydistill.config import yaml_text
    from raydistill.reports.best_recipe import best_recipe, best_trial
    from raydistill.sweeps.directory import SweepDirectory

    found, recipe = best_trial(report), best_recipe(report)
    if report.best is None or found is None or recipe is None:
        return None
    source, trial = found
    student = SweepDirectory(source.path).trial(trial.record.name).run.path
    settings = yaml_text.read_mapping(recipe, "best.yaml")
    number, score = trial.record.point, float(report.best.row["mean"])
    return BestPoint(number, trial.record.settings, score, place_of(student), settings)
