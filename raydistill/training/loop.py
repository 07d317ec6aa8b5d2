"""Training one detector: ``fit`` and what it is made of."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from raydistill.config.asking import asks_by_image
from raydistill.config.course import at_epoch
from raydistill.config.precision import Precision
from raydistill.data.dataset import DetectionDataset
from raydistill.data.loading.augmentation import build_augmentation
from raydistill.data.loading.decoded import for_training
from raydistill.data.loading.loaders import MicroBatch, TrainingLoader, evaluation_loader
from raydistill.detectors.base import Detector
from raydistill.detectors.build import plain_program
from raydistill.inference.evaluation import EvaluationResult, Rules, evaluate, objects_of
from raydistill.inference.threshold import best_threshold
from raydistill.methods.schedules import decay_at, learning_rate_factor
from raydistill.methods.values import StepLosses
from raydistill.runs import scores, weights_file
from raydistill.runs.events import EpochDone, Evaluating, Note, StageStarted, StepDone
from raydistill.runs.reporter import Reporter
from raydistill.runs.worker import Worker
from raydistill.storage.files import versions
from raydistill.structures import Target
from raydistill.training import not_finite
from raydistill.training.diagnosis import first_batch_diagnosis, mean_metrics
from raydistill.training.distiller import Distiller
from raydistill.training.job import Job
from raydistill.training.metrics import MetricSums
from raydistill.training.resume import start
from raydistill.training.speed import speed_of
from raydistill.training.state import Best, TrainingState, of_all_ranks, save, set_best_aside, stop

_SECONDS_BETWEEN_EVENTS = 1.0


def make_loader(job: Job, worker: Worker) -> TrainingLoader:
    """Build the training loader of one worker: the same images in the same order for every stage."""
    config = job.config
    return TrainingLoader(
        for_training(job.train, config),
        batch_size=config.training.batch_size,
        seed=config.seed,
        augmentation=build_augmentation(config.augmentation),
        loader_config=config.loader,
        rank=worker.rank,
        world_size=worker.world_size,
        accumulation=config.training.accumulation,
        draws=config.augmentation.draws,
        digests=job.stage == "distilled" and asks_by_image(config),
    )


def fit(job: Job, distiller: Distiller, loader: TrainingLoader, worker: Worker, reporter: Reporter) -> dict[str, Any]:
    """Train ``distiller`` for the job's epochs and return the row of the comparison.

    Goes on from the run directory's checkpoint where there is one, in the middle of an epoch too; on a CPU with as many
    workers as before, the result is then the same to the bit as without the interruption.
    """
    state = start(job, distiller, loader, worker, reporter)
    reporter.event(StageStarted(job.stage, job.epochs, loader.steps_per_epoch, state.epoch, state.step))
    with state.writing.finished():
        _train(state)
    if state.epoch < job.epochs:
        reporter.event(Note(_ended_early(state)))
    return finish(state.job, state.student, state.best or {}, worker, state.epoch, distiller.precision)


def _train(state: TrainingState) -> None:
    """Train the epochs that are left, and write what each leaves while the next one is trained."""
    job, worker, reporter = state.job, state.worker, state.reporter
    while not _is_done(state):
        epoch, started = state.epoch, time.perf_counter()
        _follow_schedule(state, epoch)
        state.threshold = None
        if state.step == 0:
            state.diagnosis = _diagnosis(state, epoch)
        metrics = state.diagnosis | train_one_epoch(state, epoch)
        state.writing.finish()  # loader processes of an evaluation are forked: nothing is to be half done then
        if (epoch + 1) % job.config.evaluation.every == 0 or epoch + 1 == job.epochs:
            worker.share_buffers(state.student)
            evaluation = evaluate_on_val(job, state.student, worker, _told(state, epoch + 1))
            metrics |= _score_metrics(evaluation)
            state.threshold = threshold_on_val(job, evaluation, worker)
            _keep_best(state, epoch + 1, evaluation)
        state.end_epoch()
        seconds = time.perf_counter() - started
        reporter.report(
            {"epoch": epoch + 1, "step": state.epoch * state.loader.steps_per_epoch, "seconds": seconds, **metrics}
        )
        save(state)
        if reporter.files_first:
            state.writing.finish()
        epochs = epoch + 1 if _is_done(state) else job.epochs
        reporter.event(EpochDone(job.stage, epoch + 1, epochs, metrics, seconds))


def _is_done(state: TrainingState) -> bool:
    """Return whether the last epoch is trained, or none of the last ones brought a better score; the same on all."""
    training, every = state.job.config.training, state.job.config.evaluation.every
    if state.epoch >= state.job.epochs:
        return True
    if training.patience is None or state.best is None or state.step or state.epoch % every:
        return False
    return state.worker.broadcast(state.epoch - int(state.best["epoch"]) >= training.patience)


def _ended_early(state: TrainingState) -> str:
    job, best = state.job, state.best or {}
    metric, patience = job.config.evaluation.best_metric, job.config.training.patience
    return (
        f"{job.stage}: ends after epoch {state.epoch} of {job.epochs}, as {metric} was best after epoch "
        f"{best.get('epoch')} (training.patience={patience})"
    )


def _follow_schedule(state: TrainingState, epoch: int) -> None:
    """Go on with the settings that hold after ``epoch`` epochs."""
    if state.job.config.schedule:
        state.job = replace(state.job, config=at_epoch(state.job.config, epoch))
        state.distiller.follow(state.job.config)


def _diagnosis(state: TrainingState, epoch: int) -> dict[str, float]:
    """Return what the terms do to the student as ``epoch`` begins, under ``train/``, where it is asked for."""
    job = state.job
    decay = _decay(state, epoch * state.loader.steps_per_epoch)
    if not (job.config.logging.diagnosis and state.distiller.distills and decay):
        return {}
    own = first_batch_diagnosis(job, state.distiller, state.loader, state.worker, decay, gradients=True)
    return {f"train/{name}": value for name, value in mean_metrics(own, state.worker).items()}


def train_one_epoch(state: TrainingState, epoch: int) -> dict[str, float]:
    """Take the optimizer steps of ``epoch`` that are left; return the means of all its metrics, under ``train/``."""
    config, loader = state.job.config, state.loader
    state.wrapped.train()
    started = last_event = time.perf_counter()
    images_seen = 0
    first_step, every = epoch * loader.steps_per_epoch, config.checkpoint.every_steps
    for step, parts in enumerate(loader.epoch(epoch, state.step), start=state.step):
        global_step = first_step + step
        _set_learning_rate(state, global_step)
        stop_asked = state.worker.stop_asked()
        losses = take_step(state, parts, _decay(state, global_step), global_step, state.sums)
        state.step = step + 1
        if stop_asked():
            stop(state)
        if every is not None and (global_step + 1) % every == 0:
            save(state)
        images_seen += config.training.batch_size
        now = time.perf_counter()
        if state.worker.is_main and now - last_event > _SECONDS_BETWEEN_EVENTS:
            last_event = now
            terms = {name: value.item() for name, value in losses.terms.items()}
            speed = images_seen / (now - started)
            state.reporter.event(StepDone(state.job.stage, epoch + 1, step + 1, terms, speed))
    state.watch.check()
    metrics = state.sums.over(state.worker)
    if state.distiller.distills:
        metrics["decay"] = _decay(state, first_step + loader.steps_per_epoch - 1)
    metrics |= {
        "learning_rate": state.optimizer.param_groups[0]["lr"],
        "images_per_second": images_seen / (time.perf_counter() - started),
    }
    return {f"train/{name}": value for name, value in metrics.items()}


def take_step(
    state: TrainingState, parts: list[MicroBatch], decay: float, global_step: int, sums: MetricSums
) -> StepLosses:
    """Take one optimizer step over the accumulated parts of a batch.

    Each part counts as its share of the batch: with DDP, which takes the mean over the workers, their number times it.
    """
    training, workers = state.job.config.training, state.worker.world_size
    state.optimizer.zero_grad(set_to_none=True)
    for number, (images, targets) in enumerate(parts):
        with _without_sync(state.wrapped, number == len(parts) - 1):
            with state.worker.autocast(training.precision):
                losses: StepLosses = state.wrapped(*state.worker.to_device(images, targets), decay)
            state.watch.add(losses, *_where(state, global_step, targets), _remedy(state, (images, targets), decay))
            divisor = training.batch_size / (len(images) * workers)
            state.scaler.scale(losses.total / divisor).backward()  # type: ignore[no-untyped-call]
        sums.add(losses)
    if training.clip_grad_norm is not None:
        state.scaler.unscale_(state.optimizer)
        for module in (state.distiller.student, state.distiller.methods):  # apart: adapters must not slow the student
            nn.utils.clip_grad_norm_(list(module.parameters()), training.clip_grad_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    return losses


@contextlib.contextmanager
def _without_sync(module: nn.Module, last: bool) -> Iterator[None]:
    """Let DDP average gradients with the last part of a batch only."""
    if isinstance(module, DistributedDataParallel) and not last:
        with module.no_sync():
            yield
    else:
        yield


def _where(state: TrainingState, global_step: int, targets: list[Target]) -> tuple[str, str]:
    """Name a step and its images for an error."""
    images = [int(target["image_id"]) for target in targets]
    step = f"{state.job.stage}, step {global_step + 1} of {state.total_steps}"
    return step, f"images {images} (worker {state.worker.rank})"


def _remedy(state: TrainingState, batch: MicroBatch, decay: float) -> Callable[[], str]:
    """Return what finds out, where a loss turns out not to be finite, what to do about it."""
    job, precision = state.job, state.job.config.training.precision
    return lambda: not_finite.remedy_for(state.distiller, batch, job.train, state.worker, precision, decay)


def _set_learning_rate(state: TrainingState, global_step: int) -> None:
    training = state.job.config.training
    factor = learning_rate_factor(training.schedule, global_step, state.horizon_steps)
    for group in state.optimizer.param_groups:
        group["lr"] = training.optimizer.learning_rate * factor * group.get("factor", 1.0)


def _decay(state: TrainingState, global_step: int) -> float:
    return decay_at(state.job.config.decay, min(1.0, global_step / state.horizon_steps))


def _told(state: TrainingState, epoch: int) -> Callable[[int, int], None]:
    """Return what tells the user how far the evaluation after ``epoch`` is, and stops in it where that is wanted."""
    ranks = of_all_ranks(state)  # now: then the other workers are evaluating too

    def tell(done: int, total: int) -> None:
        state.reporter.event(Evaluating(state.job.stage, epoch, done, total))
        if state.worker.is_main and state.worker.stop.wanted:
            stop(state, ranks)

    return tell


def evaluate_on_val(
    job: Job, detector: Detector, worker: Worker, progress: Callable[[int, int], None] | None = None
) -> EvaluationResult:
    """Score ``detector`` on the validation split, spread over the workers; ``progress`` hears how far it is."""
    return _evaluate(job, job.val, detector, worker, progress)


def threshold_on_val(job: Job, evaluation: EvaluationResult, worker: Worker) -> float | None:
    """Return the score from which on what was found on the validation split counts; the main worker's is written."""
    best = best_threshold(objects_of(job.val), evaluation.found) if worker.is_main else None
    return None if best is None else best.score


def _evaluate(
    job: Job,
    split: DetectionDataset,
    detector: Detector,
    worker: Worker,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationResult:
    settings = job.config.evaluation
    batches = evaluation_loader(split, settings.batch_size, worker.rank, worker.world_size, job.config.loader)
    rules = Rules(settings.max_detections, settings.area_ranges)
    return evaluate(detector, split, batches, worker, backend=settings.backend, rules=rules, progress=progress)


def _test_scores(job: Job, detector: Detector, worker: Worker) -> dict[str, float]:
    """Score the weights that are best on the validation split on the test split, as ``test_AP`` ...; once."""
    if job.test is None:
        return {}
    worker.wait()  # the main worker has written them
    detector.exported().load_state_dict(weights_file.load_weights(job.run.output.fetched(job.run.best)).model)
    evaluation = _evaluate(job, job.test, detector, worker)
    return {f"test_{name}": value for name, value in evaluation.scores.summary.items()}


def _score_metrics(evaluation: EvaluationResult) -> dict[str, float]:
    """Return the scores under ``val/``, and the AP of each class under ``val/class/``."""
    per_class = {f"val/class/{name}": values["AP"] for name, values in evaluation.scores.per_class.items()}
    return {f"val/{name}": value for name, value in evaluation.scores.summary.items()} | per_class


def _keep_best(state: TrainingState, epoch: int, evaluation: EvaluationResult) -> None:
    """Set the weights aside if they are the best so far; where there is no score to go by, the last ones are."""
    metric = state.job.config.evaluation.best_metric
    summary = evaluation.scores.summary
    scored = scores.exists(summary[metric])
    if scored and state.best is not None and summary[metric] <= state.best[metric]:
        return
    if not scored and state.best is None:
        text = f"{state.job.stage}: {metric} does not exist on the validation split: the last epoch's weights count"
        state.reporter.event(Note(f"{text}; none of its objects has an area that is scored", warning=True))
    state.best = {"epoch": epoch, **summary, "rules": scores.RULES}
    if state.threshold is not None:
        state.best["threshold"] = state.threshold
    if state.worker.is_main:
        state.best["weights"] = set_best_aside(state, epoch)


def finish(
    job: Job, detector: Detector, best: Best, worker: Worker, epochs: int, teacher_precision: Precision | None = None
) -> dict[str, Any]:
    """Write and return the stage's row of the comparison; a distilled student's says in what its teacher answered.

    ``epochs`` were trained; where those are fewer than the job's, the row says that too. Where there is a test split,
    ``detector`` is left with the weights that were scored on it: the best ones.
    """
    result = {
        "stage": job.stage,
        "epochs": epochs,
        **({"planned_epochs": job.epochs} if epochs < job.epochs else {}),
        "parameters": sum(parameter.numel() for parameter in detector.exported().parameters()),
        **best,
        **_test_scores(job, detector, worker),
        **({} if teacher_precision is None else {"teacher_precision": teacher_precision}),
        **worker.made_by_main(lambda: speed_of(job, detector, worker)),
    }
    if worker.is_main:
        for earlier in versions(job.run.best)[1:]:
            job.run.output.remove(earlier)
        if program := plain_program(job.settings, job.config.input, job.run.best.name):
            job.run.output.write_text(job.run.use, program)
        job.run.output.write_json(job.run.result, result)
    return result
