"""A sweep that grows: what it covers, what it covered before, and whether the one holds the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from raydistill.config import yaml_text
from raydistill.sweeps.file.sections import Sweep
from raydistill.sweeps.file.space import Dimension, Point, Space, among, value_key

_DECIDED_THEN = {
    "asha": "which trials it stopped was decided among those that were there",
    "median": "which trials it stopped was decided among those that were there",
    "hyperband": "its brackets were full, and what they stopped was decided among those that were there",
    "pbt": "a population changes together, and the one of then has ended",
    "pb2": "a population changes together, and the one of then has ended",
}
"""Why a sweep under a scheduler cannot grow."""


@dataclass(frozen=True)
class Extent:
    """What a sweep covers: its points and the seeds of each."""

    num_trials: int | None
    seeds: tuple[int, ...]
    space: Space
    points: tuple[Point, ...] = ()  # given in the sweep file
    num_points: int = 0  # it had when it grew; they keep their numbers

    @staticmethod
    def of(sweep: Sweep) -> Extent:
        """Return what a sweep covers; ``num_points`` is not known yet."""
        return Extent(sweep.num_trials, sweep.seeds, sweep.space, sweep.points)

    def covers(self) -> dict[str, Any]:
        """Return it in the sweep file's form, apart from how many points that were."""
        points = {"points": [dict(point) for point in self.points]} if self.points else {}
        space = {name: dimension.as_written() for name, dimension in self.space.items()}
        return {"num_trials": self.num_trials, "seeds": list(self.seeds), **points, "space": space}


def refused_growth(then: Extent, now: Extent, sweep: Sweep) -> list[str]:
    """Return why a sweep that covered ``then`` cannot go on with ``now``, as ``key: X then, Y now; why``."""
    changes = [*_of_the_numbers(then, now), *_of_the_space(then.space, now.space, sweep.search.method)]
    scheduler = sweep.scheduler.name
    never = _DECIDED_THEN.get(scheduler)
    if never is not None:
        never = f"with scheduler {scheduler} a sweep cannot grow: {never}; choose another --output"
    return [f"{change}; {never or why}" if never or why else change for change, why in changes if never or why != ""]


def _of_the_numbers(then: Extent, now: Extent) -> Iterator[tuple[str, str | None]]:
    """Yield what changed in numbers and lists, and why that is no growth; empty where it is one."""
    if then.num_trials != now.num_trials:
        both = then.num_trials is not None and now.num_trials is not None
        more = both and (now.num_trials or 0) > (then.num_trials or 0)
        why = "" if more else f"it can be raised, not lowered: give num_trials={then.num_trials} or more"
        yield _change("num_trials", then.num_trials, now.num_trials), why if both else None
    if then.seeds != now.seeds:
        more = set(then.seeds) <= set(now.seeds)
        yield _change("seeds", list(then.seeds), list(now.seeds)), "" if more else "they can be added, not left out"
    if then.points != now.points:
        keys = set(map(value_key, now.points))
        lacking = [point for point in then.points if value_key(point) not in keys]
        why = "they can be added, not left out" if lacking else ""
        yield _change("points", [*then.points], [*now.points]), why


def _of_the_space(then: Space, now: Space, method: str) -> Iterator[tuple[str, str | None]]:
    for name in dict.fromkeys([*then, *now]):
        if name not in now:
            yield _change(f"space.{name}", then[name], None), "a setting can be added, not left out"
        elif name not in then:
            apart = method == "ablation" or _only_at_added(now[name], then)
            why = "" if apart else "every point of then lacks it; it can be added where when names added values only"
            yield _change(f"space.{name}", None, now[name]), why
        elif then[name] != now[name]:
            yield _change(f"space.{name}", then[name], now[name]), _narrower(then[name], now[name], then)
    shared = [[name for name in space if name in then and name in now] for space in (then, now)]
    if shared[0] != shared[1]:
        yield "space: its settings stood in another order then, and so did the points", None


def _narrower(then: Dimension, now: Dimension, space: Space) -> str | None:
    """Return why a dimension does not hold what it held; empty where it does, None where it is another one."""
    if then.kind != now.kind and not (then.discrete and now.discrete):
        return None
    if not _same_conditions(then, now, space):
        return "the conditions (when) of values of then must stay"
    if then.discrete:
        return "" if _all_among(then.values, now.values) else "values can be added, not left out"
    (low, high), (lowest, highest) = then.values, now.values
    return "" if lowest <= low and high <= highest else "bounds can be widened, not narrowed"


def _same_conditions(then: Dimension, now: Dimension, space: Space) -> bool:
    """Return whether a dimension is active at the same points of ``space``, which is the one of then."""
    if then.when.keys() != now.when.keys():
        return False
    return all(
        _all_among([value for value in now.when[parent] if among(value, space[parent].values)], allowed)
        and _all_among(allowed, now.when[parent])
        for parent, allowed in then.when.items()
    )


def _only_at_added(dimension: Dimension, then: Space) -> bool:
    """Return whether a new dimension is active at no point of the space of then."""
    return any(
        parent not in then or not any(among(value, then[parent].values) for value in allowed)
        for parent, allowed in dimension.when.items()
    )


def _all_among(values: Any, others: Any) -> bool:
    return set(map(value_key, values)) <= set(map(value_key, others))


def _change(key: str, then: Any, now: Any) -> str:
    return f"{key}: {_text(then)} then, {_text(now)} now"


def _text(value: Any) -> str:
    if value is None:
        return "unset"
    return yaml_text.in_one_line(value.as_written() if isinstance(value, Dimension) else value)
