"""Paths as a caller gives them."""

from __future__ import annotations

import os

StrPath = str | os.PathLike[str]


def text_of(path: StrPath | None) -> str | None:
    """Return a path as text; None stays."""
    return None if path is None else os.fspath(path)
