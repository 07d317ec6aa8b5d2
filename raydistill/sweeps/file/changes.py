"""What differs between a sweep and the one that a directory was begun with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from raydistill.config import yaml_text
from raydistill.config.precision import TEACHER_PRECISION, Precision
from raydistill.config.renamed import current_tree
from raydistill.config.sections import WITHOUT_INFLUENCE, defaults
from raydistill.errors import UserError
from raydistill.sweeps.file.loader import dump_sweep
from raydistill.sweeps.file.reading import current_space
from raydistill.sweeps.file.trials import LoadedSweep

_UNSET = object()
_SEEDS = "sweep.seeds"
_PRECISION = f"config.{TEACHER_PRECISION}"
# How the trials are run and where things lie; the base's file and the changes to it show in the settings they lead to.
_WITHOUT_INFLUENCE = (
    *("sweep.output", "sweep.max_concurrent", "sweep.resources.cpus_per_worker", "sweep.resources.gpus_per_worker"),
    *("sweep.base", "sweep.settings", "config.output", "config.scaling", "config.logging"),
    "config.checkpoint",
    *(f"config.{name}" for name in WITHOUT_INFLUENCE),
)


def differences(before: str, loaded: LoadedSweep) -> list[str]:
    """Return what changed since ``dump_sweep`` gave ``before``, as ``key: X then, Y now``.

    Seeds that were added are no change where nothing was learnt from the trials on the way: those of before are kept.
    Nor is a precision of the teacher that was left open then.

    Raises:
        UserError: when ``before`` is not what ``dump_sweep`` writes.
    """
    then, now = (_flat(_sections(text)) for text in (before, dump_sweep(loaded)))
    then = {key: value for key, value in _flat({"config": defaults()}).items() if key in now} | then
    if then[_PRECISION] == "auto":
        then[_PRECISION] = now[_PRECISION]
    learns = loaded.sweep.search.method == "optuna" or loaded.sweep.scheduler.name != "none"
    if not learns and _only_more(then, now, _SEEDS):
        then[_SEEDS] = now[_SEEDS]
    changed = [
        f"{key.partition('.')[2]}: {_text(then.get(key, _UNSET))} then, {_text(now.get(key, _UNSET))} now"
        for key in dict.fromkeys([*then, *now])
        if then.get(key, _UNSET) != now.get(key, _UNSET)
    ]
    orders = [[key for key in flat if key.startswith("sweep.space.")] for flat in (then, now)]
    if orders[0] != orders[1] and set(orders[0]) == set(orders[1]):
        changed.append("space: its settings stood in another order then, and so did the points")
    return changed


def precision_then(before: str) -> Precision | None:
    """Return in what the teacher of the sweep answers of which ``dump_sweep`` gave ``before``; None: it is left open.

    Raises:
        UserError: when ``before`` is not what ``dump_sweep`` writes.
    """
    found = _flat(_sections(before)).get(_PRECISION)
    return found if found in get_args(Precision) else None


def _only_more(then: Mapping[str, Any], now: Mapping[str, Any], key: str) -> bool:
    """Return whether the list ``key`` holds what it held, and more."""
    before, after = then.get(key), now.get(key)
    return isinstance(before, list) and isinstance(after, list) and set(before) <= set(after)


def _sections(text: str) -> dict[str, Any]:
    raw = yaml_text.read_mapping(text, "the sweep begun before")
    if not all(isinstance(raw.get(part), Mapping) for part in ("sweep", "config")):
        raise UserError("the sweep begun before: must hold sweep and config")
    sweep = dict(raw["sweep"])
    if isinstance(sweep.get("space"), Mapping):
        sweep["space"] = current_space(sweep["space"])
    return {"sweep": sweep, "config": current_tree(raw["config"])}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name in _WITHOUT_INFLUENCE:
            continue
        if isinstance(value, Mapping) and value and prefix != "sweep.space.":
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _text(value: Any) -> str:
    return "unset" if value is _UNSET else yaml_text.in_one_line(value)
