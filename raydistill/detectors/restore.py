"""A detector as its weights file describes it."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from raydistill.config.data import Pixels
from raydistill.config.detector import detector_settings
from raydistill.config.sections import Input
from raydistill.data.images import Decoding
from raydistill.detectors.base import Detector
from raydistill.detectors.build import build_detector
from raydistill.detectors.weights import check_content, fill
from raydistill.errors import UserError, first_line
from raydistill.runs.records import is_number
from raydistill.runs.weights_file import Weights, load_weights


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
    detector.fast_roi_align = True
    detector.threshold, detector.decoding = _threshold(weights, path), _decoding(weights, path)
    return detector


def _threshold(weights: Weights, path: Path) -> float | None:
    given = weights.threshold
    if given is None:
        return None
    if not is_number(given) or not 0 <= given <= 1:
        raise UserError(f"{path}: threshold must be a score from 0 to 1, got {given!r:.40}; export it again")
    return float(given)


def _decoding(weights: Weights, path: Path) -> Decoding:
    try:
        return Decoding.of(Pixels.model_validate(weights.pixels or {}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(("pixels", *map(str, first["loc"])))
        raise UserError(f"{path}: {where}: {first['msg']}, got {first['input']!r:.40}; export it again") from error
