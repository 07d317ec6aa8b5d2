"""A detector of the user's own: found, called and looked at."""

from __future__ import annotations

import copy
import typing
from typing import Any

from raydistill.config.detector import OwnDetector
from raydistill.config.own import find
from raydistill.config.sections import Input
from raydistill.detectors.base import Detector
from raydistill.errors import UserError, first_line


def build_own(settings: OwnDetector, image: Input, classes: tuple[str, ...]) -> Detector:
    """Build the detector that ``settings`` name, for K = len(classes) classes.

    Raises:
        UserError: where it cannot be found, does not say that it is a detector, or detects other classes.
    """
    found = find(settings.detector, "detector")
    if isinstance(found, Detector):  # given as an object: each stage trains one of its own
        made = copy.deepcopy(found)
    elif _gives_detector(found):  # asked before it is called: a file of weights may come from anybody
        made = found(settings.settings, image, classes)
    else:
        raise UserError(
            f"detector: must be a raydistill Detector, or a function whose signature says that it returns one "
            f"(-> Detector), got {settings.detector}"
        )
    if not isinstance(made, Detector):
        raise UserError(f"detector: must give a raydistill Detector, got {settings.detector}, a {type(made).__name__}")
    if tuple(getattr(made, "classes", ())) != classes:
        raise UserError(
            f"detector: must detect the data's classes in their order, {', '.join(classes)}, got "
            f"{', '.join(getattr(made, 'classes', ())) or 'none'} of {settings.detector}"
        )
    return made


def _gives_detector(found: Any) -> bool:
    if isinstance(found, type):
        return issubclass(found, Detector)
    try:
        returned = typing.get_type_hints(getattr(found, "func", found)).get("return")
    except (NameError, TypeError, AttributeError) as error:  # a name in its signature that is not there
        raise UserError(f"detector: the signature of {found!r} must be readable, got: {first_line(error)}") from error
    return isinstance(returned, type) and issubclass(returned, Detector)
