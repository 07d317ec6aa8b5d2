"""Settings as Python values -> settings as a YAML file holds them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from raydistill.config.own import name_of
from raydistill.config.tree import nested

SETTING_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*){,19}")


def plain(value: Any) -> Any:
    """Return ``value`` as YAML has it: a path is a text, a section or mapping a dict, a sequence or array a list.

    A class, a function or another callable object is its ``module:name``, by which it is found again.

    >>> from pathlib import PurePosixPath
    >>> plain({"root": PurePosixPath("data/coco"), "object_sizes": (0.1, 0.6)})
    {'root': 'data/coco', 'object_sizes': [0.1, 0.6]}
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if callable(value):
        return name_of(value)
    return value.tolist() if hasattr(value, "tolist") else value  # numpy's arrays and numbers


def read_settings(settings: Mapping[Any, Any], problems: list[str]) -> dict[str, Any]:
    """Return settings under nested or dotted names, or both, as a tree; append what is no name to ``problems``.

    >>> read_settings({"training.epochs": 3, "training": {"batch_size": 8}}, [])
    {'training': {'epochs': 3, 'batch_size': 8}}
    """
    named = {name: value for name, value in settings.items() if isinstance(name, str) and SETTING_NAME.fullmatch(name)}
    problems += [f"{name!r}: must be the name of a setting, section.key" for name in settings if name not in named]
    return nested({name: plain(value) for name, value in named.items()})
