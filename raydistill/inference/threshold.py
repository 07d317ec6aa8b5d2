"""The score from which on a detection counts: the one of the best F1 on a split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask

from raydistill.inference.columns import Found, Objects

OVERLAP = 0.5
"""IoU from which on a detection has found an object, COCO's AP50."""


@dataclass(frozen=True)
class Threshold:
    """A score, and how good the detections from it on are."""

    score: float
    """Halfway between the last detection that counts and the first that does not."""
    f1: float
    """Harmonic mean of precision and recall, over all classes together."""


def best_threshold(truth: Objects, found: Found) -> Threshold | None:
    """Return the threshold of the best F1 = 2 TP / (detections + objects), over all images and classes together.

    A detection hits as in COCOeval: the surest first, each the object of its class with the highest IoU, at least
    ``OVERLAP``, that no other has; one that only an ignored object explains is neither hit nor miss. None where
    nothing is hit.
    """
    scores, hits = _judged(truth, found)
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], hits[order]
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # equal scores count together
    num_objects = int((~truth.ignored).sum())
    f1 = 2 * np.cumsum(hits)[last] / (last + 1 + num_objects)
    if not len(f1) or not f1.max():
        return None
    best = int(np.argmax(f1))
    end = int(last[best])
    below = float(scores[end + 1]) if end + 1 < len(scores) else 0.0
    return Threshold((float(scores[end]) + below) / 2, float(f1[best]))


def _judged(truth: Objects, found: Found) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the scores of the detections that are hit or miss, and which of them hit."""
    found = found.rows(~np.isnan(found.scores))
    scores, hits = [np.empty(0)], [np.empty(0, dtype=np.bool_)]
    for objects, detections in _groups(truth, found):
        order = detections[np.argsort(-found.scores[detections], kind="stable")]
        which = _matches(found.boxes[order], truth.boxes[objects], truth.ignored[objects])
        counts = which < 2
        scores.append(found.scores[order][counts])
        hits.append(which[counts] == 1)
    return np.concatenate(scores), np.concatenate(hits)


def _groups(truth: Objects, found: Found) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the rows of objects and of detections that have image and class in common, of every such pair."""
    theirs = _rows(truth.image_ids, truth.category_ids)
    nothing = np.empty(0, dtype=np.int64)
    for key, detections in _rows(found.image_ids, found.category_ids).items():
        yield theirs.get(key, nothing), detections


def _rows(image_ids: NDArray[np.int64], category_ids: NDArray[np.int64]) -> dict[tuple[int, int], NDArray[np.int64]]:
    order = np.lexsort((category_ids, image_ids))
    pairs = np.stack([image_ids[order], category_ids[order]], axis=1)
    starts = 1 + np.flatnonzero(np.any(np.diff(pairs, axis=0) != 0, axis=1))
    parts = [part for part in np.split(order, starts) if len(part)]
    return {(int(image_ids[part[0]]), int(category_ids[part[0]])): part for part in parts}


def _matches(boxes: NDArray[np.float64], objects: NDArray[np.float64], ignored: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return for each of ``boxes``, the surest first, 1 for a hit, 0 for a miss, 2 for neither."""
    which = np.zeros(len(boxes), dtype=np.int64)
    if not len(objects):
        return which
    overlaps = mask.iou(boxes, objects, ignored.astype(np.uint8))  # [boxes, objects], x, y, width, height
    free = ~ignored
    for row, overlap in enumerate(overlaps):
        counted = np.where(free, overlap, -1.0)
        best = int(np.argmax(counted))
        if counted[best] >= OVERLAP:
            free[best], which[row] = False, 1
        elif (ignored & (overlap >= OVERLAP)).any():
            which[row] = 2
    return which
