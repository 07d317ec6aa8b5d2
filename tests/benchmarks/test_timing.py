from __future__ import annotations

import itertools

import pytest

from tests.benchmarks.timing import Spread, in_turn, ratios


def test_that_cases_are_timed_in_turn_there_and_back():
    calls: list[str] = []
    ticks = itertools.count()
    cases = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = in_turn(cases, rounds=3, now=lambda: float(next(ticks)), warm_ups=1)
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert seconds == {"a": [1.0, 1.0, 1.0], "b": [1.0, 1.0, 1.0]}


def test_that_ratios_compare_within_a_round():
    assert ratios({"base": [1.0, 10.0, 2.0], "other": [2.0, 15.0, 6.0]}, "base") == {"other": Spread(2.0, 1.5, 3.0)}


def test_that_a_spread_is_median_and_extremes():
    assert Spread.of([3.0, 1.0, 2.0]).as_dict() == {"median": 2.0, "low": 1.0, "high": 3.0}
    with pytest.raises(ValueError, match="median"):
        Spread.of([])
