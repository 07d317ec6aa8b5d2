"""A run as a directory of plain files, one below it for each stage, and which stages a run has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from raydistill.config import Config
from raydistill.runs.records import read_lines, result_if_sound
from raydistill.storage.atomic import PART
from raydistill.storage.files import versions
from raydistill.storage.output import LOCAL, Output

BEST, LAST = "best.pt", "last.pt"
DATA_RECORD = "data.json"
"""In the output of a run or a sweep: what its data were when it was begun."""


@dataclass(frozen=True)
class RunDirectory:
    """The files of one stage of training."""

    path: Path
    output: Output = LOCAL
    """What it belongs to."""

    @property
    def config(self) -> Path:
        """The settings that the stage was started with."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Everything that the next step depends on."""
        return self.path / "checkpoint.pt"

    @property
    def last(self) -> Path:
        """The weights after the last epoch."""
        return self.path / LAST

    @property
    def best(self) -> Path:
        """The weights of the best evaluation."""
        return self.path / BEST

    @property
    def use(self) -> Path:
        """A program that uses the weights of the best evaluation without this package, where there is one."""
        return self.path / "use.py"

    @property
    def result(self) -> Path:
        """The stage's row of the comparison; it exists once the stage is finished."""
        return self.path / "result.json"

    @property
    def finished(self) -> bool:
        """Whether the stage was trained to its end, and its result can be read."""
        return result_if_sound(self.result) is not None

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints that are there, newest first: the last one, and older ones for when it is damaged."""
        return versions(self.checkpoint)

    def remove_checkpoints(self) -> None:
        """Remove them, for a run that will not go on; the weights stay."""
        self.output.remove_versions(self.checkpoint)

    def weights(self) -> list[Path]:
        """Return the files of weights that are there, of the best evaluation and of the last epoch."""
        return [*versions(self.best), *versions(self.last)]

    def remove_weights(self) -> None:
        """Remove them; what was measured stays."""
        self.output.remove_versions(self.best, self.last)

    def remove_leftovers(self) -> None:
        """Remove what writers left that were killed at work; only for who alone works here."""
        for file in self.path.glob(f".*{PART}"):
            file.unlink(missing_ok=True)

    def lines(self) -> list[dict[str, float]]:
        """Return the metrics of every epoch so far, as far as they can be read."""
        return read_lines(self.metrics).lines


StageName = Literal["teacher", "baseline", "distilled"]


def planned(config: Config) -> list[StageName]:
    """Return the stages that ``config`` asks for, in order; without a distillation weight the student alone."""
    if not config.distills:
        return ["baseline"]
    return ["teacher", "baseline", "distilled"] if config.distillation.baseline else ["teacher", "distilled"]


def epochs_of(config: Config, stage: StageName) -> int:
    """Return how many epochs a stage trains; a teacher that is only scored trains none."""
    if stage != "teacher":
        return config.training.epochs
    return (config.teacher.epochs or config.training.epochs) if config.teacher.train else 0


def unfinished(config: Config, output: Output, only: StageName | None = None) -> list[StageName]:
    """Return the planned stages, or that one of them, that are still to be run in ``output``, in order."""
    wanted = planned(config) if only is None else [only]
    return [stage for stage in wanted if not is_finished(config, stage_directory(output, stage), stage)]


def is_finished(config: Config, run: RunDirectory, stage: StageName) -> bool:
    """Return whether a stage was trained for all its epochs, or for fewer since none of the last ones was better."""
    result = result_if_sound(run.result)
    return result is not None and (result["epochs"] >= epochs_of(config, stage) or "planned_epochs" in result)


def stage_directory(output: Output, stage: StageName) -> RunDirectory:
    """Return where a stage of a run lies, or will."""
    return RunDirectory(output.folder / stage, output)
