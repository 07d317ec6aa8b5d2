"""One stage of training: which detector, from what, into which directory."""

from __future__ import annotations

from dataclasses import dataclass, field

from raydistill.config.sections import AnyDetector, Config
from raydistill.data.dataset import DetectionDataset
from raydistill.runs.directory import RunDirectory, StageName
from raydistill.runs.identity import Identity


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
    identity: Identity | None = None
    """Whose its checkpoints are; None: nobody asks."""
    speeds: dict[str, float] = field(default_factory=dict, compare=False)
    """Images per second of nets that were measured in this process, by what decides them; those of this are added."""

    @property
    def horizon(self) -> int:
        """How many epochs learning rate and decay are laid out for."""
        own = self.stage == "teacher" and self.config.teacher.epochs is not None
        return (None if own else self.config.training.horizon) or self.epochs
