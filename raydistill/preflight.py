"""One short check before the student is distilled: is the distillation really on, and in proportion?"""

from __future__ import annotations

import math

import torch

from raydistill.data.loaders import TrainingLoader
from raydistill.distiller import Distiller
from raydistill.engine import autocast
from raydistill.errors import UserError
from raydistill.runtime import Note, Worker
from raydistill.schedules import decay_at
from raydistill.structures import Target
from raydistill.training_state import Job

_DROWNING = 5.0  # times the detection loss, from which on a term is called out of proportion


def preflight(job: Job, distiller: Distiller, loader: TrainingLoader, worker: Worker) -> list[Note]:
    """Compare teacher and student on every worker's first batch with an object, and say what each term amounts to.

    Nothing is changed: neither weights nor batch norm statistics nor random states.

    Raises:
        UserError: when a term is not finite on a worker, or zero on all of them (with ``preflight: strict``).
    """
    own = _first_losses(job, distiller, loader, worker)
    shares = [share for share in worker.gather(own) if share is not None]
    if not shares:
        return [Note("preflight: no image with an object in the first batches; the terms could not be checked", True)]
    names = [name for name, weight in distiller.weights.items() if weight]
    detection = _mean([share["detection/total"] for share in shares])
    notes = []
    problems = []
    for name in names:
        raw = [share.get(f"distillation/{name}", 0.0) for share in shares]  # absent where the decay begins with 0
        weighted = _mean([share.get(f"weighted/{name}", 0.0) for share in shares])
        notes.append(_proportion(name, _mean(raw), weighted, detection))
        if not all(math.isfinite(value) for value in raw):
            raise UserError(
                f"preflight: the distillation term '{name}' must be finite on the first batch, got {raw}; look at the "
                "teacher's weights and at training.precision"
            )
        zeros = [rank for rank, value in enumerate(raw) if value == 0]
        if len(zeros) == len(raw):
            problems.append(
                f"the distillation term '{name}' is zero on the first batch: this level is silently off; the teacher "
                f"is nowhere better, or {name}.weight should be 0"
            )
        elif zeros:
            notes.append(Note(f"preflight: the term '{name}' is zero on the first batch of workers {zeros}", True))
    if problems and job.config.distillation.preflight == "strict":
        raise UserError("\n".join(["preflight:", *problems, "go on all the same with distillation.preflight=warn"]))
    return notes + [Note(f"preflight: {problem}", True) for problem in problems]


def _first_losses(job: Job, distiller: Distiller, loader: TrainingLoader, worker: Worker) -> dict[str, float] | None:
    """Return this worker's losses on its first batch, everything else left as it was."""
    batch = loader.sample_batch()
    if batch is None:
        return None
    images, targets = batch
    on_device = [image.to(worker.device) for image in images]
    moved = [Target(boxes=t["boxes"].to(worker.device), labels=t["labels"].to(worker.device)) for t in targets]
    distiller.to(worker.device)
    buffers = {name: buffer.clone() for name, buffer in distiller.named_buffers()}
    devices = [worker.device] if worker.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad(), autocast(job.config.training.precision, worker.device):
        distiller.train()
        losses = distiller(on_device, moved, decay_at(job.config.decay, 0.0))
    for name, buffer in distiller.named_buffers():
        buffer.copy_(buffers[name])
    return {name: value.item() for name, value in losses.terms.items()}


def _proportion(name: str, raw: float, weighted: float, detection: float) -> Note:
    ratio = weighted / detection if detection else math.inf
    text = f"preflight: {name:<14} {raw:9.4f} raw, {weighted:9.4f} weighted = {ratio:6.1%} of the detection loss"
    if ratio > _DROWNING:
        return Note(f"{text}; it drowns the detection loss: lower {name}.weight", True)
    return Note(text)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
