"""Where a detector's weights come from, and what was really loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from raydistill.config.sections import NAMED_WEIGHTS, AnyDetector
from raydistill.data.alike import spelling
from raydistill.detectors.base import Detector
from raydistill.detectors.build import family_of
from raydistill.detectors.state_dicts import LoadReport, check_fit, report_on, some, with_own_names
from raydistill.errors import UserError
from raydistill.runs.weights_file import Weights, load_weights
from raydistill.storage.parcels import ShippedFile
from raydistill.storage.remote_path import Place

_log = logging.getLogger(__name__)
Finder = Callable[[str], Place | ShippedFile]
"""From the name of a file or run directory, as settings have it, to where it is read from on this machine."""


def load_into(detector: Detector, settings: AnyDetector, where: str, find: Finder = Path) -> LoadReport:
    """Fill ``detector`` with the weights that ``settings.weights`` names.

    Args:
        detector: freshly built from ``settings``.
        settings: its section of the config.
        where: path of that section, for messages (``teacher`` or ``student``).
        find: where a file of weights is read from.

    Raises:
        UserError: naming the classes, keys or shapes that do not fit.
    """
    if settings.weights == "random":
        return report_on(detector.exported(), "random", set())
    load_pretrained = family_of(settings).load_pretrained
    if settings.weights in NAMED_WEIGHTS and load_pretrained is not None:
        return load_pretrained(detector, settings, where)
    return load_file(detector, find(settings.weights), f"{where}.weights")


def load_file(detector: Detector, path: Place | ShippedFile, where: str) -> LoadReport:
    """Fill ``detector`` from a weights file or run directory; everything must fit, classes included."""
    return fill(detector, load_weights(path), path, where)


def fill(detector: Detector, weights: Weights, path: Place | ShippedFile, where: str) -> LoadReport:
    """Fill ``detector`` with ``weights`` that were read from ``path``; everything must fit, classes included."""
    check_content(weights, path)
    if weights.classes is not None and [*map(spelling, weights.classes)] != [*map(spelling, detector.classes)]:
        raise UserError(f"{where}: {path}: {_class_difference(weights.classes, detector.classes)}")
    own = detector.exported().state_dict()
    model = with_own_names(own, weights.model, f"{where}: {path}")
    check_fit(detector.exported(), model, f"{where}: {path}")
    _check_settings(detector, weights, f"{where}: {path}")
    _compare_sides(detector, weights, f"{where}: {path}")
    detector.exported().load_state_dict({key: model[key] for key in own})
    report = report_on(detector.exported(), f"{path}{_taken_as_given(detector, weights)}", set(model))
    return replace(report, classes_known=weights.classes is not None)


def check_content(weights: Weights, path: Place | ShippedFile) -> None:
    """Make sure that what was read from ``path`` is of the kind that a weights file holds.

    Raises:
        UserError: where names are no texts, or what describes the net is no mapping.
    """
    strange = [name for name in weights.model if not isinstance(name, str)]
    if strange:
        raise UserError(f"{path}: must name its tensors by texts, got {strange[0]!r:.80}; is it a state dict?")
    if weights.classes is not None and not all(isinstance(name, str) for name in weights.classes):
        raise UserError(f"{path}: must name its classes by texts, got {list(weights.classes)!r:.80}; export it again")
    if weights.classes is not None and len(set(weights.classes)) < len(weights.classes):
        raise UserError(f"{path}: must name each class once, got {some(weights.classes)}; export it again")
    if weights.detector is not None and not isinstance(weights.detector, dict):
        raise UserError(
            f"{path}: must describe its net by settings, got {type(weights.detector).__name__}; export it again"
        )


def _check_settings(detector: Detector, weights: Weights, where: str) -> None:
    """Compare what a net was trained with but its tensors do not show, such as anchors: others give wrong boxes."""
    described = weights.detector
    for name, ours in detector.untold_settings().items():
        if described is None or (name not in described and "detector" in described):
            continue  # another tool's file, or a net of the user's own, which its function describes
        if described.get(name) != ours:
            theirs = described.get(name, "that it does not name")
            raise UserError(f"{where}: was trained with {name} {theirs}, got {ours}; give the net the same")


def _taken_as_given(detector: Detector, weights: Weights) -> str:
    """Say what a file does not tell; empty where it tells all."""
    untold = "" if weights.classes is not None else "does not name its classes: taken in the data's order"
    settings = ", ".join(detector.untold_settings()) if weights.detector is None else ""
    if settings:
        untold += f"{'; ' if untold else ''}does not say its {settings}: taken as the settings have them"
    return f" (the file {untold})" if untold else ""


def _compare_sides(detector: Detector, weights: Weights, where: str) -> None:
    """Warn about weights that were trained on images of another size."""
    if detector.sides is None or not isinstance(weights.image, dict):
        return
    theirs = tuple(weights.image.get(name) for name in ("min_size", "max_size"))
    if None not in theirs and theirs != detector.sides:
        _log.warning(
            "%s: was trained on images of input.min_size=%s and max_size=%s, and is used at %s and %s: objects have "
            "other sizes than it knows",
            where,
            *theirs,
            *detector.sides,
        )


def inherit_weights(student: Detector, teacher: Detector) -> tuple[int, int]:
    """Start the student's neck and heads from the teacher's where names and shapes agree.

    Returns:
        How many tensors were taken, and of how many.
    """
    model = student.exported()
    own, theirs = model.state_dict(), teacher.exported().state_dict()
    candidates = [key for key in own if not key.startswith(student.body)]
    taken = {key: theirs[key] for key in candidates if key in theirs and own[key].shape == theirs[key].shape}
    model.load_state_dict({**own, **taken})
    return len(taken), len(candidates)


def _class_difference(theirs: tuple[str, ...], ours: tuple[str, ...]) -> str:
    known, given = set(ours), set(theirs)
    if known == given:
        first = next(i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
        return (
            f"must have the data's classes in the same order, got '{theirs[first]}' instead of '{ours[first]}' at "
            f"label {first + 1}"
        )
    more, fewer = [c for c in theirs if c not in known], [c for c in ours if c not in given]
    return (
        f"must have the data's {len(ours)} classes, got {len(theirs)}"
        + (f"; not in the data: {some(more)}" if more else "")
        + (f"; not in the file: {some(fewer)}" if fewer else "")
    )
