"""How long a call takes: warmed up, repeated, the median; several in turn, so that all share what disturbs one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

WARM_UP = 2
"""Calls before the first that counts; of slow ones, which have used up their seconds then, one."""


class Timing(NamedTuple):
    """Of one of several calls."""

    seconds: float
    """The median."""
    repeats: int


def time_in_turn(calls: Sequence[Callable[[], object]], *, seconds: float, least: int, most: int) -> list[Timing]:
    """Return how long each of ``calls`` takes; each must end when its work is done, on a GPU too.

    Args:
        calls: are made in turn.
        seconds: after which none is repeated, ...
        least: ... unless each was made less often than this ...
        most: ... or this often.
    """
    start = time.perf_counter()
    for number in range(WARM_UP):
        if number == 0 or time.perf_counter() - start < seconds:
            for call in calls:
                call()
    times: list[list[float]] = [[] for _ in calls]
    start = time.perf_counter()
    while len(times[0]) < least or (len(times[0]) < most and time.perf_counter() - start < seconds):
        for call, own in zip(calls, times, strict=True):
            before = time.perf_counter()
            call()
            own.append(time.perf_counter() - before)
    return [Timing(median(own), len(own)) for own in times]
