"""A sweep file -> a ``LoadedSweep``, or one error that names everything wrong."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raydistill.config import RECIPES, SWEEPS, yaml_text
from raydistill.config.bundled import BUNDLED_SWEEPS
from raydistill.config.from_python import plain
from raydistill.config.loader import (
    CONFIG,
    Overrides,
    absolute,
    expanded,
    is_file,
    path_text,
    read_recipe,
    read_text,
    split_overrides,
    validate,
    with_absolute_paths,
)
from raydistill.config.renamed import current_name, current_names, note_renamed
from raydistill.config.sections import Config
from raydistill.config.tree import leaves, nest, nested
from raydistill.errors import UserError, one_error
from raydistill.sweeps.file.given import GivenPoints
from raydistill.sweeps.file.points import Points
from raydistill.sweeps.file.reading import KINDS, current_space, read_space
from raydistill.sweeps.file.rules import rules
from raydistill.sweeps.file.sections import SWEEP, Sweep
from raydistill.sweeps.file.trials import LoadedSweep
from raydistill.sweeps.file.words import with_hint

_MOST_SEEDS = 1000
_MOST_NEAR = 20  # unknown names that are compared with those there are
_MOST_PARTS = 20  # of a dotted name
_PATHS = ("data.root", "teacher.weights", "student.weights")


def load_sweep(
    sweep: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Overrides = (),
    output: str | os.PathLike[str] | None = None,
) -> LoadedSweep:
    """Read a sweep, apply overrides and check everything without starting anything.

    Args:
        sweep: the name of one that comes with the package, else a YAML file (what ``dump_sweep`` wrote is one too), or
            what such a file holds.
        overrides: keys of the sweep (``seeds=1``, ``search.seed=3``, ``space.decay.rate={uniform: [1, 4]}``), or
            settings of its base (``data.num_train=100``).
        output: where the results go; None leaves it to the sweep.

    Raises:
        UserError: naming every wrong key, value and combination, all at once.
    """
    raw, path = _read(sweep)
    problems: list[str] = []
    raw = _overridden(_in_long_form(raw), _pairs(overrides, problems), problems)
    if output is not None:
        raw = {**raw, "output": path_text(output, "output")}
    loaded = _load(raw, path, problems)
    if problems or loaded is None:
        where = "sweep" if isinstance(sweep, Mapping) else os.fspath(sweep)
        raise one_error(list(dict.fromkeys(map(with_hint, problems))), f"{where}: a sweep that cannot be run")
    return loaded


def _read(sweep: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[dict[str, Any], Path]:
    """Return what a sweep holds, and its file; one without a file counts as lying here, called like its base."""
    if isinstance(sweep, Mapping):
        return plain(sweep), Path(f"{Path(str(sweep.get('base'))).stem}.yaml")
    if sweep in SWEEPS:
        return yaml_text.read_mapping(BUNDLED_SWEEPS.read(str(sweep)), str(sweep)), Path(f"{sweep}.yaml")
    sweep = os.fspath(sweep)
    path = expanded(sweep)
    if not is_file(path):
        raise BUNDLED_SWEEPS.not_found(sweep)
    raw = yaml_text.read_mapping(read_text(path, sweep), sweep)
    if isinstance(raw.get("sweep"), dict) and raw.keys() <= {"sweep", "config", "grown"}:
        raw = raw["sweep"]
    return _in_current_names(raw), path


def _in_current_names(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a sweep whose settings have the names of today."""
    written = {key: raw[key] for key in ("settings", "space") if isinstance(raw.get(key), Mapping)}
    for names in written.values():
        note_renamed(names)
    if "space" in written:
        written["space"] = current_space(written["space"])
    return raw | {key: current_names(names) for key, names in written.items()}


def _in_long_form(raw: dict[str, Any]) -> dict[str, Any]:
    """Return ``search: random`` as ``search: {method: random}``, and so on; what is null is left to its default."""
    given = {key: value for key, value in raw.items() if value is not None or key not in Sweep.model_fields}
    return {key: _with_its_tag(key, value) for key, value in given.items()}


def _with_its_tag(key: str, value: Any) -> Any:
    tag = SWEEP.tags.get(key)
    return {tag: value} if tag is not None and isinstance(value, str) else value


def _pairs(overrides: Overrides, problems: list[str]) -> list[tuple[str, Any]]:
    """Return names and values of overrides; those of a mapping that are the base's as one, as they have no order."""
    if not isinstance(overrides, Mapping):
        pairs, unreadable = split_overrides(overrides)
        problems += unreadable
        return pairs
    note_renamed(overrides)
    given = current_names({str(name): plain(value) for name, value in overrides.items()})
    of_base = {name: value for name, value in given.items() if _is_of_base(name.partition(".")[0])}
    rest = [(name, value) for name, value in given.items() if name not in of_base]
    return [*rest, ("settings", of_base)] if of_base else rest


def _is_of_base(key: str) -> bool:
    return key in Config.model_fields and key not in Sweep.model_fields


def _overridden(raw: dict[str, Any], overrides: list[tuple[str, Any]], problems: list[str]) -> dict[str, Any]:
    for name, value in overrides:
        key, _, rest = name.partition(".")
        if key in ("space", "settings") and rest:
            note_renamed([rest])
            rest = current_name(rest)
        if key == "space":
            raw = {**raw, "space": _with_dimension(raw.get("space"), rest, value) if rest else value}
        elif key == "settings":
            raw = {**raw, "settings": _with_settings(raw.get("settings"), {rest: value} if rest else value)}
        elif key in Sweep.model_fields:
            raw = SWEEP.merge(raw, nest(name, value) if rest else {key: _with_its_tag(key, value)})
        elif key in Config.model_fields:
            raw = {**raw, "settings": _with_settings(raw.get("settings"), {name: value})}
        else:
            near = (SWEEP.near(name) or CONFIG.near(name)) if len(problems) < _MOST_NEAR else ""
            problems.append(f"{name}: neither a key of the sweep nor a setting of its base{near}")
    return _in_long_form(raw)


def _with_settings(settings: Any, changes: Any) -> Any:
    if not isinstance(changes, Mapping) or not isinstance(settings, Mapping | None):
        return changes
    return CONFIG.merge(nested(settings or {}), nested(changes))


def _with_dimension(space: Any, name: str, value: Any) -> dict[str, Any]:
    """Return ``space`` with one dimension replaced, or only its values (``decay.rate.uniform``) or conditions."""
    dimensions: dict[str, Any] = dict(space) if isinstance(space, Mapping) else {}
    start, _, last = name.rpartition(".")
    if last == "when" or last in KINDS:
        old = dimensions.get(start)
        keep = dict(old) if isinstance(old, Mapping) else {}
        if last in KINDS:
            keep = {key: inner for key, inner in keep.items() if key not in KINDS}
        dimensions[start] = {**keep, last: value}
    else:
        dimensions[name] = value
    return dimensions


def _load(raw: dict[str, Any], path: Path, problems: list[str]) -> LoadedSweep | None:
    """Check a sweep part by part, and go on with what can be read, so that all that is wrong is named."""
    settings = _settings(raw.get("settings"), problems)
    base, base_raw = _base(raw.get("base"), path, problems)
    output = raw.get("output", f"runs/tune/{path.stem}")
    output = absolute(output, "output") if isinstance(output, str) and output else output
    config: Config | None = None
    config_raw: dict[str, Any] = {}
    data_found = ""
    of_the_base: list[str] = []
    if base_raw is not None:
        config_raw = CONFIG.merge(base_raw, settings) | {"output": output if isinstance(output, str) else "runs"}
        config = validate(config_raw, of_the_base)
        problems += _where_they_stand(of_the_base, settings)
    if config is not None:
        config = with_absolute_paths(config)
        settings, config_raw = _with_paths_of(config, settings), _with_paths_of(config, config_raw)
        if config.data.format == "auto":
            from raydistill.data.recognise import with_known_data  # imports numpy

            config, data_found = with_known_data(config)
            config_raw = {**config_raw, "data": config.data.model_dump(mode="json")}
    seeds = _seeds(raw.get("seeds", 1), config.seed if config else 0, problems)
    space = read_space(raw.get("space"), problems)
    complete = not isinstance(raw.get("search"), Mapping) or raw["search"].get("method") != "ablation"
    reader = GivenPoints(space, config_raw, path.parent, complete, problems)
    points = reader.read(raw.get("points")) if config is not None else ()
    given = {**raw, "settings": settings, "base": base, "output": output, "seeds": seeds, "space": space}
    given["points"] = points
    of_the_sweep: list[str] = []
    sweep = SWEEP.validate(given, of_the_sweep)
    problems += [_pointed_to_its_place(problem) for problem in of_the_sweep]
    if sweep is None:
        return None
    problems += rules(sweep, config, {problem.partition(":")[0].partition(".")[0] for problem in of_the_sweep})
    if config is None or (raw.get("space") and not space):
        return None
    found = Points(sweep, config, config_raw, of_the_base)
    loaded = found.on(LoadedSweep(sweep, config, None, (), config_raw, data_found=data_found))
    problems += found.problems
    return loaded


def _pointed_to_its_place(problem: str) -> str:
    of_the_base = problem.removesuffix(": no such setting") in Config.model_fields
    return f"{problem}; settings of the base belong under settings" if of_the_base else problem


def _base(name: Any, path: Path, problems: list[str]) -> tuple[str, dict[str, Any] | None]:
    """Return the base's name, its path if it is a file, and what it holds; None when it cannot be read."""
    if not isinstance(name, str) or not name:
        problems.append("base: must be given: a recipe or a YAML file" + ("" if name is None else f", got {name!r}"))
        return "none", None
    try:
        places = (path.parent / expanded(name), Path(name))
        found = next((str(place.resolve()) for place in places if name not in RECIPES and is_file(place)), name)
        return found, read_recipe(found)[0]
    except UserError as error:
        problems.append(f"base: {error}")
        return "none", None


def _settings(written: Any, problems: list[str]) -> dict[str, Any]:
    """Return the fixed settings as a tree; report what is given twice and what the sweep decides itself."""
    if written is None:
        return {}
    if not isinstance(written, Mapping):
        problems.append(f"settings: must hold settings of the base, got {written!r}")
        return {}
    names = [leaf for key, value in written.items() for leaf, _ in leaves(str(key), value)]
    deep = [name for name in names if name.count(".") >= _MOST_PARTS]
    if deep:
        problems += [f"settings.{name[:80]}: no such setting" for name in deep]
        return {}
    outer = {section for name in names for section in _sections_of(name)}
    counts = Counter(names)
    twice = sorted(outer.intersection(names))
    twice += sorted({name for name in names if counts[name] > 1} - set(twice))
    problems += [f"settings.{name}: is given twice" for name in twice]
    if "output" in names:
        problems.append("settings.output: must be left out; use output, next to settings")
    if "distillation.baseline" in names:
        problems.append(
            "settings.distillation.baseline: has no effect: the sweep trains the student alone as a control"
        )
    return nested({str(key): value for key, value in written.items() if key != "output"})


def _where_they_stand(problems: list[str], settings: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the base, under ``settings`` where that is what they change."""
    given = {leaf for key, value in settings.items() for leaf, _ in leaves(key, value)}
    around = {section for leaf in given for section in _sections_of(leaf)}
    found = []
    for problem in problems:
        where = problem.partition(":")[0]
        own = where in given or where in around or any(section in given for section in _sections_of(where))
        found.append(f"settings.{problem}" if own else f"base: {problem}")
    return found


def _sections_of(name: str) -> Iterator[str]:
    """Yield the sections that a dotted name lies in."""
    return (name.rsplit(".", parts)[0] for parts in range(1, name.count(".") + 1))


def _with_paths_of(config: Config, raw: dict[str, Any]) -> dict[str, Any]:
    """Return ``raw`` with the paths in it as they are in ``config``: absolute."""
    for name in _PATHS:
        section, key = name.split(".")
        inner = raw.get(section)
        if isinstance(inner, Mapping) and key in inner and hasattr(getattr(config, section), key):
            raw = {**raw, section: {**inner, key: getattr(getattr(config, section), key)}}
    return raw


def _seeds(written: Any, first: int, problems: list[str]) -> Any:
    """Return the seeds: as many as a number says from the base's seed on, or those listed."""
    if isinstance(written, bool) or not isinstance(written, int | list) or written == []:
        problems.append(f"seeds: must be a number of seeds or a list of them, got {written!r}")
        return [first]
    if isinstance(written, list):
        return written
    if not 1 <= written <= _MOST_SEEDS:
        problems.append(f"seeds: must be 1 to {_MOST_SEEDS} of them, got {written}; or a list")
        return [first]
    return list(range(first, first + written))
