"""Everything that is worth knowing of data before they are trained on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from raydistill.config import Config
from raydistill.data.box_sizes import BoxSizes, box_sizes, doubts_of_sizes
from raydistill.data.build import build_splits
from raydistill.data.checks import check_sides
from raydistill.data.counting import SPLIT_NAMES
from raydistill.data.dataset import DetectionDataset
from raydistill.data.split_checks import doubts_of_splits
from raydistill.data.splits import Splits
from raydistill.inference.examples import examples_of
from raydistill.runs.worker import Worker
from raydistill.storage.output import Output
from raydistill.training.time_needed import TimeNeeded, time_needed

NUM_PICTURES = 10


@dataclass(frozen=True)
class SplitCounts:
    """How much a split holds."""

    images: int
    without_objects: int  # images
    objects: int  # that count
    classes: dict[str, int]  # objects that count
    left_out: dict[str, int]  # reason -> objects


@dataclass(frozen=True)
class DataReport:
    """What data are, as ``raydistill check`` shows it."""

    found: str
    """What they were recognised as; empty where the settings say it."""
    settings: str
    """What that stands for, as on the command line."""
    splits: dict[str, SplitCounts]
    boxes: BoxSizes
    look_at: tuple[str, ...]
    """What may be wrong, a sentence each."""
    notes: tuple[str, ...] = ()
    """What was done on the way, a sentence each."""
    pictures: tuple[str, ...] = ()
    """Files with images and their boxes."""
    time: TimeNeeded | None = field(default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return asdict(self)


def report_on(config: Config, found: str, settings: str, pictures: Output | None, worker: Worker | None) -> DataReport:
    """Read the data of ``config`` and say what they are.

    Args:
        config: the settings.
        found: what the data were recognised as.
        settings: what that stands for.
        pictures: where ten pictures with boxes go; None: nowhere.
        worker: what the time that a run needs is measured with; None: it is not.

    Raises:
        UserError: where they cannot be trained on.
    """
    with _collected() as (warnings, notes):
        splits = build_splits(config.data, config.downloads)
        for split in splits:
            if split is not None:
                check_sides(split, config.input)
    look_at = [*warnings, *doubts_of_splits(config.data, splits), *doubts_of_sizes(config, splits)]
    return DataReport(
        found,
        settings,
        {name: _counts(split) for name, split in zip(SPLIT_NAMES, splits, strict=True) if split is not None},
        box_sizes(config, splits.train),
        tuple(look_at),
        tuple(notes),
        tuple(_draw(splits, pictures)) if pictures is not None else (),
        None if worker is None else time_needed(config, splits, worker),
    )


def _counts(split: DetectionDataset) -> SplitCounts:
    records = split.records
    labels = np.bincount(records.labels[~records.ignored], minlength=len(split.classes) + 1)[1:]
    return SplitCounts(
        images=len(split),
        without_objects=int((records.num_objects == 0).sum()),
        objects=split.num_counted,
        classes=dict(zip(split.classes, labels.tolist(), strict=True)),
        left_out={reason: number for reason, number in split.left_out.items() if number},
    )


def _draw(splits: Splits, output: Output) -> Iterator[str]:
    """Write the pictures, and yield their files."""
    for number, (name, picture) in enumerate(examples_of(splits.train, NUM_PICTURES), 1):
        file = Path(output.folder) / f"{number:02d}_{PurePosixPath(name).stem[:80]}.jpg"
        output.write(file, lambda opened, drawn=picture: drawn.save(opened, "JPEG", quality=90))  # type: ignore[misc]
        yield str(file)


@contextlib.contextmanager
def _collected() -> Iterator[tuple[list[str], list[str]]]:
    """Collect what the package logs: warnings, and the rest."""
    collector = _Collector()
    logger = logging.getLogger("raydistill")
    logger.addHandler(collector)
    propagate, level = logger.propagate, logger.level
    logger.propagate = False
    logger.setLevel(logging.INFO)
    try:
        yield collector.warnings, collector.notes
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate
        logger.setLevel(level)


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().removeprefix("data: ")
        (self.warnings if record.levelno >= logging.WARNING else self.notes).append(text)
