"""State dicts that are to go into a net: where they come from, whether they fit, and what became of them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models._api import WeightsEnum

from raydistill.errors import UserError, first_line

_NAMED_AT_MOST = 5
_OLD_FPN = re.compile(r"(\bfpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$")
_OLD_RPN = re.compile(r"(\brpn\.head\.conv)\.(weight|bias)$")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
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


def with_own_names(own: Collection[str], state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the tensors of ``state`` by the names that a net has for them, where they bear another start or old names.

    Wrappers put one before all names (``module.``, ``model.``); torchvision before 0.13 had others in FPN and RPN.

    Raises:
        UserError: where there are several nets of these names in ``state``.
    """
    needed = [name for name in own if not name.endswith("num_batches_tracked")]
    if not needed or all(name in state for name in needed) or not all(isinstance(name, str) for name in state):
        return state
    state = {_name_of_today(name): value for name, value in state.items()}
    ends = f".{needed[0]}"
    starts = [name.removesuffix(needed[0]) for name in state if name.endswith(ends)]
    fitting = [start for start in starts if all(f"{start}{name}" in state for name in needed)]
    if len(fitting) > 1:
        raise UserError(
            f"{where}: must hold one net, got several, called {some(fitting)}; save the tensors of one of them alone"
        )
    if not fitting:
        return state
    return {name.removeprefix(fitting[0]): value for name, value in state.items() if name.startswith(fitting[0])}


def _name_of_today(name: str) -> str:
    """Return what torchvision calls a tensor that it called ``name`` before 0.13.

    >>> _name_of_today("backbone.fpn.inner_blocks.2.weight"), _name_of_today("rpn.head.conv.bias")
    ('backbone.fpn.inner_blocks.2.0.weight', 'rpn.head.conv.0.0.bias')
    """
    name = _OLD_FPN.sub(r"\1.0.\2", name)
    return _OLD_RPN.sub(r"\1.0.0.\2", name)


def check_fit(module: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Raise one error that says which keys are missing, which are too many and which have another shape."""
    own = module.state_dict()
    strange = [key for key in own if key in state and not _is_plain(state[key], own[key])]
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own and not key.endswith("num_batches_tracked")]
    shapes = [
        f"{key} {list(state[key].shape)} instead of {list(own[key].shape)}"
        for key in own
        if key in state and key not in strange and own[key].shape != state[key].shape
    ]
    problems = [
        f"{len(keys)} {kind} ({some(keys)})"
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise UserError(f"{where}: must fit the net that the settings describe, got tensors {'; '.join(problems)}")
    spoilt = [key for key in own if key in strange or (key in state and not bool(state[key].isfinite().all()))]
    if spoilt:
        raise UserError(
            f"{where}: must hold finite numbers, got {len(spoilt)} tensors with NaN, infinity or of another kind "
            f"({some(spoilt)}); use an earlier checkpoint or export it again"
        )
    _check_variances(module, state, where)
    for key in own:
        if key not in state:
            state[key] = own[key]


def _is_plain(value: Tensor, own: Tensor) -> bool:
    """Return whether ``value`` is a plain tensor of numbers of the same kind as ``own``'s."""
    if value.is_nested or value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_complex():
        return False
    if own.is_floating_point():
        return value.dtype in _FLOATS
    return not value.is_floating_point()


def _check_variances(module: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Make sure that no norm divides by the root of nothing, or of less."""
    bad = []
    for name, norm in module.named_modules():
        key = f"{name}.running_var" if name else "running_var"
        if key in state and bool((state[key].double() + float(getattr(norm, "eps", 0.0)) <= 0).any()):
            bad.append(key)
    if bad:
        raise UserError(
            f"{where}: must have variances above 0, got {len(bad)} tensors with 0 or less ({some(bad)}); use an "
            "earlier checkpoint or export it again"
        )


def report_on(model: nn.Module, source: str, loaded: set[str]) -> LoadReport:
    """Return what became of the tensors of ``model`` when those called ``loaded`` came from ``source``."""
    names = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    fresh = tuple(key for key in names if key not in loaded)
    return LoadReport(source, len(names) - len(fresh), len(names), fresh)


def some(names: list[str] | tuple[str, ...]) -> str:
    """Return the first few of ``names``, and how many more there are."""
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more
