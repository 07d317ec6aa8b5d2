"""A setting's value as one cell of a table, so that it can be told what it was: as it is given on the command line.

Numbers, ``true`` and ``false``, lists and mappings stand as in JSON, ``null`` as ``Null`` (which is YAML's too, and
which pandas does not take for an empty cell), and a text as it is; one that would be read as something else stands in
double quotes: ``"true"``, ``"1e3"``, ``"null"``. An empty cell is no value: the setting had no part there.
"""

from __future__ import annotations

import functools
import json
import math
from typing import Any

from raydistill.config import yaml_text

NULL = "Null"
_EMPTY_TO_OTHERS = ("", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "1.#ind", "1.#qnan", "<na>", "n/a", "na")
"""What pandas takes for an empty cell, in small letters; ``null``, ``none`` and ``nan`` are looked for below."""
_STARTS_A_FORMULA = ("=", "+", "-", "@", "'", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def as_cell(value: Any) -> str:
    """Return a value as a cell.

    >>> [as_cell(value) for value in (None, True, 0.5, "linear", [1, None])]
    ['Null', 'true', '0.5', 'linear', '[1, null]']
    >>> [as_cell(text) for text in ("null", "true", "1e3", "[1]", "")]
    ['"null"', '"true"', '"1e3"', '"[1]"', '""']
    """
    if value is None:
        return NULL
    if isinstance(value, str):
        return value if _stands_for_itself(value) else json.dumps(value, ensure_ascii=False)
    return _as_json(value)


def from_cell(cell: Any) -> Any:
    """Return the value of a cell; what is no text, as a number of a column of numbers, is its own value.

    >>> [from_cell(cell) for cell in ("Null", "true", "0.5", "linear", '[1, null]', '"null"')]
    [None, True, 0.5, 'linear', [1, None], 'null']
    """
    if not isinstance(cell, str):
        return cell
    if cell == "":
        return math.nan
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        pass
    try:
        return yaml_text.read_value(cell)
    except ValueError:
        return cell


def shown(value: Any) -> str:
    """Return a value for people: as a cell, with ``null``, and quotes only where a text looks like another value.

    >>> shown(None), shown("null"), shown("none"), shown(0.30000000000000004)
    ('null', '"null"', 'none', '0.3')
    """
    if value is None:
        return "null"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value in ("", "-") or from_cell(value) != value else value
    return f"{value:.6g}" if isinstance(value, float) else _as_json(value)


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return yaml_text.in_one_line(value)


@functools.lru_cache(maxsize=4096)
def _stands_for_itself(text: str) -> bool:
    """Return whether a text is read back as it is, by this module and by what else reads tables."""
    if text != text.strip() or not text.isprintable() or text.startswith(_STARTS_A_FORMULA):
        return False
    if text.lower() in _EMPTY_TO_OTHERS or text.lower() in ("null", "none", "true", "false"):
        return False
    try:
        float(text)
    except ValueError:
        return bool(from_cell(text) == text)
    return False
