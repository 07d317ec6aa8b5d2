"""A stage that was trained to its end and whose result is damaged since: finished again, without training."""

from __future__ import annotations

from collections.abc import Iterable

from raydistill.config.precision import Precision
from raydistill.detectors.base import Detector
from raydistill.detectors.weights import load_file
from raydistill.errors import UserError
from raydistill.runs import weights_file
from raydistill.runs.directory import RunDirectory, StageName, stage_directory
from raydistill.runs.events import Note
from raydistill.runs.records import read_result
from raydistill.runs.reporter import Reporter
from raydistill.runs.scores import RULES
from raydistill.runs.worker import Worker
from raydistill.storage.output import Output
from raydistill.training.job import Job
from raydistill.training.loop import evaluate_on_val, finish
from raydistill.training.state import Best

_SCORES = "val/"
_OF_A_CLASS = "val/class/"


def damaged_results(output: Output, stages: Iterable[StageName]) -> list[str]:
    """Say which stages have a result that cannot be read, and that they are finished again."""
    problems = []
    for stage in stages:
        file = stage_directory(output, stage).result
        if file.is_file():
            try:
                read_result(file)
            except UserError as error:
                problems.append(f"{error}; the stage is finished again, without training what was trained")
    return problems


def is_without_result(run: RunDirectory) -> bool:
    """Return whether all that is left of a finished stage are its weights: nothing to go on from, no sound result."""
    return run.result.is_file() and not run.finished and not run.checkpoints() and run.output.exists(run.best)


def finish_again(
    job: Job, detector: Detector, worker: Worker, reporter: Reporter, teacher_precision: Precision | None
) -> None:
    """Make the result anew: from the metrics of the best weights' epoch, else those are scored again.

    Raises:
        UserError: where these weights cannot be read either.
    """
    best_file = job.run.output.fetched(job.run.best)
    try:
        load_file(detector, best_file, job.stage)
        epoch = int(weights_file.load(best_file).get("epoch", 0))
    except UserError as error:
        raise UserError(
            f"{error}; neither result nor weights are left: remove {job.run.path} to train it anew"
        ) from error
    detector.to(worker.device)
    best, how = _scores_of(job, epoch), f"of the metrics of epoch {epoch}"
    if not best:
        evaluation = evaluate_on_val(job, detector, worker)
        best, how = {**evaluation.scores.summary, "rules": RULES}, "by scoring again"
    weights = weights_file.digest(detector.exported().state_dict())
    reporter.event(Note(f"{job.stage}: its result is made anew, {how}"))
    trained = max([int(line["epoch"]) for line in job.run.lines()], default=job.epochs)
    finish(job, detector, {"epoch": epoch, **best, "weights": weights}, worker, trained, teacher_precision)


def _scores_of(job: Job, epoch: int) -> Best:
    """Return the scores of an epoch as its metrics have them; empty where they do not."""
    line: dict[str, float] = next((line for line in job.run.lines() if line["epoch"] == epoch), {})
    if "val/AP" not in line:
        return {}
    scores = {name: value for name, value in line.items() if name.startswith(_SCORES)}
    return {name.removeprefix(_SCORES): value for name, value in scores.items() if not name.startswith(_OF_A_CLASS)}
