"""Sweep files for the tests: a valid one, changed key by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill.errors import UserError
from raydistill.sweeps.file import LoadedSweep, load_sweep

SMALL: dict[str, Any] = {"base": "quickstart", "space": {"methods.tar.feature.weight": {"grid": [1, 2]}}}


def write(folder: Path, changes: dict[str, Any]) -> str:
    """Write ``SMALL`` with other keys, and return the file."""
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}, sort_keys=False))
    return str(path)


def load(folder: Path, *overrides: str, **changes: Any) -> LoadedSweep:
    return load_sweep(write(folder, changes), overrides)


def problems(folder: Path, *overrides: str, **changes: Any) -> list[str]:
    """Return the problems that loading names."""
    with pytest.raises(UserError) as caught:
        load(folder, *overrides, **changes)
    headline, *listed = str(caught.value).split("\n  - ")
    count = len(listed)
    assert headline.endswith(f"({count} problem{'s' if count != 1 else ''}):")
    return listed


def problem(folder: Path, *overrides: str, **changes: Any) -> str:
    """Return the one problem that loading names."""
    (only,) = problems(folder, *overrides, **changes)
    return only
