"""Every value against the configuration tree, every point as a whole, and the points that a sweep runs."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from raydistill.config.loader import CONFIG, validate
from raydistill.config.sections import Config
from raydistill.sweeps.file.growth import Extent
from raydistill.sweeps.file.rules import refused
from raydistill.sweeps.file.sections import OptunaSearch, RandomSearch, Sweep
from raydistill.sweeps.file.space import (
    Dimension,
    Point,
    Space,
    combinations,
    draw,
    one_at_a_time,
    parents_values,
    point_text,
    value_key,
)
from raydistill.sweeps.file.trials import LoadedSweep, controls_of, signature_of, trial_settings

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
    grown: Sequence[Extent] = ()  # what the sweep covered before: those points come first, in their order
    problems: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)  # a point's key -> why it was left out
    counts: list[int] = field(default_factory=list)  # how many points there are after each of ``grown``, and in the end
    given: tuple[Point, ...] = ()  # to begin with; only where the others are found on the way
    all_points: tuple[Point, ...] | None = None  # that there are; only there, and where they are few
    _wrong: set[tuple[str, str]] = field(default_factory=set)  # values that are wrong by themselves
    _at: dict[str, list[Point]] = field(default_factory=dict)  # a conflict -> the points that have it
    _seen: dict[str, str] = field(default_factory=dict)  # what a point comes to -> who was there first
    _kept: dict[str, Point] = field(default_factory=dict)  # by their keys, in their order

    def find(self) -> tuple[Point, ...] | None:
        """Return the points, None for a search that finds them on the way; what is wrong is kept in ``problems``."""
        self._check_base()
        for name in self.sweep.space:
            self._check_values(name)
        for name, control in controls_of(self.config).items():
            config = validate(trial_settings(self.raw, self.sweep.resources, control), [])
            if config is not None:
                self._seen.setdefault(signature_of(config), f"the control {name}")
        if isinstance(self.sweep.search, OptunaSearch):
            self._find_beginnings()
        else:
            self._find_all()
        self.problems += [_conflict(problem, points_with_it) for problem, points_with_it in self._at.items()]
        return None if isinstance(self.sweep.search, OptunaSearch) else tuple(self._kept.values())

    def on(self, loaded: LoadedSweep) -> LoadedSweep:
        """Return a sweep with its points; what is wrong is kept in ``problems``."""
        points = self.find()
        counted = zip(self.grown, self.counts, strict=False)  # no counts where the search finds points on the way
        grown = tuple(replace(extent, num_points=count) for extent, count in counted) or tuple(self.grown)
        return replace(
            loaded,
            points=points,
            dropped=tuple(self.dropped.values()),
            grown=grown,
            given=self.given,
            all_points=self.all_points,
        )

    def _find_all(self) -> None:
        """Keep the points of what the sweep covered at first, then those that were added, and so on."""
        generator = Generator(self.sweep.search.seed) if isinstance(self.sweep.search, RandomSearch) else None
        for extent in (*self.grown, Extent.of(self.sweep)):
            for point in extent.points:
                self._keep(point)
            if generator is not None:
                self._draw(extent, generator)
            else:
                self._list(extent.space)
            self.counts.append(len(self._kept))

    def _find_beginnings(self) -> None:
        """Keep the points to begin with, check the corners, and list all points that there are where these are few."""
        for point in self.sweep.points:
            self._keep(point)
        self.given, dropped = tuple(self._kept.values()), dict(self.dropped)
        for point in self._corners():
            self._checked(point)
        finite = {name: _finite_values(dimension) for name, dimension in self.sweep.space.items()}
        most = math.prod(len(values) for values in finite.values())
        if 0 < most <= _MOST_COMBINATIONS and not self._anything_wrong:
            for point in combinations(self.sweep.space, finite):
                self._keep(point)
            self.all_points, self.dropped = tuple(self._kept.values()), dropped

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

    def _list(self, space: Space) -> None:
        """Keep every point of a grid or an ablation that gives something of its own."""
        if not all(dimension.discrete for dimension in space.values()):
            return
        values = {name: dimension.values for name, dimension in space.items()}
        listed = combinations(space, values) if self.sweep.search.method == "grid" else one_at_a_time(space)
        points = list(itertools.islice(listed, _MOST_POINTS + 1))
        if len(points) > _MOST_POINTS:
            self.problems.append(f"space: must have at most {_MOST_POINTS} combinations; use search random or optuna")
            return
        for point in points:
            self._keep(point)
        if not self._kept and not self._anything_wrong:
            self.problems.append("space: no point is left: every one gives the same as a control")

    def _draw(self, extent: Extent, generator: Generator) -> None:
        """Draw until the sweep has as many points as it should; a sweep that has grown goes on where it was."""
        wanted = extent.num_trials or 0
        in_vain = 0
        while len(self._kept) < wanted and in_vain < (_DRAWS_WHEN_WRONG if self._anything_wrong else _DRAWS_IN_VAIN):
            point = draw(extent.space, generator)
            config = self._checked(point)
            if config is None or self._first_with(config, point):
                in_vain += 1
            else:
                in_vain = 0
                self._kept[value_key(point)] = point
        if len(self._kept) < wanted and not self._anything_wrong:
            self.problems.append(
                f"num_trials: must be at most {len(self._kept)}, as the space has no more different points, got "
                f"{wanted}"
            )

    def _keep(self, point: Point) -> None:
        """Keep a point, unless another one that is there or a control gives the same."""
        key = value_key(point)
        config = None if key in self._kept or key in self.dropped else self._checked(point)
        if config is None:
            return
        first = self._first_with(config, point)
        if first and self.sweep.space:  # else the base is what was asked for
            self.dropped[key] = f"{point_text(point)}: left out, as it gives the same as {first}"
        else:
            self._kept[key] = point

    def _corners(self) -> Iterator[Point]:
        """Yield all combinations of listed values, the ranges at both ends; a sample where these are too many."""
        space = self.sweep.space
        for end in (0, -1) if any(not dimension.discrete for dimension in space.values()) else (0,):
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


def _finite_values(dimension: Dimension) -> Sequence[Any]:
    """Return all values of a dimension; none where they are too many."""
    if dimension.discrete:
        return dimension.values
    low, high = dimension.values
    return range(low, high + 1) if dimension.kind == "int" and high - low < _INTEGERS_TRIED else ()


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
