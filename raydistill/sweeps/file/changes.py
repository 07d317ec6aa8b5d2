"""What differs between a sweep and the one that a directory was begun with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from raydistill.config import yaml_text
from raydistill.config.asking import what_is_compared
from raydistill.config.pooling import ROI_ALIGN
from raydistill.config.precision import TEACHER_PRECISION, Precision
from raydistill.config.sections import WITHOUT_INFLUENCE, defaults
from raydistill.errors import one_error
from raydistill.sweeps.file.growth import refused_growth
from raydistill.sweeps.file.points import Points
from raydistill.sweeps.file.trials import LoadedSweep
from raydistill.sweeps.file.written import dump_sweep, extent_in, read_dumped

_UNSET = object()
_EXTENT = ("num_trials", "seeds", "points", "space")
"""What can grow."""
_PRECISION = f"config.{TEACHER_PRECISION}"
# How the trials are run and where things lie; the base's file and the changes to it show in the settings they lead to.
_WITHOUT_INFLUENCE = (
    *("sweep.output", "sweep.max_concurrent", "sweep.resources.cpus_per_worker", "sweep.resources.gpus_per_worker"),
    *("sweep.time_budget", "sweep.target", "sweep.keep", "sweep.failed"),
    *("sweep.base", "sweep.settings", "config.output", "config.scaling", "config.logging"),
    "config.checkpoint",
    *(f"config.{name}" for name in WITHOUT_INFLUENCE),
)


def differences(before: str, loaded: LoadedSweep) -> list[str]:
    """Return what changed since ``dump_sweep`` gave ``before`` and is no growth, as ``key: X then, Y now``.

    Nor is a precision of the teacher that was left open then a change.

    Raises:
        UserError: when ``before`` is not what ``dump_sweep`` writes.
    """
    earlier, today = read_dumped(before), read_dumped(dump_sweep(loaded))
    then, now = (_flat(_without_extent(tree)) for tree in (earlier, today))
    then = {key: value for key, value in _flat({"config": defaults()}).items() if key in now} | then
    if then[_PRECISION] == "auto":
        then[_PRECISION] = now[_PRECISION]
    then, now = what_is_compared(then, "config."), what_is_compared(now, "config.")
    changed = [
        f"{key.partition('.')[2]}: {_text(then.get(key, _UNSET))} then, {_text(now.get(key, _UNSET))} now"
        for key in dict.fromkeys([*then, *now])
        if then.get(key, _UNSET) != now.get(key, _UNSET)
    ]
    covered, covers = (extent_in(tree["sweep"]) for tree in (earlier, today))
    return [*changed, *refused_growth(covered, covers, loaded.sweep)]


def grown(before: str, loaded: LoadedSweep, num_points: int) -> LoadedSweep:
    """Return a sweep that knows what it covered before, so that its points have the numbers of then.

    Args:
        before: what ``dump_sweep`` gave then; nothing in it differs but what has grown.
        loaded: the sweep as it is now.
        num_points: how many points it had, where its search finds them on the way.

    Raises:
        UserError: when ``before`` is not what ``dump_sweep`` writes.
    """
    earlier = read_dumped(before)
    extents = [extent_in(covers) for covers in earlier["grown"]]
    then, now = (extent_in(tree["sweep"]) for tree in (earlier, read_dumped(dump_sweep(loaded))))
    if then != now:
        extents.append(replace(then, num_points=num_points))
    if not extents:
        return loaded
    found = Points(loaded.sweep, loaded.config, loaded.raw, [], tuple(extents))
    numbered = found.on(loaded)
    if found.problems:
        raise one_error(found.problems, "the sweep begun before: its points cannot be found again")
    return numbered


def precision_then(before: str) -> Precision | None:
    """Return in what the teacher of the sweep answers of which ``dump_sweep`` gave ``before``; None: it is left open.

    Raises:
        UserError: when ``before`` is not what ``dump_sweep`` writes.
    """
    found = _flat(read_dumped(before)).get(_PRECISION)
    return found if found in get_args(Precision) else None


def pooled_exactly(before: str) -> bool:
    """Return whether torchvision pools regions in the sweep of which ``dump_sweep`` gave ``before``.

    Raises:
        UserError: when ``before`` is not what ``dump_sweep`` writes.
    """
    return bool(_flat(read_dumped(before)).get(f"config.{ROI_ALIGN}", "exact") == "exact")


def _without_extent(tree: Mapping[str, Any]) -> dict[str, Any]:
    sweep = {key: value for key, value in tree["sweep"].items() if key not in _EXTENT}
    return {"sweep": sweep, "config": tree["config"]}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name in _WITHOUT_INFLUENCE:
            continue
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _text(value: Any) -> str:
    return "unset" if value is _UNSET else yaml_text.in_one_line(value)
