"""The pictures of a report, as PNG files with a caption; one that would show nothing is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from raydistill.reports import pictures_of_settings, pictures_of_training
from raydistill.reports.build import Report
from raydistill.reports.drawing import png


@dataclass(frozen=True)
class Picture:
    """One file."""

    caption: str
    png: bytes


_DRAWERS: dict[str, tuple[str, Callable[[Report], Figure | None]]] = {
    "scores": ("Score of every trial over the epochs", pictures_of_training.scores),
    "effects": ("Score by the value of each setting: every trial, and mean ± std", pictures_of_settings.effects),
    "importance": ("What separates the best points from the others", pictures_of_settings.importance),
    "decay": ("The decay d(t) over the training, and the score it came with", pictures_of_settings.decays),
    "losses": ("Loss terms, and the share of regions whose gate is open", pictures_of_training.losses),
}
NAMES = tuple(_DRAWERS)
"""Names of the files, without ``.png``."""


def draw(report: Report) -> dict[str, Picture]:
    """Return the pictures for which there is anything to show, by name."""
    drawn = {name: (caption, drawer(report)) for name, (caption, drawer) in _DRAWERS.items()}
    return {name: Picture(caption, png(figure)) for name, (caption, figure) in drawn.items() if figure is not None}
