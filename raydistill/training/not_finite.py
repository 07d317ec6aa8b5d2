"""What made a loss that is not finite: which annotations, or which images, or none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from raydistill.data.checks import listed
from raydistill.data.dataset import DetectionDataset
from raydistill.data.loading.loaders import MicroBatch
from raydistill.runs.worker import Worker
from raydistill.structures import Target
from raydistill.training.distiller import Distiller


def remedy_for(
    distiller: Distiller, batch: MicroBatch, dataset: DetectionDataset, worker: Worker, precision: str, decay: float
) -> str:
    """Say what to do about a loss that was not finite: to which annotations or images, or settings of the training.

    Args:
        distiller: with the weights of that step; where they have been moved by it, only boxes are looked at.
        batch: the images and targets as they were trained on.
        dataset: the training split that they are of.
        worker: runs them again, each alone.
        precision: of the forward passes.
        decay: d(t) of the step.
    """
    names = [*_boxes_without_extent(distiller, batch, dataset, worker)]
    if not names and all(bool(torch.isfinite(parameter).all()) for parameter in distiller.parameters()):

        def is_finite(image: Tensor, target: Target) -> bool:
            # twice: batch normalisation needs more than one value
            with torch.no_grad(), worker.autocast(precision):
                losses = distiller(*worker.to_device([image, image], [target, target]), decay)
            return bool(torch.isfinite(losses.total))

        names = _found_alone(is_finite, batch, dataset)
    if names:
        return f"it comes from {listed(names)}; correct or remove {'it' if len(names) == 1 else 'these'}"
    return (
        "lower training.optimizer.learning_rate, set training.clip_grad_norm, or look at these images: "
        f"{listed([_file(dataset, target) for target in batch[1]])}"
    )


def _boxes_without_extent(
    distiller: Distiller, batch: MicroBatch, dataset: DetectionDataset, worker: Worker
) -> Iterator[str]:
    """Name the objects whose boxes are none when the net sees them."""
    prepared = distiller.student.prepare(*worker.to_device(*batch))
    for trained, seen in zip(batch[1], prepared.targets, strict=True):
        boxes = seen["boxes"]
        sound = torch.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        for place in (~sound).nonzero().flatten().tolist():
            yield _object(dataset, trained, place)


def _found_alone(
    is_finite: Callable[[Tensor, Target], bool], batch: MicroBatch, dataset: DetectionDataset
) -> list[str]:
    """Name the objects, else the images, whose loss is not finite where they are alone; none where all are such."""
    faulty = [pair for pair in zip(*batch, strict=True) if not is_finite(*pair)]
    objects = []
    for image, target in faulty:
        if is_finite(image, _only(target, slice(0))):
            for place in range(len(target["labels"])):
                if not is_finite(image, _only(target, slice(place, place + 1))):
                    objects.append(_object(dataset, target, place))
    if objects or len(faulty) == len(batch[0]):
        return objects
    return [f"the image {_file(dataset, target)}" for _, target in faulty]


def _only(target: Target, which: slice) -> Target:
    """Return a target with some of its objects."""
    return Target(boxes=target["boxes"][which], labels=target["labels"][which])


def _object(dataset: DetectionDataset, target: Target, place: int) -> str:
    """Name an object by its class, its box as annotated and its image."""
    record = dataset.records[_index(dataset, target)]
    label, box, where = int(target["labels"][place]), target["boxes"][place], "as trained on"
    if len(record.labels) == len(target["labels"]):  # none was cut off by an augmentation
        label, box, where = int(record.labels[place]), record.boxes[place], "x, y, width, height"
        box = torch.cat([box[:2], box[2:] - box[:2]])
    numbers = ", ".join(f"{value:.6g}" for value in box.tolist())
    return f"the annotation of '{dataset.classes[label - 1]}' at [{numbers}] ({where}) of {record.file}"


def _file(dataset: DetectionDataset, target: Target) -> str:
    return dataset.records.file(_index(dataset, target))


def _index(dataset: DetectionDataset, target: Target) -> int:
    return int(np.flatnonzero(dataset.records.image_ids == int(target["image_id"]))[0])
