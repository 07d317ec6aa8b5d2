"""The points that a sweep file gives: settings that are known to be good, completed from the base and checked."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raydistill.config import RECIPES
from raydistill.config.loader import expanded, is_file, read_recipe, validate
from raydistill.config.renamed import current_names
from raydistill.config.sections import Config
from raydistill.errors import UserError
from raydistill.sweeps.file.sections import Resources
from raydistill.sweeps.file.space import Dimension, Point, Space, among, dependency_order, in_order, value_key
from raydistill.sweeps.file.trials import trial_settings

_MOST_GIVEN = 10_000
_MISSING = object()


class GivenPoints:
    """Reads ``points``; what is wrong is appended to ``problems``, a sentence each."""

    def __init__(self, space: Space, raw: Mapping[str, Any], folder: Path, complete: bool, problems: list[str]) -> None:
        """Know what the points are held against.

        Args:
            space: what is searched.
            raw: the base's settings; what a point leaves out is as there.
            folder: where the sweep file lies: paths of recipes may start there.
            complete: whether a point has a value for all that is active; else only for what it changes.
            problems: what is wrong, in sentences.
        """
        self._space, self._raw, self._folder, self._complete = space, raw, folder, complete
        self._problems = problems

    def read(self, written: Any) -> tuple[Point, ...]:
        """Return the points that can be used, each once."""
        if written is None:
            return ()
        if not isinstance(written, list | tuple) or len(written) > _MOST_GIVEN:
            got = f"{len(written)}" if isinstance(written, list | tuple) else repr(written)
            self._problems.append(
                f"points: must be a list of at most {_MOST_GIVEN} settings, such as [{{decay.shape: linear}}], or of "
                f"recipes, got {got}"
            )
            return ()
        found = [self._point(place, item) for place, item in enumerate(written)]
        points = [point for point in found if point is not None]
        return tuple({value_key(point): point for point in points}.values())

    def _point(self, place: int, item: Any) -> Point | None:
        where = f"points[{place}]"
        before = len(self._problems)
        if isinstance(item, str):
            given, settings = {}, self._of_recipe(where, item)
        elif isinstance(item, Mapping):
            given = self._given(where, item)
            settings = self._settings_where_active(where, given) if len(self._problems) == before else None
        else:
            self._problems.append(
                f"{where}: must be settings such as {{decay.shape: linear}}, or a recipe, got {item!r}"
            )
            return None
        if settings is None:
            return None
        point: Point = {}
        for name in dependency_order(self._space) if self._complete or isinstance(item, str) else given:
            if not self._space[name].active(point):
                continue
            value = given.get(name, _value_at(settings, name))
            chosen = _in_dimension(self._space[name], value)
            if chosen is _MISSING:
                self._problems.append(f"{where}.{name}: {_outside(self._space[name], value, name in given)}")
            point[name] = chosen
        return in_order(self._space, point) if len(self._problems) == before else None

    def _given(self, where: str, item: Mapping[Any, Any]) -> Point:
        """Return what is written of a point by the names of the space; report those that are not in it."""
        flat = current_names(
            {name: value for key, inner in item.items() for name, value in self._named(str(key), inner)}
        )
        for name in flat:
            if name not in self._space:
                near = difflib.get_close_matches(name[:100], self._space, n=1, cutoff=0.6)
                hint = f"did you mean {near[0]}?" if near else "what all trials share belongs under settings"
                self._problems.append(f"{where}.{name}: must be searched too (space); {hint}")
        return flat

    def _named(self, name: str, value: Any) -> Iterator[tuple[str, Any]]:
        """Yield the names that are set, nested ones too; a mapping may be a value itself."""
        if name in self._space or not isinstance(value, Mapping) or not value:
            yield name, value
        else:
            for key, inner in value.items():
                yield from self._named(f"{name}.{key}", inner)

    def _settings_where_active(self, where: str, given: Point) -> dict[str, Any] | None:
        """Return all settings of the base with those of a point; None where some have no effect beside the others."""
        unconditional = {name: value for name, value in given.items() if not self._space[name].when}
        settings = self._settings(where, unconditional)
        if settings is None or len(unconditional) == len(given):
            return settings
        point: Point = {}
        for name in dependency_order(self._space):
            if self._space[name].active(point):
                point[name] = given.get(name, _value_at(settings, name))
            elif name in given:
                self._problems.append(f"{where}.{name}: has no effect there: {_conditions(self._space[name])}")
        return self._settings(where, given) if given.keys() <= point.keys() else None

    def _settings(self, where: str, given: Point) -> dict[str, Any] | None:
        """Return all settings of the base with those of a point; None where they do not fit together."""
        found: list[str] = []
        config = validate(trial_settings(self._raw, Resources(), given), found)
        inside = [name for name in given for problem in found if problem.partition(":")[0] == name]
        self._problems += [f"{where}: {problem}" for problem in found if problem.partition(":")[0] not in inside]
        if config is None or (found and not inside):
            return None
        return config.model_dump(mode="json")

    def _of_recipe(self, where: str, name: str) -> dict[str, Any] | None:
        places = (self._folder / expanded(name), Path(name))
        found = next((str(place.resolve()) for place in places if name not in RECIPES and is_file(place)), name)
        problems: list[str] = []
        try:
            config: Config | None = validate(read_recipe(found)[0] | {"output": "runs"}, problems)
        except UserError as error:
            problems, config = [str(error)], None
        self._problems += [f"{where}: {name}: {problem}" for problem in problems]
        return None if config is None or problems else config.model_dump(mode="json")


def _value_at(settings: Mapping[str, Any], name: str) -> Any:
    here: Any = settings
    for key in name.split("."):
        here = here.get(key, _MISSING) if isinstance(here, Mapping) else _MISSING
    return here


def _in_dimension(dimension: Dimension, value: Any) -> Any:
    """Return a value as the space has it; ``_MISSING`` where it lies outside."""
    if value is _MISSING:
        return _MISSING
    if dimension.discrete:
        return next((own for own in dimension.values if among(_only_set(value, own), [own])), _MISSING)
    low, high = dimension.values
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return _MISSING
    if dimension.kind == "int":
        return int(value) if float(value).is_integer() else _MISSING
    return float(value)


def _only_set(value: Any, own: Any) -> Any:
    """Return of a section as it is complete what a listed value of the space names of it."""
    if not (isinstance(value, Mapping) and isinstance(own, Mapping)):
        return value
    return {key: _only_set(value.get(key, _MISSING), inner) for key, inner in own.items()}


def _outside(dimension: Dimension, value: Any, given: bool) -> str:
    values = dimension.values
    wanted = f"one of {', '.join(map(str, values))}" if dimension.discrete else f"{values[0]:g} to {values[1]:g}"
    whole = "a whole number, " if dimension.kind == "int" else ""
    if given:
        return f"must be {whole}{wanted}, as in space, got {value!r}"
    lacking = "nothing" if value is _MISSING else f"{value!r}"
    return f"must be given: {whole}{wanted}, as in space; the base has {lacking}"


def _conditions(dimension: Dimension) -> str:
    wanted = [f"{parent} is {' or '.join(map(str, allowed))}" for parent, allowed in dimension.when.items()]
    return f"it is searched where {' and '.join(wanted)}"
