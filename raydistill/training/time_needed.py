"""How long a run will take, guessed from a few steps that are taken here."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from raydistill.config import Config
from raydistill.data.dataset import DetectionDataset
from raydistill.data.splits import Splits
from raydistill.detectors.base import Detector
from raydistill.detectors.build import build_detector
from raydistill.errors import counted
from raydistill.runs.directory import epochs_of, planned
from raydistill.runs.time_left import in_words
from raydistill.runs.worker import Worker
from raydistill.structures import Target
from raydistill.training.distiller import Distiller

_IMAGES = 1  # of a step that is timed: a large net takes seconds for it
_Item = tuple[torch.Tensor, Target]


@dataclass(frozen=True)
class TimeNeeded:
    """What a run will take, and what that rests on."""

    seconds: float
    device: str
    num_images: int  # of each step that was timed
    stages: dict[str, float]  # seconds each

    def __str__(self) -> str:
        """Return it in a sentence."""
        parts = ", ".join(f"{stage} {in_words(seconds)}" for stage, seconds in self.stages.items())
        return (
            f"about {in_words(self.seconds)} on this machine's {self.device} with one worker ({parts}): from a "
            f"step of each net with {counted(self.num_images, 'image')} and random weights, without decoding images"
        )


def time_needed(config: Config, splits: Splits, worker: Worker) -> TimeNeeded:
    """Take a step of each net and reckon from that what all stages take; some seconds to a minute.

    Raises:
        UserError: where the nets cannot be built, or do not fit together.
    """
    items = _some(splits.train, min(_IMAGES, config.training.batch_size))
    classes = splits.train.classes
    teacher = build_detector(config.teacher, config.input, classes)
    student = build_detector(config.student, config.input, classes)
    teacher.fast_roi_align = student.fast_roi_align = config.training.roi_align == "fast"
    steps: dict[str, float] = {}
    found = {"teacher": _per_image(Distiller(teacher, None, config), items, worker)}
    found["baseline"] = _per_image(Distiller(student, None, config), items, worker)
    detects = {"teacher": _detects(teacher, items, worker), "baseline": _detects(student, items, worker)}
    if config.distills:
        distiller = Distiller(student, teacher, config, "fp32")  # both are warm
        found["distilled"] = _per_image(distiller, items, worker, steps=1)
        detects["distilled"] = detects["baseline"]
    for stage in planned(config):
        trains = stage != "teacher" or config.teacher.train
        epochs = epochs_of(config, stage) if trains else 0
        evaluations = max(1, epochs // config.evaluation.every)
        steps[stage] = epochs * len(splits.train) * found[stage] + evaluations * len(splits.val) * detects[stage]
    return TimeNeeded(sum(steps.values()), "GPU" if worker.device.type == "cuda" else "processor", len(items), steps)


def _some(split: DetectionDataset, number: int) -> list[_Item]:
    """Return images with objects, the first ones."""
    numbers = split.records.num_objects
    places = [int(place) for place in (numbers > 0).nonzero()[0][:number]]
    return [split.load(place) for place in places]


def _per_image(distiller: Distiller, items: list[_Item], worker: Worker, steps: int = 2) -> float:
    """Return the seconds that a training step takes for each image; the last one counts."""
    distiller.to(worker.device).train()
    seconds = 0.0
    for _ in range(steps):
        images, targets = worker.to_device([image for image, _ in items], [target for _, target in items])
        start = _now(worker)
        distiller(images, targets, 1.0).total.backward()
        seconds = _now(worker) - start
        distiller.zero_grad(set_to_none=True)
    return seconds / max(1, len(items))


def _detects(detector: Detector, items: list[_Item], worker: Worker) -> float:
    """Return the seconds that a detector takes to find the objects of an image."""
    detector.to(worker.device).eval()
    images, _ = worker.to_device([image for image, _ in items], [target for _, target in items])
    start = _now(worker)
    with torch.no_grad():
        detector.detect([image.float() / 255 for image in images])
    return (_now(worker) - start) / max(1, len(items))


def _now(worker: Worker) -> float:
    if worker.device.type == "cuda":
        torch.cuda.synchronize(worker.device)
    return time.perf_counter()
