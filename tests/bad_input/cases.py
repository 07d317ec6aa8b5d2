"""What a bad input is here: how it is made, what it goes through, and how that ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["error", "warning", "right"]


@dataclass(frozen=True)
class Case:
    """One bad input, written into an empty folder and read by ``run``."""

    name: str
    run: Callable[[Path], Any]
    expected: str = ""  # regular expression: of the error, or of the warning
    outcome: Outcome = "error"
    result: Any = None  # what ``run`` returns where there is no error


def right(name: str, run: Callable[[Path], Any], result: Any) -> Case:
    """An input that looks bad and is fine: no error, no warning."""
    return Case(name, run, "", "right", result)


def warned(name: str, run: Callable[[Path], Any], expected: str, result: Any) -> Case:
    """An input whose bad part is left out, with one warning."""
    return Case(name, run, expected, "warning", result)
