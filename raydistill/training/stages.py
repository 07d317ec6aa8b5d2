"""Teacher, student alone, distilled student: what is missing is run, one after the other in the same workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import torch

from raydistill.config import Config
from raydistill.config.precision import TEACHER_PRECISION, Precision, precision_of, precision_text, with_precision
from raydistill.data.box_sizes import doubts_of_sizes
from raydistill.data.build import Splits, build_splits
from raydistill.data.checks import check_sides
from raydistill.data.counting import crowded_in_words
from raydistill.data.dataset import DetectionDataset
from raydistill.data.split_checks import doubts_of_splits
from raydistill.detectors.base import Detector
from raydistill.detectors.downloads import refuse_weights_out_of_reach
from raydistill.detectors.state_dicts import LoadReport
from raydistill.detectors.teacher import decide_precision
from raydistill.detectors.weights import inherit_weights
from raydistill.errors import UserError, counted
from raydistill.runs.comparison import as_csv, comparison
from raydistill.runs.directory import (
    DATA_RECORD,
    RunDirectory,
    StageName,
    is_finished,
    planned,
    stage_directory,
    unfinished,
)
from raydistill.runs.events import Note
from raydistill.runs.notices import log_to_notes
from raydistill.runs.records import result_if_sound
from raydistill.runs.reporter import Reporter
from raydistill.runs.scores import RULES, points
from raydistill.runs.settings import (
    is_begun,
    keep_precision,
    pooled_as_begun,
    precision_as_begun,
    refuse_other_settings,
    write_settings,
)
from raydistill.runs.stopping import Stopped
from raydistill.runs.weak_teacher import refuse_weakness, weakness
from raydistill.runs.worker import Worker
from raydistill.storage.output import Output
from raydistill.storage.parcels import NOTHING, Shipped
from raydistill.training.distiller import Distiller
from raydistill.training.fast_teacher import (
    check_teachers_means,
    doubt_of_compiling,
    doubt_of_engine,
    engine_text,
    make_teacher_fast,
)
from raydistill.training.job import Job
from raydistill.training.kept_answers import keep_answers, tell_what_was_kept
from raydistill.training.loop import evaluate_on_val, finish, fit, make_loader, threshold_on_val
from raydistill.training.nets import ReporterFactory, Stages, load_teacher
from raydistill.training.out_of_memory import memory_explained
from raydistill.training.preflight import preflight, rehearse
from raydistill.training.repair import damaged_results, finish_again, is_without_result
from raydistill.training.same_data import claim_data, compare_data_of_finished
from raydistill.training.scored import refuse_missing_metric
from raydistill.training.state import Best, export
from raydistill.training.teacher_check import findings

_CLASSES_SHOWN = 6
_log = logging.getLogger(__name__)
_LIMIT = "box_detections_per_img"


def run_stages(
    config: Config,
    output: Output,
    worker: Worker,
    reporter_for: ReporterFactory,
    only: StageName | None = None,
    shipped: Shipped = NOTHING,
    metric: str = "AP",
) -> None:
    """Run every planned stage that is not finished yet, and write ``comparison.csv``; every worker calls it.

    With ``only`` that stage alone is run, after a look whether the others will fit to it, and whether there is anything
    that ``metric`` scores.

    Raises:
        UserError: when the data, the weights or what lies in the output directory do not fit.
    """
    for stage in planned(config):
        output.pull(output.folder / stage)
    worker.wait()  # nobody looks for files where another has begun to write
    refuse_other_settings(config, output, only)
    wanted = planned(config) if only is None else [only]
    # one decides: the others may see the files later
    missing = [stage for stage in worker.broadcast(unfinished(config, output)) if stage in wanted]
    notify = reporter_for(stage_directory(output, wanted[0])).event
    with log_to_notes(notify, worker), memory_explained(config):
        for note in _notes_of_finished(output, wanted, missing):
            notify(note)
        if missing:
            notify(Note(_device(config, worker)))
            config = _pooled_as_begun(config, output, planned(config), worker, notify)
            config = _with_decided_precision(config, output, missing, worker, notify)
            if "distilled" in missing and config.distills:
                check_teachers_means(config, decide_precision(config, worker), worker)
            data, data_id = _datasets(config, output, worker, _any_begun(config, output, only))
            refuse_missing_metric(metric, config, data)
            notify(_contents(data))
            for note in _crowded(config, data):
                notify(note)
            stages = Stages(config, output, worker, reporter_for, data, shipped, data_id=data_id)
            _look_for_weights(stages, missing)
            if only == "teacher" or (missing[-1] == "distilled" and len(missing) > 1):
                _rehearse(stages)
            _run_missing(stages, missing, notify)
        else:
            _compare_data_of_finished(config, output, worker)
    worker.wait()
    if worker.is_main and only is None:
        output.write_text(output.folder / "comparison.csv", as_csv(comparison(output.folder)))


def _run_missing(stages: Stages, missing: Sequence[StageName], notify: Callable[[Note], None]) -> None:
    """Run these stages; a look at the teacher comes before the first student."""
    worker, config = stages.worker, stages.config
    students = [stage for stage in missing if stage != "teacher"]
    for stage in missing:
        if worker.stop_asked()():
            raise Stopped
        if "distilled" in missing and stage == students[0]:
            teacher = stages.run_directory("teacher")
            refuse_weakness(worker.broadcast(weakness(teacher, config) if worker.is_main else ""), config, notify)
        _run_stage(stages, stage)


def _with_decided_precision(
    config: Config, output: Output, missing: list[StageName], worker: Worker, notify: Callable[[Note], None]
) -> Config:
    """Return ``config`` with one teacher's precision for the whole run, all workers and whoever goes on with it."""
    if "distilled" not in missing:
        return config
    before = worker.broadcast(precision_as_begun(config, output))
    known = config if before is None else with_precision(config, before)
    precision = decide_precision(known, worker)
    notify(Note(precision_text(precision, config, kept=before is not None)))
    if before is None and worker.is_main:
        keep_precision(output, precision)
    return with_precision(config, precision)


def _pooled_as_begun(
    config: Config, output: Output, stages: list[StageName], worker: Worker, notify: Callable[[Note], None]
) -> Config:
    """Return ``config`` with one way to pool regions for the whole run and all workers: the way it was begun."""
    begun = worker.broadcast(pooled_as_begun(config, output, stages))
    if begun != config:
        notify(Note("regions are pooled as the run was begun: training.roi_align=exact"))
    return begun


def _datasets(config: Config, output: Output, worker: Worker, begun: bool) -> tuple[Splits, str]:
    """Read and check the data on the main worker, for all: a hundred thousand image headers take half a minute.

    With ``begun`` they must be those that the output was begun with. A text that stands for them comes back too.
    """

    def build() -> tuple[Splits, str] | UserError:
        try:
            built = build_splits(config.data, config.downloads)
            for split in built:
                if split is not None:
                    check_sides(split, config.input)
            data_id = claim_data(output, built, begun)
            for doubt in (*doubts_of_splits(config.data, built), *doubts_of_sizes(config, built)):
                _log.warning("data: %s", doubt)
        except UserError as error:
            return error
        return built, data_id

    built = worker.made_by_main(build)
    if isinstance(built, UserError):
        raise built
    return built


def _look_for_weights(stages: Stages, missing: Collection[StageName]) -> None:
    """Raise where named weights are neither here nor to be downloaded, those of both nets at once; one worker asks."""
    nets = {"teacher" if stage == "teacher" else "student": stages.settings(stage) for stage in missing}

    def look() -> UserError | None:
        try:
            refuse_weights_out_of_reach(nets)
        except UserError as error:
            return error
        return None

    problem = stages.worker.made_by_main(look)
    if problem is not None:
        raise problem


def _notes_of_finished(output: Output, wanted: Sequence[StageName], missing: Collection[StageName]) -> list[Note]:
    notes = [Note(problem, warning=True) for problem in damaged_results(output, wanted)]
    return [*notes, *(Note(f"{stage}: finished before, not trained again") for stage in wanted if stage not in missing)]


def _any_begun(config: Config, output: Output, only: StageName | None) -> bool:
    """Return whether anything belongs to the data of ``output``: a stage of it, or the trials that one is for."""
    if only is not None and output.exists(output.folder / DATA_RECORD):  # whoever calls removes one of nothing
        return True
    return any(is_begun(stage_directory(output, stage)) for stage in planned(config))


def _compare_data_of_finished(config: Config, output: Output, worker: Worker) -> None:
    def compare() -> UserError | None:
        try:
            compare_data_of_finished(output, config)
        except UserError as error:
            return error
        return None

    problem = worker.made_by_main(compare)
    if problem is not None:
        raise problem


def run_student(
    config: Config,
    output: Output,
    worker: Worker,
    reporter_for: ReporterFactory,
    data: Splits,
    teacher: RunDirectory,
    shipped: Shipped = NOTHING,
    data_id: str = "",
    free: Collection[str] = (),
    speeds: dict[str, float] | None = None,
) -> None:
    """Train one student in ``output``, distilled from a teacher that lies elsewhere, or alone.

    Nothing is trained where it is finished. Every worker calls it. ``data_id`` stands for the data; ``free`` are the
    settings by dotted name that may have been others before its checkpoint was handed over; ``speeds`` what is known of
    the speed of nets on these data, to which the student's is added.

    Raises:
        UserError: as ``run_stages`` does, or where the teacher's precision is left open: no student decides by itself.
    """
    stage = planned(config)[-1]
    if stage == "distilled" and precision_of(config) is None:
        raise UserError(f"{TEACHER_PRECISION}: must be decided for the whole sweep, got auto; repeat its command")
    run = stage_directory(output, stage)
    if worker.broadcast(is_finished(config, run, stage)):
        return
    with log_to_notes(reporter_for(run).event, worker):
        config = _pooled_as_begun(config, output, [stage], worker, reporter_for(run).event)
        known = {} if speeds is None else speeds
        stages = Stages(config, output, worker, reporter_for, data, shipped, teacher, data_id, frozenset(free), known)
        _run_stage(stages, stage)
    worker.wait()


def _run_stage(stages: Stages, stage: StageName) -> None:
    config, worker, job = stages.config, stages.worker, stages.job(stage)
    reporter = stages.reporter_for(job.run)
    detector, report = stages.detector(stage)
    reporter.event(Note(f"{stage}: {report}"))
    if stage == "teacher" and not config.teacher.train:
        _score_only(job, config, detector, report, worker)
        return
    teacher: Detector | None = None
    weights = ""
    if stage == "distilled":
        teacher, weights = load_teacher(stages, reporter)
        job = replace(job, identity=job.identity and job.identity.with_teacher(weights))
    if teacher is not None and config.distillation.initialize_from_teacher:
        taken, candidates = inherit_weights(detector, teacher)
        reporter.event(Note(f"distilled: {taken} of {candidates} tensors of neck and heads start from the teacher's"))
    precision: Precision = "fp32"
    if teacher is not None:
        precision = decide_precision(config, worker)
    if worker.broadcast(is_without_result(job.run)):
        finish_again(job, detector, worker, reporter, None if teacher is None else precision)
        return
    _open_again(job, worker)
    distiller = Distiller(detector, teacher, config, precision)
    loader = make_loader(job, worker)
    if teacher is not None:
        reporter.event(Note(f"{stage}: the teacher answers in {precision}{engine_text(config)}"))
        make_teacher_fast(teacher, config, precision, worker)
        if doubt := doubt_of_compiling(job, worker):
            reporter.event(Note(doubt, warning=True))
        _compare_known_scores(stages, reporter)
        shared = stages.teacher is not None
        keep_answers(job, distiller, loader, worker, weights, shared, reporter.event)
        preflight(job, distiller, loader, worker, reporter.event)
        if doubt := doubt_of_engine(teacher, config):
            reporter.event(Note(doubt, warning=True))
    if worker.is_main:
        write_settings(config, stage, job.run)
    worker.wait()  # nobody looks for a checkpoint that another has begun to write
    fit(job, distiller, loader, worker, reporter)
    tell_what_was_kept(distiller, worker, reporter.event)


def _open_again(job: Job, worker: Worker) -> None:
    """Let a stage go on that was finished with fewer epochs; every worker calls it.

    Raises:
        UserError: where there is nothing to go on from.
    """

    def problem() -> str:
        result = result_if_sound(job.run.result)
        if result is not None and not job.run.checkpoints() and not job.run.output.exists(job.run.checkpoint):
            return (
                f"{job.run.path}: must hold its checkpoint to be trained for more than {result['epochs']} epochs, got "
                "none; remove the directory to train it anew"
            )
        job.run.output.remove(job.run.result)
        return ""

    if found := worker.broadcast(problem() if worker.is_main else ""):
        raise UserError(found)


def _rehearse(stages: Stages) -> None:
    """Build and compare both nets once, so that what does not fit is found before the teacher is trained."""
    job = stages.job("distilled")
    student, _ = stages.detector("distilled")
    teacher, _ = stages.detector("teacher")
    teacher.to(stages.worker.device)  # no part of the distiller, which moves itself
    if stages.config.distillation.teacher_engine != "torch":  # whether it can be run there
        make_teacher_fast(teacher, stages.config, "fp32", stages.worker)
    rehearse(job, Distiller(student, teacher, stages.config), make_loader(job, stages.worker), stages.worker)


def _score_only(job: Job, config: Config, detector: Detector, report: LoadReport, worker: Worker) -> None:
    """Take the teacher as it is: score it, so that the comparison can show it."""
    if report.fresh:
        raise UserError(
            f"teacher.train: must be true with {report.source}: it does not know all classes of the data, so a part of "
            "the teacher is random"
        )
    detector.to(worker.device)
    evaluation = evaluate_on_val(job, detector, worker)
    best: Best = {"epoch": 0, **evaluation.scores.summary, "rules": RULES}
    threshold = threshold_on_val(job, evaluation, worker)
    if threshold is not None:
        best["threshold"] = threshold
    if worker.is_main:
        write_settings(config, job.stage, job.run)
        best["weights"] = export(job, detector, job.run.best, epoch=0, threshold=threshold)
        best |= findings(job, evaluation, report.classes_known)
    finish(job, detector, best, worker, epochs=0)


def _compare_known_scores(stages: Stages, reporter: Reporter) -> None:
    """Warn about a teacher that is no better than the student alone."""
    known = {row.stage: row.scores["AP"] for row in comparison(stages.output.folder)}
    if not {"teacher", "baseline"} <= known.keys():
        return
    teacher, baseline = known["teacher"], known["baseline"]
    text = f"preflight: teacher {points(teacher)} AP, student alone {points(baseline)} AP"
    if teacher < baseline:
        text += "; a teacher below the student can hardly help: train it longer (teacher.epochs) or take a bigger one"
    reporter.event(Note(text, warning=teacher < baseline))


def _device(config: Config, worker: Worker) -> str:
    """Say what the training runs on; refuse fp16 where it cannot work."""
    if config.training.precision == "fp16" and worker.device.type != "cuda":
        raise UserError("training.precision: fp16 needs a GPU, got none; use bf16 or fp32")
    workers = counted(worker.world_size, "worker")
    if config.scaling.min_workers is not None:
        workers = f"{worker.world_size} of {counted(config.scaling.num_workers, 'worker')}"
    threads = "" if worker.device.type == "cuda" else f", {torch.get_num_threads()} threads each"
    return f"device: {worker.device.type}, {workers}{threads}"


def _crowded(config: Config, data: Splits) -> Iterator[Note]:
    """Warn of images with more objects than detections that a net gives, or that count."""
    nets = [(f"{role}.{_LIMIT}", getattr(getattr(config, role), _LIMIT, None)) for role in ("teacher", "student")]
    limits = [("evaluation.max_detections", config.evaluation.max_detections)]
    limits += [(setting, limit) for setting, limit in nets if limit is not None]
    setting, least = min(limits, key=lambda pair: pair[1])
    for name, split in (("validation", data.val), ("test", data.test)):
        words = "" if split is None else crowded_in_words(split.records.num_objects.tolist(), least)
        if words:
            yield Note(f"data: {name}: {words}: {setting}={least} keeps the rest from being found; raise it", True)


def _contents(data: Splits) -> Note:
    numbers = f"{len(data.train)} training and {len(data.val)} validation images"
    if data.test is not None:
        numbers = f"{len(data.train)} training, {len(data.val)} validation and {len(data.test)} test images"
    return Note(f"data: {numbers}, classes {_names(data.train)}")


def _names(dataset: DetectionDataset) -> str:
    more = len(dataset.classes) - _CLASSES_SHOWN
    return ", ".join(dataset.classes[:_CLASSES_SHOWN]) + (f" and {more} more" if more > 0 else "")
