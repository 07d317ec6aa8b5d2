"""Short checks before long runs: do both nets fit together, and is the distillation really on and in proportion?"""

from __future__ import annotations

import math
from collections.abc import Callable

from raydistill.config.course import at_epoch
from raydistill.data.loading.loaders import TrainingLoader
from raydistill.errors import UserError
from raydistill.methods.schedules import decay_at
from raydistill.methods.values import metric_path
from raydistill.runs.events import Note
from raydistill.runs.worker import Worker
from raydistill.training.diagnosis import Pull, first_batch_diagnosis
from raydistill.training.distiller import Distiller
from raydistill.training.job import Job

_DROWNING = 5.0  # times the detection loss, from which on a term is called out of proportion


def rehearse(job: Job, distiller: Distiller, loader: TrainingLoader, worker: Worker) -> None:
    """Run one forward pass of both nets before either is trained: anchors, pyramids and weights must fit.

    Raises:
        UserError: as ``Distiller.forward`` does.
    """
    first_batch_diagnosis(job, distiller, loader, worker, _first_decay(job), gradients=False)


def preflight(
    job: Job, distiller: Distiller, loader: TrainingLoader, worker: Worker, notify: Callable[[Note], None]
) -> None:
    """Compare teacher and student on every worker's first batch with an object, and say what each term amounts to.

    Nothing is changed: neither weights nor batch norm statistics nor random states.

    Raises:
        UserError: when a term is not finite on a worker, or zero on all of them (with ``preflight: strict``).
    """
    own = first_batch_diagnosis(job, distiller, loader, worker, _first_decay(job), gradients=True)
    found = {rank: diagnosis for rank, diagnosis in enumerate(worker.gather(own)) if diagnosis is not None}
    losses = {rank: diagnosis.losses for rank, diagnosis in found.items()}
    if not losses:
        notify(Note("preflight: no image with an object in the first batches; the terms could not be checked", True))
        return
    detection = _mean([values["detection/total"] for values in losses.values()])
    problems = []
    # a term is absent where the decay begins with 0
    for name in [name for name, weight in distiller.weights.items() if weight]:
        raw = {rank: values.get(metric_path("distillation", name), 0.0) for rank, values in losses.items()}
        weighted = _mean([values.get(metric_path("weighted", name), 0.0) for values in losses.values()])
        pulls = [diagnosis.pulls[name] for diagnosis in found.values() if name in diagnosis.pulls]
        notify(_proportion(name, _mean(list(raw.values())), weighted, detection, pulls))
        problems += _problems(name, raw, notify)
    if problems and job.config.distillation.preflight == "strict":
        raise UserError("\n  ".join(["preflight:", *problems, "go on all the same with distillation.preflight=warn"]))
    for problem in problems:
        notify(Note(f"preflight: {problem}", True))


def _first_decay(job: Job) -> float:
    return decay_at(at_epoch(job.config, 0).decay, 0.0)


def _problems(name: str, raw: dict[int, float], notify: Callable[[Note], None]) -> list[str]:
    """Return what is wrong with a term whose values by rank are ``raw``."""
    if not all(math.isfinite(value) for value in raw.values()):
        raise UserError(
            f"preflight: the distillation term '{name}' must be finite on the first batch, got {list(raw.values())}; "
            "look at the teacher's weights and at training.precision"
        )
    zeros = [rank for rank, value in raw.items() if value == 0]
    if len(zeros) == len(raw):
        return [
            f"the distillation term '{name}' is zero on the first batch: this level is silently off; the teacher is "
            f"nowhere better, or methods.{name}.weight should be 0"
        ]
    if zeros:
        notify(Note(f"preflight: the term '{name}' is zero on the first batch of workers {zeros}", True))
    return []


def _proportion(name: str, raw: float, weighted: float, detection: float, pulls: list[Pull]) -> Note:
    ratio = weighted / detection if detection else math.inf
    text = f"preflight: {name:<18} {raw:9.4f} raw, {weighted:9.4f} weighted = {ratio:6.1%} of the detection loss"
    if pulls:
        text += f", {_mean([pull.ratio for pull in pulls]):.2f} of its gradient"
    if ratio > _DROWNING:
        return Note(f"{text}; it drowns the detection loss: lower methods.{name}.weight", True)
    return Note(text)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
