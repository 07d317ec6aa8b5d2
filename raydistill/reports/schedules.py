"""Populations: the settings that each student was trained with, epoch by epoch, and which trials it came through."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pandas as pd

from raydistill.reports.reading import Source, Trial
from raydistill.reports.settings import MISSING, tidy, with_values
from raydistill.reports.trials import name_of
from raydistill.sweeps.lineage import Part, schedule_of


def schedule_table(sources: Sequence[Source]) -> pd.DataFrame:
    """Return a row per stretch of every student's training: ``trial, epoch, until, trained_in`` and its settings.

    ``epoch`` epochs were trained before, ``until`` after it; a student that was taken over was trained in others first.
    """
    rows = []
    for source, trial in [(source, trial) for source, trial in _members(sources) if trial.lineage]:
        ends = [*(part.epoch for part in trial.lineage[1:]), _trained(trial)]
        for part, until in zip(trial.lineage, ends, strict=True):
            if until > part.epoch or part is trial.lineage[-1]:
                where = {"epoch": part.epoch, "until": until, "trained_in": part.trial}
                rows.append({"trial": _name(source, trial, sources), **where, **part.settings})
    return _table(rows, ["trial", "epoch", "until", "trained_in"])


def takeover_table(sources: Sequence[Source]) -> pd.DataFrame:
    """Return a row per takeover: ``trial``, the ``epoch`` at which it went on ``from`` another, and its settings."""
    rows = [
        {"trial": _name(source, trial, sources), "epoch": change.epoch, "from": change.trial, **change.settings}
        for source, trial in _members(sources)
        for change in trial.takeovers
    ]
    return _table(rows, ["trial", "epoch", "from"])


def known_schedule(lineage: Sequence[Part]) -> list[dict[str, Any]]:
    """Return the ``schedule`` of a student whose settings changed; empty where none did, or not all are known."""
    schedule = schedule_of([*lineage])
    return schedule if len(schedule) > 1 and schedule[0]["epoch"] == 0 else []


def in_words(trial: Trial) -> str:
    """Say through which trials a student came and when its settings changed; empty where they did not."""
    if not trial.lineage:
        lost = "; with which ones it began nobody wrote down"
        return f"Its settings changed on the way, and these are the last ones{lost}" if trial.takeovers else ""
    schedule = known_schedule(trial.lineage)
    if not schedule:
        return ""
    epochs = [str(change["epoch"]) for change in schedule[1:]]
    through = [name for name, _ in itertools.groupby(part.trial for part in trial.lineage)]
    after = f"epoch{'s' if len(epochs) > 1 else ''} {', '.join(epochs)}"
    return f"Its settings changed after {after}: it was trained in {', then '.join(through)}"


def _members(sources: Sequence[Source]) -> list[tuple[Source, Trial]]:
    return [(source, trial) for source in sources for trial in source.trials if trial.lineage or trial.takeovers]


def _trained(trial: Trial) -> int:
    return int(trial.curves.index.max()) if len(trial.curves) else 0


def _name(source: Source, trial: Trial, sources: Sequence[Source]) -> str:
    return name_of(source, trial, len(sources) > 1)


def _table(rows: list[dict[str, Any]], first: list[str]) -> pd.DataFrame:
    names = dict.fromkeys(name for row in rows for name in row)
    table = pd.DataFrame({name: tidy([row.get(name, MISSING) for row in rows]) for name in [*first, *names]})
    return with_values(table, [*names])
