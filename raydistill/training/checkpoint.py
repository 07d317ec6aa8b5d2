"""A checkpoint as it is read: everything in it is what the next step needs, and it belongs to this training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raydistill.config.renamed import current_tensors
from raydistill.detectors.state_dicts import check_fit
from raydistill.errors import UserError, first_line
from raydistill.runs import weights_file
from raydistill.runs.identity import Identity
from raydistill.runs.records import is_number
from raydistill.training.distiller import Distiller

_NEEDED = {"epoch", "world_size", "distiller", "optimizer", "scaler", "best", "random"}
# What a mapping that is something else raises where it is taken for what it should be.
WRONG_KIND = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError, OverflowError)


@dataclass(frozen=True)
class Wanted:
    """What a checkpoint must fit to."""

    identity: Identity | None
    epochs: int
    steps_per_epoch: int
    distiller: Distiller
    optimizer: torch.optim.Optimizer


def read_checkpoint(path: Path, wanted: Wanted) -> dict[str, Any]:
    """Return what ``state.save`` wrote, with its tensors under the names of today.

    Raises:
        UserError: where the file is damaged, holds something else, or is of another training.
    """
    saved = weights_file.load(path)
    if lacking := _NEEDED - saved.keys():
        raise UserError(f"{path}: must be a checkpoint of a stage, lacks {', '.join(sorted(lacking))}")
    other = wanted.identity.problem_with(saved.get("run")) if wanted.identity is not None else ""
    if other:
        raise UserError(f"{path}: must be a checkpoint of this training, {other}")
    try:
        problem = _position(saved, wanted) or _best(saved) or _of_ranks(saved) or _optimizer(saved, wanted)
        saved["distiller"] = current_tensors(saved["distiller"])
        if not all(isinstance(value, Tensor) for value in saved["distiller"].values()):
            problem = "holds no tensors for the nets"
    except WRONG_KIND as error:
        problem = f"holds something of another kind ({type(error).__name__}: {first_line(error)[:80]})"
    if problem:
        raise UserError(f"{path}: must be a checkpoint that can be gone on from, {problem}")
    check_fit(wanted.distiller, saved["distiller"], str(path))
    return saved


def _position(saved: Mapping[str, Any], wanted: Wanted) -> str:
    epoch, step = saved["epoch"], saved.get("step", 0)
    if not _is_count(epoch) or epoch > wanted.epochs:
        return f"is of epoch {epoch!r:.40} of {wanted.epochs}"
    if not _is_count(step) or step > wanted.steps_per_epoch or (step and epoch == wanted.epochs):
        return f"is of step {step!r:.40} of {wanted.steps_per_epoch} after epoch {epoch} of {wanted.epochs}"
    if not _is_count(saved["world_size"]) or not saved["world_size"]:
        return f"is of {saved['world_size']!r:.40} workers"
    return ""


def _best(saved: Mapping[str, Any]) -> str:
    best = saved["best"]
    if best is None:
        return ""
    numbers = all(is_number(value) for name, value in best.items() if name != "weights")
    if not numbers or not _is_count(best["epoch"]) or not 1 <= best["epoch"] <= saved["epoch"] + 1:
        return f"names the scores {str(dict(best))[:80]} as the best"
    return ""


def _of_ranks(saved: Mapping[str, Any]) -> str:
    """Look at random states and sums, one of each for every worker."""
    workers, random = saved["world_size"], saved["random"]
    size = torch.get_rng_state().numel()
    states = [state["cpu"] for state in random]
    if len(states) != workers or any(state.dtype != torch.uint8 or state.numel() != size for state in states):
        return f"holds no random state for each of {workers} workers"
    if not saved.get("step", 0):
        return ""
    sums = saved["sums"]
    terms = [pair for of_rank in sums for pair in of_rank["terms"].values()]
    gates = [pair for of_rank in sums for pair in of_rank["gates"].values()]
    pairs = all(len(pair) == 2 and all(map(is_number, pair)) for pair in [*terms, *gates])
    counts = all(_is_count(count) and count for _, count in terms)
    names = {(tuple(of_rank["terms"]), tuple(of_rank["gates"])) for of_rank in sums}
    if len(sums) != workers or not pairs or not counts or len(names) != 1:
        return f"holds no sums of the epoch for each of {workers} workers"
    numbers = saved.get("diagnosis", {}).values()
    return "" if all(map(is_number, numbers)) else "holds a diagnosis without numbers"


def _optimizer(saved: Mapping[str, Any], wanted: Wanted) -> str:
    """Look at the optimizer's state: torch itself takes any for any parameter."""
    given, own = saved["optimizer"], wanted.optimizer.param_groups
    groups, states = given["param_groups"], given["state"]
    if [len(group["params"]) for group in groups] != [len(group["params"]) for group in own]:
        return "holds an optimizer of other parameters"
    parameters = [parameter for group in own for parameter in group["params"]]
    places = [place for group in groups for place in group["params"]]
    of_place = dict(zip(places, parameters, strict=True))
    for place, state in states.items():
        for value in state.values():
            if isinstance(value, Tensor) and not _fits(value, of_place[place]):
                return "holds an optimizer whose state does not fit its parameters, or is not finite"
    keeps = any(group.get("momentum", 1) for group in own)  # AdamW has no momentum, and a state all the same
    if keeps and not states and (saved["epoch"] or saved.get("step", 0)):
        return "holds an optimizer without its state"
    settings = [group[name] for group in groups for name in ("lr", "weight_decay")]
    return (
        ""
        if all(is_number(value) and math.isfinite(value) for value in settings)
        else "holds an optimizer without rates"
    )


def _fits(value: Tensor, parameter: Tensor) -> bool:
    return value.shape in (parameter.shape, torch.Size([])) and bool(value.isfinite().all())


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
