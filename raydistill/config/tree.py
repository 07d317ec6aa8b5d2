"""A tree of sections as the user writes it: raw mappings laid over each other, and pydantic's errors in our words."""

from __future__ import annotations

import datetime
import difflib
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 200
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 20

_LONGEST_NAME = 100  # letters; longer ones are like no setting
_MOST_ENDING_SO = 5  # settings that a hint names
_MOST_NEAR = 20  # settings that are none whose names are compared with those there are

Model = TypeVar("Model", bound=BaseModel)


def nest(dotted: str, value: Any) -> dict[str, Any]:
    """Return the mapping that a dotted name stands for.

    >>> nest("decay.shape", "linear")
    {'decay': {'shape': 'linear'}}
    """
    *sections, key = dotted.split(".")
    nested: dict[str, Any] = {key: value}
    for section in reversed(sections):
        nested = {section: nested}
    return nested


def leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the dotted names that giving ``name`` the ``value`` sets: those inside of a mapping."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from leaves(f"{name}.{key}", inner)
    else:
        yield name, value


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, dotted or nested or both, as a tree; where one is given twice the last one counts.

    >>> nested({"training.optimizer": {"name": "sgd"}, "training": {"epochs": 2}})
    {'training': {'optimizer': {'name': 'sgd'}, 'epochs': 2}}
    """
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        for leaf, inner in leaves(str(name), value):
            lay_on(tree, nest(leaf, inner))
    return tree


def join(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return both trees as one; where a leaf is in both that of ``over`` counts."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = join(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def lay_on(tree: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Change ``tree``, whose inner mappings are its own, into what ``join`` makes of both."""
    for key, value in over.items():
        old = tree.get(key)
        if isinstance(value, Mapping):
            inner: dict[str, Any] = old if isinstance(old, dict) else {}
            lay_on(inner, value)
            tree[key] = inner
        else:
            tree[key] = value


@dataclass(frozen=True)
class Tree(Generic[Model]):
    """A tree of settings: its model, and the tag of each section that comes in kinds, by the section's name."""

    model: type[Model]
    tags: Mapping[str, str]
    words_of_others: Mapping[str, str] = field(default_factory=dict)
    """What other tools call a setting, and its name here."""

    def merge(self, base: Mapping[str, Any], over: Mapping[str, Any], path: str = "") -> dict[str, Any]:
        """Lay ``over`` on ``base``, section by section; a section whose kind changes starts anew."""
        merged = dict(base)
        for key, value in over.items():
            inner = f"{path}{key}"
            old = merged.get(key)
            if isinstance(value, Mapping) and isinstance(old, Mapping):
                tag = self.tags.get(inner)
                changed = tag is not None and tag in value and value[tag] != old.get(tag)
                merged[key] = self.merge({} if changed else old, value, f"{inner}.")
            else:
                merged[key] = value
        return merged

    def validate(self, raw: dict[str, Any], problems: list[str]) -> Model | None:
        """Build the model; append what is wrong, and then try the defaults in place of that, so that more is found."""
        try:
            return self.model.model_validate(raw)
        except ValidationError as error:
            problems += self.problems(raw, error)
            return self._without_offenders(raw, error)

    def problems(self, raw: dict[str, Any], error: ValidationError, together: bool = True) -> list[str]:
        """Return what is wrong with ``raw``, a line for each setting.

        Args:
            raw: what was validated.
            error: what pydantic says of it.
            together: include what a section says of its settings together.
        """
        items = [item for item in error.errors(include_url=False) if together or item["type"] != "value_error"]
        # A list whose entries are wrong is not also too short.
        inside = {item["loc"][:end] for item in items for end in range(len(item["loc"]))}
        items = [item for item in items if item["type"] != "too_short" or item["loc"] not in inside]
        lines = (self._describe(item, raw, place < _MOST_NEAR) for place, item in enumerate(items))
        return _one_line_per_setting(lines)

    def names(self, raw: Mapping[str, Any] | None = None) -> Iterator[str]:
        """Yield the dotted name of every setting; of sections in kinds those of the kind ``raw`` names, else all."""
        yield from self._names(self.model, "", raw or {})

    def near(self, name: str, raw: Mapping[str, Any] | None = None) -> str:
        """Return ``; did you mean ...?`` where a setting is called almost so or ends so, else nothing."""
        if len(name) > _LONGEST_NAME:
            return ""
        names = [*self.names(raw), *(f"{section}.{tag}" for section, tag in self.tags.items())]
        found = self._ending_in(name, names)
        if not found:
            found = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
            found = [near for near in found if difflib.get_close_matches(_last_part(name), [_last_part(near)])]
        if not found:
            found = self._ending_in(_nearest_end(name, names), names)
        return f"; did you mean {' or '.join(found)}?" if found else ""

    def _ending_in(self, name: str, names: list[str]) -> list[str]:
        """Return the few settings that ``name`` is the end of, for a name that begins with no section."""
        if name.partition(".")[0] in self.model.model_fields:
            return []
        known = self.words_of_others.get(name.lower())
        if known in names:
            return [known]
        found = [near for near in dict.fromkeys(names) if name and near.endswith(f".{name}")]
        return found if len(found) <= _MOST_ENDING_SO else []

    def _names(self, model: type[BaseModel], prefix: str, raw: Any) -> Iterator[str]:
        for key, info in model.model_fields.items():
            name = f"{prefix}{key}"
            yield name
            kinds = models_in(info.annotation)
            here = raw.get(key) if isinstance(raw, Mapping) else None
            tag = self.tags.get(name)
            if tag is not None and isinstance(here, Mapping):
                kinds = [kind for kind in kinds if _is_of_kind(here, tag, kind)] or kinds
            for kind in kinds:
                yield from self._names(kind, f"{name}.", here)

    def _without_offenders(self, raw: dict[str, Any], error: ValidationError) -> Model | None:
        pruned = self.merge({}, raw)
        for item in error.errors(include_url=False):
            section: Any = pruned
            path = self._path(item["loc"], raw)
            for key in path[:-1]:
                section = section.get(key) if isinstance(section, dict) else None
            if isinstance(section, dict) and path:
                section.pop(path[-1], None)
        try:
            return self.model.model_validate(pruned)
        except ValidationError:
            return None

    def _path(self, loc: Sequence[str | int], raw: Any) -> list[str]:
        """Turn pydantic's location into the user's path: without tags of unions and branches of simple types."""
        path: list[str] = []
        here = raw
        before = ""
        for part in loc:
            dotted = ".".join(path)
            if dotted in self.tags and dotted != before:
                before = dotted  # here pydantic names the kind
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

    def _missing_tag(self, where: str, tag: str, section: Any, raw: Mapping[str, Any]) -> str:
        """Say that a section does not tell its kind, or which of its keys no kind has: the tag may be misspelt."""
        known = set(self.names(raw))
        for key in section if isinstance(section, Mapping) else ():
            name = f"{where}.{key}"
            if name not in known:
                return f"{name}: no such setting{self.near(name, raw)}"
        return f"{where}.{tag}: must be given"

    def _describe(self, item: Any, raw: dict[str, Any], compared: bool) -> str:
        """Put one of pydantic's errors into our form, with a name that is nearly the wrong one where ``compared``."""
        where = ".".join(self._path(item["loc"], raw))
        got = item["input"]
        if item["type"] == "extra_forbidden":
            return f"{_cut(where)}: no such setting{self.near(where, raw) if compared else ''}"
        if item["type"] == "missing":
            return f"{where}: must be given"
        if item["type"] == "value_error":
            message = str(item["ctx"]["error"])
            if message.startswith("must "):  # of a setting itself, not of its section
                return f"{where}: {message}"
            return f"{where}.{message.replace(' ', ': ', 1)}" if where else message
        if item["type"] in ("union_tag_invalid", "union_tag_not_found"):
            tag = self.tags[where]
            wanted = item["ctx"].get("expected_tags")
            if wanted is None:
                return self._missing_tag(where, tag, got, raw)
            given = got.get(tag) if isinstance(got, dict) else got
            return f"{where}.{tag}: must be one of {wanted}, got {_REPR.repr(given)}"
        message = re.sub(r"^Input should be", "must be", item["msg"])
        if item["type"] == "invalid_key":
            message = "must have texts as keys"
        quotes = "; put it in quotes" if item["type"] == "string_type" and _is_scalar(got) else ""
        return f"{where or 'a key'}: {message}, got {_REPR.repr(got)}{quotes}"


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that a value may be of."""
    kinds = [get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in get_args(annotation)]
    return [kind for kind in kinds or [annotation] if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _is_of_kind(section: Mapping[str, Any], tag: str, kind: type[BaseModel]) -> bool:
    """Return whether a section is of that kind by its tag: of one of its values, or there at all or not."""
    field = kind.model_fields.get(tag)
    if field is None or tag not in section:
        return field is None and tag not in section
    return section[tag] in (get_args(field.annotation) or (section[tag],))


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]


def _nearest_end(name: str, names: Iterable[str]) -> str:
    """Return what one of ``names`` ends in and is nearly ``name``; empty where none does."""
    ends = {end for near in names for end in _ends(near)}
    return next(iter(difflib.get_close_matches(name, ends, n=1, cutoff=0.8)), "")


def _ends(name: str) -> Iterator[str]:
    """Yield what is left of a dotted name without its first part, its first two, ...

    >>> list(_ends("training.optimizer.name"))
    ['optimizer.name', 'name']
    """
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _is_scalar(value: Any) -> bool:
    """Return whether YAML makes it of a text without quotes that looks like a number or a date."""
    return isinstance(value, int | float | datetime.date)


def _cut(name: str) -> str:
    return name if len(name) <= 2 * _LONGEST_NAME else f"{name[: 2 * _LONGEST_NAME]}..."


def _one_line_per_setting(lines: Iterable[str]) -> list[str]:
    """Join what pydantic says of each branch of a union: ``must be this or that``."""
    merged: dict[str, str] = {}
    for line in lines:
        where, _, text = line.partition(": ")
        wanted, got, value = text.partition(", got ")
        before = merged.get(where, "").partition(", got ")[0]
        merged[where] = f"{before} or {wanted.removeprefix('must be ')}{got}{value}" if before else text
    return [f"{where}: {text}" if text else where for where, text in merged.items()]
