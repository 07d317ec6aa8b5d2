"""From settings to a detector: the families that there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raydistill.config.detector import AnyDetector, OwnDetector
from raydistill.config.sections import Detector as DetectorSettings
from raydistill.config.sections import Input
from raydistill.detectors.base import Detector
from raydistill.detectors.own import build_own
from raydistill.detectors.state_dicts import LoadReport
from raydistill.detectors.two_stage.build import build_faster_rcnn
from raydistill.detectors.two_stage.pretrained import load_pretrained


@dataclass(frozen=True)
class Family:
    """How the detectors of a kind of settings come to be."""

    build: Callable[[Any, Input, tuple[str, ...]], Detector]
    """Settings, image sizes and class names -> a net with random weights."""
    load_pretrained: Callable[[Any, Any, str], LoadReport] | None
    """Net, settings, and where these stand -> the named weights are in the net; None: there are none."""


_FAMILIES: dict[type[AnyDetector], Family] = {
    DetectorSettings: Family(build_faster_rcnn, load_pretrained),
    OwnDetector: Family(build_own, None),
}
"""By the class of the settings; a teacher's are a class of their own below it."""


def family_of(settings: AnyDetector) -> Family:
    """Return how detectors with such settings come to be."""
    return next(_FAMILIES[kind] for kind in type(settings).__mro__ if kind in _FAMILIES)


def build_detector(settings: AnyDetector, image: Input, classes: tuple[str, ...]) -> Detector:
    """Build the detector that ``settings`` describe, with random weights, for K = len(classes) classes."""
    return family_of(settings).build(settings, image, classes)
