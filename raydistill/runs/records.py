"""What a run writes of itself, read as what may have been cut, emptied or edited since."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydistill.errors import UserError, counted, first_line
from raydistill.storage.regular import RECORD_BYTES, read_text

_MOST = 2**53  # of a count: what a float holds exactly
_SCORES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


@dataclass(frozen=True)
class Lines:
    """A ``metrics.jsonl``: a mapping per line that can be read, and how many can not."""

    lines: list[dict[str, float]]
    unreadable: int

    @property
    def problem(self) -> str:
        """Say how many lines are lost; empty: none."""
        return f"left out {counted(self.unreadable, 'line')} that cannot be read" if self.unreadable else ""


def read_lines(path: Path) -> Lines:
    """Read the metrics of epochs; of a line what is no number is left out, a line without its epoch altogether.

    A file that is not there has no lines. A last line without its end was being written, and is no loss.

    Raises:
        UserError: when the file cannot be opened.
    """
    try:
        return parse_lines(read_text(path, RECORD_BYTES, errors="replace"))
    except FileNotFoundError:
        return Lines([], 0)
    except OSError as error:
        raise UserError(f"{path}: must hold the metrics of epochs, cannot be read ({error.strerror})") from error


def parse_lines(text: str) -> Lines:
    r"""Return the epochs that ``text`` holds, one a line.

    >>> parse_lines('{"epoch": 1, "val/AP": 0.5, "a": [1]}\n\0\0\n{"epoch": 2, "val/A').lines
    [{'epoch': 1, 'val/AP': 0.5}]
    """
    whole, _, last = text.rpartition("\n")
    found = [_line(line) for line in whole.split("\n") if line.strip()]
    ended = _line(last) if last.strip() else None  # without its end, but complete
    lines = [line for line in [*found, ended] if line is not None]
    return Lines(lines, found.count(None))


def read_result(path: Path) -> dict[str, Any]:
    """Read the row of a finished stage: its ``epochs``, ``parameters`` and scores are what they must be.

    Raises:
        UserError: when there is none, or it is none.
    """
    try:
        found = json.loads(read_text(path, RECORD_BYTES))
    except OSError as error:
        raise UserError(f"{path}: must be the result of a stage, cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: must be the result of a stage, cannot be read ({first_line(error)})") from error
    problem = _problem_with(found)
    if problem:
        raise UserError(f"{path}: must be the result of a stage, {problem}")
    return dict(found)


def result_if_sound(path: Path) -> dict[str, Any] | None:
    """Return the row of a finished stage; None where there is none, or it is damaged."""
    try:
        return read_result(path)
    except UserError:
        return None


def is_number(value: object) -> bool:
    """Return whether a value is a number that a float can hold; NaN and infinity are.

    >>> is_number(0.5), is_number(10**400), is_number(True), is_number("1"), is_number(None)
    (True, False, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _line(text: str) -> dict[str, float] | None:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not _is_count(row.get("epoch"), 1):
        return None
    return {name: value for name, value in row.items() if is_number(value)}


def _problem_with(found: object) -> str:
    if not isinstance(found, dict):
        return f"got {type(found).__name__}"
    for name, least in (("epochs", 0), ("parameters", 1), ("epoch", 0)):
        if not _is_count(found.get(name), least) and (name in found or name != "epoch"):
            return f"got {name} {_shown(found, name)}"
    for name in (*_SCORES, *(f"test_{score}" for score in _SCORES)):
        value = found.get(name, -1)
        if (name == "AP" and name not in found) or not is_number(value) or not -1 <= value <= 1:
            return f"got {name} {_shown(found, name)}"
    speed = found.get("images_per_second", 0.0)
    return "" if is_number(speed) and math.isfinite(speed) else "got a speed that is no number"


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MOST


def _shown(found: dict[str, Any], name: str) -> str:
    if name not in found:
        return "missing"
    value = found[name]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) <= _MOST else "out of all bounds"
    return repr(value)[:40]
