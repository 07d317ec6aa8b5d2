"""From settings to the methods that they name."""

from __future__ import annotations

import importlib

from torch import nn

from raydistill.config.methods import MethodSettings, OwnMethod
from raydistill.config.own import find
from raydistill.config.sections import Config
from raydistill.detectors.base import Detector
from raydistill.errors import UserError
from raydistill.methods.base import Method, check_needs


def build_methods(config: Config, student: Detector, teacher: Detector) -> dict[str, Method]:
    """Build the methods that ``config`` names and gives a weight, by name.

    Raises:
        UserError: where one of the user's own cannot be found, or teacher or student cannot do what a method needs.
    """
    running = {name: settings for name, settings in config.methods.named().items() if settings.runs}
    taken = [name for name in running if hasattr(nn.ModuleDict(), name)]
    if taken:
        raise UserError(f"methods.{taken[0]}: must have another name, PyTorch's modules have a use for this one")
    methods = {name: _build(name, settings, student, teacher) for name, settings in running.items()}
    for method in methods.values():
        check_needs(method, student, teacher)
    return methods


def _build(name: str, settings: MethodSettings, student: Detector, teacher: Detector) -> Method:
    if isinstance(settings, OwnMethod):
        return _build_own(f"methods.{name}", settings, student, teacher)
    module, _, attribute = settings.implementation.partition(":")
    method: Method = getattr(importlib.import_module(module), attribute)(settings, student, teacher)
    return method


def _build_own(where: str, settings: OwnMethod, student: Detector, teacher: Detector) -> Method:
    made = find(settings.method, f"{where}.method")(settings.settings, student, teacher)
    if not isinstance(made, Method):
        raise UserError(f"{where}.method: must be a raydistill Method, got {settings.method}, a {type(made).__name__}")
    return made
