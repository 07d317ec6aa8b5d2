"""Every setting with what it does, from the docstrings of the tree: for a printed config, and as a guide."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from raydistill.config import yaml_text
from raydistill.config.sections import Config

_WIDTH = 110  # of a comment's line, indentation included


def dump_with_comments(config: Config) -> str:
    """Write ``config`` as YAML that ``load_config`` reads back to an equal value, each setting below what it does."""
    return "".join(_commented(config, config.model_dump(mode="json"), 0))


def _commented(section: BaseModel, values: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Yield the lines of a section: its settings in order, with a comment above those that have a docstring."""
    indent = "  " * depth
    for name, value in values.items():
        inner = getattr(section, name)
        field = type(section).model_fields.get(name)
        about = type(inner).__doc__ if isinstance(inner, BaseModel) else _first_of(field)
        if isinstance(inner, BaseModel) and depth == 0:
            yield "\n"
        yield from (f"{indent}# {line}\n" for line in _wrapped(about or "", _WIDTH - len(indent) - 2))
        if isinstance(inner, BaseModel) and value:
            yield f"{indent}{name}:\n"
            yield from _commented(inner, value, depth + 1)
        else:
            yield f"{indent}{yaml_text.in_one_line({name: value})[1:-1]}\n"  # without the braces around it


def _wrapped(about: str, width: int) -> list[str]:
    """Return the first sentence of a text as lines."""
    return textwrap.wrap(first_sentence(about), width)


def first_sentence(about: str) -> str:
    r"""Return the first sentence of a docstring, in one line.

    >>> first_sentence("The ``teacher``: a detector.\n\n    It is frozen.")
    'The teacher: a detector.'
    """
    words = " ".join(about.replace("``", "").split())
    return re.split(r"(?<=[.?!]) (?=[A-Z])", words, maxsplit=1)[0]


def _first_of(field: FieldInfo | None) -> str:
    """Return what is said of a setting; where that is nothing, what it may be."""
    if field is None:
        return ""
    choices = [str(choice) for choice in _choices(field.annotation)]
    return field.description or (f"{', '.join(choices[:-1])} or {choices[-1]}." if len(choices) > 1 else "")


def _choices(annotation: Any) -> tuple[Any, ...]:
    """Return the values that a setting may have, where they are listed."""
    return get_args(annotation) if get_origin(annotation) is Literal else ()
