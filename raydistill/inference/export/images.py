"""The images that an exported net is measured on, and those that its int8 ranges come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydistill.data.build import build_splits
from raydistill.data.dataset import DetectionDataset
from raydistill.detectors.base import Detector
from raydistill.errors import UserError
from raydistill.inference.columns import Found
from raydistill.inference.evaluation import found_on, objects_of, score_together
from raydistill.inference.export.runners import Images
from raydistill.inference.on_data import DataPath
from raydistill.runs.directory import RunDirectory
from raydistill.runs.settings import data_of_stage
from raydistill.runs.worker import Worker
from raydistill.structures import Target


@dataclass(frozen=True)
class Split:
    """Some images of a data set, evenly spread over it."""

    dataset: DetectionDataset
    name: str
    """What it is called in a report."""
    indices: Sequence[int]

    @staticmethod
    def of(dataset: DetectionDataset, name: str, most: int) -> Split:
        """Return at most so many images of a data set."""
        number = min(most, len(dataset))
        return Split(dataset, name, np.linspace(0, len(dataset) - 1, number).round().astype(int).tolist())

    def batches(self, batch_size: int) -> Iterator[tuple[list[int], Images]]:
        """Yield the ids of up to ``batch_size`` images of one size, and the images.

        Where these are fewer the last one stands for those that lack.
        """
        waiting: dict[Any, list[tuple[int, Any]]] = {}
        for index in self.indices:
            image, target = self.dataset.load(index)
            alike = waiting.setdefault(image.shape, [])
            alike.append((int(target["image_id"]), image.permute(1, 2, 0).numpy()))
            if len(alike) == batch_size:
                yield _batch(waiting.pop(image.shape), batch_size)
        for rest in waiting.values():
            yield _batch(rest, batch_size)

    def ap(self, detector: Detector, image_ids: Sequence[int], found: Sequence[Target]) -> float:
        """Return the AP of what ``detector`` or its like ``found`` in these of the images, 0 to 1; -1: no object."""
        id_of = dict(zip(self.dataset.classes, self.dataset.category_ids, strict=True))
        truth = objects_of(self.dataset)
        truth = truth.rows(np.flatnonzero(np.isin(truth.image_ids, image_ids)))
        columns = Found.joined([found_on(image_ids, found, [id_of[name] for name in detector.classes])])
        scores, _ = score_together(truth, columns, id_of, Worker())
        return scores.summary["AP"]


@dataclass(frozen=True)
class MeasuringData:
    """What an export needs of data."""

    validation: Split
    calibration: Split


def of_run(run: RunDirectory, detector: Detector, num_images: int, num_calibration: int) -> MeasuringData:
    """Return the validation and training images that the net in a run directory was trained with.

    Raises:
        UserError: where the run does not say, or they are not there any more.
    """
    if not run.config.is_file():
        raise UserError(
            f"{run.path}: must lie with the settings of its training ({run.config.name}), which name the images to "
            "measure on, got none; name data with --data"
        )
    try:
        splits = build_splits(data_of_stage(run))
    except UserError as error:
        raise UserError(f"{error}\n  (the data that {run.config} names, to measure on; --data names others)") from error
    _check_classes(splits.val, detector)
    return MeasuringData(
        Split.of(splits.val, "the validation split", num_images),
        Split.of(splits.train, "the training split", num_calibration),
    )


def of_data(data: DataPath, detector: Detector, num_images: int, num_calibration: int) -> MeasuringData:
    """Return images of data that a user names, for both purposes.

    Raises:
        UserError: where they cannot be read, or are of other classes.
    """
    dataset = data.open_for(detector)
    whole = f"{data.path}{f' ({data.split})' if data.split else ''}"
    return MeasuringData(Split.of(dataset, whole, num_images), Split.of(dataset, whole, num_calibration))


def _batch(images: list[tuple[int, Any]], batch_size: int) -> tuple[list[int], Images]:
    pixels = [image for _, image in images]
    filled = pixels + pixels[-1:] * (batch_size - len(pixels))
    return [image_id for image_id, _ in images], np.ascontiguousarray(np.stack(filled))


def _check_classes(dataset: DetectionDataset, detector: Detector) -> None:
    if set(dataset.classes) != set(detector.classes):
        raise UserError("the data of the run must have the net's classes, got others; name data with --data")
