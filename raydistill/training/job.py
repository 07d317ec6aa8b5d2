"""One stage of training: which detector, from what, into which directory."""

from __future__ import annotations

from dataclasses import dataclass

from raydistill.config.sections import AnyDetector, Config
from raydistill.data.dataset import DetectionDataset
from raydistill.runs.directory import RunDirectory, StageName


@dataclass(frozen=True)
class Job:
    """One stage of training: which detector, from what, into which directory."""

    stage: StageName
    config: Config
    settings: AnyDetector
    epochs: int
    run: RunDirectory
    train: DetectionDataset
    val: DetectionDataset
    test: DetectionDataset | None = None
