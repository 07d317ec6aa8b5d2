"""How a sweep grew: which of its points were drawn from which space."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from raydistill.config import yaml_text
from raydistill.reports.reading import Source, Trial


def growth(source: Source) -> list[str]:
    """Return what the sweep covered before it grew and now, a sentence each; nothing where it has not grown."""
    if not source.grown:
        return []
    ends = [extent["num_points"] for extent in source.grown]
    numbers = _numbers_of_spaces(source)
    changed = _changed([*(extent["space"] for extent in source.grown), _space(source)])
    sentences = []
    for place, (first, last) in enumerate(zip([0, *ends], [*ends, None], strict=True)):
        extent = source.grown[place] if last is not None else source.sweep
        drawn = {name: extent["space"].get(name) for name in changed}
        of = f", drawn from space {numbers[place]}: {yaml_text.in_one_line(drawn)}" if changed else ""
        seeds = yaml_text.in_one_line(extent.get("seeds", [0]))
        which = f"points {first} to {last - 1}" if last is not None else f"from point {first} on"
        if last is not None and last <= first:
            which = "no other points"
        sentences.append(f"{source.name} grew: {which}{of}; seeds {seeds}")
    return sentences


def space_numbers(trials: Sequence[tuple[Source, Trial]]) -> list[float] | None:
    """Return from which space of its sweep each trial's point was drawn, counted from 1, NaN for controls.

    None where no sweep drew from more than one.
    """
    of_sources = {id(source): _numbers_of_spaces(source) for source, _ in trials}
    if all(len(set(numbers)) < 2 for numbers in of_sources.values()):
        return None
    return [_number_of(source, trial, of_sources[id(source)]) for source, trial in trials]


def _number_of(source: Source, trial: Trial, numbers: Sequence[int]) -> float:
    if trial.role not in ("searched", "confirmed"):
        return math.nan
    ends = [extent["num_points"] for extent in source.grown]
    return float(next((numbers[at] for at, end in enumerate(ends) if trial.record.point < end), numbers[-1]))


def _numbers_of_spaces(source: Source) -> list[int]:
    """Return for each extent of a sweep, the last included, the number of its space: equal ones share theirs."""
    spaces = [*(extent["space"] for extent in source.grown), _space(source)]
    numbers = [1]
    for before, space in itertools.pairwise(spaces):
        numbers.append(numbers[-1] + (before != space))
    return numbers


def _changed(spaces: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for space in spaces for name in space)
    return [name for name in names if any(space.get(name) != spaces[0].get(name) for space in spaces)]


def _space(source: Source) -> Mapping[str, Any]:
    space = source.sweep.get("space")
    return space if isinstance(space, dict) else {}
