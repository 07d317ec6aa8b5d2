"""JSON files of annotations and detections: parsed, or refused in a few words."""

from __future__ import annotations

import json
from typing import Any


def parse_json(raw: bytes) -> Any:
    """Return what ``raw`` holds: UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Raises:
        ValueError: when it is no JSON (a ``json.JSONDecodeError``) or no text (a ``UnicodeDecodeError``), gives a key
            twice, of which one would silently get lost, or is too deep or too long to be read.
    """
    try:
        return json.loads(raw, object_pairs_hook=_each_key_once)
    except RecursionError:
        raise ValueError("lists and objects nested too deeply") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError as error:  # a number of thousands of digits, and what _each_key_once says
        raise ValueError(str(error).partition(";")[0]) from None


def shown(value: Any) -> str:
    """Return ``value`` as short text, for a message about it."""
    try:
        text = repr(value)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_text(value: Any) -> bool:
    """Return whether ``value`` is a text that can be shown and written: not blank, no control characters."""
    if not isinstance(value, str) or not value.strip() or any(letter < " " or letter == "\x7f" for letter in value):
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for position, key in enumerate(keys) if key in keys[:position])
        raise ValueError(f"the key {shown(repeated)} twice in one object")
    return found
