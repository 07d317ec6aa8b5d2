"""Detectors: loaded, and used on images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from raydistill.api.paths import StrPath
from raydistill.storage.mirror import places_named
from raydistill.storage.output import Output

if TYPE_CHECKING:
    from PIL import Image

    from raydistill.detectors.base import Detector
    from raydistill.detectors.predictions import Prediction, Predictions
    from raydistill.inference.predict import Told


def load(path: StrPath) -> Detector:
    """Return a detector ready to use: in eval mode, ``detector.detect(images)``, ``detector.classes``.

    Args:
        path: the output of a run (its distilled student at its best), the directory of a stage or of a trial, or a
            weights file; also on an object store.

    Raises:
        UserError: when there is none, or it does not say how its net is built.

    >>> load("runs/nowhere")
    Traceback (most recent call last):
    raydistill.errors.UserError: runs/nowhere: must be a weights file or a run directory, there is no such file
    """
    from raydistill.inference.on_data import load_student

    with places_named():
        return load_student(os.fspath(path))


def detect(
    weights: StrPath | Detector,
    images: Any,
    *,
    output: StrPath = "predictions",
    threshold: float | None = None,
    batch_size: int = 1,
    pictures: bool = True,
    on_image: Told | None = None,
) -> Predictions:
    """Detect objects in images and write pictures with boxes and COCO's files; ``load(...).predict`` writes nothing.

    Args:
        weights: a detector, or what ``load`` takes.
        images: as ``Detector.predict`` takes them; those that cannot be read are left out, see ``left_out`` of what
            comes back.
        output: the folder that the files go to.
        threshold: score from which on a detection counts; by default the one that the weights say.
        batch_size: images at once.
        pictures: write ``pictures/``, a copy of each image with boxes.
        on_image: hears of each image as it is done, of how many so far, and of how many.

    Returns:
        What was found in each image. ``annotations.json`` holds the same as a COCO data set with scores, which
        labelling tools open, ``detections.json`` as COCO's results.

    Raises:
        UserError: when there are no weights or images, or something cannot be written.
    """
    from raydistill.detectors.base import Detector as AnyDetector
    from raydistill.inference.predict import predict_to
    from raydistill.runs.worker import local_device

    with places_named():
        detector = weights if isinstance(weights, AnyDetector) else load(weights).to(local_device())
        return predict_to(
            Output.to_read(os.fspath(output)),
            detector,
            images,
            threshold=threshold,
            batch_size=batch_size,
            pictures=pictures,
            told=on_image,
        )


def draw(image: Any, found: Prediction) -> Image.Image:
    """Return a picture with the boxes, classes and scores that were found in ``image``, its path or a value."""
    from raydistill.data.sources import source_images
    from raydistill.inference.draw import draw_boxes

    (source,) = source_images(image)
    return draw_boxes(source.read(), found.boxes, found.labels, found.scores, found.classes)
