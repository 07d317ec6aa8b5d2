"""torchvision's own weights, and how they come into a Faster R-CNN."""

from __future__ import annotations

from torch import Tensor
from torchvision.models import WeightsEnum, get_model_weights
from torchvision.models.detection import (
    FasterRCNN_MobileNet_V3_Large_FPN_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
)

from raydistill.config.sections import Detector as DetectorSettings
from raydistill.detectors.state_dicts import LoadReport, check_fit, download, report_on
from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector

_COCO_DETECTORS = {
    "resnet50": FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    "mobilenet_v3_large": FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1,
}
_PREDICTOR = "roi_heads.box_predictor."
_FROZEN_EPS = 1e-5  # torchvision's FrozenBatchNorm2d and BatchNorm2d


def named_weights(settings: DetectorSettings) -> WeightsEnum:
    """Return torchvision's weights that ``settings.weights`` names, ``imagenet`` or ``coco``."""
    if settings.weights == "coco":
        return _COCO_DETECTORS[settings.backbone]
    found: WeightsEnum = get_model_weights(settings.backbone)["IMAGENET1K_V1"]
    return found


def load_pretrained(detector: FasterRCNNDetector, settings: DetectorSettings, where: str) -> LoadReport:
    """Fill ``detector`` with what ``settings.weights`` names, ``imagenet`` or ``coco``.

    Raises:
        UserError: where they cannot be had, or do not fit; the message begins with ``where``.
    """
    return (_load_coco if settings.weights == "coco" else _load_imagenet)(detector, settings, where)


def _load_imagenet(detector: FasterRCNNDetector, settings: DetectorSettings, where: str) -> LoadReport:
    """Fill the backbone's body from torchvision's classifier."""
    enum = named_weights(settings)
    state = download(enum, where)
    body = detector.model.backbone.body
    state = {key.removeprefix("features."): value for key, value in state.items()}
    state = {key: value for key, value in state.items() if key in body.state_dict()}
    check_fit(body, state, f"{where}.weights: {enum}")
    body.load_state_dict(state)
    return report_on(detector.model, str(enum), {f"backbone.body.{key}" for key in state})


def _load_coco(detector: FasterRCNNDetector, settings: DetectorSettings, where: str) -> LoadReport:
    """Fill everything from torchvision's detector; the predictor's rows by class name, new classes' stay random."""
    enum = named_weights(settings)
    state = download(enum, where)
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
    check_fit(detector.model, state, f"{where}.weights: {enum}")
    detector.model.load_state_dict(state)
    kept = len(rows) - 1
    loaded = {key for key in state if kept == len(detector.classes) or not key.startswith(_PREDICTOR)}
    return report_on(detector.model, f"{enum} (box predictor: {kept} of {len(detector.classes)} classes known)", loaded)


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
