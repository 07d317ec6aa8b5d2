"""What one batch says of the terms: how hard each pulls at the student, which way, and how good the teacher is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raydistill.data.loading.loaders import MicroBatch, TrainingLoader
from raydistill.methods.values import StepLosses, metric_path
from raydistill.runs.worker import Worker
from raydistill.training.distiller import Distiller
from raydistill.training.job import Job


@dataclass(frozen=True)
class Pull:
    """A weighted term's gradient beside that of the detection losses, on the student's parameters that it reaches."""

    ratio: float  # of the norms
    cosine: float  # of the angle between them; below 0 the term works against the detection losses


@dataclass(frozen=True)
class Diagnosis:
    """What was measured on one batch of one worker."""

    losses: dict[str, float]  # by metric path
    pulls: dict[str, Pull]  # by term; empty where no gradients were asked for
    quality: dict[str, float]  # of teacher and student on the foreground regions compared, 0 to 1

    def metrics(self) -> dict[str, float]:
        """Return pulls and quality by metric path."""
        of_pulls = {
            path: value
            for name, pull in self.pulls.items()
            for path, value in (
                (metric_path("gradient", name), pull.ratio),
                (metric_path("cosine", name), pull.cosine),
            )
        }
        return of_pulls | {f"quality/{name}": value for name, value in self.quality.items()}


def first_batch_diagnosis(
    job: Job, distiller: Distiller, loader: TrainingLoader, worker: Worker, decay: float, gradients: bool
) -> Diagnosis | None:
    """Measure this worker's first batch with an object, always the same one; None where there is none.

    Nothing is changed: neither weights and their gradients nor batch norm statistics nor random states.

    Raises:
        UserError: as ``Distiller.forward`` does.
    """
    batch = loader.sample_batch()
    if batch is None:
        return None
    return _diagnose(distiller, batch, worker, job.config.training.precision, decay, gradients)


def mean_metrics(own: Diagnosis | None, worker: Worker) -> dict[str, float]:
    """Return the means of all workers' metrics; every worker must call it."""
    found = [other.metrics() for other in worker.gather(own) if other is not None]
    names = dict.fromkeys(name for metrics in found for name in metrics)
    values = {name: [metrics[name] for metrics in found if name in metrics] for name in names}
    return {name: sum(given) / len(given) for name, given in values.items()}


def _diagnose(
    distiller: Distiller, batch: MicroBatch, worker: Worker, precision: str, decay: float, gradients: bool
) -> Diagnosis:
    images, targets = worker.to_device(*batch)
    distiller.to(worker.device)
    buffers = {name: buffer.clone() for name, buffer in distiller.named_buffers()}
    devices = [worker.device] if worker.device.type == "cuda" else []
    distiller.measures_quality = gradients
    try:
        with torch.random.fork_rng(devices), torch.set_grad_enabled(gradients):
            with worker.autocast(precision):
                distiller.train()
                losses = distiller(images, targets, decay)
            pulls = _pulls(losses, distiller) if gradients else {}
    finally:
        distiller.measures_quality = False
        for name, buffer in distiller.named_buffers():
            buffer.copy_(buffers[name])
    quality = {name: _share(gate.open, gate.total) for name, gate in losses.quality.items()}
    return Diagnosis({name: value.item() for name, value in losses.terms.items()}, pulls, quality)


def _pulls(losses: StepLosses, distiller: Distiller) -> dict[str, Pull]:
    terms = {name: term for name, term in losses.weighted.items() if term.requires_grad}
    if not terms:
        return {}
    parameters = [parameter for parameter in distiller.student.parameters() if parameter.requires_grad]
    detection = _gradients(losses.detection, parameters)
    return {name: _pull(_gradients(term, parameters), detection) for name, term in terms.items()}


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True))


def _pull(term: list[Tensor | None], detection: list[Tensor | None]) -> Pull:
    both = ((a, b) for a, b in zip(term, detection, strict=True) if a is not None and b is not None)
    pairs = [(a.flatten(), b.flatten()) for a, b in both]
    if not pairs:
        return Pull(0.0, 0.0)
    of_term, of_detection = (torch.cat(parts).double() for parts in zip(*pairs, strict=True))
    norm, other = of_term.norm().item(), of_detection.norm().item()
    if norm == 0:
        return Pull(0.0, 0.0)
    if other == 0:
        return Pull(math.inf, 0.0)
    return Pull(norm / other, torch.dot(of_term, of_detection).item() / (norm * other))


def _share(part: Tensor, total: Tensor) -> float:
    return part.item() / total.item() if total.item() else 0.0
