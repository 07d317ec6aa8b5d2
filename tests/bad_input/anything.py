"""Anything that can stand in a file, and one change of what stands there."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from raydistill.errors import UserError

TRIES = int(os.environ.get("RAYDISTILL_TEST_TRIES", "1"))
"""How many times as many examples are tried; the same ones each time."""


def tried(examples: int) -> settings:
    """Return Hypothesis's settings for so many examples, without a clock and without chance."""
    return settings(
        max_examples=examples * TRIES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 12)
    | st.integers()
    | st.floats()
    | st.sampled_from(["a.png", "../a.png", "b.png", "dog", "cat", "shapes", "voc"])
    | st.text(max_size=4)
)
NASTY = st.sampled_from(
    [
        *(True, False, 10**400, 2**63, 2**70, -1, 0, -0.0, 1e308, float("nan"), float("inf"), None),
        *("", "\0", "\ud800", "5", "NaN", "~nobody-has-this-name/x", "x" * 300, [], [[]], {}, {"": {}}),
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def outcome(run: Callable[[], Any]) -> Any:
    """Return what comes out, or None for one of our errors; anything else is not caught."""
    try:
        return run()
    except UserError as error:
        assert str(error).strip()
        return None


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to everything inside of ``value``."""
    entries = (
        list(value.items() if isinstance(value, dict) else enumerate(value)) if isinstance(value, dict | list) else []
    )
    return [(*path, key) for key, _ in entries] + [p for key, inner in entries for p in places(inner, (*path, key))]


def put(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return ``content`` with ``value`` at ``path``; an ellipsis takes away what is there."""
    content = copy.deepcopy(content)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return content


def mutations(content: Any) -> st.SearchStrategy[Any]:
    """Return ``content`` with one entry replaced, taken away or exchanged with another."""
    anything = NASTY | VALUES | st.just(...) | st.sampled_from([content, [], {}])
    return st.builds(lambda path, value: put(content, path, value), st.sampled_from(places(content)), anything)
