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
    """The point of a sweep with the best score; whether it is better than others, the last fields say."""

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
    points: int
    """Of how many it has the best score."""
    gain: float
    """The mean over the student alone of the same seed; NaN without one."""
    gain_by_chance: float
    """What the best of so many points is expected to gain where nothing has an effect; NaN where nothing tells it."""
    is_better: bool
    """Whether its gain is more than chance: on three pairs at least, with all points compared at once."""


@dataclass(frozen=True)
class Confirmed:
    """What the best point gained under fresh seeds, on which nothing was chosen."""

    number: int
    """The point's, in the tables."""
    gain: float
    """The mean over the student alone of the same seed."""
    interval: tuple[float, float]
    """In which that lies at 95%; NaN with one pair."""
    pairs: int
    """Of a trial and the student alone."""
    holds: bool
    """Whether there are three pairs at least, and the interval lies above 0."""


@dataclass(frozen=True)
class SweepRun:
    """A sweep to its end; what it made is read from its files when it is asked for."""

    output: str
    """Where its files are."""
    has_result: bool
    """Whether any searched trial came to an end with a score."""

    @property
    def trials(self) -> pd.DataFrame:
        """A row per trial: role, settings, scores from 0 to 1, gains over the controls."""
        return self.report.trials

    @property
    def best(self) -> BestPoint | None:
        """The point with the best score, of those whose trials all finished if there are any; None without a score."""
        return _best_point(self.report)

    @property
    def confirmed(self) -> Confirmed | None:
        """What came out when that point was run again under fresh seeds (``confirm``); None when it was not."""
        return _confirmed(self.report)

    @functools.cached_property
    def report(self) -> Report:
        """Its tables: ``report.trials``, ``report.epochs``, ``report.summary``, ``report.effects``."""
        return _load_report(self.output)

    def write_report(self, pictures: bool = True) -> Report:
        """Write the report as files, ``report/report.html`` and ``best.yaml`` among them, and return it."""
        return _write_report(self.output, pictures)


def nothing_to_confirm(report: Report) -> str:
    """Say why no point of a sweep can be run again under fresh seeds; empty where one can."""
    best = report.best
    if any((source.sweep.get("scheduler") or {}).get("name") in ("pbt", "pb2") for source in report.sources):
        return "the trials changed their settings while they trained, so none is run again"
    if best is None or not best.complete:
        return "no point has finished on every seed, so none is run again"
    return "" if best.differs else "no point is better than another, so none is run again"


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
    best = report.best
    return BestPoint(
        number=trial.record.point,
        settings=trial.record.settings,
        score=float(best.row["mean"]),
        path=place_of(student),
        recipe=settings,
        points=best.points,
        gain=float(best.row["gain_over_baseline"]),
        gain_by_chance=best.by_chance,
        is_better=best.is_better,
    )


def _confirmed(report: Report) -> Confirmed | None:
    from raydistill.reports.headline import holds

    row, gain = report.confirmation, "gain_over_baseline"
    if row is None or not row[f"{gain}_pairs"]:
        return None
    interval = float(row[f"{gain}_low"]), float(row[f"{gain}_high"])
    return Confirmed(int(row["point"]), float(row[gain]), interval, int(row[f"{gain}_pairs"]), holds(report, row))
