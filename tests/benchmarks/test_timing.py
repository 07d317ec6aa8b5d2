from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.benchmarks.timing import Ratio, Spread, in_turn, median_interval, ratios, table_of


def test_that_cases_are_timed_in_turn_there_and_back():
    calls: list[str] = []
    ticks = itertools.count()
    cases = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = in_turn(cases, rounds=3, now=lambda: float(next(ticks)), warm_ups=1)
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert seconds == {"a": [1.0, 1.0, 1.0], "b": [1.0, 1.0, 1.0]}


def test_that_ratios_compare_within_a_round():
    expected = Ratio(2.0, 1.5, 3.0, interval=(1.5, 3.0))
    assert ratios({"base": [1.0, 10.0, 2.0], "other": [2.0, 15.0, 6.0]}, "base") == {"other": expected}


def test_that_a_spread_is_median_and_extremes():
    assert Spread.of([3.0, 1.0, 2.0]).as_dict() == {"median": 2.0, "low": 1.0, "high": 3.0}
    with pytest.raises(ValueError, match="median"):
        Spread.of([])


def test_that_the_interval_of_a_median_holds_it_in_about_95_of_100_samples():
    samples = np.random.default_rng(1).normal(1.3, 0.1, (400, 25))
    intervals = [median_interval(list(sample), resamples=400) for sample in samples]
    assert 0.90 < np.mean([low <= 1.3 <= high for low, high in intervals]) < 0.99


def test_that_the_interval_is_the_same_every_time_and_narrower_than_the_extremes():
    values = list(np.random.default_rng(2).normal(1.0, 0.2, 25))
    low, high = median_interval(values)
    assert (low, high) == median_interval(values)
    assert min(values) < low < Spread.of(values).median < high < max(values)


def test_that_one_round_has_an_interval_of_no_width():
    assert median_interval([1.25]) == (1.25, 1.25)


def test_that_a_table_has_a_column_for_each_base():
    seconds = {"a": [1.0, 1.0], "b": [2.0, 4.0]}
    multiples = {base: {n: r.as_dict() for n, r in ratios(seconds, base).items()} for base in "ab"}
    header, a, b = table_of({name: Spread.of(values).as_dict() for name, values in seconds.items()}, multiples)
    assert header.split() == ["step", "seconds", "x", "a", "x", "b"]
    assert a.split() == ["a", "1.0000", "1.00", "0.38", "(0.25", "to", "0.50)"]
    assert b.split() == ["b", "3.0000", "3.00", "(2.00", "to", "4.00)", "1.00"]
    assert a.index("0.38") == b.index("1.00")
