"""A ``LoadedSweep`` as the text that its directory holds, and what that says of how it grew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raydistill.config import yaml_text
from raydistill.config.renamed import current_names, current_tree
from raydistill.errors import UserError, one_error
from raydistill.sweeps.file.growth import Extent
from raydistill.sweeps.file.reading import current_space, read_space
from raydistill.sweeps.file.trials import LoadedSweep

_WHERE = "the sweep begun before"


def dump_sweep(loaded: LoadedSweep) -> str:
    """Return YAML with the keys ``sweep``, which ``load_sweep`` takes, and ``config``, the base's complete settings.

    Where the sweep has grown, ``grown`` lists what it covered before, and how many points those were.
    """
    sweep = loaded.sweep.model_dump(mode="json", exclude={"space"})
    sweep["space"] = {name: dimension.as_written() for name, dimension in loaded.sweep.space.items()}
    grown = [{"num_points": extent.num_points, **extent.covers()} for extent in loaded.grown]
    whole = {"sweep": sweep, "config": loaded.config.model_dump(mode="json")}
    return yaml_text.write(whole | ({"grown": grown} if grown else {}))


def read_dumped(text: str) -> dict[str, Any]:
    """Return ``sweep``, ``config`` and ``grown`` of what ``dump_sweep`` wrote, in the names of today.

    Raises:
        UserError: when it is not that.
    """
    raw = yaml_text.read_mapping(text, _WHERE)
    if not all(isinstance(raw.get(part), Mapping) for part in ("sweep", "config")):
        raise UserError(f"{_WHERE}: must hold sweep and config")
    grown = raw.get("grown", [])
    if not isinstance(grown, list) or not all(isinstance(item, Mapping) for item in grown):
        raise UserError(f"{_WHERE}: grown must be a list of what it covered, got {grown!r}")
    return {"sweep": _renamed(raw["sweep"]), "config": current_tree(raw["config"]), "grown": list(map(_renamed, grown))}


def extent_in(covers: Mapping[str, Any]) -> Extent:
    """Return what the file's form says that a sweep covered.

    Raises:
        UserError: when it cannot be read.
    """
    problems: list[str] = []
    space = read_space(covers.get("space"), problems)
    if problems:
        raise one_error(problems, f"{_WHERE}: cannot be read")
    seeds, points = covers.get("seeds", [0]), covers.get("points") or []
    return Extent(covers.get("num_trials"), tuple(seeds), space, tuple(points), covers.get("num_points", 0))


def _renamed(covers: Mapping[str, Any]) -> dict[str, Any]:
    renamed = dict(covers)
    if isinstance(renamed.get("space"), Mapping):
        renamed["space"] = current_space(renamed["space"])
    if isinstance(renamed.get("points"), list):
        renamed["points"] = [current_names(point) for point in renamed["points"]]
    return renamed
