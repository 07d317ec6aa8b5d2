"""JSON files of annotations and detections: parsed, or refused in a few words."""

from __future__ import annotations

import contextlib
import gc
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raydistill.data.checks import listed
from raydistill.errors import UserError
from raydistill.storage.regular import JSON_BYTES, open_regular, read_bytes
from raydistill.storage.remote_path import Place

_HEAD_BYTES = 10**6


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Keep the garbage collector from looking for circles, of which what is read here has none.

    It would go through all objects again and again while hundreds of thousands are made: half the time of a large file.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_json(path: Place, what: str) -> Any:
    """Return what the JSON file ``path`` holds; ``what`` it is called, as in "the annotations file".

    Raises:
        UserError: where the file is missing, cannot be read or is no JSON.
    """
    try:
        return parse_json(_raw(path))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        near = listed(_json_files_near(path))
        raise UserError(f"{path}: the {what} file must exist; JSON files near it: {near}") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: must be complete JSON, got: {error.msg}; "
            "copy or export the file again"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: must be UTF-8 text, got other bytes from {error.start} on; export it again"
        ) from error
    except ValueError as error:  # of parse_json; or the path holds a NUL
        raise UserError(f"{path}: must be JSON that can be read, got {error}; correct the file or its path") from error
    except OSError as error:
        raise UserError(f"{path}: must be readable, got: {error.strerror}; check path and permissions") from error


def _raw(path: Place) -> bytes:
    """Return what the file holds; of a large one only where it begins as JSON does."""
    with open_regular(path, JSON_BYTES) as file:
        head = file.read(_HEAD_BYTES)
        if len(head) == _HEAD_BYTES and not head.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith((b"{", b"[")):
            return head
    return read_bytes(path, JSON_BYTES)


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
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {shown(repeated)} twice in one object")
    return found


def _json_files_near(path: Place) -> list[str]:
    """Name the JSON files in the nearest folder above ``path`` that exists and in its subfolders."""
    folder: Place = next((parent for parent in path.parents if parent.is_dir()), Path())
    return sorted(str(found) for pattern in ("*.json", "*/*.json") for found in folder.glob(pattern))
