"""Scores as COCOeval gives them, 0 to 1 or -1 where there is no object to score; without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

RULES = 2
"""Counts the versions of what is read of data: which boxes and pixels, and in which splits scores exist. In a result it
says by which it was scored; one without is of the first."""


def exists(score: float) -> bool:
    """Return whether there was an object to score.

    >>> exists(0.0), exists(-1.0), exists(float("nan"))
    (True, False, False)
    """
    return score >= 0


def points(score: float) -> str:
    """Return a score for people, in points of 100.

    >>> points(0.4567), points(-1.0), points(float("nan"))
    ('45.7', '-', '-')
    """
    return f"{100 * score:.1f}" if exists(score) else "-"


def told_apart(names: Iterable[str], clean: Callable[[str], str]) -> dict[str, str]:
    """Return each name as ``clean`` makes it, with a number where another became the same: classes may be called so.

    >>> told_apart(["a b", "a_b", "c"], lambda name: name.replace(" ", "_"))
    {'a b': 'a_b', 'a_b': 'a_b_2', 'c': 'c'}
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        cleaned, number = clean(name), 1
        while (cleaned if number == 1 else f"{cleaned}_{number}") in taken:
            number += 1
        found[name] = cleaned if number == 1 else f"{cleaned}_{number}"
        taken.add(found[name])
    return found


def existing(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return an epoch's metrics without the scores that do not exist.

    >>> existing({"train/cosine": -1.0, "val/AP": 0.5, "val/AP_small": -1.0})
    {'train/cosine': -1.0, 'val/AP': 0.5}
    """
    return {name: value for name, value in metrics.items() if exists(value) or not name.startswith("val/")}
