"""The one table of names that were others in an earlier version: of settings, metrics and tensors.

What such a version wrote, and what people have written for it, is read under the names of today.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from raydistill.config.tree import lay_on, nest

_TAR = ("feature", "classification", "regression", "rpn")
_SETTINGS = {section: f"methods.tar.{section}" for section in ("regions", *_TAR)}
"""Section then -> dotted name now."""
_METRICS = {
    f"{kind}/{term}": f"{kind}/tar/{term}"
    for kind in ("distillation", "weighted", "gradient", "cosine")
    for term in _TAR
}
"""End of a metric's path then -> now."""
_TENSORS = {"adapters.": "methods.tar.adapters."}
"""Start of a name in the state of a ``Distiller`` then -> now."""

_T = TypeVar("_T")


class RenamedWarning(FutureWarning):
    """Somebody still writes a setting by the name that it had."""


def current_name(name: str) -> str:
    """Return the dotted name that a setting has now.

    >>> current_name("feature.weight"), current_name("decay.shape")
    ('methods.tar.feature.weight', 'decay.shape')
    """
    section, dot, rest = name.partition(".")
    return f"{_SETTINGS[section]}{dot}{rest}" if section in _SETTINGS else name


def current_names(settings: Mapping[str, _T]) -> dict[str, _T]:
    """Return a mapping by dotted names with those of today."""
    return {current_name(name) if isinstance(name, str) else name: value for name, value in settings.items()}


def current_tree(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree of settings with its sections where they belong today.

    >>> current_tree({"seed": 1, "feature": {"weight": 2}, "rpn": {"weight": 0}})
    {'seed': 1, 'methods': {'tar': {'feature': {'weight': 2}, 'rpn': {'weight': 0}}}}
    """
    tree: dict[str, Any] = {}
    for key, value in raw.items():
        moved = {key: value} if key not in _SETTINGS else nest(_SETTINGS[key], value)
        lay_on(tree, moved)
    return tree


def current_metrics(values: Mapping[str, _T]) -> dict[str, _T]:
    """Return a mapping by metrics' paths with those of today.

    >>> current_metrics({"train/weighted/rpn": 0.5, "train/total": 1})
    {'train/weighted/tar/rpn': 0.5, 'train/total': 1}
    """
    return {_current_metric(name): value for name, value in values.items()}


def current_tensors(state: Mapping[str, _T]) -> dict[str, _T]:
    """Return the state of a ``Distiller`` with the names of today."""
    found = {}
    for name, value in state.items():
        start = next((start for start in _TENSORS if name.startswith(start)), "")
        found[f"{_TENSORS[start]}{name.removeprefix(start)}" if start else name] = value
    return found


def note_renamed(names: Iterable[Any]) -> None:
    """Warn who wrote these dotted names or sections of the ones that have others now."""
    for name in names:
        if isinstance(name, str) and current_name(name) != name:
            warnings.warn(
                f"{name}: is called {current_name(name)} now; the old name still works",
                RenamedWarning,
                stacklevel=2,
            )


def _current_metric(name: str) -> str:
    start, slash, rest = name.partition("/")
    if start in ("train", "val") and rest in _METRICS:
        return f"{start}{slash}{_METRICS[rest]}"
    return _METRICS.get(name, name)
