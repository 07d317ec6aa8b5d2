"""Everything that changes while a stage is trained: how it starts, is saved and goes on."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypedDict

import torch
from torch import Tensor, nn

from raydistill.config.data import Pixels
from raydistill.config.detector import described
from raydistill.data.loading.loaders import TrainingLoader
from raydistill.detectors.base import Detector
from raydistill.runs import weights_file
from raydistill.runs.events import Note
from raydistill.runs.reporter import Reporter
from raydistill.runs.stopping import Stopped
from raydistill.runs.worker import Worker
from raydistill.training.distiller import Distiller
from raydistill.training.job import Job
from raydistill.training.metrics import FiniteWatch, MetricSums, SavedSums
from raydistill.training.writing import Writing, copied

Best = dict[str, Any]
"""Metrics of the best evaluation, its ``epoch``, and under ``weights`` what stands for those that were scored."""


@dataclass(frozen=True)
class _Weights:
    """What is written for deployment after ``epoch``."""

    model: dict[str, Tensor]
    epoch: int
    threshold: float | None

    def write(self, job: Job, classes: tuple[str, ...], path: Path, keep: int) -> None:
        """Write them with what it takes to build the net and to read its labels."""
        weights_file.save_weights(
            path,
            self.model,
            classes,
            described(job.settings),
            job.config.input.model_dump(mode="json"),
            self.epoch,
            keep,
            job.run.output,
            pixels=Pixels.of(job.config.data).model_dump(mode="json"),
            threshold=self.threshold,
        )


@dataclass
class TrainingState:
    """Everything that changes while a stage is trained."""

    job: Job
    worker: Worker
    reporter: Reporter
    distiller: Distiller
    wrapped: nn.Module  # the distiller, in DDP where there are several workers
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    loader: TrainingLoader
    epoch: int = 0  # finished ones
    step: int = 0  # optimizer steps taken of the epoch after those
    sums: MetricSums = field(default_factory=MetricSums)  # over these steps
    diagnosis: dict[str, float] = field(default_factory=dict)  # as that epoch began, where it is asked for
    best: Best | None = None
    threshold: float | None = None  # of the weights, where they were scored after their epoch
    watch: FiniteWatch = field(default_factory=FiniteWatch)
    writing: Writing = field(default_factory=Writing)
    unwritten_best: _Weights | None = None  # what the next checkpoint is to name, written before it

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole stage."""
        return self.job.epochs * self.loader.steps_per_epoch

    @property
    def horizon_steps(self) -> int:
        """Optimizer steps that learning rate and decay are laid out for."""
        return self.job.horizon * self.loader.steps_per_epoch

    @property
    def student(self) -> Detector:
        """The net that is trained here: the student, or the teacher in its own stage."""
        return self.distiller.student

    def end_epoch(self) -> None:
        """Count the epoch whose steps were taken among the finished ones."""
        self.epoch, self.step, self.sums, self.diagnosis = self.epoch + 1, 0, MetricSums(), {}


class RankState(TypedDict):
    """What a worker has of its own; weights, optimizer and scaler are the same on all of them.

    Batch norm statistics differ too, but only the main worker's are ever used. Python's and numpy's random numbers are
    not here: nothing in training draws from the global ones, and the order and augmentation of images follow from
    (seed, epoch, step).
    """

    random: dict[str, Tensor]
    sums: SavedSums


def export(job: Job, detector: Detector, path: Path, epoch: int, keep: int = 1, threshold: float | None = None) -> str:
    """Write the plain torchvision weights after ``epoch`` with what it takes to build the net and to read its labels.

    ``threshold`` is their best one on the validation split, if there is one. With ``keep`` that many versions stay, see
    ``files.versions``. What comes back stands for the weights.
    """
    model = {key: value.detach().cpu() for key, value in detector.exported().state_dict().items()}
    _Weights(model, epoch, threshold).write(job, detector.classes, path, keep)
    return weights_file.digest(model)


def export_best(job: Job, detector: Detector, epoch: int, threshold: float | None) -> str:
    """Write the weights that are best so far; those before stay as long as a checkpoint may need them."""
    return export(job, detector, job.run.best, epoch, _versions_of_best(job), threshold)


def set_best_aside(state: TrainingState, epoch: int) -> str:
    """Copy the weights that are best so far, for the next ``save`` to write; what comes back stands for them."""
    state.unwritten_best = _weights(state, epoch)
    return weights_file.digest(state.unwritten_best.model)


def _weights(state: TrainingState, epoch: int) -> _Weights:
    model = {key: copied(value) for key, value in state.student.exported().state_dict().items()}
    return _Weights(model, epoch, state.threshold)


def _versions_of_best(job: Job) -> int:
    return job.config.checkpoint.keep + 1


def of_all_ranks(state: TrainingState) -> list[RankState]:
    """Return what every worker has of its own, by rank, on the main worker; every worker calls it."""
    random, device = {"cpu": torch.get_rng_state()}, state.worker.device
    if device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(device)
    return state.worker.gather_on_main({"random": random, "sums": state.sums.saved()})


def save(state: TrainingState, ranks: list[RankState] | None = None) -> None:
    """Write what the next step depends on, and after an epoch the weights, in a thread: copies of what there is now.

    Every worker calls it, or the main one alone with ``ranks`` that came from ``of_all_ranks`` after the last step.

    Raises:
        UserError: when that before could not be written; ``state.writing.finish()`` says so of this one.
    """
    state.watch.check()  # on a GPU the last loss has not been looked at
    ranks = of_all_ranks(state) if ranks is None else ranks
    if not state.worker.is_main:
        return
    state.writing.finish()  # before there are other copies
    best, state.unwritten_best = state.unwritten_best, None
    last = None
    if state.step == 0:
        last = best if best is not None and best.epoch == state.epoch else _weights(state, state.epoch)
    checkpoint = copied(
        {
            "epoch": state.epoch,
            "step": state.step,
            "world_size": state.worker.world_size,
            "distiller": state.distiller.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "scaler": state.scaler.state_dict(),
            "run": None if state.job.identity is None else state.job.identity.saved(),
            "best": state.best,
            "random": [rank["random"] for rank in ranks],
            "sums": [rank["sums"] for rank in ranks],
            "diagnosis": state.diagnosis,
        }
    )
    write = functools.partial(_write, state.job, state.student.classes, best, last, checkpoint)
    state.writing.begin(write)


def _write(
    job: Job, classes: tuple[str, ...], best: _Weights | None, last: _Weights | None, checkpoint: dict[str, Any]
) -> None:
    """Write weights, then the checkpoint: what is written after the last one would never be written again."""
    if best is not None:
        best.write(job, classes, job.run.best, _versions_of_best(job))
    if last is not None:
        last.write(job, classes, job.run.last, keep=1)
    weights_file.save(job.run.checkpoint, checkpoint, job.config.checkpoint.keep, job.run.output)


def stop(state: TrainingState, ranks: list[RankState] | None = None) -> NoReturn:
    """Save, called as ``save`` is, and end the run as its user wished."""
    save(state, ranks)
    state.writing.finish()
    where = f"in epoch {state.epoch + 1} after step {state.step} of {state.loader.steps_per_epoch}"
    state.reporter.event(Note(f"{state.job.stage}: stopped {where}; its checkpoint is written"))
    raise Stopped
