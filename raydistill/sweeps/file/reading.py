"""The ``space`` of a sweep file -> dimensions, and what is wrong with its form: everything that needs no base."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, cast, get_args

from raydistill.config.renamed import current_names
from raydistill.sweeps.file.space import Dimension, Kind, Space, among, dependency_order, parents_values, value_key
from raydistill.sweeps.file.words import hint_at_kind

KINDS: tuple[str, ...] = get_args(Kind)
_FORM = "must be a mapping such as {choice: [1, 2]} or {uniform: [0, 1]}"
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*){,19}")
_MOST_COMPARED = 1000  # names
_MOST_DIMENSIONS = 500
_MOST_VALUES = 10_000
_MOST_WHEN = 1000
_MOST = 1e300  # of the ends of a range; larger whole numbers are none that Python can compare with infinity


def read_space(raw: Any, problems: list[str]) -> Space:
    """Return the dimensions that can be read; append what is wrong with the others and between them.

    Without any the sweep has one point: its base as it is.
    """
    if not isinstance(raw, Mapping | None):
        problems.append(f"space: must hold settings to search, or be left out, got {raw!r}")
        return {}
    if not raw:
        return {}
    if len(raw) > _MOST_DIMENSIONS:
        problems.append(f"space: must hold at most {_MOST_DIMENSIONS} settings to search, got {len(raw)}")
        return {}
    space: Space = {}
    for name, written in raw.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            problems.append(f"space.{name}: must be the dotted name of a setting")
            continue
        found: list[str] = []
        dimension = _dimension(written, found)
        problems += [f"space.{name}: {problem}" for problem in found]
        if dimension is not None:
            space[name] = dimension
    names = [name for name in raw if isinstance(name, str)]
    there = set(names)
    problems += [
        f"space.{inner}: cannot be searched beside {outer}, which it is a part of"
        for inner in names
        for parts in range(1, inner.count(".") + 1)
        if (outer := inner.rsplit(".", parts)[0]) in there
    ]
    return _with_conditions(space, names, problems)


def _dimension(written: Any, problems: list[str]) -> Dimension | None:
    if not isinstance(written, Mapping):
        problems.append(f"{_FORM}, got {written!r}{hint_at_kind(written)}")
        return None
    unknown = [key for key in written if key not in (*KINDS, "when")]
    if unknown:
        hint = next(filter(None, map(hint_at_kind, unknown)), "")
        got = ", ".join(map(str, unknown))
        problems.append(f"must hold one of {', '.join(KINDS)}, and perhaps when, got {got}{hint}")
    given = [key for key in written if key in KINDS]
    if len(given) != 1:
        if not unknown or given:
            problems.append(f"must hold one of {', '.join(KINDS)}, got {' and '.join(given) or 'none of them'}")
        return None
    kind = cast(Kind, given[0])
    values = (_listed if kind in ("choice", "grid") else _range)(kind, written[kind], problems)
    when = written.get("when")
    long = isinstance(when, Mapping) and any(isinstance(v, list) and len(v) > _MOST_WHEN for v in when.values())
    if long:
        problems.append(f"when must name at most {_MOST_WHEN} values of each setting, got more")
        when = None
    if when is not None and not (isinstance(when, Mapping) and when and all(isinstance(key, str) for key in when)):
        problems.append(f"when must be a mapping such as {{decay.shape: step}}, got {when!r}")
        when = None
    as_written = {parent: (allowed,) for parent, allowed in (when or {}).items()}
    return None if values is None else Dimension(kind, values, as_written)


def _listed(kind: str, values: Any, problems: list[str]) -> tuple[Any, ...] | None:
    if not isinstance(values, list) or not values:
        problems.append(f"{kind} must be a list of at least one value, got {values!r}")
        return None
    if len(values) > _MOST_VALUES:
        problems.append(f"{kind} must be a list of at most {_MOST_VALUES} values, got {len(values)}")
        return None
    keys = [value_key(value) for value in values]
    first: dict[str, int] = {}
    repeated = [value for place, value in enumerate(values) if first.setdefault(keys[place], place) != place]
    if repeated:
        problems.append(f"{kind} must not hold a value twice, got {', '.join(map(repr, repeated))} again")
        return None
    return tuple(values)


def _range(kind: str, values: Any, problems: list[str]) -> tuple[Any, ...] | None:
    number = int if kind == "int" else int | float
    wanted = "two whole numbers" if kind == "int" else "two numbers"
    ends = isinstance(values, list) and len(values) == 2 and all(isinstance(value, number) for value in values)
    if not ends or any(isinstance(value, bool) or not abs(value) < _MOST for value in values):
        problems.append(f"{kind} must be [low, high], {wanted}, got {values!r}")
        return None
    low, high = values
    if low >= high:
        problems.append(f"{kind} must be [low, high] with low < high, got [{low}, {high}]")
        return None
    if kind == "loguniform" and low <= 0:
        problems.append(f"{kind} must lie above 0, got [{low}, {high}]")
        return None
    return (low, high) if kind == "int" else (float(low), float(high))


def _with_conditions(space: Space, names: list[str], problems: list[str]) -> Space:
    """Check the conditions, and leave out the dimensions whose conditions go round in a circle."""
    checked: Space = {}
    for name, dimension in space.items():
        when = {parent: _allowed(space, parent, written) for parent, (written,) in dimension.when.items()}
        found = {parent: _condition(space, names, parent, allowed) for parent, allowed in when.items()}
        problems += [f"space.{name}: when.{parent}: {problem}" for parent, problem in found.items() if problem]
        checked[name] = Dimension(dimension.kind, dimension.values, when)
    ordered = dependency_order({name: _without_strangers(dimension, space) for name, dimension in checked.items()})
    circle = [name for name in checked if name not in ordered]
    if circle:
        problems.append(f"space: conditions must not go round in a circle, got one through {', '.join(circle)}")
    problems += [
        f"space.{name}: can never be active: its conditions and its parents' contradict each other"
        for name in ordered
        if all(checked[name].when.values()) and parents_values(checked, name) is None
    ]
    return {name: dimension for name, dimension in checked.items() if name in ordered}


def _allowed(space: Space, parent: str, written: Any) -> tuple[Any, ...]:
    """Return the values that a condition names: one, or a list; a list may also be one of the parent's values."""
    known = space[parent].values if parent in space else ()
    return tuple(written) if isinstance(written, list) and not among(written, known) else (written,)


def _without_strangers(dimension: Dimension, space: Space) -> Dimension:
    known = {parent: values for parent, values in dimension.when.items() if parent in space}
    return Dimension(dimension.kind, dimension.values, known)


def _condition(space: Space, names: list[str], parent: str, allowed: tuple[Any, ...]) -> str:
    """Return what is wrong with one condition; empty when nothing is."""
    if parent not in space:
        return "" if parent in names else f"must be searched too{_near(parent, names)}"
    dimension = space[parent]
    if not dimension.discrete:
        return f"must have listed values (choice or grid), got {dimension.kind}"
    if not allowed:
        return "must name at least one value, got []"
    known = set(map(value_key, dimension.values))
    strangers = [value for value in allowed if value_key(value) not in known]
    if strangers:
        return (
            f"must be among the values of {parent}, {', '.join(map(str, dimension.values))}, "
            f"got {', '.join(map(str, strangers))}"
        )
    return ""


def _near(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names[:_MOST_COMPARED], n=1, cutoff=0.6) if len(name) <= 100 else []
    return f"; did you mean {near[0]}?" if near else ""


def current_space(space: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``space`` as it is written, with the names of today, in the conditions too."""
    return {
        name: {**written, "when": current_names(written["when"])}
        if isinstance(written, Mapping) and isinstance(written.get("when"), Mapping)
        else written
        for name, written in current_names(space).items()
    }
