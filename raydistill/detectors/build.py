"""From settings to a detector: the families that there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torchvision.models import WeightsEnum

from raydistill.config.detector import AnyDetector, OwnDetector
from raydistill.config.sections import Detector as DetectorSettings
from raydistill.config.sections import Input
from raydistill.detectors.base import Detector
from raydistill.detectors.own import build_own
from raydistill.detectors.plain_code import PlainCode, program
from raydistill.detectors.predict import DEFAULT_THRESHOLD
from raydistill.detectors.state_dicts import LoadReport
from raydistill.detectors.two_stage.build import build_faster_rcnn
from raydistill.detectors.two_stage.plain_code import faster_rcnn_code
from raydistill.detectors.two_stage.pretrained import load_pretrained, named_weights


@dataclass(frozen=True)
class Family:
    """How the detectors of a kind of settings come to be."""

    build: Callable[[Any, Input, tuple[str, ...]], Detector]
    """Settings, image sizes and class names -> a net with random weights."""
    load_pretrained: Callable[[Any, Any, str], LoadReport] | None
    """Net, settings, and where these stand -> the named weights are in the net; None: there are none."""
    named_weights: Callable[[Any], WeightsEnum] | None
    """Settings -> the weights that are downloaded for them; None: there are none."""
    plain_code: Callable[[Any, Input], PlainCode] | None
    """Settings, image sizes -> how a program without raydistill builds ``exported``; None: it takes the user's own."""


FAMILIES: dict[type[AnyDetector], Family] = {
    DetectorSettings: Family(build_faster_rcnn, load_pretrained, named_weights, faster_rcnn_code),
    OwnDetector: Family(build_own, None, None, None),
}
"""By the class of the settings; a teacher's are a class of their own below it."""


def family_of(settings: AnyDetector) -> Family:
    """Return how detectors with such settings come to be."""
    return next(FAMILIES[kind] for kind in type(settings).__mro__ if kind in FAMILIES)


def build_detector(settings: AnyDetector, image: Input, classes: tuple[str, ...]) -> Detector:
    """Build the detector that ``settings`` describe, with random weights, for K = len(classes) classes."""
    return family_of(settings).build(settings, image, classes)


def plain_program(settings: AnyDetector, image: Input, weights: str) -> str | None:
    """Return a program that uses the ``exported`` net in the file ``weights`` beside it, without raydistill.

    None where there is none: only its author can say how a detector of one's own is built.
    """
    code = family_of(settings).plain_code
    return None if code is None else program(code(settings, image), weights, DEFAULT_THRESHOLD)
