"""Scores as COCOeval gives them, 0 to 1 or -1 where there is no object to score; without torch."""

from __future__ import annotations

from collections.abc import Mapping


def exists(score: float) -> bool:
    """Return whether there was an object to score.

    >>> exists(0.0), exists(-1.0), exists(math.nan)
    (True, False, False)
    """
    return score >= 0


def points(score: float) -> str:
    """Return a score for people, in points of 100.

    >>> points(0.4567), points(-1.0), points(math.nan)
    ('45.7', '-', '-')
    """
    return f"{100 * score:.1f}" if exists(score) else "-"


def existing(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return an epoch's metrics without the scores that do not exist.

    >>> existing({"train/cosine": -1.0, "val/AP": 0.5, "val/AP_small": -1.0})
    {'train/cosine': -1.0, 'val/AP': 0.5}
    """
    return {name: value for name, value in metrics.items() if exists(value) or not name.startswith("val/")}
