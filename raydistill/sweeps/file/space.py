"""The search space: dimensions, which of them are active together, and drawing a point from them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from raydistill.config.cells import shown

Kind = Literal["choice", "grid", "uniform", "loguniform", "int"]
Point = dict[str, Any]
"""Dotted name -> value; active settings only, in the order of the space."""


@dataclass(frozen=True)
class Dimension:
    """One setting that is searched."""

    kind: Kind
    values: tuple[Any, ...]  # of a choice or a grid; else the lowest and the highest, both included
    when: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # parent -> the values at which this one is active

    @property
    def discrete(self) -> bool:
        """Whether its values are listed."""
        return self.kind in ("choice", "grid")

    def active(self, point: Point) -> bool:
        """Return whether every condition holds at ``point``, which knows the parents as far as they are active."""
        return all(parent in point and among(point[parent], allowed) for parent, allowed in self.when.items())

    def as_written(self) -> dict[str, Any]:
        """Return it in the sweep file's form."""
        conditions = {"when": {parent: list(values) for parent, values in self.when.items()}} if self.when else {}
        return {self.kind: list(self.values), **conditions}


Space = dict[str, Dimension]


class Chooser(Protocol):
    """Who picks the values: a random generator, or a search algorithm. It is handed plain values only."""

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        """Return one of ``values``: texts, numbers, booleans or None, all different."""

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        """Return a number from ``low`` to ``high``; with ``log`` its logarithm is uniform."""

    def integer(self, name: str, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""


def draw(space: Space, chooser: Chooser) -> Point:
    """Return the point that ``chooser`` picks, parents before the settings that depend on them."""
    point: Point = {}
    for name in dependency_order(space):
        if space[name].active(point):
            point[name] = _pick(name, space[name], chooser)
    return in_order(space, point)


def _pick(name: str, dimension: Dimension, chooser: Chooser) -> Any:
    values = dimension.values
    if dimension.kind == "int":
        return chooser.integer(name, values[0], values[1])
    if not dimension.discrete:
        return chooser.uniform(name, values[0], values[1], dimension.kind == "loguniform")
    if _plain(values):
        return chooser.choice(name, values)
    by_label = {value_key(value): value for value in values}
    return by_label[chooser.choice(name, tuple(by_label))]


def _plain(values: Sequence[Any]) -> bool:
    """Return whether the values are scalars that Python tells apart (it takes 1 for True)."""
    scalars = all(value is None or isinstance(value, str | int | float) for value in values)
    return scalars and len(set(values)) == len(values)


def in_order(space: Space, point: Point) -> Point:
    """Return ``point`` in the order of the space."""
    return {name: point[name] for name in space if name in point}


def combinations(space: Space, values: Mapping[str, Sequence[Any]]) -> Iterator[Point]:
    """Yield a point for every combination of the dimensions' ``values`` that is active, the last varying fastest."""
    order = dependency_order(space)

    def extend(point: Point, position: int) -> Iterator[Point]:
        if position == len(order):
            yield in_order(space, point)
            return
        name = order[position]
        if not space[name].active(point):
            yield from extend(point, position + 1)
            return
        for value in values[name]:
            yield from extend({**point, name: value}, position + 1)

    return extend({}, 0)


def one_at_a_time(space: Space) -> Iterator[Point]:
    """Yield the point at which nothing is changed, then one for every listed value of every dimension."""
    yield {}
    for name, dimension in space.items():
        for value in dimension.values:
            yield {name: value}


def dependency_order(space: Space) -> list[str]:
    """Return the names with parents first, otherwise as in the space; what lies on or behind a cycle is left out."""
    order: list[str] = []
    waiting = list(space)
    while waiting:
        ready = next((name for name in waiting if all(parent in order for parent in space[name].when)), None)
        if ready is None:
            break
        order.append(ready)
        waiting.remove(ready)
    return order


def parents_values(space: Space, name: str) -> Point | None:
    """Return values of the ancestors of ``name`` at which it is active; None where there are none."""
    allowed: dict[str, tuple[Any, ...]] = {}
    waiting, seen = [name], set()
    while waiting:
        here = waiting.pop()
        if here in seen or here not in space:
            continue
        seen.add(here)
        for parent, values in space[here].when.items():
            keys = set(map(value_key, allowed.get(parent, values)))
            allowed[parent] = tuple(value for value in values if value_key(value) in keys)
            waiting.append(parent)
    if not all(allowed.values()):
        return None
    return in_order(space, {parent: values[0] for parent, values in allowed.items()})


def among(value: Any, values: Sequence[Any]) -> bool:
    """Return whether ``value`` is one of ``values``; 1 and 1.0 are the same, 1 and true are not."""
    return value_key(value) in map(value_key, values)


def value_key(value: Any) -> str:
    """Return a text that equal values share, whatever way they were written.

    >>> value_key(1) == value_key(1.0), value_key(1) == value_key(True)
    (True, False)
    """
    return json.dumps(_comparable(value), sort_keys=True, default=str)


def _comparable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _comparable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_comparable(inner) for inner in value]
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value


def point_text(point: Point) -> str:
    """Return a point in one line, as overrides are written.

    >>> point_text({"decay.shape": "linear", "decay.milestones": [0.5]})
    'decay.shape=linear, decay.milestones=[0.5]'
    """
    return ", ".join(f"{name}={shown(value)}" for name, value in point.items()) or "nothing changed"
