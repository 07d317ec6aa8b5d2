"""A detector and a split -> COCO scores, by all workers: each detects on its images, then scores its classes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydistill.config.training import MOST_DETECTIONS, Backend
from raydistill.data.dataset import DetectionDataset
from raydistill.detectors.base import Detector
from raydistill.inference.columns import Detections, Found, Objects
from raydistill.inference.scoring import (
    COCO_RULES,
    Rules,
    Scores,
    check_backend,
    curves,
    joined_curves,
    score,
    scores_of,
    shares,
)
from raydistill.runs.worker import Worker
from raydistill.structures import Target

__all__ = [
    "Detections",
    "EvaluationResult",
    "Progress",
    "Rules",
    "Scores",
    "check_backend",
    "evaluate",
    "found_on",
    "objects_of",
    "score",
    "score_together",
]

Progress = Callable[[int, int], None]
"""Told how many of this worker's images are done, and how many they are."""

_SECONDS_BETWEEN_SIGNS = 1.0


@dataclass(frozen=True)
class EvaluationResult:
    """What evaluating a detector on a split gives, on every worker."""

    scores: Scores
    found: Found  # on the main worker; empty elsewhere
    images_per_second: float  # of the net alone on one worker, loading left out

    @property
    def detections(self) -> Detections:
        """What was found in COCO's results format, made anew at each access: some 420 bytes a detection."""
        return self.found.as_coco()


def evaluate(
    detector: Detector,
    dataset: DetectionDataset,
    batches: Iterable[tuple[list[Tensor], list[Target]]],
    worker: Worker,
    *,
    backend: Backend = "pycocotools",
    rules: Rules = COCO_RULES,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Score ``detector`` on ``dataset``; each worker brings the ``batches`` of its own share of the images.

    Both must know the same classes; their order may differ. ``progress`` is called at most once a second; while
    classes are scored, which comes after the last image, with all images done.

    Raises:
        UserError: where ``backend`` is not installed.
    """
    check_backend(backend)  # not after an hour of detecting
    was_training = detector.training
    detector.eval()
    id_of = dict(zip(dataset.classes, dataset.category_ids, strict=True))
    category_ids = tuple(id_of[name] for name in detector.classes)
    sign = _SignOfLife(progress, total=len(range(worker.rank, len(dataset), worker.world_size)))
    own: list[Found] = []
    num_images, seconds = 0, 0.0
    more = rules.max_detections > MOST_DETECTIONS  # than nets give by default
    with detector.finding_at_least(rules.max_detections) if more else contextlib.nullcontext():
        for images, targets in batches:
            on_device = [image.to(worker.device, non_blocking=True) for image in images]
            start = _now(worker.device)
            found = detector.detect(on_device)
            seconds += _now(worker.device) - start
            num_images += len(images)
            own.append(found_on([int(target["image_id"]) for target in targets], found, category_ids))
            sign(num_images)
    detector.train(was_training)
    scores, everything = score_together(
        objects_of(dataset), Found.joined(own), id_of, worker, backend, lambda: sign(num_images), rules
    )
    speed = worker.broadcast(num_images / seconds if seconds else 0.0)
    return EvaluationResult(scores, everything if worker.is_main else Found.joined([]), speed)


def score_together(
    truth: Objects,
    own: Found,
    id_of: dict[str, int],
    worker: Worker,
    backend: Backend = "pycocotools",
    tick: Callable[[], None] = lambda: None,
    rules: Rules = COCO_RULES,
) -> tuple[Scores, Found]:
    """Score what all workers found, ``own`` on this one; each worker scores a share of the classes.

    The scores are those of one worker to the bit. ``truth`` and ``id_of`` (class -> category id) must be the same on
    every worker; ``tick`` is called after each class of this worker's share.

    Returns:
        The scores and everything that was found, on every worker.

    Raises:
        UserError: where ``backend`` is not installed.
    """
    names = sorted(id_of, key=id_of.__getitem__)
    category_ids = [id_of[name] for name in names]
    everything = Found.joined(worker.gather(own))
    shared = shares(truth, everything, category_ids, worker.world_size)
    part = curves(truth, everything, [category_ids[index] for index in shared[worker.rank]], backend, tick, rules)
    parts = worker.gather_on_main(part)
    scores = worker.broadcast(scores_of(joined_curves(parts, shared), names, rules) if worker.is_main else None)
    if scores is None:
        raise RuntimeError("the main worker sent no scores")
    return scores, everything


def objects_of(dataset: DetectionDataset) -> Objects:
    """Return the objects of a split, ignored ones too."""
    records = dataset.records
    return Objects(
        image_ids=np.repeat(records.image_ids, np.diff(records.object_ends)),
        category_ids=np.array(dataset.category_ids, np.int64)[records.labels - 1],
        boxes=records.boxes,
        areas=records.areas,
        ignored=records.ignored,
    )


def found_on(image_ids: Sequence[int], detections: Sequence[Target], category_ids: Sequence[int]) -> Found:
    """Return the ``detections`` on a batch of images in columns; labels 1 to K become category ids."""
    boxes, labels, scores = (
        torch.cat([detection[key] for detection in detections]).cpu() for key in ("boxes", "labels", "scores")
    )
    corners = boxes.double().numpy()
    return Found(
        image_ids=np.repeat(np.array(image_ids, np.int64), [len(detection["labels"]) for detection in detections]),
        category_ids=np.array(category_ids, np.int64)[labels.numpy() - 1],
        boxes=np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
        scores=scores.double().numpy(),
    )


class _SignOfLife:
    """Hands on how far this worker is, at most once a second."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total = progress, total
        self._last = time.monotonic()

    def __call__(self, done: int) -> None:
        if self._progress is not None and time.monotonic() - self._last >= _SECONDS_BETWEEN_SIGNS:
            self._last = time.monotonic()
            self._progress(done, self._total)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
