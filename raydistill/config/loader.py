"""From recipe, YAML file and overrides to a ``Config``, or to one error that names everything wrong with them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError

from raydistill.config.sections import NAMED_WEIGHTS, Config, conflicts
from raydistill.errors import UserError, one_error

_RECIPE_FOLDER = resources.files("raydistill") / "recipes"
RECIPES: tuple[str, ...] = tuple(
    sorted(entry.name.removesuffix(".yaml") for entry in _RECIPE_FOLDER.iterdir() if entry.name.endswith(".yaml"))
)

# The tag of each section that comes in kinds: a new tag drops the settings of the old kind.
_TAGS = {"data": "format", "decay": "shape", "training.schedule": "shape"}


class _Yaml(yaml.SafeLoader):
    """Safe YAML that reads ``1e-3`` as the number the user meant and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _YamlDumper(yaml.SafeDumper):
    """Quotes texts that ``_Yaml`` would read as numbers."""


for _class in (_Yaml, _YamlDumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def load_config(recipe: str, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe by name or a YAML file, apply ``section.key=value`` overrides and check everything.

    Paths in the result are absolute; those in a file are relative to the working directory, as on the command line.

    Raises:
        UserError: naming every wrong setting with its path, all at once.
    """
    raw, name = _read(recipe)
    parsed, problems = _parse(overrides)
    for dotted, value in parsed:
        raw = _merge(raw, _nest(dotted, value))
    if raw.get("output") is None:
        raw["output"] = f"runs/{name}"
    config = _validate(raw, problems)
    if problems or config is None:
        raise one_error(problems, f"{recipe}: settings that cannot be used")
    return _with_absolute_paths(config)


def parse_overrides(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """Split ``section.key=value`` texts; values are read as YAML.

    >>> parse_overrides(["training.optimizer.learning_rate=1e-3", "data.classes=[cat, dog]"])
    [('training.optimizer.learning_rate', 0.001), ('data.classes', ['cat', 'dog'])]
    """
    parsed, problems = _parse(overrides)
    if problems:
        raise one_error(problems, "overrides that cannot be read")
    return parsed


def _parse(overrides: Sequence[str]) -> tuple[list[tuple[str, Any]], list[str]]:
    """Return the overrides that can be read, and what is wrong with the others."""
    parsed = []
    problems = []
    for text in overrides:
        dotted, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", dotted):
            problems.append(f"'{text}': must have the form section.key=value")
            continue
        try:
            parsed.append((dotted, yaml.load(value, _Yaml)))  # noqa: S506  (a safe loader)
        except (yaml.YAMLError, RecursionError) as error:
            problems.append(f"'{text}': the value is not YAML ({_one_line(error)})")
    return parsed, problems


def dump(config: Config) -> str:
    """Write ``config`` as YAML that ``load_config`` reads back to an equal value."""
    settings = config.model_dump(mode="json")
    return yaml.dump(settings, Dumper=_YamlDumper, sort_keys=False, width=110, default_flow_style=None)


def _read(recipe: str) -> tuple[dict[str, Any], str]:
    """Return the raw mapping of a recipe or file, what it is based on merged in, and its name."""
    if recipe in RECIPES:
        text, name = (_RECIPE_FOLDER / f"{recipe}.yaml").read_text(encoding="utf-8"), recipe
    else:
        path = Path(recipe).expanduser()
        if not path.is_file():
            near = difflib.get_close_matches(recipe, RECIPES, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise UserError(
                f"{recipe}: must be a recipe or a YAML file, got neither; {hint}the recipes are {', '.join(RECIPES)}"
            )
        try:
            text, name = path.read_text(encoding="utf-8"), path.stem
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{recipe}: cannot be read as text ({_one_line(error)})") from error
    try:
        raw = yaml.load(text, _Yaml)  # noqa: S506  (a safe loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{recipe}: must be YAML ({_one_line(error)})") from error
    if not isinstance(raw, dict):
        raise UserError(f"{recipe}: must hold sections with settings, got {type(raw).__name__}")
    settings = cast(dict[str, Any], raw)
    base = settings.pop("base", None)
    if base is None:
        return settings, name
    if base not in RECIPES:
        raise UserError(f"{recipe}: base: must be one of {', '.join(RECIPES)}, got {base!r}")
    return _merge(_read(base)[0], settings), name


def _merge(base: Mapping[str, Any], over: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Lay ``over`` on ``base``, section by section; a section whose kind changes starts anew."""
    merged = dict(base)
    for key, value in over.items():
        inner = f"{path}{key}"
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            tag = _TAGS.get(inner)
            changed = tag is not None and tag in value and value[tag] != old.get(tag)
            merged[key] = _merge({} if changed else old, value, f"{inner}.")
        else:
            merged[key] = value
    return merged


def _nest(dotted: str, value: Any) -> dict[str, Any]:
    *sections, key = dotted.split(".")
    nested: dict[str, Any] = {key: value}
    for section in reversed(sections):
        nested = {section: nested}
    return nested


def _validate(raw: dict[str, Any], problems: list[str]) -> Config | None:
    """Build the config; append what is wrong to ``problems``, conflicts between sections included."""
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems += _one_line_per_setting(_describe(item, raw) for item in error.errors(include_url=False))
        mended = _without_offenders(raw, error)
        if mended is None:
            return None
        config = mended
    wrong = [problem.partition(":")[0] for problem in problems]  # the defaults in their place conflict with nothing
    problems += [conflict for conflict in conflicts(config) if not any(where in conflict for where in wrong)]
    return config


def _one_line_per_setting(lines: Iterable[str]) -> list[str]:
    """Join what pydantic says of each branch of a union: ``must be this or that``."""
    merged: dict[str, str] = {}
    for line in lines:
        where, _, text = line.partition(": ")
        wanted, got, value = text.partition(", got ")
        before = merged.get(where, "").partition(", got ")[0]
        merged[where] = f"{before} or {wanted.removeprefix('must be ')}{got}{value}" if before else text
    return [f"{where}: {text}" if text else where for where, text in merged.items()]


def _without_offenders(raw: dict[str, Any], error: ValidationError) -> Config | None:
    """Try the defaults in place of what is wrong, so that conflicts elsewhere are reported in the same go."""
    pruned = _merge({}, raw)
    for item in error.errors(include_url=False):
        section: Any = pruned
        path = _path(item["loc"], raw)
        for key in path[:-1]:
            section = section.get(key) if isinstance(section, dict) else None
        if isinstance(section, dict) and path:
            section.pop(path[-1], None)
    try:
        return Config.model_validate(pruned)
    except ValidationError:
        return None


def _path(loc: Sequence[str | int], raw: Any) -> list[str]:
    """Turn pydantic's location into the user's path: without the tags of unions and the branches of simple types."""
    path: list[str] = []
    here = raw
    for part in loc:
        dotted = ".".join(path)
        if dotted in _TAGS and isinstance(here, dict) and part == here.get(_TAGS[dotted]) and part not in here:
            continue
        if isinstance(part, str) and not isinstance(here, dict) and path:
            break  # pydantic names the branch of a union of simple types
        path.append(str(part))
        if isinstance(here, dict):
            here = here.get(part)
        elif isinstance(here, (list, tuple)) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            here = None
    return path


def _describe(item: Any, raw: dict[str, Any]) -> str:
    """Put one of pydantic's errors into our form."""
    path = _path(item["loc"], raw)
    where = ".".join(path)
    got = item["input"]
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(where, list(setting_names(raw)), n=1, cutoff=0.75)
        near = [name for name in near if difflib.get_close_matches(path[-1], [name.rpartition(".")[2]])]
        return f"{where}: no such setting" + (f"; did you mean {near[0]}?" if near else "")
    if item["type"] == "missing":
        return f"{where}: must be given"
    if item["type"] == "value_error":
        message = str(item["ctx"]["error"])
        return f"{where}.{message.replace(' ', ': ', 1)}" if where else message
    if item["type"] in ("union_tag_invalid", "union_tag_not_found"):
        tag = _TAGS[where]
        wanted = item["ctx"].get("expected_tags")
        if wanted is None:
            return f"{where}.{tag}: must be given"
        given = got.get(tag) if isinstance(got, dict) else got
        return f"{where}.{tag}: must be one of {wanted}, got {given!r}"
    message = re.sub(r"^Input should be", "must be", item["msg"])
    return f"{where}: {message}, got {got!r}"


def setting_names(raw: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Yield the dotted name of every setting; of sections in kinds those of the kind that ``raw`` names, else all."""
    yield from _names(Config, "", raw or {})


def _names(model: type[BaseModel], prefix: str, raw: Any) -> Iterator[str]:
    for key, field in model.model_fields.items():
        name = f"{prefix}{key}"
        yield name
        arguments = getattr(field.annotation, "__args__", (field.annotation,))
        kinds = [kind for kind in arguments if isinstance(kind, type) and issubclass(kind, BaseModel)]
        here = raw.get(key) if isinstance(raw, Mapping) else None
        tag = _TAGS.get(name)
        if tag is not None and isinstance(here, Mapping):
            kinds = [kind for kind in kinds if here.get(tag) in kind.model_fields[tag].annotation.__args__] or kinds  # type: ignore[union-attr]
        for kind in kinds:
            yield from _names(kind, f"{name}.", here)


def _with_absolute_paths(config: Config) -> Config:
    """Resolve the user's paths here: a worker has another working directory."""
    updates: dict[str, Any] = {"output": _absolute(config.output)}
    if hasattr(config.data, "root"):
        updates["data"] = config.data.model_copy(update={"root": _absolute(config.data.root)})
    for name in ("teacher", "student"):
        detector = getattr(config, name)
        if detector.weights not in NAMED_WEIGHTS:
            updates[name] = detector.model_copy(update={"weights": _absolute(detector.weights)})
    return config.model_copy(update=updates)


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().resolve())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
