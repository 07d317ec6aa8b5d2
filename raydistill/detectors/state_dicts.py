"""State dicts that are to go into a net: where they come from, whether they fit, and what became of them."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models._api import WeightsEnum

from raydistill.errors import UserError, first_line

_NAMED_AT_MOST = 5
# What torch.load raises for files that are something else.
_DAMAGED = (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError)


@dataclass(frozen=True)
class LoadReport:
    """What became of a detector's tensors."""

    source: str
    num_loaded: int
    num_total: int
    fresh: tuple[str, ...]  # tensors that kept their random values
    classes_known: bool = True  # whether the source names its classes; else they were taken in the data's order

    def __str__(self) -> str:
        if not self.num_loaded:
            return f"random weights ({self.num_total} tensors)"
        text = f"{self.num_loaded} of {self.num_total} tensors from {self.source}"
        return f"{text}, {len(self.fresh)} random ({some(self.fresh)})" if self.fresh else text


def download(enum: WeightsEnum, where: str) -> dict[str, Tensor]:
    """Return torchvision's state dict, from its cache or from the net."""
    try:
        # weights_only: a file that lies in torch's cache is not checked by its hash, and must not run code.
        state = enum.get_state_dict(progress=False, check_hash=True, weights_only=True)
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError(f"holds no tensors by name, but {type(state).__name__}")
        return dict(state)
    except (OSError, HTTPException, *_DAMAGED) as error:  # no net, damaged file
        name = enum.url.rsplit("/", 1)[-1]
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise UserError(
            f"{where}.weights: {enum} cannot be had ({first_line(error)}); put the file {name} into {folder}, or set "
            f"{where}.weights to 'random' or to a file of yours"
        ) from error


def check_fit(module: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Raise one error that says which keys are missing, which are too many and which have another shape."""
    own = module.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own and not key.endswith("num_batches_tracked")]
    shapes = [
        f"{key} {list(state[key].shape)} instead of {list(own[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    problems = [
        f"{len(keys)} {kind} ({some(keys)})"
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise UserError(f"{where}: must fit the net that the settings describe, got tensors {'; '.join(problems)}")
    spoilt = [key for key in own if key in state and not _usable(state[key], own[key])]
    if spoilt:
        raise UserError(
            f"{where}: must hold finite numbers, got {len(spoilt)} tensors with NaN, infinity or of another kind "
            f"({some(spoilt)}); use an earlier checkpoint or export it again"
        )
    for key in own:
        if key not in state:
            state[key] = own[key]


def _usable(value: Tensor, own: Tensor) -> bool:
    """Return whether ``value`` is a plain tensor of finite numbers where ``own`` holds such."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        return False
    same_kind = value.is_floating_point() == own.is_floating_point() and not value.is_complex()
    return same_kind and bool(value.isfinite().all())


def report_on(model: nn.Module, source: str, loaded: set[str]) -> LoadReport:
    """Return what became of the tensors of ``model`` when those called ``loaded`` came from ``source``."""
    names = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    fresh = tuple(key for key in names if key not in loaded)
    return LoadReport(source, len(names) - len(fresh), len(names), fresh)


def some(names: list[str] | tuple[str, ...]) -> str:
    """Return the first few of ``names``, and how many more there are."""
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more
