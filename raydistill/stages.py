"""Teacher, student alone, distilled student: what is missing is run, one after the other in the same workers."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from raydistill import checkpoint, mirror
from raydistill.checkpoint import RunDirectory
from raydistill.config import Config
from raydistill.config.sections import Detector as DetectorSettings
from raydistill.data.build import Splits, build_splits
from raydistill.data.checks import check_sides
from raydistill.data.dataset import DetectionDataset
from raydistill.detectors.build import build_detector
from raydistill.detectors.faster_rcnn import FasterRCNNDetector
from raydistill.detectors.frozen import check_compiler, make_fast
from raydistill.detectors.weights import LoadReport, load_file, load_into
from raydistill.distiller import Distiller
from raydistill.engine import evaluate_on_val, finish, fit, make_loader
from raydistill.errors import UserError, counted
from raydistill.events import Note
from raydistill.memory import memory_explained
from raydistill.preflight import preflight, rehearse
from raydistill.report.comparison import comparison
from raydistill.run_settings import (
    StageName,
    as_begun,
    planned,
    refuse_other_settings,
    unfinished,
    with_precision,
    write_settings,
)
from raydistill.runtime import Reporter, Worker
from raydistill.shipped import NOTHING, Shipped, find
from raydistill.stopping import Stopped
from raydistill.teacher import DTYPES, Precision, precision_on
from raydistill.training_state import Job, export

ReporterFactory = Callable[[RunDirectory], Reporter]
_CLASSES_SHOWN = 6


@dataclass(frozen=True)
class _Stages:
    """What all stages of a run have in common."""

    config: Config
    worker: Worker
    reporter_for: ReporterFactory
    data: Splits
    shipped: Shipped
    teacher: RunDirectory | None = None  # trained elsewhere

    def run_directory(self, stage: StageName) -> RunDirectory:
        if stage == "teacher" and self.teacher is not None:
            return self.teacher
        return RunDirectory(mirror.folder(self.config.output) / stage)

    def job(self, stage: StageName) -> Job:
        config, settings = self.config, self.settings(stage)
        epochs = config.training.epochs
        if stage == "teacher":
            epochs = (config.teacher.epochs or epochs) if config.teacher.train else 0
            config = _at_the_teachers_pace(config)
        return Job(stage, config, settings, epochs, self.run_directory(stage), *self.data)

    def settings(self, stage: StageName) -> DetectorSettings:
        return self.config.teacher if stage == "teacher" else self.config.student

    def detector(self, stage: StageName) -> tuple[FasterRCNNDetector, LoadReport]:
        """Build a stage's net with its starting weights; the student begins with the same ones in every stage."""
        torch.manual_seed(self.config.seed)
        settings = self.settings(stage)
        detector = build_detector(settings, self.config.input, self.data.train.classes)
        weights_at = functools.partial(find, shipped=self.shipped, cache=self.config.downloads.cache)
        return detector, load_into(detector, settings, "teacher" if stage == "teacher" else "student", weights_at)


def _at_the_teachers_pace(config: Config) -> Config:
    """Return ``config`` with the teacher's learning rate where it has one of its own."""
    if config.teacher.learning_rate is None:
        return config
    optimizer = config.training.optimizer.model_copy(update={"learning_rate": config.teacher.learning_rate})
    return config.model_copy(update={"training": config.training.model_copy(update={"optimizer": optimizer})})


def run_stages(
    config: Config,
    worker: Worker,
    reporter_for: ReporterFactory,
    only: StageName | None = None,
    shipped: Shipped = NOTHING,
) -> None:
    """Run every planned stage that is not finished yet, and write ``comparison.csv``; every worker calls it.

    With ``only`` that stage alone is run, after a look whether the others will fit to it.

    Raises:
        UserError: when the data, the weights or what lies in the output directory do not fit.
    """
    output = mirror.folder(config.output)
    for stage in planned(config):
        mirror.pull(output / stage)
    worker.wait()  # nobody looks for files where another has begun to write
    refuse_other_settings(config)
    wanted = planned(config) if only is None else [only]
    # one decides: the others may see the files later
    missing = [stage for stage in worker.broadcast(unfinished(config)) if stage in wanted]
    notify = reporter_for(RunDirectory(output / wanted[0])).event
    with _warnings_to(notify, worker), memory_explained(config):
        for stage in wanted:
            if stage not in missing:
                notify(Note(f"{stage}: finished before, not trained again"))
        if missing:
            notify(Note(_device(config, worker)))
            if config.distills and config.distillation.compile_teacher:
                check_compiler(worker.device)
            data = _datasets(config, worker)
            notify(_contents(data))
            stages = _Stages(config, worker, reporter_for, data, shipped)
            if only == "teacher" or (missing[-1] == "distilled" and len(missing) > 1):
                _rehearse(stages)
            for stage in missing:
                if worker.stop_asked()():
                    raise Stopped
                _run_stage(stages, stage)
    worker.wait()
    if worker.is_main and only is None:
        checkpoint.write_atomically(
            output / "comparison.csv", lambda file: comparison(output).to_csv(file, index=False)
        )


def _datasets(config: Config, worker: Worker) -> Splits:
    """Read and check the data on the main worker, for all: a hundred thousand image headers take half a minute."""

    def build() -> Splits | UserError:
        try:
            built = build_splits(config.data, config.downloads)
            for split in built:
                if split is not None:
                    check_sides(split, config.input)
        except UserError as error:
            return error
        return built

    built = worker.made_by_main(build)
    if isinstance(built, UserError):
        raise built
    return built


def run_student(
    config: Config,
    worker: Worker,
    reporter_for: ReporterFactory,
    data: Splits,
    teacher: RunDirectory,
    shipped: Shipped = NOTHING,
) -> None:
    """Train one student below ``config.output``, distilled from a teacher that lies elsewhere, or alone.

    Nothing is trained where it is finished. Every worker calls it.

    Raises:
        UserError: as ``run_stages`` does.
    """
    stage = planned(config)[-1]
    run = RunDirectory(mirror.folder(config.output) / stage)
    if worker.broadcast(run.finished):
        return
    with _warnings_to(reporter_for(run).event, worker):
        _run_stage(_Stages(config, worker, reporter_for, data, shipped, teacher), stage)
    worker.wait()


def _run_stage(stages: _Stages, stage: StageName) -> None:
    config, worker, job = stages.config, stages.worker, stages.job(stage)
    reporter = stages.reporter_for(job.run)
    detector, report = stages.detector(stage)
    reporter.event(Note(f"{stage}: {report}"))
    if stage == "teacher" and not config.teacher.train:
        _score_only(job, detector, report, worker)
        return
    teacher = _load_teacher(stages, reporter) if stage == "distilled" else None
    if teacher is not None and config.distillation.initialize_from_teacher:
        reporter.event(_inherit(detector, teacher))
    precision: Precision = "fp32"
    if teacher is not None:
        precision = worker.broadcast(precision_on(as_begun(config, stage), worker.device))
        config = with_precision(config, precision)  # so that another processor goes on in the same
    distiller = Distiller(detector, teacher, config, precision)
    loader = make_loader(job, worker)
    if teacher is not None:
        reporter.event(Note(f"{stage}: the teacher answers in {precision}"))
        make_fast(teacher, DTYPES[precision], config.distillation.compile_teacher)
        _compare_known_scores(stages, reporter)
        preflight(job, distiller, loader, worker, reporter.event)
    if worker.is_main:
        write_settings(config, stage)
    worker.wait()  # nobody looks for a checkpoint that another has begun to write
    fit(job, distiller, loader, worker, reporter)


def _rehearse(stages: _Stages) -> None:
    """Build and compare both nets once, so that what does not fit is found before the teacher is trained."""
    job = stages.job("distilled")
    student, _ = stages.detector("distilled")
    teacher, _ = stages.detector("teacher")
    teacher.to(stages.worker.device)  # no part of the distiller, which moves itself
    rehearse(job, Distiller(student, teacher, stages.config), make_loader(job, stages.worker), stages.worker)


def _score_only(job: Job, detector: FasterRCNNDetector, report: LoadReport, worker: Worker) -> None:
    """Take the teacher as it is: score it, so that the comparison can show it."""
    if report.fresh:
        raise UserError(
            f"teacher.train: must be true with {report.source}: it does not know all classes of the data, so a part of "
            "the teacher is random"
        )
    detector.to(worker.device)
    evaluation = evaluate_on_val(job, detector, worker)
    if worker.is_main:
        write_settings(job.config, job.stage)
        export(job, detector, job.run.best, epoch=0)
    best = {"epoch": 0, "images_per_second": evaluation.images_per_second, **evaluation.scores.summary}
    finish(job, detector, best, worker)


def _load_teacher(stages: _Stages, reporter: Reporter) -> FasterRCNNDetector:
    stages.worker.wait()  # the main worker has written the teacher's file
    teacher = build_detector(stages.config.teacher, stages.config.input, stages.data.train.classes)
    report = load_file(teacher, mirror.fetched(stages.run_directory("teacher").best), "teacher")
    reporter.event(Note(f"preflight: teacher: {report}; classes as in the data, in the same order"))
    teacher.to(stages.worker.device)
    return teacher


def _inherit(student: FasterRCNNDetector, teacher: FasterRCNNDetector) -> Note:
    """Start the student's neck and heads from the teacher's where names and shapes agree."""
    own, theirs = student.model.state_dict(), teacher.model.state_dict()
    candidates = [key for key in own if not key.startswith("backbone.body.")]
    taken = {key: theirs[key] for key in candidates if key in theirs and own[key].shape == theirs[key].shape}
    student.model.load_state_dict({**own, **taken})
    return Note(f"distilled: {len(taken)} of {len(candidates)} tensors of neck and heads start from the teacher's")


def _compare_known_scores(stages: _Stages, reporter: Reporter) -> None:
    """Warn about a teacher that is no better than the student alone."""
    table = comparison(mirror.folder(stages.config.output))
    if table.empty:
        return
    known = dict(zip(table["model"], table["AP"].astype(float), strict=True))
    if not {"teacher", "student alone"} <= known.keys():
        return
    teacher, baseline = known["teacher"], known["student alone"]
    text = f"preflight: teacher {100 * teacher:.1f} AP, student alone {100 * baseline:.1f} AP"
    if teacher < baseline:
        text += "; a teacher below the student can hardly help: train it longer (teacher.epochs) or take a bigger one"
    reporter.event(Note(text, warning=teacher < baseline))


def _device(config: Config, worker: Worker) -> str:
    """Say what the training runs on; refuse fp16 where it cannot work."""
    if config.training.precision == "fp16" and worker.device.type != "cuda":
        raise UserError("training.precision: fp16 needs a GPU, got none; use bf16 or fp32")
    workers = counted(worker.world_size, "worker")
    threads = "" if worker.device.type == "cuda" else f", {torch.get_num_threads()} threads each"
    return f"device: {worker.device.type}, {workers}{threads}"


def _contents(data: Splits) -> Note:
    numbers = f"{len(data.train)} training and {len(data.val)} validation images"
    if data.test is not None:
        numbers = f"{len(data.train)} training, {len(data.val)} validation and {len(data.test)} test images"
    return Note(f"data: {numbers}, classes {_names(data.train)}")


def _names(dataset: DetectionDataset) -> str:
    more = len(dataset.classes) - _CLASSES_SHOWN
    return ", ".join(dataset.classes[:_CLASSES_SHOWN]) + (f" and {more} more" if more > 0 else "")


@contextlib.contextmanager
def _warnings_to(notify: Callable[[Note], None], worker: Worker) -> Iterator[None]:
    """Hand what the package logs to the user's display while a run lasts."""
    handler = _Handler(notify) if worker.is_main else logging.NullHandler()
    logger = logging.getLogger("raydistill")
    logger.addHandler(handler)
    logger.propagate, level = False, logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        logger.setLevel(level)


class _Handler(logging.Handler):
    def __init__(self, notify: Callable[[Note], None]) -> None:
        super().__init__()
        self._notify = notify

    def emit(self, record: logging.LogRecord) -> None:
        self._notify(Note(record.getMessage(), warning=record.levelno >= logging.WARNING))
