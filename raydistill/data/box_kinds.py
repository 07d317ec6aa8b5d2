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
_PIXELS = "in pixels"
_SIDES = {"normalised to 0 to 1": 1, "in percent": 100, "in thousandths": 1000}
"""How coordinates are measured, and what a whole side of an image is then."""
_T = TypeVar("_T")
_MOST = 20_000  # boxes looked at
_FEWEST = 3  # boxes that speak against the form that was declared, before another is thought of
_SHARE = 0.01  # of all boxes, likewise
_FAR_FEWER = 0.1  # of them may speak against the other form
_SLACK = 0.01  # of a side of the image, and a pixel: what boxes may stick out
_LARGE = 2.0  # as many pixels as a side has percent, or thousandths: then these are told from pixels by that alone
_FILLED = 0.5  # of them the boxes must reach for that
_FULL = 0.9  # of them they must reach both ways in smaller images
_ENOUGH = 10  # boxes must lie so for that
_STICKING = 1 / 3  # of all boxes, from which on it is worth a word that no kind fits
_CORNER = 0.6  # of both sides of every image, beyond which no box of many reaches
_MANY = 30
_LARGER_THAN_A_DOT = 16  # square pixels, of a box beside which an area of 1 is none
_FITS_WELL, _FITS_BETTER = 0.3, 0.2  # mean IoU of detections as another kind, and how much more than as declared


@dataclass(frozen=True)
class Kind:
    """What the four numbers of a box mean."""

    form: Form
    scale: str = _PIXELS

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
        factors = np.ones_like(sizes) if self.scale == _PIXELS else sizes / _SIDES[self.scale]
        return np.stack(first, axis=1) * np.tile(factors, 2)


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
        return f"all {total} boxes look as if given as {kind}, and are read as {Kind(declared)}"
    amiss = _amiss(Kind(declared), boxes, sizes)
    if amiss < max(_FEWEST, _SHARE * total):
        return _doubt_of_reach(Kind(declared).corners(boxes, sizes), sizes)
    others = [Kind(form) for form in _FORMS if form != declared]
    others += [Kind(form, scale) for scale in _SIDES for form in _FORMS if _fills(form, scale, boxes, sizes)]
    least, kind = _best(others, boxes, sizes)
    if least <= _FAR_FEWER * amiss:
        return f"{amiss} of {total} boxes do not lie in their images as {Kind(declared)}, and {least} as {kind}"
    if amiss >= _STICKING * total:
        return (
            f"{amiss} of {total} boxes do not lie in their images as {Kind(declared)}, nor would they as another kind: "
            "are they of larger images?"
        )
    return ""


def _doubt_of_reach(corners: Boxes, sizes: Boxes) -> str:
    """Say that many boxes all lie in the upper left corner of their images."""
    reach = float((corners[:, 2:] / sizes).max())
    if len(corners) < _MANY or reach > _CORNER:
        return ""
    return f"all {len(corners)} boxes lie in the first {100 * reach:.0f} % of both sides: are they of smaller images?"


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

    kinds = [Kind(form, scale) for scale in (_PIXELS, *_SIDES) for form in _FORMS]
    fits = {kind: fit(kind) for kind in kinds if kind.scale == _PIXELS or np.isfinite(sizes).all()}
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


def _fills(form: Form, scale: str, boxes: Boxes, sizes: Boxes) -> bool:
    """Return whether boxes reach to about 100 both ways, and no further, where ``scale`` is percent; or to 1000."""
    ends = Kind(form).corners(boxes, sizes)[:, 2:].max(0) / _SIDES[scale]
    return bool(((ends >= _FULL) & (ends <= 1 + _SLACK)).all())


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
    for scale, side in [*_SIDES.items()][1:]:
        fills = _FILLED <= most / side <= 1 + _SLACK and len(boxes) >= _ENOUGH
        if fills and sizes.min() >= _LARGE * side:
            return scale
    return ""
