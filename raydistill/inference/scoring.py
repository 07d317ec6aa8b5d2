"""Objects and detections in columns -> COCO's precision and recall curves, class by class -> COCO AP.

The arithmetic is that of COCOeval, which treats every class by itself. So it is run on one class at a time, with the
images where that class was annotated or detected: the curves are the same to the bit, memory holds the dictionaries of
one class, and workers can share the classes.

Backends: ``pycocotools`` is the reference. ``faster_coco_eval`` (github.com/MiXaiLL76/faster_coco_eval) matches in C++;
its numbers differ in the last bits, with one exception: a detection with NaN for a corner hits, for pycocotools, as if
it had the object's own edge there, for faster_coco_eval it never does. torchvision's detectors drop such boxes.
"""

from __future__ import annotations

import contextlib
import heapq
import importlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from raydistill.config.training import Backend
from raydistill.errors import UserError, first_line
from raydistill.inference.columns import Detections, Found, Objects, from_coco, rows_of

SUMMARY = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)  # in the order of COCOeval.stats
ABSENT = -1.0
"""pycocotools' value where there is no object to score."""


@dataclass(frozen=True)
class Scores:
    """COCO scores, 0 to 1; ``ABSENT`` where there is no object."""

    summary: dict[str, float]
    per_class: dict[str, dict[str, float]]  # class -> AP, AP50, AP75, AP_small, AP_medium, AP_large


@dataclass(frozen=True)
class Curves:
    """COCOeval's result for K classes: T IoU thresholds, R recalls, A areas, M numbers of detections per image."""

    precision: NDArray[np.float64]  # [T, R, K, A, M]
    recall: NDArray[np.float64]  # [T, K, A, M]


def check_backend(backend: str, where: str = "evaluation.backend") -> None:
    """Raise when the package that ``backend`` stands for cannot be used; ``where`` is the setting to name.

    Raises:
        UserError: naming the extra to install.
    """
    try:
        _package(backend)
    except ImportError as error:
        raise UserError(
            f"{where}: {backend} must be installed, got {first_line(error)!r}; pip install 'raydistill[fast-eval]', "
            "or take pycocotools"
        ) from error


def score(ground_truth: dict[str, Any], detections: Detections, backend: Backend = "pycocotools") -> Scores:
    """Return the COCO scores of ``detections`` against ``ground_truth``, a COCO annotations dictionary.

    Neither is changed. What is left out, and the errors, are those of `from_coco` and `curves`.
    """
    truth, found, names = from_coco(ground_truth, detections)
    return scores_of(curves(truth, found, range(len(names)), backend), names)


def curves(
    truth: Objects,
    found: Found,
    category_ids: Sequence[int],
    backend: Backend = "pycocotools",
    tick: Callable[[], None] = lambda: None,
) -> Curves:
    """Return the curves of ``category_ids``, K of them, in that order; ``tick`` is called after each.

    Raises:
        UserError: where ``backend`` is not installed.
    """
    check_backend(backend)
    result = _absent(len(category_ids))
    objects_of, found_of = rows_of(truth.category_ids, category_ids), rows_of(found.category_ids, category_ids)
    for index, (objects, detections) in enumerate(zip(objects_of, found_of, strict=True)):
        if not truth.ignored[objects].all():  # else there is nothing to score
            one = _one_class(truth.rows(objects), found.rows(detections), backend)
            result.precision[:, :, index], result.recall[:, index] = one.precision[:, :, 0], one.recall[:, 0]
        tick()
    return result


def shares(truth: Objects, found: Found, category_ids: Sequence[int], parts: int) -> list[list[int]]:
    """Divide the indices of ``category_ids`` into ``parts`` with about as many objects and detections in each."""
    objects_of, found_of = rows_of(truth.category_ids, category_ids), rows_of(found.category_ids, category_ids)
    sizes = [
        0 if truth.ignored[objects].all() else len(objects) + len(detections)
        for objects, detections in zip(objects_of, found_of, strict=True)
    ]
    result: list[list[int]] = [[] for _ in range(parts)]
    loads = [(0, part) for part in range(parts)]
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):  # the largest first, to the least loaded
        load, part = heapq.heappop(loads)
        result[part].append(index)
        heapq.heappush(loads, (load + sizes[index], part))
    return [sorted(part) for part in result]


def joined_curves(parts: Sequence[Curves], shared: Sequence[Sequence[int]]) -> Curves:
    """Put the curves of every share (see `shares`) in the order of the classes."""
    result = _absent(sum(map(len, shared)))
    for part, indices in zip(parts, shared, strict=True):
        result.precision[:, :, indices], result.recall[:, indices] = part.precision, part.recall
    return result


def scores_of(result: Curves, names: Sequence[str]) -> Scores:
    """Return the scores that COCOeval sums up from curves; ``names`` are those of the K classes."""
    evaluation = COCOeval(iouType="bbox")
    evaluation.eval = {"precision": result.precision, "recall": result.recall}
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    summary = {name: float(value) for name, value in zip(SUMMARY, evaluation.stats, strict=True)}
    return Scores(
        summary,
        {
            name: _class_scores(result.precision[:, :, index, :, -1], evaluation.params)
            for index, name in enumerate(names)
        },
    )


def _class_scores(precision: NDArray[np.float64], params: Any) -> dict[str, float]:
    """Average one class's precision [IoU thresholds, recalls, areas] as COCOeval does over all classes."""
    areas = {name: index for index, name in enumerate(params.areaRngLbl)}
    half, three_quarters = (int(np.argmin(np.abs(params.iouThrs - level))) for level in (0.5, 0.75))
    parts = {
        "AP": precision[:, :, areas["all"]],
        "AP50": precision[half, :, areas["all"]],
        "AP75": precision[three_quarters, :, areas["all"]],
        "AP_small": precision[:, :, areas["small"]],
        "AP_medium": precision[:, :, areas["medium"]],
        "AP_large": precision[:, :, areas["large"]],
    }
    return {
        name: float(part[part > ABSENT].mean()) if (part > ABSENT).any() else ABSENT for name, part in parts.items()
    }


def _one_class(objects: Objects, found: Found, backend: Backend) -> Curves:
    """Run COCOeval on the objects and detections of one class."""
    coco, coco_eval = _package(backend)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        images = np.union1d(objects.image_ids, found.image_ids).tolist()
        truth, results = coco(), coco()
        _fill(truth, images, objects.image_ids, objects.boxes, {"area": objects.areas, "iscrowd": objects.ignored})
        sizes = found.boxes[:, 2] * found.boxes[:, 3]
        scores = np.where(np.isnan(found.scores), -np.inf, found.scores)  # pycocotools sorts NaN last, the other raises
        _fill(results, images, found.image_ids, found.boxes, {"area": sizes, "score": scores})
        evaluation = coco_eval(truth, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return Curves(evaluation.eval["precision"], evaluation.eval["recall"])


def _fill(
    coco: Any,
    images: list[int],
    image_ids: NDArray[np.int64],
    boxes: NDArray[np.float64],
    more: dict[str, NDArray[Any]],
) -> None:
    """Give a COCO object the annotations of one class.

    They are numbered from 1 on: COCOeval takes a match with annotation 0 for no match.
    """
    names = ("image_id", "bbox", *more)
    rows = zip(*(column.tolist() for column in (image_ids, boxes, *more.values())), strict=True)
    coco.dataset = {
        "images": [{"id": image} for image in images],
        "categories": [{"id": 1}],
        "annotations": [
            {"id": number, "category_id": 1, "iscrowd": 0, **dict(zip(names, row, strict=True))}
            for number, row in enumerate(rows, start=1)
        ],
    }
    coco.createIndex()


def _package(backend: str) -> tuple[Any, Any]:
    """Return COCO and COCOeval of a backend."""
    if backend == "faster_coco_eval":
        package = importlib.import_module("faster_coco_eval")
        return package.COCO, package.COCOeval_faster
    return COCO, COCOeval


def _absent(num_classes: int) -> Curves:
    """Return the curves of classes without objects."""
    params = Params("bbox")
    thresholds, recalls = len(params.iouThrs), len(params.recThrs)
    areas, limits = len(params.areaRng), len(params.maxDets)
    return Curves(
        np.full((thresholds, recalls, num_classes, areas, limits), ABSENT),
        np.full((thresholds, num_classes, areas, limits), ABSENT),
    )
