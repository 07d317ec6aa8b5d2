"""Whether two ways to run a net find the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torchvision.ops import box_iou

from raydistill.structures import Target

LEAST_OVERLAP, MOST_SCORE_DIFFERENCE = 0.99, 1e-3
"""Two detections of one class are the same from this IoU on, and up to this difference of their scores."""
LEAST_PAIRED = 0.995
"""Share of the detections above the threshold that must be the same: equal scores may be suppressed in either order."""
MOST_AP_DIFFERENCE = 0.001
"""0.1 points."""


@dataclass(frozen=True)
class Parity:
    """How many of the detections above the threshold, of both sides together, have their like on the other side."""

    detections: int
    paired: int

    @property
    def share(self) -> float:
        """1 where there was nothing to compare."""
        return self.paired / self.detections if self.detections else 1.0


def compare(own: Sequence[Target], theirs: Sequence[Target], threshold: float) -> Parity:
    """Return the parity of what was found in the same images by two sides, without a threshold.

    A detection a little above it on one side pairs with its like a little below it on the other.
    """
    detections = paired = 0
    for first, second in zip(own, theirs, strict=True):
        pairs = _pairs(first, second)
        sides = (first["scores"] >= threshold, second["scores"] >= threshold)
        detections += int(sides[0].sum() + sides[1].sum())
        paired += sum(int(sides[0][one]) + int(sides[1][other]) for one, other in pairs)
    return Parity(detections, paired)


def _pairs(first: Target, second: Target) -> list[tuple[int, int]]:
    """Return the rows of detections that are the same, each in one pair; the surest first, with the highest IoU."""
    overlaps = box_iou(first["boxes"].double(), second["boxes"].double())
    same = first["labels"][:, None] == second["labels"][None]
    same &= (first["scores"].double()[:, None] - second["scores"].double()[None]).abs() <= MOST_SCORE_DIFFERENCE
    overlaps[~same | (overlaps < LEAST_OVERLAP)] = 0
    pairs = []
    for one in torch.argsort(first["scores"], descending=True, stable=True).tolist():
        if overlaps.shape[1] and (best := int(overlaps[one].argmax())) >= 0 and overlaps[one, best] > 0:
            pairs.append((one, best))
            overlaps[:, best] = 0
    return pairs
