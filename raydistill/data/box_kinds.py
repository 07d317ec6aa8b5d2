"""Numbers that are boxes of another kind than they are read as: told by how few of them lie in their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Form = Literal["x, y, width, height", "x1, y1, x2, y2", "centre x, centre y, width, height", "y1, x1, y2, x2"]
Boxes = NDArray[np.float64]
"""[N, 4], as a file has them."""

DECLARED: Form = "x, y, width, height"
"""What COCO's files hold."""
_FORMS: tuple[Form, ...] = (
    "x1, y1, x2, y2",
    "centre x, centre y, width, height",
    "y1, x1, y2, x2",
    "x, y, width, height",
)
_SCALES = ("in pixels", "normalised to 0 to 1", "in percent")
"""How coordinates are measured."""
_T = TypeVar("_T")
_MOST = 20_000  # boxes looked at
_FEWEST = 3  # boxes that speak against the form that was declared, before another is thought of
_SHARE = 0.01  # of all boxes, likewise
_FAR_FEWER = 0.1  # of them may speak against the other form
_SLACK = 0.01  # of a side of the image, and a pixel: what boxes may stick out
_LARGE = 200  # pixels: the sides of images in which percent are told from pixels
_FILLED = 50.0  # percent that the boxes must reach for that
_LARGER_THAN_A_DOT = 16  # square pixels, of a box beside which an area of 1 is none
_FITS_WELL, _FITS_BETTER = 0.3, 0.2  # mean IoU of detections as another kind, and how much more than as declared
_FULL = 90.0  # percent that they must reach in smaller images


@dataclass(frozen=True)
class Kind:
    """What the four numbers of a box mean."""

    form: Form
    scale: str = "in pixels"

    def __str__(self) -> str:
        return f"[{self.form}] {self.scale}"

    def corners(self, boxes: Boxes, sizes: Boxes) -> Boxes:
        """Return x1, y1, x2, y2 in pixels, [N, 4], of images of ``sizes`` [N, 2], width and height."""
        a, b, c, d = boxes.T
        first = {
            "x, y, width, height": (a, b, a + c, b + d),
            "x1, y1, x2, y2": (a, b, c, d),
            "centre x, centre y, width, height": (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
            "y1, x1, y2, x2": (b, a, d, c),
        }[self.form]
        factors = dict(zip(_SCALES, (np.ones_like(sizes), sizes, sizes / 100), strict=True))
        return np.stack(first, axis=1) * np.tile(factors[self.scale], 2)


def spread(objects: Sequence[_T]) -> Sequence[_T]:
    """Return as many of ``objects`` as are worth a look, spread evenly."""
    return objects[:: -(-len(objects) // _MOST) or 1]


def doubt_of(boxes: Any, sizes: Any, declared: Form) -> str:
    """Say that boxes are probably of another kind than they are read as, and how many speak for it; else nothing.

    Args:
        boxes: [N, 4] as the file has them.
        sizes: [N, 2], width and height of the image of each.
        declared: how they are read, in pixels.
    """
    boxes, sizes = _rows(boxes), np.asarray(sizes, np.float64).reshape(-1, 2)
    if len(boxes) < _FEWEST:
        return ""
    total = len(boxes)
    scale = _scale_of(boxes, sizes)
    if scale:
        kind = _best([Kind(form, scale) for form in (declared, *_FORMS)], boxes, sizes)[1]
        return f"all {total} boxes look {scale}, as {kind}, and are read as {Kind(declared)}"
    amiss = _amiss(Kind(declared), boxes, sizes)
    if amiss < max(_FEWEST, _SHARE * total):
        return ""
    others = [Kind(form) for form in _FORMS if form != declared]
    others += [Kind(form, "in percent") for form in _FORMS if _fills_percent(form, boxes, sizes)]
    least, kind = _best(others, boxes, sizes)
    if least <= _FAR_FEWER * amiss:
        return f"{amiss} of {total} boxes do not lie in their images as {Kind(declared)}, and {least} as {kind}"
    return ""


def doubt_of_areas(areas: Any, boxes: Any) -> str:
    """Say that areas cannot be those of the objects, and of how many; nothing where they can.

    Args:
        areas: [N], as a file has them.
        boxes: [N, 4], x, y, width, height.
    """
    areas, boxes = np.asarray(areas, np.float64), np.asarray(boxes, np.float64).reshape(-1, 4)
    large = boxes[:, 2] * boxes[:, 3] >= _LARGER_THAN_A_DOT
    for amiss, what in (
        (large & (areas <= 1), "0 or 1 or less"),
        (areas > 1.1 * (boxes[:, 2] + 1) * (boxes[:, 3] + 1), "larger than the box"),
    ):
        number = int(amiss.sum())
        if number >= max(_FEWEST, len(areas) / 2):
            return (
                f"the area of {number} of {len(areas)} objects is {what}: AP of small, medium and large ones goes by "
                "it; leave area out to have it taken from the boxes"
            )
    return ""


def doubt_of_detections(found: Any, sizes: Any, on_images: Sequence[Any], objects: Mapping[Any, Any]) -> str:
    """Say that detections fit the annotated objects far better as boxes of another kind; nothing where they do not.

    Args:
        found: [N, 4], as a file has them, read as x, y, width, height.
        sizes: [N, 2], width and height of the image of each; NaN where that is unknown.
        on_images: N ids of these images.
        objects: id of an image -> its objects' boxes [M, 4], x, y, width, height.
    """
    found, sizes = _rows(found), np.asarray(sizes, np.float64).reshape(-1, 2)
    if len(found) < _FEWEST:
        return ""
    rows = {image: _rows(boxes) for image, boxes in objects.items()}
    truths = {image: Kind(DECLARED).corners(boxes, np.ones_like(boxes[:, :2])) for image, boxes in rows.items()}

    def fit(kind: Kind) -> float:
        """Return the mean over detections of the best IoU with an object of their image."""
        corners = kind.corners(found, sizes)
        best = [_best_iou(box, truths[image]) for box, image in zip(corners, on_images, strict=True) if image in truths]
        return float(np.mean(best)) if best else 0.0

    kinds = [Kind(form, scale) for scale in _SCALES for form in _FORMS]
    fits = {kind: fit(kind) for kind in kinds if kind.scale == "in pixels" or np.isfinite(sizes).all()}
    declared, better = fits[Kind(DECLARED)], max(fits, key=fits.__getitem__)
    if fits[better] < _FITS_WELL or fits[better] < declared + _FITS_BETTER:
        return ""
    return (
        f"{len(found)} detections overlap with the annotated objects by {100 * declared:.0f} % on average as "
        f"{Kind(DECLARED)}, and by {100 * fits[better]:.0f} % as {better}"
    )


def _rows(boxes: Any) -> Boxes:
    return np.asarray(boxes, np.float64).reshape(-1, 4)


def _best_iou(box: Boxes, others: Boxes) -> float:
    """Return the largest IoU of a box [4] with any of others [M, 4], corners all of them; 0 without any."""
    if not len(others):
        return 0.0
    shared = (np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])).clip(0).prod(1)
    union = (box[2:] - box[:2]).clip(0).prod() + (others[:, 2:] - others[:, :2]).prod(1) - shared
    return float((shared / np.maximum(union, 1e-9)).max())


def _fills_percent(form: Form, boxes: Boxes, sizes: Boxes) -> bool:
    """Return whether boxes reach to about 100 both ways, and no further: in smaller images these may be percent."""
    ends = Kind(form).corners(boxes, sizes)[:, 2:].max(0)
    return bool(((ends >= _FULL) & (ends <= 100 * (1 + _SLACK))).all())


def _best(kinds: Sequence[Kind], boxes: Boxes, sizes: Boxes) -> tuple[int, Kind]:
    """Return the first of the kinds that the fewest boxes speak against, and how many these are."""
    counts = [_amiss(kind, boxes, sizes) for kind in kinds]
    place = int(np.argmin(counts))
    return counts[place], kinds[place]


def _amiss(kind: Kind, boxes: Boxes, sizes: Boxes) -> int:
    """Return how many boxes have no extent, or stick out of their image."""
    corners = kind.corners(boxes, sizes)
    slack = 1 + _SLACK * sizes
    inside = (corners[:, :2] >= -slack).all(1) & (corners[:, 2:] <= sizes + slack).all(1)
    return int((~(inside & (corners[:, 2:] > corners[:, :2]).all(1))).sum())


def _scale_of(boxes: Boxes, sizes: Boxes) -> str:
    """Return how boxes are measured that lie in the corner of every image in pixels; empty where they do not."""
    if boxes.min() < -_SLACK * 100:
        return ""
    most = boxes.max()
    if most <= 1 + _SLACK and sizes.min() >= 8 and (boxes != np.round(boxes)).any():
        return "normalised to 0 to 1"
    fills = _FILLED <= most <= 100 * (1 + _SLACK) and len(boxes) >= 10
    return "in percent" if fills and sizes.min() >= _LARGE else ""
