"""How large the objects are as the nets see them, and whether anchors fit them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydistill.config import Config
from raydistill.config.data import ShapesData
from raydistill.config.loading import Input
from raydistill.data.dataset import DetectionDataset
from raydistill.data.splits import Splits

Sizes = NDArray[np.float64]
"""[N, 2], width and height in pixels of the resized image."""
_SMALL = 8.0  # pixels; an object of less is two cells of a net's finest level, at most
_MOST = 200_000  # objects looked at
_HALF = 0.5  # IoU
_MANY = 0.2  # of the objects, from which on it is worth a warning


@dataclass(frozen=True)
class BoxSizes:
    """The sides of the training objects, the square root of their area, in pixels of the resized image."""

    least: float  # 5 % are smaller
    median: float
    most: float  # 5 % are larger
    small: float  # share of all that is smaller than 8 pixels
    without_anchor: dict[str, float]  # role of a net -> share of all that no anchor covers by half

    def __str__(self) -> str:
        """Return them in one line."""
        return f"{self.least:.0f} to {self.most:.0f} pixels (5 % to 95 %), median {self.median:.0f}"


def box_sizes(config: Config, split: DetectionDataset) -> BoxSizes:
    """Measure the objects of a split as ``config`` resizes them."""
    sizes = resized(split, config.input)
    sides = np.sqrt(sizes.prod(1)) if len(sizes) else np.zeros(1)
    least, median, most = np.percentile(sides, (5, 50, 95)).tolist()
    without = {
        role: float((best_overlaps(sizes, anchors_of(config, role)) < _HALF).mean()) if len(sizes) else 0.0
        for role in ("teacher", "student")
        if anchors_of(config, role) is not None
    }
    return BoxSizes(least, median, most, float((sides < _SMALL).mean()), without)


def doubts_of_sizes(config: Config, splits: Splits) -> Iterator[str]:
    """Say where many objects are too small for the nets, or like no anchor; drawn ones fit by design."""
    if isinstance(config.data, ShapesData):
        return
    found = box_sizes(config, splits.train)
    if found.small > _MANY:
        yield (
            f"training: {100 * found.small:.0f} % of the objects have less than {_SMALL:.0f} pixels a side when images "
            f"are resized to input.min_size={config.input.min_size}; raise it, and input.max_size"
        )
    for role, share in found.without_anchor.items():
        if share > _MANY:
            yield (
                f"training: {100 * share:.0f} % of the objects overlap with none of the {role}'s anchors by half, even "
                f"at their place: they have sides of {found}; {role}.anchor_sizes or input.min_size changes that"
            )


def resized(split: DetectionDataset, size: Input) -> Sizes:
    """Return the sizes of a split's objects in images that are resized as the nets do it."""
    records = split.records
    images = np.repeat(np.arange(len(records)), np.diff(records.object_ends))[~records.ignored]
    sides = records.sizes.astype(np.float64)
    scales = np.minimum(size.min_size / sides.min(1), size.max_size / sides.max(1)) if len(sides) else np.zeros(0)
    boxes = records.boxes[~records.ignored][:, 2:] * scales[images][:, None]
    return np.asarray(boxes[:: len(boxes) // _MOST or 1])


def anchors_of(config: Config, role: str) -> Sizes | None:
    """Return the anchors of a net, [A, 2]; None where it has none."""
    settings = getattr(config, role)
    sides: Sequence[Sequence[float]] | None = getattr(settings, "anchor_sizes", None)
    if sides is None:
        return None
    ratios = np.sqrt(np.array(settings.anchor_aspect_ratios))
    lengths = np.array(sorted({side for level in sides for side in level}))
    return np.stack([np.outer(lengths, 1 / ratios).ravel(), np.outer(lengths, ratios).ravel()], axis=1)


def best_overlaps(sizes: Sizes, anchors: Sizes | None) -> NDArray[np.float64]:
    """Return for each size [N, 2] its best IoU with an anchor of the same centre, [N]; 0 without anchors."""
    best = np.zeros(len(sizes))
    for anchor in () if anchors is None else anchors:
        shared = np.minimum(sizes, anchor).prod(1)
        best = np.maximum(best, shared / (sizes.prod(1) + anchor.prod() - shared))
    return best
