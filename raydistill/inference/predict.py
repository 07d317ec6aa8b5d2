"""Images that somebody names -> pictures with boxes, and what was found as COCO's files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from raydistill.data.sources import SourceImage, are_countable, source_images
from raydistill.detectors.base import Detector
from raydistill.detectors.predict import predict_each
from raydistill.detectors.predictions import Prediction, Predictions
from raydistill.inference.draw import draw_boxes
from raydistill.storage.output import Output

ANNOTATIONS, DETECTIONS, PICTURES = "annotations.json", "detections.json", "pictures"
Told = Callable[[Prediction, int, int | None], object]
"""Hears of each image, how many there were so far, and how many there are; None: nobody knows."""


@dataclass
class _Files:
    """What is written below a folder: a picture of each image, and at the end COCO's two files."""

    output: Output
    classes: tuple[str, ...]
    pictures: bool
    images: list[dict[str, Any]] = field(default_factory=list)
    detections: list[dict[str, Any]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def add(self, source: SourceImage, pixels: Tensor, found: Prediction) -> None:
        """Take what was found in an image."""
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": source.inner, "width": found.width, "height": found.height})
        self.detections += found.to_coco(number)
        if self.pictures:
            picture = draw_boxes(pixels, found.boxes, found.labels, found.scores, self.classes)
            path = self.output.folder / PICTURES / self._name_of(source.inner)
            self.output.write(path, lambda file: picture.save(file, "JPEG", quality=90))

    def write(self) -> None:
        """Write the two files: what was found as COCO's results, and as a data set that labelling tools open."""
        categories = [{"id": label, "name": name} for label, name in enumerate(self.classes, start=1)]
        annotations = [
            {"id": number, **found, "area": found["bbox"][2] * found["bbox"][3], "iscrowd": 0}
            for number, found in enumerate(self.detections, start=1)
        ]
        everything = {"info": {}, "images": self.images, "annotations": annotations, "categories": categories}
        self.output.write_text(self.output.folder / ANNOTATIONS, json.dumps(everything))
        self.output.write_text(self.output.folder / DETECTIONS, json.dumps(self.detections))

    def _name_of(self, inner: str) -> Path:
        """Return a path for the picture of an image that no other has: two images may differ in their ending alone."""
        wanted = str(PurePosixPath(inner).with_suffix(""))
        name, number = wanted, 1
        while name in self.names:
            number += 1
            name = f"{wanted}_{number}"
        self.names[name] = inner
        return Path(f"{name}.jpg")


def predict_to(
    output: Output,
    detector: Detector,
    images: Any,
    *,
    threshold: float | None = None,
    batch_size: int = 1,
    pictures: bool = True,
    told: Told | None = None,
) -> Predictions:
    """Run ``detector`` on ``images`` and write below ``output``; images that cannot be read are left out.

    Args:
        output: where the files go.
        detector: on its device.
        images: as ``source_images`` takes them.
        threshold: as ``threshold_of`` takes it.
        batch_size: images at once.
        pictures: write a picture of each image, with what was found in it.
        told: hears of each image as it is done.

    Raises:
        UserError: where there is no image, or something cannot be read or written at all.
    """
    files, left_out = _Files(output, detector.classes, pictures), list[str]()
    sources: Iterable[SourceImage] = source_images(images, detector.decoding, outside=output.folder)
    total = None
    if are_countable(images):
        sources = list(sources)
        total = len(sources)
    found: list[Prediction] = []
    for source, pixels, prediction in predict_each(detector, sources, threshold, batch_size, left_out):
        files.add(source, pixels, prediction)
        found.append(prediction)
        if told is not None:
            told(prediction, len(found) + len(left_out), total)
    files.write()
    return Predictions(tuple(found), tuple(left_out))
