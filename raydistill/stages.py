"""Teacher, student alone, distilled student: what is missing is run, one after the other in the same workers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from raydistill import checkpoint
from raydistill.checkpoint import RunDirectory
from raydistill.config import Config
from raydistill.config.sections import Detector as DetectorSettings
from raydistill.data.build import build_datasets
from raydistill.data.dataset import DetectionDataset
from raydistill.detectors.build import build_detector
from raydistill.detectors.faster_rcnn import FasterRCNNDetector
from raydistill.detectors.weights import load_file, load_into
from raydistill.distiller import Distiller
from raydistill.engine import evaluate_on_val, finish, fit, make_loader
from raydistill.errors import one_error
from raydistill.preflight import preflight
from raydistill.report.comparison import comparison
from raydistill.runtime import Note, Reporter, Worker
from raydistill.training_state import Job, StageName, export

ReporterFactory = Callable[[RunDirectory], Reporter]

_SHARED = ("seed", "data", "input", "augmentation", "training", "evaluation")
_SECTIONS: dict[StageName, tuple[str, ...]] = {
    "teacher": (*_SHARED, "teacher"),
    "baseline": (*_SHARED, "student"),
    "distilled": (
        *(*_SHARED, "teacher", "student", "distillation", "regions"),
        *("feature", "classification", "regression", "rpn", "decay"),
    ),
}
# Settings that change how a result is reached, not the result.
_WITHOUT_INFLUENCE = ("evaluation.batch_size", "distillation.baseline", "distillation.preflight")


@dataclass(frozen=True)
class _Stages:
    """What all stages of a run have in common."""

    config: Config
    worker: Worker
    reporter_for: ReporterFactory
    train: DetectionDataset
    val: DetectionDataset

    def run_directory(self, stage: StageName) -> RunDirectory:
        return RunDirectory(Path(self.config.output) / stage)

    def job(self, stage: StageName) -> Job:
        settings: DetectorSettings = self.config.teacher if stage == "teacher" else self.config.student
        epochs = self.config.training.epochs
        if stage == "teacher":
            epochs = (self.config.teacher.epochs or epochs) if self.config.teacher.train else 0
        return Job(stage, self.config, settings, epochs, self.run_directory(stage), self.train, self.val)


def planned(config: Config) -> list[StageName]:
    """Return the stages that ``config`` asks for, in order."""
    stages: list[StageName] = []
    if config.distills:
        stages.append("teacher")
    if config.distillation.baseline and config.distills:
        stages.append("baseline")
    return [*stages, "distilled"]


def run_stages(config: Config, worker: Worker, reporter_for: ReporterFactory) -> None:
    """Run every planned stage that is not finished yet, and write ``comparison.csv``; every worker calls it.

    Raises:
        UserError: when the data, the weights or what lies in the output directory do not fit.
    """
    output = Path(config.output)
    stages = planned(config)
    refuse_other_settings(config)
    missing = [stage for stage in stages if not RunDirectory(output / stage).finished]
    notify = reporter_for(RunDirectory(output / stages[0])).event
    with _warnings_to(notify, worker):
        for stage in stages:
            if stage not in missing:
                notify(Note(f"{stage}: finished before, not trained again"))
        if missing:
            train, val = build_datasets(config)
            notify(Note(f"data: {len(train)} training and {len(val)} validation images, classes {_names(train)}"))
            context = _Stages(config, worker, reporter_for, train, val)
            worker.gather(None)  # nobody decides on files that another has begun to write
            for stage in missing:
                _write_settings(config, stage, worker)
                _run_stage(context, stage)
    worker.gather(None)
    if worker.is_main:
        checkpoint.write_atomically(
            output / "comparison.csv", lambda file: comparison(output).to_csv(file, index=False)
        )


def _run_stage(stages: _Stages, stage: StageName) -> None:
    config, worker = stages.config, stages.worker
    job = stages.job(stage)
    reporter = stages.reporter_for(job.run)
    torch.manual_seed(config.seed)  # the student begins with the same weights in every stage
    detector = build_detector(job.settings, config.input, stages.train.classes)
    if stage == "teacher":
        reporter.event(Note(f"teacher: {load_into(detector, job.settings, 'teacher')}"))
        if not config.teacher.train:
            _score_only(job, detector, worker)
            return
    else:
        reporter.event(Note(f"{stage}: {load_into(detector, job.settings, 'student')}"))
    teacher = _load_teacher(stages, reporter) if stage == "distilled" and config.distills else None
    if teacher is not None and config.distillation.initialize_from_teacher:
        reporter.event(_inherit(detector, teacher))
    distiller = Distiller(detector, teacher, config)
    loader = make_loader(job, worker)
    if teacher is not None:
        _compare_known_scores(stages, reporter)
        for note in preflight(job, distiller, loader, worker):
            reporter.event(note)
    fit(job, distiller, loader, worker, reporter)


def _score_only(job: Job, detector: FasterRCNNDetector, worker: Worker) -> None:
    """Take the teacher as it is: score it, so that the comparison can show it."""
    detector.to(worker.device)
    evaluation = evaluate_on_val(job, detector, worker)
    if worker.is_main:
        export(job, detector, job.run.best)
    best = {"epoch": 0, "images_per_second": evaluation.images_per_second, **evaluation.scores.summary}
    finish(job, detector, best, worker)


def _load_teacher(stages: _Stages, reporter: Reporter) -> FasterRCNNDetector:
    stages.worker.gather(None)  # the main worker has written the teacher's file
    teacher = build_detector(stages.config.teacher, stages.config.input, stages.train.classes)
    report = load_file(teacher, stages.run_directory("teacher").best, "teacher")
    reporter.event(Note(f"preflight: teacher: {report}; classes as in the data, in the same order"))
    teacher.to(stages.worker.device)
    return teacher


def _inherit(student: FasterRCNNDetector, teacher: FasterRCNNDetector) -> Note:
    """Start the student's neck and heads from the teacher's where names and shapes agree."""
    own, theirs = student.model.state_dict(), teacher.model.state_dict()
    taken = {
        key: value
        for key, value in theirs.items()
        if not key.startswith("backbone.body.") and key in own and own[key].shape == value.shape
    }
    student.model.load_state_dict({**own, **taken})
    candidates = sum(not key.startswith("backbone.body.") for key in own)
    return Note(f"distilled: {len(taken)} of {candidates} tensors of neck and heads start from the teacher's")


def _compare_known_scores(stages: _Stages, reporter: Reporter) -> None:
    """Warn about a teacher that is no better than the student alone."""
    table = comparison(Path(stages.config.output))
    known = dict(zip(table["model"], table["AP"].astype(float), strict=True))
    if not {"teacher", "student alone"} <= known.keys():
        return
    teacher, baseline = known["teacher"], known["student alone"]
    text = f"preflight: teacher {100 * teacher:.1f} AP, student alone {100 * baseline:.1f} AP"
    if teacher < baseline:
        text += "; a teacher below the student can hardly help: train it longer (teacher.epochs) or take a bigger one"
    reporter.event(Note(text, warning=teacher < baseline))


# What lies in the output directory -----------------------------------------------------------------------------------
def refuse_other_settings(config: Config) -> None:
    """Raise when a stage in the output directory was begun with other settings, naming the differences."""
    problems = []
    for stage in planned(config):
        run = RunDirectory(Path(config.output) / stage)
        if run.config.is_file():
            before = _flat(yaml.safe_load(run.config.read_text(encoding="utf-8")))
            now = _flat(_settings_of(config, stage))
            differences = [
                f"{key}={before.get(key, 'unset')} then, {now.get(key, 'unset')} now"
                for key in sorted(before.keys() | now.keys())
                if before.get(key) != now.get(key)
            ]
            if differences:
                problems.append(f"{run.path}: was begun with other settings: {'; '.join(differences)}")
    if problems:
        raise one_error(
            problems, f"{config.output}: holds another run; choose another --output, or remove the directories named"
        )


def _settings_of(config: Config, stage: StageName) -> dict[str, Any]:
    return config.model_dump(mode="json", include=set(_SECTIONS[stage]))


def _write_settings(config: Config, stage: StageName, worker: Worker) -> None:
    if worker.is_main:
        text = yaml.safe_dump(_settings_of(config, stage), sort_keys=False)
        run = RunDirectory(Path(config.output) / stage)
        checkpoint.write_atomically(run.config, lambda file: file.writelines([text.encode()]))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{name}.")
        elif name not in _WITHOUT_INFLUENCE:
            flat[name] = value
    return flat


# Warnings of the data readers -----------------------------------------------------------------------------------------
@contextlib.contextmanager
def _warnings_to(notify: Callable[[Note], None], worker: Worker) -> Iterator[None]:
    """Hand what the package logs to the user's display while a run lasts."""
    handler = _Handler(notify) if worker.is_main else logging.NullHandler()
    logger = logging.getLogger("raydistill")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


class _Handler(logging.Handler):
    def __init__(self, notify: Callable[[Note], None]) -> None:
        super().__init__()
        self._notify = notify

    def emit(self, record: logging.LogRecord) -> None:
        self._notify(Note(record.getMessage(), warning=record.levelno >= logging.WARNING))


def _names(dataset: DetectionDataset) -> str:
    shown = ", ".join(dataset.classes[:6])
    return shown if len(dataset.classes) <= 6 else f"{shown} and {len(dataset.classes) - 6} more"
