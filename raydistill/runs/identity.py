"""Whose a checkpoint is: the settings, data and teacher's weights that it was trained with; not where it lies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from raydistill.config import Config
from raydistill.runs.directory import StageName
from raydistill.runs.settings import DATA_PLACES, setting_differences, settings_of

_PLACES = (*DATA_PLACES, "teacher.weights", "student.weights")


@dataclass(frozen=True)
class Identity:
    """What makes one training another one than the rest."""

    stage: StageName
    config: Config
    data: str = ""
    """Stands for the data; empty where nobody knows."""
    teacher: str = ""
    """Stands for the teacher's weights, likewise."""
    free: frozenset[str] = frozenset()
    """Settings that may have been others, by dotted name: those that a population exchanges."""

    @classmethod
    def of(cls, stage: StageName, config: Config, data: str, free: Collection[str]) -> Self:
        """Return that of a stage whose teacher is not known yet; members of a population differ in their seeds too."""
        return cls(stage, config, data, free=frozenset([*free, "seed"] if free else ()))

    def with_teacher(self, weights: str) -> Identity:
        """Return that of a student which is distilled from these weights."""
        return replace(self, teacher=weights)

    def saved(self) -> dict[str, Any]:
        """Return it as a checkpoint keeps it."""
        return {
            "stage": self.stage,
            "settings": settings_of(self.config, self.stage),
            "data": self.data,
            "teacher": self.teacher,
        }

    def problem_with(self, saved: object) -> str:
        """Say in what a checkpoint is of another training; empty where in nothing, or where it does not say.

        Args:
            saved: what ``saved`` returned when it was written; None: it was written by an earlier version.
        """
        if saved is None:
            return ""
        if not isinstance(saved, Mapping) or not isinstance(saved.get("settings"), Mapping):
            return "does not say whose it is"
        if saved.get("stage") != self.stage:
            return f"is one of the stage {str(saved.get('stage'))[:40]}"
        differences = setting_differences(saved["settings"], self.config, self.stage)
        others = [text for name, text in differences.items() if not self._is_free(name)]
        if others:
            return f"is of a run with other settings: {'; '.join(others)}"
        for what, now in (("data", self.data), ("teacher", self.teacher)):
            then = saved.get(what)
            if now and then and then != now:
                return f"was trained with {'other data' if what == 'data' else 'another teacher'}"
        return ""

    def _is_free(self, name: str) -> bool:
        """Return whether a setting, or one beside it that its kind brings along, may have been another one."""
        sections = tuple(f"{free.rpartition('.')[0]}." for free in self.free if "." in free)
        return name in self.free or name in _PLACES or name.startswith(sections)
