"""Timing in turn: A B C A B C ..., so that what else the machine does falls on all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

Clock = Literal["cpu", "wall"]
"""``cpu``: seconds that this process computed, which other processes hardly change; ``wall``: what a user waits."""


@dataclass(frozen=True)
class Spread:
    """Median, and lowest and highest of what was measured."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Summarise ``values``, at least one."""
        return Spread(statistics.median(values), min(values), max(values))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        return asdict(self)


@dataclass(frozen=True)
class Ratio(Spread):
    """Median of the rounds' ratios, its bootstrap 95 % ``interval``, and the lowest and highest of the rounds."""

    interval: tuple[float, float]

    @staticmethod
    def of(values: Sequence[float]) -> Ratio:
        """Summarise the ratios of the rounds, at least one."""
        spread = Spread.of(values)
        return Ratio(spread.median, spread.low, spread.high, median_interval(values))


def table_of(
    seconds: Mapping[str, Mapping[str, float]], multiples: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> list[str]:
    """Return the lines of a table: the median seconds of each case, and its ratio to each base with the interval.

    Args:
        seconds: a ``Spread`` as a dict for each case.
        multiples: for each base, a ``Ratio`` as a dict for each other case.
    """
    wide = max(len(name) for name in ("step", *seconds)) + 2
    lines = [f"{'step':<{wide}}{'seconds':>10}" + "".join(f"{f'x {base}':>23}" for base in multiples)]
    for name, measured in seconds.items():
        cells = [_cell(ratio_of.get(name)) for ratio_of in multiples.values()]
        lines.append(f"{name:<{wide}}{measured['median']:>10.4f}" + "".join(f"{cell:>23}" for cell in cells))
    return [line.rstrip() for line in lines]


def _cell(ratio: Mapping[str, Any] | None) -> str:
    if ratio is None:
        return f"1.00{'':15}"
    low, high = ratio["interval"]
    return f"{ratio['median']:.2f} ({low:.2f} to {high:.2f})"


def median_interval(values: Sequence[float], resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap's 95 % interval of the median (Efron 1979), the same for the same values.

    It holds for rounds that are independent of each other, and is too narrow for fewer than about ten.
    """
    drawn = np.random.default_rng(seed).choice(np.asarray(values, dtype=float), (resamples, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(low), float(high)


def in_turn(
    cases: Mapping[str, Callable[[], object]], rounds: int, now: Callable[[], float], warm_ups: int = 1
) -> dict[str, list[float]]:
    """Return the seconds of each case in each round; every other round goes backwards."""
    for _ in range(warm_ups):
        for run in cases.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _, name in turns(cases, rounds):
        started = now()
        cases[name]()
        seconds[name].append(now() - started)
    return seconds


def turns(names: Iterable[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yield the number of each round with each of ``names``, every other round backwards."""
    order = list(names)
    for number in range(rounds):
        for name in order if number % 2 == 0 else order[::-1]:
            yield number, name


def ratios(seconds: Mapping[str, Sequence[float]], base: str) -> dict[str, Ratio]:
    """Return each case as a multiple of ``base``, compared round by round."""
    return {
        name: Ratio.of([value / reference for value, reference in zip(values, seconds[base], strict=True)])
        for name, values in seconds.items()
        if name != base
    }


def clock(kind: Clock, device: torch.device) -> Callable[[], float]:
    """Return the function that tells the time; on a GPU it waits for the work and is always ``wall``."""
    if device.type == "cuda":
        return _after_the_gpu
    return time.process_time if kind == "cpu" else time.perf_counter


def _after_the_gpu() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()
