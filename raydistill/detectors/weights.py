"""Where a detector's weights come from, and what was really loaded."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.models._api import WeightsEnum
from torchvision.models.detection import (
    FasterRCNN_MobileNet_V3_Large_FPN_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
)

from raydistill.config.sections import Detector as DetectorSettings
from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector
from raydistill.errors import UserError
from raydistill.runs.weights_file import Weights, load_weights
from raydistill.storage.parcels import ShippedFile
from raydistill.storage.remote_path import Place

Finder = Callable[[str], Place | ShippedFile]
"""From the name of a file or run directory, as settings have it, to where it is read from on this machine."""
_COCO_DETECTORS = {
    "resnet50": FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    "mobilenet_v3_large": FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1,
}
_PREDICTOR = "roi_heads.box_predictor."
_FROZEN_EPS = 1e-5  # torchvision's FrozenBatchNorm2d and BatchNorm2d
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

    def __str__(self) -> str:
        if not self.num_loaded:
            return f"random weights ({self.num_total} tensors)"
        text = f"{self.num_loaded} of {self.num_total} tensors from {self.source}"
        return f"{text}, {len(self.fresh)} random ({_some(self.fresh)})" if self.fresh else text


def load_into(detector: FasterRCNNDetector, settings: DetectorSettings, where: str, find: Finder = Path) -> LoadReport:
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
        return _report(detector.model, "random", set())
    if settings.weights == "imagenet":
        return _load_imagenet(detector, settings, where)
    if settings.weights == "coco":
        return _load_coco(detector, settings, where)
    return load_file(detector, find(settings.weights), f"{where}.weights")


def load_file(detector: FasterRCNNDetector, path: Place | ShippedFile, where: str) -> LoadReport:
    """Fill ``detector`` from a weights file or run directory; everything must fit, classes included."""
    return fill(detector, load_weights(path), path, where)


def fill(detector: FasterRCNNDetector, weights: Weights, path: Place | ShippedFile, where: str) -> LoadReport:
    """Fill ``detector`` with ``weights`` that were read from ``path``; everything must fit, classes included."""
    check_content(weights, path)
    if weights.classes is not None and weights.classes != detector.classes:
        raise UserError(f"{where}: {path}: {_class_difference(weights.classes, detector.classes)}")
    _check_fit(detector.model, weights.model, f"{where}: {path}")
    _check_anchors(detector, weights, f"{where}: {path}")
    detector.model.load_state_dict({key: weights.model[key] for key in detector.model.state_dict()})
    known = "" if weights.classes is not None else " (the file does not name its classes: taken in the data's order)"
    return _report(detector.model, f"{path}{known}", set(weights.model))


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
        raise UserError(f"{path}: must name each class once, got {_some(weights.classes)}; export it again")
    if weights.detector is not None and not isinstance(weights.detector, dict):
        raise UserError(
            f"{path}: must describe its net by settings, got {type(weights.detector).__name__}; export it again"
        )


def _load_imagenet(detector: FasterRCNNDetector, settings: DetectorSettings, where: str) -> LoadReport:
    """Fill the backbone's body from torchvision's classifier."""
    enum = get_model_weights(settings.backbone)["IMAGENET1K_V1"]
    state = _download(enum, where)
    body = detector.model.backbone.body
    state = {key.removeprefix("features."): value for key, value in state.items()}
    state = {key: value for key, value in state.items() if key in body.state_dict()}
    _check_fit(body, state, f"{where}.weights: {enum}")
    body.load_state_dict(state)
    return _report(detector.model, str(enum), {f"backbone.body.{key}" for key in state})


def _load_coco(detector: FasterRCNNDetector, settings: DetectorSettings, where: str) -> LoadReport:
    """Fill everything from torchvision's detector; the predictor's rows by class name, new classes' stay random."""
    enum = _COCO_DETECTORS[settings.backbone]
    state = _download(enum, where)
    if settings.backbone == "resnet50" and settings.norm != "group":
        _absorb_zero_eps(state)
    own = detector.model.state_dict()
    names = ["__background__", *detector.classes]
    known = list(enum.meta["categories"])
    rows = [(row, known.index(name)) for row, name in enumerate(names) if name in known]
    for key in [key for key in state if key.startswith(_PREDICTOR)]:
        if key in own:
            state[key] = _copy_rows(own[key], state[key], rows, len(names), len(known))
    state = {key: value for key, value in state.items() if key in own}
    _check_fit(detector.model, state, f"{where}.weights: {enum}")
    detector.model.load_state_dict(state)
    kept = len(rows) - 1
    loaded = {key for key in state if kept == len(detector.classes) or not key.startswith(_PREDICTOR)}
    return _report(detector.model, f"{enum} (box predictor: {kept} of {len(detector.classes)} classes known)", loaded)


def _copy_rows(own: Tensor, theirs: Tensor, rows: list[tuple[int, int]], num_names: int, num_known: int) -> Tensor:
    """Return ``own`` with the rows of known classes taken from ``theirs``; rows hold one or four outputs per class."""
    per_class = len(own) // num_names
    if theirs.shape != (num_known * per_class, *own.shape[1:]):
        return theirs  # reported with the other shapes that do not fit
    copied = own.clone().view(num_names, per_class, *own.shape[1:])
    source = theirs.view(-1, per_class, *theirs.shape[1:])
    for row, their_row in rows:
        copied[row] = source[their_row]
    return copied.view_as(own)


def _absorb_zero_eps(state: dict[str, Tensor]) -> None:
    """Torchvision runs this one file with eps = 0; shift the variances so that the usual eps gives the same numbers."""
    for key, value in state.items():
        if key.endswith("running_var"):
            state[key] = value - _FROZEN_EPS


def _download(enum: WeightsEnum, where: str) -> dict[str, Tensor]:
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
            f"{where}.weights: {enum} cannot be had ({_first_line(error)}); put the file {name} into {folder}, or set "
            f"{where}.weights to 'random' or to a file of yours"
        ) from error


def _check_fit(module: nn.Module, state: dict[str, Tensor], where: str) -> None:
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
        f"{len(keys)} {kind} ({_some(keys)})"
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise UserError(f"{where}: must fit the net that the settings describe, got tensors {'; '.join(problems)}")
    spoilt = [key for key in own if key in state and not _usable(state[key], own[key])]
    if spoilt:
        raise UserError(
            f"{where}: must hold finite numbers, got {len(spoilt)} tensors with NaN, infinity or of another kind "
            f"({_some(spoilt)}); use an earlier checkpoint or export it again"
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


def _check_anchors(detector: FasterRCNNDetector, weights: Weights, where: str) -> None:
    """Compare the anchors with those of training: they are not among the tensors, and others give wrong boxes."""
    generator = detector.model.rpn.anchor_generator
    for name, ours in (("anchor_sizes", generator.sizes), ("anchor_aspect_ratios", generator.aspect_ratios[:1])):
        theirs = (weights.detector or {}).get(name)
        plain = [list(values) for values in ours]
        if theirs is not None and theirs != (plain[0] if name == "anchor_aspect_ratios" else plain):
            raise UserError(f"{where}: was trained with {name} {theirs}, got {plain}; give the net the same")


def _class_difference(theirs: tuple[str, ...], ours: tuple[str, ...]) -> str:
    if set(theirs) == set(ours):
        first = next(i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
        return (
            f"must have the data's classes in the same order, got '{theirs[first]}' instead of '{ours[first]}' at "
            f"label {first + 1}"
        )
    more, fewer = [c for c in theirs if c not in ours], [c for c in ours if c not in theirs]
    return (
        f"must have the data's {len(ours)} classes, got {len(theirs)}"
        + (f"; not in the data: {_some(more)}" if more else "")
        + (f"; not in the file: {_some(fewer)}" if fewer else "")
    )


def _report(model: nn.Module, source: str, loaded: set[str]) -> LoadReport:
    names = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    fresh = tuple(key for key in names if key not in loaded)
    return LoadReport(source, len(names) - len(fresh), len(names), fresh)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _some(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more
