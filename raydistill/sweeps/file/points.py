"""Every value against the configuration tree, every point as a whole, and the points that a sweep runs."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from raydistill.config.loader import CONFIG, validate
from raydistill.config.sections import Config
from raydistill.sweeps.file.rules import refused
from raydistill.sweeps.file.sections import RandomSearch, Sweep
from raydistill.sweeps.file.space import (
    Dimension,
    Point,
    combinations,
    draw,
    one_at_a_time,
    parents_values,
    point_text,
    value_key,
)
from raydistill.sweeps.file.trials import controls_of, signature_of, trial_settings

_MOST_POINTS = 10_000
_MOST_COMBINATIONS = 2_000
_INTEGERS_TRIED = 1_000
_DRAWS_IN_VAIN = 1_000
_DRAWS_WHEN_WRONG = 50  # there will be an error anyway; more draws name more of what causes it
_PLACES_NAMED = 3
_UNKNOWN = ": no such setting"


@dataclass
class Points:
    """The points of a sweep, found and checked."""

    sweep: Sweep
    config: Config  # of the base; with defaults where the base is wrong
    raw: dict[str, Any]
    known: list[str]  # what is wrong with the base itself, not to be said of every point again
    problems: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    _wrong: set[tuple[str, str]] = field(default_factory=set)  # values that are wrong by themselves
    _at: dict[str, list[Point]] = field(default_factory=dict)  # a conflict -> the points that have it
    _seen: dict[str, str] = field(default_factory=dict)  # what a point comes to -> who was there first

    def find(self) -> tuple[Point, ...] | None:
        """Return the points, None for a search that finds them on the way; what is wrong is kept in ``problems``."""
        self._check_base()
        for name in self.sweep.space:
            self._check_values(name)
        for name, control in controls_of(self.config).items():
            config = validate(trial_settings(self.raw, self.sweep.resources, control), [])
            if config is not None:
                self._seen.setdefault(signature_of(config), f"the control {name}")
        points: tuple[Point, ...] | None = None
        if self.sweep.search.method in ("grid", "ablation"):
            points = self._listed()
        elif isinstance(self.sweep.search, RandomSearch):
            points = self._drawn(self.sweep.search.seed)
        else:
            for point in self._corners():
                self._checked(point)
        self.problems += [_conflict(problem, points_with_it) for problem, points_with_it in self._at.items()]
        return points

    def _check_base(self) -> None:
        """Report what stands in every trial's way: the base on the sweep's resources."""
        found: list[str] = []
        validate(trial_settings(self.raw, self.sweep.resources, {}), found)
        new = [problem for problem in found if problem not in self.known]
        self.problems += [f"resources: do not fit the base: {problem}" for problem in new]
        self.known = [*self.known, *new]

    def _check_values(self, name: str) -> None:
        """Hold each value against the range of its setting; what it has to do with other settings comes later."""
        dimension = self.sweep.space[name]
        reason = refused(name, dimension)
        found = {f"{name}: {reason}": None} if reason else {}
        for value in _to_try(dimension):
            lines = [] if reason else self._problems_of_value(name, value)
            found |= dict.fromkeys(lines)
            if lines or reason:
                self._wrong.add((name, value_key(value) if dimension.discrete else ""))
        self.problems += [f"space.{line}" for line in found]

    def _problems_of_value(self, name: str, value: Any) -> list[str]:
        """Return what is wrong with a value wherever its setting exists."""
        found: list[str] = []
        for context in self._contexts(name):
            raw = trial_settings(self.raw, self.sweep.resources, {**context, name: value})
            lines = [line for line in _out_of_range(raw) if line not in self.known]
            if not lines:
                return []
            own = [line for line in lines if _concerns(line, name)]
            if not found or (own and _UNKNOWN in found[0]):  # where there is such a setting, its range says more
                found = own
        return found

    def _contexts(self, name: str) -> Iterator[Point]:
        """Yield the other settings that decide whether ``name`` exists: its ancestors, and the tag of its section."""
        space = self.sweep.space
        parents = parents_values(space, name) or {}
        tags = (f"{section}.{key}" for section, key in CONFIG.tags.items() if name.startswith(f"{section}."))
        tag = next((tag for tag in tags if tag != name and tag in space and space[tag].discrete), None)
        if tag is None:
            yield parents
            return
        for value in space[name].when.get(tag, space[tag].values):
            yield {**parents, tag: value}

    def _listed(self) -> tuple[Point, ...]:
        """Return every point of a grid or an ablation that gives something of its own."""
        space = self.sweep.space
        if not all(dimension.discrete for dimension in space.values()):
            return ()
        values = {name: dimension.values for name, dimension in space.items()}
        listed = combinations(space, values) if self.sweep.search.method == "grid" else one_at_a_time(space)
        points = list(itertools.islice(listed, _MOST_POINTS + 1))
        if len(points) > _MOST_POINTS:
            self.problems.append(f"space: must have at most {_MOST_POINTS} combinations; use search random or optuna")
            return ()
        kept = []
        for point in points:
            config = self._checked(point)
            if config is None:
                continue
            first = self._first_with(config, point)
            if first and space:  # else the base is what was asked for
                self.dropped.append(f"{point_text(point)}: left out, as it gives the same as {first}")
            else:
                kept.append(point)
        if not kept and not self._anything_wrong:
            self.problems.append("space: no point is left: every one gives the same as a control")
        return tuple(kept)

    def _drawn(self, seed: int) -> tuple[Point, ...]:
        wanted = self.sweep.num_trials or 0
        generator = Generator(seed)
        kept: list[Point] = []
        in_vain = 0
        while len(kept) < wanted and in_vain < (_DRAWS_WHEN_WRONG if self._anything_wrong else _DRAWS_IN_VAIN):
            point = draw(self.sweep.space, generator)
            config = self._checked(point)
            if config is None or self._first_with(config, point):
                in_vain += 1
            else:
                in_vain = 0
                kept.append(point)
        if len(kept) < wanted and not self._anything_wrong:
            self.problems.append(
                f"num_trials: must be at most {len(kept)}, as the space has no more different points, got {wanted}"
            )
        return tuple(kept)

    def _corners(self) -> Iterator[Point]:
        """Yield all combinations of listed values, the ranges at both ends; a sample where these are too many."""
        space = self.sweep.space
        for end in (0, -1):
            values = {name: d.values if d.discrete else (d.values[end],) for name, d in space.items()}
            if math.prod(len(choices) for choices in values.values()) <= _MOST_COMBINATIONS:
                yield from combinations(space, values)
            else:
                generator = random.Random(0)
                for _ in range(_MOST_COMBINATIONS):
                    single = {name: (generator.choice(choices),) for name, choices in values.items()}
                    yield from combinations(space, single)

    @property
    def _anything_wrong(self) -> bool:
        return bool(self.problems or self._at or self.known)

    def _checked(self, point: Point) -> Config | None:
        """Return the config at ``point``; None where something is wrong, which is remembered."""
        if any((name, key) in self._wrong for name, value in point.items() for key in ("", value_key(value))):
            return None
        found: list[str] = []
        config = validate(trial_settings(self.raw, self.sweep.resources, point), found)
        for problem in found:
            if problem not in self.known:
                self._at.setdefault(problem, []).append(point)
        return None if found else config

    def _first_with(self, config: Config, point: Point) -> str:
        """Return who gave the same as ``point`` before; empty when it is the first."""
        comes_to = signature_of(config)
        first = self._seen.get(comes_to, "")
        if not first:
            self._seen[comes_to] = point_text(point)
        return first


class Generator:
    """A chooser that draws at random, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def choice(self, name: str, values: Sequence[Any]) -> Any:  # noqa: ARG002
        """Return one of ``values``."""
        return self._random.choice(values)

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:  # noqa: ARG002
        """Return a number from ``low`` to ``high``; with ``log`` its logarithm is uniform."""
        if log:
            return min(max(math.exp(self._random.uniform(math.log(low), math.log(high))), low), high)
        return min(max(self._random.uniform(low, high), low), high)

    def integer(self, name: str, low: int, high: int) -> int:  # noqa: ARG002
        """Return a whole number from ``low`` to ``high``."""
        return self._random.randint(low, high)


def _to_try(dimension: Dimension) -> Iterable[Any]:
    """Return the values to hold against the tree: of a range the ends and one between, which is no whole number."""
    if dimension.discrete:
        return dimension.values
    low, high = dimension.values
    if dimension.kind == "int":
        return range(low, high + 1) if high - low < _INTEGERS_TRIED else (low, high)
    return (low, high, low + (high - low) * 0.618034)


def _out_of_range(raw: dict[str, Any]) -> list[str]:
    """Return which settings are unknown or have a value they cannot have, whatever the others are."""
    try:
        CONFIG.model.model_validate(raw)
    except ValidationError as error:
        return CONFIG.problems(raw, error, together=False)
    return []


def _concerns(line: str, name: str) -> bool:
    """Return whether a problem's setting is ``name``, a part of it or what it is a part of."""
    where = line.partition(":")[0]
    return f"{where}.".startswith(f"{name}.") or f"{name}.".startswith(f"{where}.")


def _conflict(problem: str, points: Sequence[Point]) -> str:
    where = " or ".join(point_text(point) for point in points[:_PLACES_NAMED])
    more = f" and {len(points) - _PLACES_NAMED} more" if len(points) > _PLACES_NAMED else ""
    name = problem.removesuffix(_UNKNOWN)
    hint = "; it needs a condition (when)" if name in points[0] else ""
    return f"space: {problem}, at {where}{more}{hint}"
