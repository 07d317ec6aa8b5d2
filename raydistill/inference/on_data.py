"""Weights and the path of data -> scores and detections."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError

from raydistill.config import Downloads, Loader
from raydistill.config.data import Alpha
from raydistill.config.sections import Input
from raydistill.config.training import Backend
from raydistill.data.alike import same_spelling
from raydistill.data.build import AS_USUAL
from raydistill.data.checks import check_sides
from raydistill.data.counting import crowded_in_words
from raydistill.data.dataset import DetectionDataset
from raydistill.data.discover import open_dataset
from raydistill.data.images import Decoding
from raydistill.data.loading.loaders import evaluation_loader
from raydistill.data.pixel_checks import Settings, check_pixels
from raydistill.detectors.base import Detector
from raydistill.detectors.restore import restore_detector
from raydistill.errors import UserError
from raydistill.inference.columns import Detections
from raydistill.inference.evaluation import evaluate
from raydistill.inference.scoring import COCO_RULES, Rules, Scores
from raydistill.runs.comparison import STAGES
from raydistill.runs.directory import RunDirectory, StageName, stage_directory
from raydistill.runs.worker import Worker, local_device
from raydistill.storage.output import Output

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataPath:
    """Data as a user names them on the command line; what the fields are says ``open_dataset``."""

    path: str
    split: str | None = None
    images: str | None = None
    difficult: Literal["ignore", "include"] = "ignore"
    coordinates: Literal["one_based", "zero_based"] = "one_based"
    downloads: Downloads = AS_USUAL
    max_megapixels: float = 179
    pixel_range: tuple[float, float] | None = None
    alpha: Alpha = "over_white"

    def open_for(self, detector: Detector, called: str = "weights") -> DetectionDataset:
        """Open them with the classes of ``detector``, which messages call ``called``, as it names them.

        Raises:
            UserError: when they cannot be read, or are of other classes.
        """
        dataset = self.open(detector.classes)
        same = same_spelling(dataset.classes, detector.classes)
        if same:
            dataset = replace(dataset, classes=tuple(same.get(name, name) for name in dataset.classes))
        _check_classes(dataset, detector.classes, called)
        if detector.sides is not None:
            check_sides(dataset, Input(min_size=detector.sides[0], max_size=detector.sides[1]))
        return dataset

    def open(self, classes: tuple[str, ...]) -> DetectionDataset:
        """Open them for a net that knows ``classes``."""
        dataset = open_dataset(
            self.path,
            self.split,
            self.images,
            classes,
            self.difficult,
            self.coordinates,
            self.downloads,
            Decoding(int(self.max_megapixels * 1e6), self.pixel_range, self.alpha),
        )
        for doubt in dataset.doubts:
            _log.warning("%s: %s", self.path, doubt)
        check_pixels(dataset, self.path, Settings("--pixel-range", "--alpha"))
        return dataset


@dataclass(frozen=True)
class Scored:
    """What a detector found in data, and how good that is."""

    scores: Scores
    detections: Detections  # with the data's own ids
    images_per_second: float

    @property
    def metrics(self) -> dict[str, Any]:
        """The scores, and under ``per_class`` those of each class."""
        return {**self.scores.summary, "per_class": self.scores.per_class}


def load_student(place: str) -> Detector:
    """Return the detector of a weights file, of a run directory, or of the student in a run's output.

    Raises:
        UserError: when there is none, or it does not say how its net is built.
    """
    return restore_detector(weights_here(student_place(place))).eval()


def student_place(place: str) -> str:
    """Return where the weights are that ``place`` means: of a run's output those of its distilled student.

    Where nothing was distilled, and no teacher is there for it, they are those of the student alone.
    """
    output = Output.to_read(place)
    there = {stage for stage in STAGES if _has_weights(output, stage)}
    if "distilled" in there:
        return f"{place}/distilled"
    return f"{place}/baseline" if there == {"baseline"} else place


def _has_weights(output: Output, stage: StageName) -> bool:
    run = stage_directory(output, stage)
    return any(output.exists(file) for file in (run.best, run.last))


def weights_here(weights: str) -> Path:
    """Return the weights file or run directory, fetched where it is on an object store."""
    output = Output.to_read(weights)
    run = RunDirectory(output.folder, output)
    if output.remote and not output.fetched(run.path).is_file():
        for file in (run.best, run.last):
            if output.fetched(file).is_file():
                break
    return run.path


def downloads_to(folder: str | None, max_gb: float, called: str) -> Downloads:
    """Return where to keep what is fetched; ``called`` are the two settings in a message.

    Raises:
        UserError: when one of them cannot be used.
    """
    try:
        return Downloads(folder=folder, max_gb=max_gb)
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"{called}: {problem['msg']}, got {problem['input']}") from error


def score_weights(
    weights: str | os.PathLike[str] | Detector,
    data: DataPath,
    *,
    backend: Backend,
    rules: Rules,
    batch_size: int,
    num_workers: int,
) -> Scored:
    """Score a detector, or what ``load_student`` takes, on data; errors as ``load_student`` and ``score_on_data``."""
    if isinstance(weights, Detector):
        detector, called, device = weights, "weights", next(weights.parameters()).device
    else:
        called, device = os.fspath(weights), local_device()
        detector = load_student(called)
    return score_on_data(
        detector,
        data,
        called=called,
        device=device,
        backend=backend,
        rules=rules,
        batch_size=batch_size,
        num_workers=num_workers,
    )


def score_on_data(
    detector: Detector,
    data: DataPath,
    *,
    called: str,
    device: torch.device,
    backend: Backend = "pycocotools",
    rules: Rules = COCO_RULES,
    batch_size: int = 4,
    num_workers: int = 2,
) -> Scored:
    """Run ``detector``, which messages name ``called``, on data and score what it finds.

    Raises:
        UserError: when the data cannot be read, or are of other classes.
    """
    dataset = data.open_for(detector, called)
    if words := crowded_in_words(dataset.records.num_objects.tolist(), rules.max_detections):
        _log.warning("%s: %s: --max-detections raises that", data.path, words)
    batches = evaluation_loader(dataset, batch_size, 0, 1, Loader(num_workers=num_workers))
    result = evaluate(detector.to(device), dataset, batches, Worker(device=device), backend=backend, rules=rules)
    return Scored(result.scores, dataset.file_ids.restored(result.detections), result.images_per_second)


def _check_classes(dataset: DetectionDataset, classes: tuple[str, ...], called: str) -> None:
    if set(dataset.classes) != set(classes):
        raise UserError(
            f"{called}: must know the data's classes, got a net for {', '.join(classes)} and data with "
            f"{', '.join(dataset.classes)}; name weights that were trained on these classes"
        )
