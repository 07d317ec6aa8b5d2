"""Detections of all workers -> COCO AP, computed by pycocotools."""

from __future__ import annotations

import contextlib
import copy
import io
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from raydistill.data.dataset import DetectionDataset
from raydistill.detectors.base import Detector
from raydistill.runtime import Worker
from raydistill.structures import Target

SUMMARY = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)  # in the order of COCOeval.stats
ABSENT = -1.0
"""pycocotools' value where there is no object to score."""

Detections = list[dict[str, Any]]
"""COCO's results format: image_id, category_id, bbox [x, y, width, height], score."""


@dataclass(frozen=True)
class Scores:
    """COCO scores, 0 to 1; ``ABSENT`` where there is no object."""

    summary: dict[str, float]
    per_class: dict[str, dict[str, float]]  # class -> AP, AP50, AP75, AP_small, AP_medium, AP_large


def score(ground_truth: dict[str, Any], detections: Detections) -> Scores:
    """Return the COCO scores of ``detections`` against ``ground_truth``, a COCO annotations dictionary."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = ground_truth
        truth.createIndex()
        evaluation = COCOeval(truth, _results(truth, detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    summary = {name: float(value) for name, value in zip(SUMMARY, evaluation.stats, strict=True)}
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    per_class = {
        names[category_id]: _class_scores(evaluation.eval["precision"][:, :, index, :, -1], evaluation.params)
        for index, category_id in enumerate(evaluation.params.catIds)
    }
    return Scores(summary, per_class)


def _results(truth: COCO, detections: Detections) -> COCO:
    if detections:
        return truth.loadRes(copy.deepcopy(detections))  # it writes into what it is given
    nothing = COCO()
    nothing.dataset = {**truth.dataset, "annotations": []}
    nothing.createIndex()
    return nothing


def _class_scores(precision: np.ndarray, params: Any) -> dict[str, float]:
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


@dataclass(frozen=True)
class EvaluationResult:
    """What evaluating a detector on a split gives, on every worker."""

    scores: Scores
    detections: Detections  # on the main worker; empty elsewhere
    images_per_second: float  # of the net alone on one worker, loading left out


def evaluate(
    detector: Detector,
    dataset: DetectionDataset,
    batches: Iterable[tuple[list[Tensor], list[Target]]],
    worker: Worker,
) -> EvaluationResult:
    """Score ``detector`` on ``dataset``; each worker brings the ``batches`` of its own share of the images.

    Both must know the same classes; their order may differ.
    """
    was_training = detector.training
    detector.eval()
    id_of = dict(zip(dataset.classes, dataset.category_ids, strict=True))
    category_ids = tuple(id_of[name] for name in detector.classes)
    own: Detections = []
    num_images, seconds = 0, 0.0
    for images, targets in batches:
        on_device = [image.to(worker.device, non_blocking=True) for image in images]
        start = _now(worker.device)
        found = detector.detect(on_device)
        seconds += _now(worker.device) - start
        num_images += len(images)
        for target, detection in zip(targets, found, strict=True):
            own += coco_detections(int(target["image_id"]), detection, category_ids)
    detector.train(was_training)
    everything = [detection for share in worker.gather_on_main(own) for detection in share]
    scores = worker.broadcast(score(dataset.ground_truth, everything) if worker.is_main else None)
    speed = worker.broadcast(num_images / seconds if seconds else 0.0)
    if scores is None:
        raise RuntimeError("the main worker sent no scores")
    return EvaluationResult(scores, everything, speed)


def coco_detections(image_id: int, detection: Target, category_ids: tuple[int, ...]) -> Detections:
    """Return the detections of one image in COCO's results format; labels 1 to K become category ids."""
    boxes = detection["boxes"].cpu().double()
    boxes[:, 2:] -= boxes[:, :2]
    rows = zip(boxes.tolist(), detection["labels"].tolist(), detection["scores"].tolist(), strict=True)
    return [
        {"image_id": image_id, "category_id": category_ids[label - 1], "bbox": box, "score": confidence}
        for box, label, confidence in rows
    ]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
