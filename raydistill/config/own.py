"""Classes and functions of the user's own, which settings name as ``module:name``.

One that is given as an object from Python and that no other process can import, as it was written in a notebook or in a
function, goes along with the settings that name it: ``Carried``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cloudpickle

from raydistill.errors import UserError, first_line

_given: dict[str, Any] = {}
"""What was given as an object in this process, or came to it with settings, and cannot be imported by its name."""


def name_of(given: Any) -> str:
    """Return the ``module:name`` by which settings name a class, a function or another callable object.

    >>> from collections import OrderedDict
    >>> name_of(OrderedDict)
    'collections:OrderedDict'
    """
    named = given if hasattr(given, "__qualname__") else type(given)
    name = f"{named.__module__}:{named.__qualname__}" + ("" if named is given else "()")
    if not _is_importable(name, given):
        _given[name] = given
    return name


def find(name: str, where: str) -> Any:
    """Return what ``name`` names.

    Raises:
        UserError: where it cannot be imported here; the message begins with ``where``, the setting.
    """
    if name in _given:
        return _given[name]
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise UserError(f"{where}: must be module:name, got {name!r}")
    try:
        found = _imported(module, attribute)
        if not callable(found):
            raise TypeError(f"{attribute} is a {type(found).__name__}")
        return found
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UserError(
            f"{where}: must be a class or a function that can be imported where the training runs, got {name} "
            f"({first_line(error)}); one that is written in a notebook is given as the object itself"
        ) from error


@dataclass(frozen=True)
class Carried:
    """Those of the objects given in this process that some settings name, on their way to other processes.

    There they are found by their names as soon as this has arrived.
    """

    names: tuple[str, ...]

    @classmethod
    def named_in(cls, settings: Any) -> Carried:
        """Return those that are named anywhere in a tree of settings."""
        return cls(tuple(name for name in _given if _is_in(name, settings)))

    def __reduce__(self) -> Any:
        """Take the objects along, those of a notebook by what they are made of."""
        return _arrive, tuple((name, _ByValue(_given[name])) for name in self.names)


@dataclass(frozen=True)
class _ByValue:
    """Pickled as cloudpickle does it, also where another pickler is at work."""

    given: Any

    def __reduce__(self) -> Any:
        build, arguments = cloudpickle.loads, (cloudpickle.dumps(self.given),)
        return build, arguments


def _arrive(*given: tuple[str, Any]) -> Carried:
    _given.update(given)
    return Carried(tuple(name for name, _ in given))


def _is_in(name: str, settings: Any) -> bool:
    if isinstance(settings, Mapping):
        return any(_is_in(name, value) for value in settings.values())
    if isinstance(settings, list | tuple):
        return any(_is_in(name, value) for value in settings)
    return bool(settings == name)


def _is_importable(name: str, given: Any) -> bool:
    """Return whether another process finds the same under that name; it has another ``__main__``."""
    module, _, attribute = name.partition(":")
    try:
        return module != "__main__" and _imported(module, attribute) is given
    except (ImportError, AttributeError, ValueError):
        return False


def _imported(module: str, attribute: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found
