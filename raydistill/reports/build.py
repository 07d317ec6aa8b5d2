"""From directories to a ``Report``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from raydistill.config.precision import TEACHER_PRECISION
from raydistill.errors import UserError
from raydistill.reports import again
from raydistill.reports.effects import effect_table
from raydistill.reports.growth import growth
from raydistill.reports.luck import Best, best_point, with_needed_gains
from raydistill.reports.reading import Kind, Source, read
from raydistill.reports.schedules import schedule_table, takeover_table
from raydistill.reports.settings import differing, searched, space_of, with_values
from raydistill.reports.summary import Mode, group_keys, summarize
from raydistill.reports.trials import epoch_table, name_of, scores_of, trial_table
from raydistill.storage.mirror import named, place_of
from raydistill.storage.output import Output

OF_POPULATIONS = ("schedules", "takeovers")
_MOST_NAMED = 6


@dataclass(frozen=True)
class Report:
    """Tables of runs or sweeps; scores and gains from 0 to 1, names of settings dotted as in the recipe."""

    kind: Kind
    title: str
    metric: str  # what was searched for, and what the gains are in
    mode: Mode
    settings: tuple[str, ...]  # searched, or different between the runs
    trials: pd.DataFrame
    epochs: pd.DataFrame
    summary: pd.DataFrame
    effects: pd.DataFrame
    schedules: pd.DataFrame  # of populations, as the next one
    takeovers: pd.DataFrame
    sources: tuple[Source, ...]
    best: Best | None  # of a sweep
    confirmation: pd.Series[Any] | None  # row of the summary: the best point again, under seeds nothing was chosen on
    teachers: dict[str, float]  # trial name of each finished teacher -> its score
    log_settings: frozenset[str]  # searched on a logarithmic scale
    notes: tuple[str, ...]  # what is missing or could not be read
    growth: tuple[str, ...] = ()  # how sweeps grew
    output: Path | None = None  # where it was written to

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """What is written as csv and parquet, by name; those of populations where there are any."""
        tables = {"trials": self.trials, "epochs": self.epochs, "summary": self.summary, "effects": self.effects}
        return tables | {name: table for name in OF_POPULATIONS if len(table := getattr(self, name))}

    @property
    def part(self) -> str:
        """The column that tells controls from what is compared with them."""
        return "stage" if self.kind == "run" else "role"


def build(directories: Sequence[Path | Output]) -> Report:
    """Read ``directories`` and compute every table.

    Raises:
        UserError: when a directory is neither run nor sweep, or when they cannot be put into one table.
    """
    sources = _named_apart([read(directory) for directory in directories])
    metric, mode = _agreed(sources)
    kind = sources[0].kind
    settings = searched(sources) if kind == "sweep" else differing(sources)
    log = frozenset(
        name for source in sources for name, spec in space_of(source).items() if "loguniform" in (spec or ())
    )
    trials = trial_table(sources, settings, metric)
    seeds = {source.name: _seeds(source) for source in sources}
    stale = again.no_longer_fresh(trials, seeds)
    fresh = trials[~stale]
    summary = summarize(fresh, settings, metric, mode, {name: len(own) for name, own in seeds.items()})
    summary = with_needed_gains(fresh, summary, group_keys(fresh, settings))
    effects = effect_table(trials, summary, settings, metric, mode, log)
    trials, summary = with_values(trials, settings), with_values(summary, settings)
    best = best_point(fresh, summary, metric, mode)
    confirmation = again.confirmation(summary, best)
    several = len(sources) > 1
    teachers = {
        name_of(source, source.teacher, several): scores_of(source.teacher, ["AP", metric])[metric]
        for source in sources
        if source.teacher is not None and source.teacher.result is not None
    }
    return Report(
        kind=kind,
        title=", ".join(source.name for source in sources),
        metric=metric,
        mode=mode,
        settings=tuple(settings),
        trials=trials,
        epochs=epoch_table(sources),
        summary=summary,
        effects=effects,
        schedules=schedule_table(sources),
        takeovers=takeover_table(sources),
        sources=tuple(sources),
        best=again.after(best, confirmation),
        confirmation=confirmation,
        teachers=teachers,
        log_settings=log,
        growth=tuple(named(sentence) for source in sources for sentence in growth(source)),
        notes=(
            *(named(note) for source in sources for note in (*source.notes, *_missing(source))),
            *again.notes(trials, summary, best, stale),
        ),
    )


def _named_apart(sources: list[Source]) -> list[Source]:
    """Give directories of the same name their whole path, so that their trials can be told apart."""
    names = [source.name for source in sources]
    return [
        dataclasses.replace(source, name=place_of(source.path)) if names.count(source.name) > 1 else source
        for source in sources
    ]


def _agreed(sources: Sequence[Source]) -> tuple[str, Mode]:
    """Return the metric and mode that all sources share."""
    if not sources:
        raise UserError("report: must be given at least one directory of a run or a sweep")
    if len({source.path.resolve() for source in sources}) < len(sources):
        raise UserError("report: the same directory must not be given twice")
    if len({source.kind for source in sources}) > 1:
        raise UserError("report: directories must be all runs or all sweeps, got both; report on them apart")
    found = {(_metric(source.sweep), _mode(source.sweep)): source for source in sources}
    if len(found) > 1:
        texts = [f"{source.path} {metric} ({mode})" for (metric, mode), source in found.items()]
        raise UserError(f"report: sweeps must share their metric, got {', '.join(texts)}; report on them apart")
    return next(iter(found))


def _metric(sweep: dict[str, Any]) -> str:
    return str(sweep.get("metric", "AP")).removeprefix("val/")


def _mode(sweep: dict[str, Any]) -> Mode:
    return "min" if sweep.get("mode") == "min" else "max"


def _seeds(source: Source) -> list[int]:
    seeds = source.sweep.get("seeds")
    return seeds if isinstance(seeds, list) else [0]


def _under_earlier_rules(source: Source) -> list[str]:
    """Say which scores are not to be compared with those of this version."""
    every = [*source.trials, *([source.teacher] if source.teacher is not None and source.kind == "sweep" else [])]
    names = [trial.record.name for trial in every if trial.under_earlier_rules]
    if not names:
        return []
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return [
        f"{source.path}: the scores of {', '.join(names[:_MOST_NAMED])}{more} were made by an earlier version, which "
        "read other boxes, pixels and splits of some data: score them again (raydistill evaluate) before they are "
        "compared with later ones"
    ]


def _missing(source: Source) -> list[str]:
    """Say what a reader may look for in vain."""
    notes = []
    if source.kind == "sweep":
        if source.teacher is None:
            notes.append(f"{source.path}: the teacher is missing, so gains over it are")
        elif source.teacher.result is None:
            notes.append(f"{source.path}: the teacher is not finished, so gains over it are missing")
        if not source.trials:
            notes.append(f"{source.path}: no trial was begun yet")
        for role in ("baseline", "constant"):
            if source.trials and not any(trial.role == role and trial.finished for trial in source.trials):
                notes.append(f"{source.path}: no finished {role} control, so gains over it are missing")
    notes += _under_earlier_rules(source)
    precisions = {trial.teacher_precision for trial in source.trials} - {None}
    if len(precisions) > 1 and TEACHER_PRECISION not in searched([source]):
        notes.append(
            f"{source.path}: the teacher answered in {' and '.join(sorted(map(str, precisions)))}, not the same in all "
            "trials: their scores differ for that reason too"
        )
    if source.trials and all(trial.curves.empty and trial.result is None for trial in source.trials):
        notes.append(f"{source.path}: no epoch was finished yet")
    elif source.trials and not any("val/AP" in trial.curves or trial.result is not None for trial in source.trials):
        notes.append(f"{source.path}: nothing was evaluated yet")
    return notes
