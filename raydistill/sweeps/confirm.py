"""The trials that run the winner of a sweep again, each recorded in a role of its own beside those of the search."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from raydistill.errors import UserError
from raydistill.sweeps.directory import TrialRecord
from raydistill.sweeps.file import Confirmation, LoadedSweep, Point, Population
from raydistill.sweeps.file.confirmation import MOST_SEEDS, fresh_seeds


def trials_of(confirmation: Confirmation, alone: Point) -> list[TrialRecord]:
    """Return the trials as they are before they are begun: the student alone, then the point, under every seed.

    >>> [trial.name for trial in trials_of(Confirmation(7, {}, (1000,)), {})]
    ['confirm-baseline-seed1000', 'confirm-p0007-seed1000']
    """
    number = confirmation.point
    controls = [
        TrialRecord(f"confirm-baseline-seed{seed}", "confirmed_baseline", -1, seed, alone)
        for seed in confirmation.seeds
    ]
    return controls + [
        TrialRecord(f"confirm-p{number:04d}-seed{seed}", "confirmed", number, seed, confirmation.settings)
        for seed in confirmation.seeds
    ]


def ended_of(loaded: LoadedSweep, records: Mapping[str, TrialRecord]) -> list[TrialRecord]:
    """Return which trials of a sweep have ended: those of its search, or of the confirmation that it is about."""
    if loaded.confirmation is not None:
        asked = [records.get(trial.name, trial) for trial in trials_of(loaded.confirmation, {})]
    else:
        asked = [record for record in records.values() if record.role not in ("confirmed", "confirmed_baseline")]
    return [record for record in asked if record.ended]


def headline(confirmation: Confirmation, records: Mapping[str, TrialRecord]) -> str:
    """Say what is run again, and how much of it ended before."""
    asked = trials_of(confirmation, {})
    kept = sum(records[trial.name].ended for trial in asked)
    return confirmation.sentence + (f"; {kept} of {len(asked)} trials ended before and are kept" if kept else "")


def check_confirmation(loaded: LoadedSweep, number: int) -> None:
    """Refuse what cannot be confirmed, before anything is trained.

    Raises:
        UserError: for a number of seeds that cannot be, or a sweep whose trials change their settings on the way.
    """
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MOST_SEEDS:
        raise UserError(f"confirm: must be a number of seeds, 1 to {MOST_SEEDS}, got {number}")
    if number and isinstance(loaded.sweep.scheduler, Population):
        raise UserError(
            f"confirm: must be left out with scheduler {loaded.sweep.scheduler.name}, whose trials change their "
            "settings while they train"
        )


def confirmed(loaded: LoadedSweep, point: int, settings: Point, number: int) -> LoadedSweep:
    """Return the sweep whose trials are a point and the student alone under ``number`` fresh seeds."""
    seeds = fresh_seeds(number, loaded.config.seed, loaded.sweep.seeds)
    return dataclasses.replace(loaded, confirmation=Confirmation(point, settings, seeds))
