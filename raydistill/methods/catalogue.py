"""From settings to the methods that they name."""

from __future__ import annotations

from raydistill.config.sections import Config
from raydistill.detectors.base import Detector
from raydistill.methods.base import Method, check_needs
from raydistill.methods.tar.method import Tar


def build_methods(config: Config, student: Detector, teacher: Detector) -> dict[str, Method]:
    """Build the methods that ``config`` names, by name.

    Raises:
        UserError: where teacher or student cannot do what one of them needs.
    """
    methods: dict[str, Method] = {"tar": Tar(config, student, teacher)}
    for method in methods.values():
        check_needs(method, student, teacher)
    return methods
