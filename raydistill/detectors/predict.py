"""A detector run over images that somebody names or gives."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from raydistill.data.images import UnreadableImageError
from raydistill.data.sources import SourceImage
from raydistill.detectors.predictions import Prediction
from raydistill.errors import UserError
from raydistill.structures import Target

DEFAULT_THRESHOLD = 0.5
"""Of nets that do not know their own."""
MOST_AT_ONCE = 10_000
_log = logging.getLogger(__name__)


class Detects(Protocol):
    """As much of a ``Detector`` as is needed here."""

    classes: tuple[str, ...]
    threshold: float | None
    training: bool

    def detect(self, images: list[Tensor]) -> list[Target]:
        """Return the detections of each image in its own pixels; in eval mode."""
        ...

    def train(self, mode: bool = True) -> object:
        """Switch between the modes."""
        ...

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Return what it learns."""
        ...


def threshold_of(detector: Detects, wanted: float | None = None) -> float:
    """Return the score from which on detections are given: the one that is wanted, else the detector's own.

    Raises:
        UserError: where it is no score.
    """
    if wanted is not None:
        if not 0 <= wanted <= 1:
            raise UserError(f"threshold: must be a score from 0 to 1, got {wanted:g}; correct it")
        return wanted
    if detector.threshold is None:
        _log.warning("the weights do not say from which score on a detection counts: %g is taken", DEFAULT_THRESHOLD)
        return DEFAULT_THRESHOLD
    return detector.threshold


def predict_each(
    detector: Detects,
    images: Iterable[SourceImage],
    threshold: float | None = None,
    batch_size: int = 1,
    left_out: list[str] | None = None,
) -> Iterator[tuple[SourceImage, Tensor, Prediction]]:
    """Yield each image, its pixels [3, H, W] and what is found in it; the detector's mode is left as it was.

    Args:
        detector: whose device is used.
        images: read when their batch's turn comes.
        threshold: as ``threshold_of`` takes it.
        batch_size: images at once.
        left_out: takes what is wrong with images that cannot be read; None: the first one ends it.

    Raises:
        UserError: where an image is none, or cannot be read.
    """
    if not 1 <= batch_size <= MOST_AT_ONCE:
        raise UserError(f"batch_size: must be 1 to {MOST_AT_ONCE}, got {batch_size}")
    least, todo = threshold_of(detector, threshold), iter(images)
    while batch := list(islice(todo, batch_size)):
        read = list(_read(batch, left_out))
        if read:
            found = _detect(detector, [pixels for _, pixels in read])
            for (source, pixels), detections in zip(read, found, strict=True):
                yield source, pixels, _prediction(source.name, pixels, detections, least, detector.classes)


def _read(batch: list[SourceImage], left_out: list[str] | None) -> Iterator[tuple[SourceImage, Tensor]]:
    for source in batch:
        try:
            pixels = source.read()
        except UnreadableImageError as error:
            if left_out is None:
                raise
            left_out.append(str(error))
        else:
            yield source, pixels


def _detect(detector: Detects, images: list[Tensor]) -> list[Target]:
    device = next((parameter.device for parameter in detector.parameters()), torch.device("cpu"))
    was_training = detector.training
    detector.train(False)
    try:
        with torch.no_grad():
            return detector.detect([image.to(device) for image in images])
    finally:
        detector.train(was_training)


def _prediction(name: str, pixels: Tensor, detections: Target, least: float, classes: tuple[str, ...]) -> Prediction:
    scores = detections["scores"].detach().cpu()
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[scores[order] >= least]
    height, width = pixels.shape[1:]
    boxes, labels = (detections[key].detach().cpu()[order] for key in ("boxes", "labels"))
    return Prediction(name, width, height, boxes, labels, scores[order], classes)
