"""A detector as its weights file describes it."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from raydistill.config.detector import detector_settings
from raydistill.config.sections import Input
from raydistill.detectors.base import Detector
from raydistill.detectors.build import build_detector
from raydistill.detectors.weights import check_content, fill
from raydistill.errors import UserError, first_line
from raydistill.runs.weights_file import load_weights


def restore_detector(path: Path) -> Detector:
    """Build the net that a weights file or run directory of ours describes, and fill it."""
    weights = load_weights(path)
    if weights.detector is None or weights.image is None or weights.classes is None:
        raise UserError(
            f"{path}: must say how its net is built (detector, input and classes), as files that raydistill writes do"
        )
    check_content(weights, path)
    try:
        settings, image = detector_settings(weights.detector), Input.model_validate(weights.image)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{path}: its net's settings are not this version's ({'.'.join(map(str, first['loc']))}: {first['msg']})"
        ) from error
    try:
        detector = build_detector(settings, image, weights.classes)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (RuntimeError, MemoryError) as error:
        raise UserError(f"{path}: must describe a net that fits into memory, got: {first_line(error)}") from error
    fill(detector, weights, path, "weights")
    return detector
