"""The nets of a stage: built, loaded with what they start from, and the teacher that was trained before."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from raydistill.config import Config
from raydistill.config.sections import AnyDetector
from raydistill.data.build import Splits
from raydistill.detectors.base import Detector
from raydistill.detectors.build import build_detector
from raydistill.detectors.state_dicts import LoadReport
from raydistill.detectors.weights import load_file, load_into
from raydistill.errors import UserError
from raydistill.runs.directory import RunDirectory, StageName, epochs_of, stage_directory
from raydistill.runs.events import Note
from raydistill.runs.identity import Identity
from raydistill.runs.records import result_if_sound
from raydistill.runs.reporter import Reporter
from raydistill.runs.weights_file import digest
from raydistill.runs.worker import Worker
from raydistill.storage.output import Output
from raydistill.storage.parcels import Shipped, find
from raydistill.training.job import Job

ReporterFactory = Callable[[RunDirectory], Reporter]


@dataclass(frozen=True)
class Stages:
    """What all stages of a run have in common."""

    config: Config
    output: Output
    worker: Worker
    reporter_for: ReporterFactory
    data: Splits
    shipped: Shipped
    teacher: RunDirectory | None = None  # trained elsewhere
    data_id: str = ""
    """Stands for the data; empty where nobody knows."""
    free: frozenset[str] = frozenset()
    """Settings that a population exchanges between its members."""
    speeds: dict[str, float] = field(default_factory=dict)
    """What is known of the speed of nets, see ``Job``."""

    def run_directory(self, stage: StageName) -> RunDirectory:
        """Return where a stage lies: the teacher may have been trained elsewhere."""
        if stage == "teacher" and self.teacher is not None:
            return self.teacher
        return stage_directory(self.output, stage)

    def job(self, stage: StageName) -> Job:
        """Return what a stage trains; a teacher that is only scored trains no epoch."""
        config, settings = self.config, self.settings(stage)
        epochs = epochs_of(config, stage)
        if stage == "teacher":
            config = with_teacher_learning_rate(config).model_copy(update={"schedule": ()})  # it is the students'
        identity = Identity.of(stage, self.config, self.data_id, self.free)
        run = self.run_directory(stage)
        return Job(stage, config, settings, epochs, run, *self.data, identity=identity, speeds=self.speeds)

    def settings(self, stage: StageName) -> AnyDetector:
        """Return the settings of the net that a stage trains."""
        return self.config.teacher if stage == "teacher" else self.config.student

    def detector(self, stage: StageName) -> tuple[Detector, LoadReport]:
        """Build a stage's net with its starting weights; the student begins with the same ones in every stage."""
        torch.manual_seed(self.config.seed)
        detector = self.build(stage)
        weights_at = functools.partial(find, shipped=self.shipped, cache=self.config.downloads.cache)
        return detector, load_into(detector, self.settings(stage), _name_of_net(stage), weights_at)

    def build(self, stage: StageName) -> Detector:
        """Build a stage's net, with the weights that it is built with."""
        try:
            detector = build_detector(self.settings(stage), self.config.input, self.data.train.classes)
        except UserError as error:
            raise UserError(f"{_name_of_net(stage)}.{error}") from error
        detector.fast_roi_align = self.config.training.roi_align == "fast"
        return detector


def _name_of_net(stage: StageName) -> str:
    """Return the section of the settings of the net that a stage trains."""
    return "teacher" if stage == "teacher" else "student"


def with_teacher_learning_rate(config: Config) -> Config:
    """Return ``config`` with the teacher's learning rate where it has one of its own."""
    if config.teacher.learning_rate is None:
        return config
    optimizer = config.training.optimizer.model_copy(update={"learning_rate": config.teacher.learning_rate})
    return config.model_copy(update={"training": config.training.model_copy(update={"optimizer": optimizer})})


def load_teacher(stages: Stages, reporter: Reporter) -> tuple[Detector, str]:
    """Build the teacher with the weights that its stage left, on the worker's device; every worker calls it.

    Returns:
        The teacher, and a text that stands for its weights.

    Raises:
        UserError: where they do not fit, or are not those that were scored.
    """
    stages.worker.wait()  # the main worker has written the teacher's file
    run = stages.run_directory("teacher")
    teacher = stages.build("teacher")
    report = load_file(teacher, run.output.fetched(run.best), "teacher")
    weights = digest(teacher.exported().state_dict())
    result = result_if_sound(run.output.fetched(run.result)) or {}
    if result.get("weights", weights) != weights:  # an earlier version does not say
        raise UserError(
            f"{run.best}: must be the teacher's weights that were scored ({run.result.name}), got others; put them "
            f"back, or remove {run.path} to make the teacher anew"
        )
    reporter.event(Note(f"preflight: teacher: {report}; classes as in the data, in the same order"))
    teacher.to(stages.worker.device)
    return teacher, weights
