"""All settings as a text to read: what each may be, its default, and what it does, from the tree itself."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from raydistill.config import yaml_text
from raydistill.config.described import first_sentence
from raydistill.config.detector import Detector
from raydistill.config.loader import CONFIG
from raydistill.config.methods import Methods, settings_of_method
from raydistill.config.tree import Tree, models_in

_WIDTH = 100
_NO_LIMIT = 10**12
_KINDS = {"integer": "a whole number", "number": "a number", "string": "a text", "boolean": "true or false"}
_KINDS |= {"array": "a list", "object": "settings", "null": "unset"}


@dataclass(frozen=True)
class Entry:
    """A setting, or a section of them."""

    name: str
    """Dotted."""
    about: str
    """Its docstring in one line."""
    allowed: str = ""
    """What it may be; empty for a section."""
    default: str = ""
    """As YAML; empty where there is none."""
    kind: str = ""
    """Of a section that comes in kinds: which one this is, as ``shape: step``."""


def entries(tree: Tree[Any] = CONFIG) -> Iterator[Entry]:
    """Yield every section and setting, in the order of the tree."""
    yield from _of(tree, tree.model, "")


def names() -> set[str]:
    """Return the dotted names of all settings and sections of a recipe."""
    return {entry.name for entry in entries()}


def near(name: str) -> str:
    """Return ``; did you mean ...?`` where a setting is called almost so, else nothing."""
    return CONFIG.near(name)


def methods() -> dict[str, str]:
    """Return the distillation methods by name, with what each does."""
    there = {name: first_sentence(settings_of_method(name).__doc__ or "") for name in Methods.model_fields}
    return there | {"module:class": "One of your own: raydistill help own-parts"}


def detectors() -> dict[str, str]:
    """Return the kinds of detectors, with what each is and its backbones."""
    backbones = get_args(Detector.model_fields["backbone"].annotation)
    ours = f"{first_sentence(Detector.__doc__ or '')} backbone: {', '.join(backbones)}"
    return {"Faster R-CNN": ours, "module:build": "One of your own: raydistill help own-parts"}


def as_text(start: str = "", tree: Tree[Any] = CONFIG) -> str:
    """Return what is said of all settings of a tree, or of those that ``start`` names: one, or a section.

    >>> print(as_text("training.accumulation"), end="")
    training.accumulation: a whole number, from 1 to 1000000; default 1
        Parts that a batch is worked off in, one after the other, where memory does not hold all of it.
    """
    found = [entry for entry in entries(tree) if not start or f"{entry.name}.".startswith(f"{start}.")]
    return "".join(_lines(entry) for entry in found).lstrip("\n")


def _lines(entry: Entry) -> str:
    indent = " " * 4
    about = "".join(
        f"{line}\n" for line in textwrap.wrap(entry.about, _WIDTH, initial_indent=indent, subsequent_indent=indent)
    )
    if not entry.allowed:
        return f"\n{entry.name}{f' ({entry.kind})' if entry.kind else ''}\n{about}\n"
    return f"{entry.name}: {entry.allowed}{f'; default {entry.default}' if entry.default else ''}\n{about}"


def _of(tree: Tree[Any], model: type[BaseModel], prefix: str) -> Iterator[Entry]:
    for key, info in model.model_fields.items():
        name = f"{prefix}{key}"
        kinds = models_in(info.annotation)
        if not kinds:
            yield Entry(name, _one_line(info.description), _allowed(info), _default(info))
        for kind in kinds:
            yield Entry(name, _one_line(kind.__doc__), kind=_kind(tree, name, kind) if len(kinds) > 1 else "")
            yield from _of(tree, kind, f"{name}.")


def _kind(tree: Tree[Any], name: str, model: type[BaseModel]) -> str:
    """Return what a section must say of itself to be of a kind: the value of its tag."""
    tag = tree.tags.get(name, "")
    info = model.model_fields.get(tag)
    if info is None:
        return f"without {tag}" if tag else ""
    return f"{tag}: {_allowed(info)}"


def _allowed(info: FieldInfo) -> str:
    """Return what a setting may be, in words, from its JSON schema."""
    schema = TypeAdapter(info.rebuild_annotation()).json_schema()
    return _in_words(schema)


def _in_words(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_in_words(kind) for kind in schema["anyOf"]))
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        *first, last = (str(value) for value in schema["enum"])
        return f"{', '.join(first)} or {last}" if first else last
    kind = _KINDS.get(schema.get("type", ""), "anything")
    low, high = (schema.get(name, schema.get(other)) for name, other in (("minimum", "ge"), ("maximum", "le")))
    high = None if high is not None and high > _NO_LIMIT else high  # a seed's: none that anybody meets
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    bounds = [f"above {above:g}"] if above is not None else []
    bounds += [f"below {below:g}"] if below is not None else []
    if low is not None and high is not None:
        bounds.append(f"from {low} to {high}")
    else:
        bounds += [f"at least {low}"] if low is not None else []
        bounds += [f"at most {high}"] if high is not None else []
    return ", ".join([kind, *bounds])


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True) if not info.is_required() else PydanticUndefined
    if value is PydanticUndefined:
        return ""
    plain = TypeAdapter(Any).dump_python(value, mode="json")
    return "unset" if plain is None else yaml_text.in_one_line(plain)


def _one_line(docstring: str | None) -> str:
    return re.sub(r"\s+", " ", (docstring or "").replace("``", "")).strip()
