"""Who trained a student of a population, and with which settings: it goes on from other trials' students."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill.config.renamed import current_names
from raydistill.storage.output import Output
from raydistill.storage.regular import RECORD_BYTES, read_text
from raydistill.sweeps.directory import SweepDirectory, TrialDirectory
from raydistill.sweeps.file import Point


@dataclass(frozen=True)
class Part:
    """A stretch of a student's training, which lasts until the next one."""

    epoch: int  # how many were trained before
    trial: str  # that trained it
    settings: Point


@dataclass(frozen=True)
class Takeover:
    """A trial that goes on from another one's student."""

    origin: str
    settings: Point
    state: str = ""
    """Where Ray keeps that student."""


@dataclass(frozen=True)
class Round:
    """A comparison of all members of a population: who takes over from whom."""

    epoch: int
    takeovers: dict[str, Takeover] = field(default_factory=dict)


def read_lineage(trial: TrialDirectory) -> list[Part]:
    """Return the parts of a student's training, the first one first; none where nobody wrote them down."""
    found = [_part(line) for line in _lines(trial.lineage)]
    return [part for part in found if part is not None]


def read_takeovers(trial: TrialDirectory) -> list[Part]:
    """Return from which trials a trial went on, each with the settings that it went on with."""
    found = [_part({**line, "trial": line.get("from")}) for line in _lines(trial.changes)]
    return [part for part in found if part is not None]


def write_lineage(trial: TrialDirectory, epoch: int, settings: Point) -> None:
    """Note that a trial trains from ``epoch`` on with these settings, if that is not what it did before."""
    before = read_lineage(trial)
    if before and (before[-1].trial, before[-1].settings) == (trial.path.name, settings):
        return
    part = Part(epoch if before or trial.run.lines() else 0, trial.path.name, settings)
    trial.output.append_line(trial.lineage, json.dumps(dataclasses.asdict(part)))


def schedule_of(lineage: list[Part]) -> list[dict[str, Any]]:
    """Return a lineage as the ``schedule`` of a recipe: what changes, and after how many epochs."""
    by_epoch = {part.epoch: part.settings for part in lineage}  # of two after the same epoch the later one trained
    changes = sorted(by_epoch.items())
    kept = changes[:1] + [later for earlier, later in itertools.pairwise(changes) if later[1] != earlier[1]]
    return [{"epoch": epoch, "settings": settings} for epoch, settings in kept]


class Rounds:
    """The comparisons of a population so far, a line each in ``population.jsonl``."""

    def __init__(self, sweep: SweepDirectory) -> None:
        self._output: Output = sweep.output
        self._file = sweep.path / "population.jsonl"

    @property
    def last(self) -> Round:
        """The last one; one of epoch 0 where there was none."""
        self._output.fetched(self._file)
        found = [_round(line) for line in _lines(self._file)]
        return next((one for one in reversed(found) if one is not None), Round(0))

    def append(self, one: Round) -> None:
        """Add one, durably."""
        self._output.append_line(self._file, json.dumps(dataclasses.asdict(one)))

    def takeover_left(self, trial: TrialDirectory) -> Takeover | None:
        """Return what a trial was told in the last round and has not done, as the command was ended before."""
        last = self.last
        told, lineage = last.takeovers.get(trial.path.name), read_lineage(trial)
        done = any(part.trial == trial.path.name and part.epoch >= last.epoch for part in lineage[1:])
        return None if done else told


def _lines(file: Path) -> list[dict[str, Any]]:
    """Return the mappings of a file, a line each; one that cannot be read, as it was being written, is left out."""
    try:
        lines = read_text(file, RECORD_BYTES, errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _part(line: Mapping[str, Any]) -> Part | None:
    epoch, trial, settings = line.get("epoch"), line.get("trial"), line.get("settings")
    if not isinstance(epoch, int) or not isinstance(trial, str) or not isinstance(settings, dict):
        return None
    return Part(epoch, trial, current_names(settings))


def _round(line: Mapping[str, Any]) -> Round | None:
    try:
        return Round(int(line["epoch"]), {name: Takeover(**told) for name, told in line["takeovers"].items()})
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
