"""From recipe, YAML file and overrides to a ``Config``, or to one error that names everything wrong with them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from raydistill.config import yaml_text
from raydistill.config.bundled import BUNDLED_RECIPES, RECIPES
from raydistill.config.course import at_epoch, changeable, raw_with
from raydistill.config.from_python import SETTING_NAME, plain, read_settings
from raydistill.config.renamed import current_name, current_tree, note_renamed
from raydistill.config.sections import NAMED_WEIGHTS, AutoData, Config, conflicts
from raydistill.config.tree import Tree, nest
from raydistill.config.words import WORDS_OF_OTHERS
from raydistill.errors import UserError, one_error
from raydistill.storage.regular import YAML_BYTES, read_bytes

CONFIG = Tree(
    Config,
    {
        "data": "format",
        "decay": "shape",
        "training.schedule": "shape",
        "teacher": "detector",
        "student": "detector",  # of one's own
    },
    WORDS_OF_OTHERS,
)
"""The configuration tree; a new format, shape or detector drops the settings of the old one."""
Recipe = str | os.PathLike[str] | Mapping[str, Any] | Config
"""A recipe's name, a YAML file, the settings themselves (a ``base`` among them as in a file), or a checked config."""
Overrides = Sequence[str] | Mapping[str, Any]
"""``section.key=value`` texts, or settings by nested or dotted names."""


def load_config(recipe: Recipe, overrides: Overrides = (), output: str | os.PathLike[str] | None = None) -> Config:
    """Read a recipe, apply overrides and check everything.

    Paths in the result are absolute; those in a file are relative to the working directory, as on the command line.

    Args:
        recipe: what to begin with.
        overrides: what to change.
        output: where the results go; None leaves it to the settings, and to ``runs/NAME`` where they do not say.

    Raises:
        UserError: naming every wrong setting with its path, all at once.
    """
    raw, name = _read(recipe)
    problems: list[str] = []
    if isinstance(overrides, Mapping):
        note_renamed(overrides)
        changes = [current_tree(read_settings(overrides, problems))]
    else:
        parsed, problems = split_overrides(overrides)
        parsed.sort(key=lambda pair: pair[0] != "data.format")  # what is said of data before it counts too
        changes = [nest(dotted, value) for dotted, value in parsed]
    for change in [*_format_of_folder(changes, raw.get("data")), *changes]:
        raw = CONFIG.merge(raw, change)
    if output is not None:
        raw["output"] = path_text(output, "output")
    if raw.get("output") is None and name:
        raw["output"] = f"runs/{name}"
    config = validate(raw, problems)
    if problems or config is None:
        raise one_error(problems, f"{called(recipe)}: settings that cannot be used")
    return with_absolute_paths(config)


def settings_of_folder(recipe: str, folder: str) -> list[str]:
    """Return the overrides that put a folder of data in the place of a recipe's.

    What lies in it is recognised; only where a file of the user's own says of which format its data are, that counts.

    Raises:
        UserError: as ``read_recipe``.

    >>> settings_of_folder("quickstart", "pets")
    ['data.format=auto', 'data.root=pets']
    """
    data = read_recipe(recipe)[0].get("data")
    root = f"data.root={yaml_text.in_one_line(folder)}"
    of_files = data if isinstance(data, Mapping) and "root" in data else {}
    if of_files and recipe not in RECIPES:
        return [root]
    kept = {
        key: value for key, value in of_files.items() if key in AutoData.model_fields and key not in ("format", "root")
    }
    return ["data.format=auto", *(f"data.{key}={yaml_text.in_one_line(value)}" for key, value in kept.items()), root]


def _format_of_folder(changes: Sequence[Mapping[str, Any]], data: Any) -> list[dict[str, Any]]:
    """Return the change that lets a folder take the place of data that have none, to be recognised."""
    given = {key for change in changes if isinstance(change.get("data"), Mapping) for key in change["data"]}
    no_folder = isinstance(data, Mapping) and "root" not in data
    return [nest("data.format", "auto")] if no_folder and "root" in given and "format" not in given else []


def called(recipe: Recipe) -> str:
    """Return what a message calls a recipe."""
    return "recipe" if isinstance(recipe, Config | Mapping) else os.fspath(recipe)


def parse_overrides(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """Split ``section.key=value`` texts; values are read as YAML.

    >>> parse_overrides(["training.optimizer.learning_rate=1e-3", "data.classes=[cat, dog]"])
    [('training.optimizer.learning_rate', 0.001), ('data.classes', ['cat', 'dog'])]
    """
    parsed, problems = split_overrides(overrides)
    if problems:
        raise one_error(problems, "overrides that cannot be read")
    return parsed


def split_overrides(overrides: Sequence[str]) -> tuple[list[tuple[str, Any]], list[str]]:
    """Return the overrides that can be read, and what is wrong with the others."""
    parsed = []
    problems = []
    for text in overrides:
        dotted, equals, value = text.partition("=")
        if not equals or not SETTING_NAME.fullmatch(dotted):
            problems.append(f"'{text}': must have the form section.key=value")
            continue
        try:
            note_renamed([dotted])
            name = current_name(dotted)
            parsed.append((name, _path(value) if _OF_PATHS.fullmatch(name) else yaml_text.read_value(value)))
        except ValueError as error:
            problems.append(f"'{text}': the value is not YAML ({error})")
    return parsed, problems


_OF_PATHS = re.compile(
    r"(settings\.)?(output|data\.(root|(train|val|test)_(images|annotations|split|labels))"
    r"|(teacher|student)\.weights|loader\.cache|downloads\.folder)"
)
"""Settings whose values are texts, whatever they look like: names of files, folders and splits."""


def _path(text: str) -> Any:
    """Return a path as it was typed on the command line: ``out #1`` and ``2012`` are folders.

    Only quotes, lists and ``null`` are read as YAML.

    >>> [_path(text) for text in ("out #1", "2012", "'a b'", "[a, b]", "null", "a: b", "")]
    ['out #1', '2012', 'a b', ['a', 'b'], None, 'a: b', None]
    """
    first = text.strip()[:1]
    if text.strip() in ("null", ""):
        return None
    if first in ("'", '"', "["):
        try:
            value = yaml_text.read_value(text)
        except ValueError:
            return text
        return value if isinstance(value, str | list) else text
    return text


def path_text(path: str | os.PathLike[str], where: str) -> str:
    """Return a path that was given from Python as a text.

    Raises:
        UserError: where it is something else.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"{where}: must be a path, as a text or a pathlib.Path, got {path!r}")
    return os.fspath(path)


def dump(config: Config) -> str:
    """Write ``config`` as YAML that ``load_config`` reads back to an equal value."""
    return yaml_text.write(config.model_dump(mode="json"))


def read_recipe(recipe: str) -> tuple[dict[str, Any], str]:
    """Return the raw mapping of a recipe or file, what it is based on merged in, and its name.

    Raises:
        UserError: when there is none, or it holds something else.
    """
    if recipe in RECIPES:
        text, name = BUNDLED_RECIPES.read(recipe), recipe
    else:
        path = expanded(recipe)
        if not is_file(path):
            raise BUNDLED_RECIPES.not_found(recipe)
        text, name = read_text(path, recipe), path.stem
    return _on_its_base(yaml_text.read_mapping(text, recipe), recipe)[0], name


def _read(recipe: Recipe) -> tuple[dict[str, Any], str]:
    """Return the raw mapping of any kind of recipe and its name; without a name where it has neither file nor base."""
    if isinstance(recipe, Config):
        return plain(recipe), ""
    if not isinstance(recipe, Mapping):
        file = os.fspath(recipe)
        return read_recipe(file if isinstance(recipe, str) or file not in RECIPES else f"./{file}")
    problems: list[str] = []
    settings = read_settings(recipe, problems)
    if problems:
        raise one_error(problems, "recipe: settings that cannot be used")
    return _on_its_base(settings, "recipe")


def _on_its_base(settings: dict[str, Any], where: str) -> tuple[dict[str, Any], str]:
    """Return settings laid over the recipe that they name as their base, and its name; empty where they name none."""
    note_renamed(settings)
    settings = current_tree(settings)
    base = settings.pop("base", None)
    if base is None:
        return settings, ""
    if base not in RECIPES:
        raise UserError(f"{where}: base: must be one of {', '.join(RECIPES)}, got {base!r}")
    return CONFIG.merge(read_recipe(base)[0], settings), base


def read_text(path: Path, where: str) -> str:
    """Return what a file holds.

    Raises:
        UserError: when it cannot be read; the message begins with ``where``.
    """
    try:
        return read_bytes(path, YAML_BYTES).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: cannot be read as text ({yaml_text.one_line(error)})") from error
    except OSError as error:
        raise UserError(f"{where}: cannot be read as text ({error.strerror or error})") from error


def validate(raw: dict[str, Any], problems: list[str]) -> Config | None:
    """Build the config; append what is wrong to ``problems``, conflicts between sections included."""
    config = CONFIG.validate(raw, problems)
    if config is None:
        return None
    wrong = [problem.partition(":")[0] for problem in problems]  # the defaults in their place conflict with nothing
    problems += [conflict for conflict in conflicts(config) if not any(where in conflict for where in wrong)]
    if config.schedule and not problems:
        problems += _of_the_schedule(config)
    return config


def _of_the_schedule(config: Config) -> list[str]:
    """Say what is wrong with the settings that change on the way, and with what they make of the others."""
    problems = []
    epochs = [change.epoch for change in config.schedule]
    if epochs != sorted(set(epochs)):
        problems.append(f"schedule: epochs must be ascending without repeats, got {epochs}")
    if epochs[-1] >= config.training.epochs:
        problems.append(
            f"schedule: must change nothing after the last epoch, training.epochs = {config.training.epochs}, got a "
            f"change after {epochs[-1]}"
        )
    may_change = changeable(config)
    for place, change in enumerate(config.schedule):
        where = f"schedule.{place}.settings"
        strangers = [name for name in change.settings if name not in may_change]
        problems += [f"{where}.{name}: {_not_changeable(name, may_change)}" for name in strangers]
        if strangers or problems:
            continue
        found: list[str] = []
        then = CONFIG.validate(raw_with(config, change.settings), found)
        if then is not None and not found:
            found = conflicts(at_epoch(config, change.epoch))
        problems += [f"{where}.{problem}" for problem in found]
    return problems


def _not_changeable(name: str, may_change: Sequence[str]) -> str:
    if name not in CONFIG.names():
        return f"no such setting{CONFIG.near(name)}"
    return f"cannot change during training; what can is {', '.join(may_change)}"


def setting_names(raw: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Yield the dotted name of every setting; of sections in kinds those of the kind that ``raw`` names, else all."""
    yield from CONFIG.names(raw)


def with_absolute_paths(config: Config) -> Config:
    """Resolve the user's paths here: a worker has another working directory."""
    updates: dict[str, Any] = {"output": absolute(config.output, "output")}
    if hasattr(config.data, "root"):
        updates["data"] = config.data.model_copy(update={"root": absolute(config.data.root, "data.root")})
    if config.loader.cache is not None:
        cache = absolute(config.loader.cache, "loader.cache")
        updates["loader"] = config.loader.model_copy(update={"cache": cache})
    if config.downloads.folder is not None:
        folder = absolute(config.downloads.folder, "downloads.folder")
        updates["downloads"] = config.downloads.model_copy(update={"folder": folder})
    for name in ("teacher", "student"):
        detector = getattr(config, name)
        if detector.weights not in NAMED_WEIGHTS:
            weights = absolute(detector.weights, f"{name}.weights")
            updates[name] = detector.model_copy(update={"weights": weights})
    return config.model_copy(update=updates)


def absolute(path: str, where: str) -> str:
    """Return a path as it is from everywhere; an object store's address stays.

    Raises:
        UserError: when it is no path: with a NUL, with the home of an unknown user, through links in a circle; the
            message begins with ``where``.
    """
    if "://" in path:
        return path
    try:
        return str(Path(path).expanduser().resolve())
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(
            f"{where}: must be a path, got {path[:200]!r} ({yaml_text.one_line(error)}); correct it"
        ) from error


def expanded(path: str) -> Path:
    """Return a path with ``~`` written out.

    Raises:
        UserError: when nobody knows that home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: must be a file, got a home that nobody knows; write the path out") from error


def is_file(path: Path) -> bool:
    """Return whether there is such a file; a name too long for one is none."""
    try:
        return path.is_file()
    except OSError:
        return False
