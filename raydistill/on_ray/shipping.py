"""Weights that lie on the command's machine, sent to workers of a Ray cluster on machines that may not see them."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ray

from raydistill.config.sections import NAMED_WEIGHTS
from raydistill.runs.weights_file import weights_file
from raydistill.storage.parcels import Parcel, Shipped, checksum_of
from raydistill.storage.store import is_remote


def ship(names: Iterable[str]) -> Shipped:
    """Put the weights that settings name into Ray's object store, where workers fetch those that they cannot see.

    Nothing is sent where this command started Ray itself, all on this machine; nor what this machine does not have, as
    the workers' may: torchvision's weights, those on an object store, paths of the workers.

    Args:
        names: values of ``teacher.weights`` and ``student.weights``.

    Raises:
        UserError: for a folder that is no run directory.
    """
    if not os.environ.get("RAY_ADDRESS"):
        return {}
    here = {name for name in names if name not in NAMED_WEIGHTS and not is_remote(name) and Path(name).exists()}
    return {name: _parcel(Path(str(weights_file(Path(name))))) for name in sorted(here)}


def _fetched(content: Any) -> bytes:
    """Bring an object over; a function of ours, since Ray's own does not travel by name."""
    fetched: bytes = ray.get(content)
    return fetched


def _parcel(file: Path) -> Parcel:
    content = file.read_bytes()
    return Parcel(str(file), len(content), checksum_of(content), functools.partial(_fetched, ray.put(content)))
