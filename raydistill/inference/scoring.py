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

from raydistill.config.training import AREA_RANGES, MOST_DETECTIONS, Backend
from raydistill.errors import UserError, first_line
from raydistill.inference.columns import Detections, Found, Objects, from_coco, rows_of

_PRECISIONS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
_SIZES = (1, 2, 3)  # places of small, medium and large among the areas; 0 is all
_LARGEST = 1e5**2  # square pixels, COCO's
ABSENT = -1.0
"""pycocotools' value where there is no object to score."""


@dataclass(frozen=True)
class Rules:
    """What is scored: by COCO's rules, unless a setting says otherwise."""

    max_detections: int = MOST_DETECTIONS
    """Of an image and class, those with the highest scores."""
    area_ranges: tuple[float, float] = AREA_RANGES
    """Areas in square pixels at which small objects end and medium ones begin, and at which medium ones end."""

    @property
    def limits(self) -> list[int]:
        """Numbers of detections of an image and class that recalls are given for; AP is that of the last one."""
        return [min(1, self.max_detections), min(10, self.max_detections), self.max_detections]

    @property
    def areas(self) -> list[list[float]]:
        """Ranges of the areas of all, small, medium and large objects."""
        medium, large = self.area_ranges
        end = max(_LARGEST, 2 * large)
        return [[0, end], [0, medium], [medium, large], [large, end]]

    @property
    def summary(self) -> tuple[str, ...]:
        """Names of the scores, in the order of ``COCOeval.stats``."""
        return (*_PRECISIONS, *(f"AR{limit}" for limit in self.limits), "AR_small", "AR_medium", "AR_large")


COCO_RULES = Rules()
SUMMARY = COCO_RULES.summary


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


def score(
    ground_truth: dict[str, Any],
    detections: Detections,
    backend: Backend = "pycocotools",
    rules: Rules = COCO_RULES,
) -> Scores:
    """Return the COCO scores of ``detections`` against ``ground_truth``, a COCO annotations dictionary.

    Neither is changed. What is left out, and the errors, are those of `from_coco` and `curves`.
    """
    truth, found, names = from_coco(ground_truth, detections)
    return scores_of(curves(truth, found, range(len(names)), backend, rules=rules), names, rules)


def curves(
    truth: Objects,
    found: Found,
    category_ids: Sequence[int],
    backend: Backend = "pycocotools",
    tick: Callable[[], None] = lambda: None,
    rules: Rules = COCO_RULES,
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
            one = _one_class(truth.rows(objects), found.rows(detections), backend, rules)
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


def scores_of(result: Curves, names: Sequence[str], rules: Rules = COCO_RULES) -> Scores:
    """Return the scores that COCOeval sums up from curves; ``names`` are those of the K classes.

    Not by COCOeval itself: its sum looks for curves of 100 detections, whatever its parameters are.
    """
    recalls = [result.recall[:, :, 0, limit] for limit in range(3)] + [result.recall[:, :, area, -1] for area in _SIZES]
    averages = [*_precisions(result.precision[..., -1]).values(), *map(_average, recalls)]
    summary = dict(zip(rules.summary, averages, strict=True))
    return Scores(
        summary,
        {name: _precisions(result.precision[:, :, index : index + 1, :, -1]) for index, name in enumerate(names)},
    )


def _precisions(precision: NDArray[np.float64]) -> dict[str, float]:
    """Average the precision [IoU thresholds, recalls, classes, areas] as COCOeval does."""
    thresholds = Params("bbox").iouThrs
    half, three_quarters = (int(np.argmin(np.abs(thresholds - level))) for level in (0.5, 0.75))
    of_all = precision[..., 0]
    parts = [of_all, of_all[half], of_all[three_quarters], *(precision[..., area] for area in _SIZES)]
    return dict(zip(_PRECISIONS, map(_average, parts), strict=True))


def _average(part: NDArray[np.float64]) -> float:
    there = part[part > ABSENT]
    return float(np.mean(there)) if len(there) else ABSENT


def _one_class(objects: Objects, found: Found, backend: Backend, rules: Rules) -> Curves:
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
        evaluation.params.maxDets, evaluation.params.areaRng = rules.limits, rules.areas
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
