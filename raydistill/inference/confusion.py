"""What a detector that scores next to nothing does all the same: whether it finds objects, and what it calls them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raydistill.config.training import Backend
from raydistill.data.dataset import DetectionDataset
from raydistill.inference.columns import Found, Objects
from raydistill.inference.evaluation import objects_of, score_together
from raydistill.runs.worker import Worker

_MOST_IMAGES = 1000  # that names are taken from
_OVERLAP = 0.5  # of a box with the one that it stands for
_MOST_FREQUENT = 0.5  # of an object's finds that have one name, for it to be told


@dataclass(frozen=True)
class WithoutClasses:
    """How good detections are where it does not count which class they name."""

    ap50: float  # 0 to 1, -1 without an object
    called: Mapping[str, str]  # class -> what most of its objects are called, where that is another one


def without_classes(dataset: DetectionDataset, found: Found, backend: Backend = "pycocotools") -> WithoutClasses:
    """Score detections as if there were one class, and look at the names of those that lie on an object."""
    truth = objects_of(dataset)
    one_class = replace(truth, category_ids=np.zeros_like(truth.category_ids))
    found_as_it = replace(found, category_ids=np.zeros_like(found.category_ids))
    scores, _ = score_together(one_class, found_as_it, {"object": 0}, Worker(), backend)
    return WithoutClasses(scores.summary["AP50"], _called(dataset, truth, found))


def _called(dataset: DetectionDataset, truth: Objects, found: Found) -> dict[str, str]:
    name_of = dict(zip(dataset.category_ids, dataset.classes, strict=True))
    names: dict[int, Counter[int]] = defaultdict(Counter)
    of_object, of_find = (_rows_of(columns.image_ids) for columns in (truth, found))
    for image in dataset.records.image_ids[:_MOST_IMAGES].tolist():
        objects, finds = of_object.get(image), of_find.get(image)
        if objects is None or finds is None:
            continue
        overlaps = _overlaps(truth.boxes[objects], found.boxes[finds])
        scores = np.where(overlaps >= _OVERLAP, found.scores[finds][None], -1.0)
        best = scores.argmax(axis=1)
        for row in np.flatnonzero(scores.max(axis=1) >= 0):
            names[int(truth.category_ids[objects[row]])][int(found.category_ids[finds[best[row]]])] += 1
    called = {}
    for category, counter in sorted(names.items()):
        (other, number), total = counter.most_common(1)[0], counter.total()
        if other != category and number >= _MOST_FREQUENT * total:
            called[name_of[category]] = name_of[other]
    return called


def _rows_of(image_ids: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Return where the rows of each image are."""
    order = np.argsort(image_ids, kind="stable")
    images, starts = np.unique(image_ids[order], return_index=True)
    return dict(zip(images.tolist(), np.split(order, starts[1:]), strict=True)) if len(images) else {}


def _overlaps(objects: NDArray[np.float64], finds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU of boxes [A, 4] and [N, 4], x, y, width, height: [A, N]."""
    low = np.maximum(objects[:, None, :2], finds[None, :, :2])
    high = np.minimum((objects[:, :2] + objects[:, 2:])[:, None], (finds[:, :2] + finds[:, 2:])[None])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = np.prod(objects[:, 2:], axis=1)[:, None] + np.prod(finds[:, 2:], axis=1)[None]
    return np.asarray(common / np.maximum(areas - common, 1e-12))
