"""A teacher that detects next to nothing: noticed before a student is trained; without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raydistill.config import Config
from raydistill.errors import UserError
from raydistill.runs.directory import RunDirectory
from raydistill.runs.events import Note
from raydistill.runs.records import is_number, result_if_sound
from raydistill.runs.scores import exists, points

NEXT_TO_NOTHING = 0.01
"""AP50, from 0 to 1, below which a teacher has nothing to teach."""
CLASSES_KNOWN, WITHOUT_CLASSES, CALLED = "classes_known", "AP50_without_classes", "called"
"""In a given teacher's result: whether its file names its classes, and where it scores next to nothing its AP50 where
the class does not count, and what most objects of a class are called."""
_MOST_NAMED = 6


def weakness(teacher: RunDirectory, config: Config) -> str:
    """Say that the teacher detects next to nothing, and what is known of its classes; empty where it detects more."""
    result = result_if_sound(teacher.output.fetched(teacher.result))
    if result is None or not is_next_to_nothing(result):
        return ""
    return (
        f"preflight: the teacher must detect something on the validation split, got {points(result['AP'])} AP, "
        f"{points(result['AP50'])} AP50; {_reason(result, config)}"
    )


def refuse_weakness(problem: str, config: Config, notify: Callable[[Note], None]) -> None:
    """Tell what ``weakness`` found, if anything, as a warning with ``distillation.preflight: warn``.

    Raises:
        UserError: with ``strict``.
    """
    if problem and config.distillation.preflight == "strict":
        raise UserError(f"{problem}; go on all the same with distillation.preflight=warn")
    if problem:
        notify(Note(problem, warning=True))


def is_next_to_nothing(scores: Mapping[str, Any]) -> bool:
    """Return whether scores say that next to nothing was detected; not where there was nothing to detect."""
    return exists(scores.get("AP50", -1)) and scores["AP50"] < NEXT_TO_NOTHING


def _reason(result: Mapping[str, Any], config: Config) -> str:
    if config.teacher.train:
        return "train it longer (teacher.epochs), or look at teacher.learning_rate and at the data"
    if result.get(CLASSES_KNOWN, True):
        classes = "its file names the classes of the data in their order"
    else:
        classes = "its file does not name its classes, so they were taken in the order of the data"
    ap50 = result.get(WITHOUT_CLASSES)
    if ap50 is None or not is_number(ap50):
        return f"{classes}; more is not known of it"
    if ap50 < NEXT_TO_NOTHING:
        what = "whatever it calls them, it finds no objects: look at input.min_size, at the pixels and at its weights"
        return f"{classes}; {what}"
    text = f"{classes}; where the class does not count it has {points(ap50)} AP50: its classes are in another order"
    called = [f"'{one}' is called '{other}'" for one, other in dict(result.get(CALLED) or {}).items()]
    more = f" and {len(called) - _MOST_NAMED} more" if len(called) > _MOST_NAMED else ""
    named = ", ".join(called[:_MOST_NAMED]) + more
    return f"{text}{f' ({named})' if named else ''}; give the data its order (data.classes, category ids)"
