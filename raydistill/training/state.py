"""Everything that changes while a stage is trained: how it starts, is saved and goes on."""

from __future__ import annotations

import inspect
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypedDict

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raydistill.config.detector import described
from raydistill.config.renamed import current_metrics, current_tensors
from raydistill.data.loading.loaders import TrainingLoader
from raydistill.detectors.base import Detector
from raydistill.errors import UserError, counted
from raydistill.runs import weights_file
from raydistill.runs.events import Note
from raydistill.runs.reporter import Reporter
from raydistill.runs.stopping import Stopped
from raydistill.runs.worker import Worker
from raydistill.storage import atomic
from raydistill.storage.files import remove, rename, versions
from raydistill.training.distiller import Distiller
from raydistill.training.job import Job
from raydistill.training.metrics import FiniteWatch, MetricSums, SavedSums
from raydistill.training.optimizer import build_optimizer

_NEEDED = {"epoch", "world_size", "distiller", "optimizer", "scaler", "best", "random"}


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
    best: dict[str, float] | None = None  # metrics of the best evaluation
    watch: FiniteWatch = field(default_factory=FiniteWatch)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole stage."""
        return self.job.epochs * self.loader.steps_per_epoch

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


_OPTION = "forward_sync_buffers"  # as PyTorch calls it since 2.14
_HAS_OPTION = _OPTION in inspect.signature(DistributedDataParallel).parameters
KEEPING_BUFFERS: dict[str, Any] = {_OPTION if _HAS_OPTION else "broadcast_buffers": False}
"""What lets each rank keep its batch norm's statistics."""


def export(job: Job, detector: Detector, path: Path, epoch: int, keep: int = 1) -> None:
    """Write the plain torchvision weights after ``epoch`` with what it takes to build the net and to read its labels.

    With ``keep`` that many versions stay, see ``files.versions``.
    """
    weights_file.save_weights(
        path,
        {key: value.detach().cpu() for key, value in detector.exported().state_dict().items()},
        detector.classes,
        described(job.settings),
        job.config.input.model_dump(mode="json"),
        epoch,
        keep,
    )


def export_best(job: Job, detector: Detector, epoch: int) -> None:
    """Write the weights that are best so far; those before stay as long as a checkpoint may need them."""
    export(job, detector, job.run.best, epoch, job.config.checkpoint.keep + 1)


def start(job: Job, distiller: Distiller, loader: TrainingLoader, worker: Worker, reporter: Reporter) -> TrainingState:
    """Move to the device, wrap, build the optimizer, and go on from a checkpoint where there is one."""
    distiller.to(worker.device)
    wrapped: nn.Module = distiller
    if worker.world_size > 1:
        device_ids = [worker.device.index] if worker.device.type == "cuda" else None
        wrapped = DistributedDataParallel(distiller, device_ids=device_ids, **KEEPING_BUFFERS)
    scaler = torch.amp.GradScaler(worker.device.type, enabled=job.config.training.precision == "fp16")
    optimizer = build_optimizer(job.config.training.optimizer, distiller.parameter_groups())
    state = TrainingState(job, worker, reporter, distiller, wrapped, optimizer, scaler, loader)
    torch.manual_seed(job.config.seed + 1 + worker.rank)  # sampling of anchors and regions differs between workers
    saved, damaged = _newest(job, reporter.resume_from())
    if len(set(worker.gather((saved["epoch"], saved.get("step", 0)) if saved else (0, 0)))) > 1:
        raise UserError(f"{job.run.path}: every worker must see the same files; choose an --output on shared storage")
    if saved is not None:
        _resume(state, saved)
    for path, problem in damaged.items():
        reporter.event(Note(f"{job.stage}: {problem}; goes on from an earlier one, {path.name} is put aside", True))
    if worker.is_main:
        for path in damaged:
            rename(path, path.with_name(f"{path.name}.damaged"))
        job.run.remove_leftovers()
        _drop_later_lines(job.run.metrics, state.epoch)
        _drop_later_weights(job.run.best, int(state.best["epoch"]) if state.best else 0)
    return state


def of_all_ranks(state: TrainingState) -> list[RankState]:
    """Return what every worker has of its own, by rank, on the main worker; every worker calls it."""
    random, device = {"cpu": torch.get_rng_state()}, state.worker.device
    if device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(device)
    return state.worker.gather_on_main({"random": random, "sums": state.sums.saved()})


def save(state: TrainingState, ranks: list[RankState] | None = None) -> None:
    """Write what the next step depends on, and after an epoch the weights.

    Every worker calls it, or the main one alone with ``ranks`` that came from ``of_all_ranks`` after the last step.
    """
    state.watch.check()  # on a GPU the last loss has not been looked at
    ranks = of_all_ranks(state) if ranks is None else ranks
    if not state.worker.is_main:
        return
    if state.step == 0:  # before the checkpoint: what is written after the last one would never be written again
        export(state.job, state.student, state.job.run.last, state.epoch)
    weights_file.save(
        state.job.run.checkpoint,
        {
            "epoch": state.epoch,
            "step": state.step,
            "world_size": state.worker.world_size,
            "distiller": state.distiller.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "scaler": state.scaler.state_dict(),
            "best": state.best,
            "random": [rank["random"] for rank in ranks],
            "sums": [rank["sums"] for rank in ranks],
            "diagnosis": state.diagnosis,
        },
        state.job.config.checkpoint.keep,
    )


def stop(state: TrainingState, ranks: list[RankState] | None = None) -> NoReturn:
    """Save, called as ``save`` is, and end the run as its user wished."""
    save(state, ranks)
    where = f"in epoch {state.epoch + 1} after step {state.step} of {state.loader.steps_per_epoch}"
    state.reporter.event(Note(f"{state.job.stage}: stopped {where}; its checkpoint is written"))
    raise Stopped


def _newest(job: Job, paths: list[Path]) -> tuple[dict[str, Any] | None, dict[Path, UserError]]:
    """Return the newest checkpoint of ``paths`` that can be read, if there is any, and what is wrong with later ones.

    Raises:
        UserError: when there are some and none can be read.
    """
    damaged: dict[Path, UserError] = {}
    for path in paths:
        try:
            saved = weights_file.load(path)
            if lacking := _NEEDED - saved.keys():
                raise UserError(f"{path}: must be a checkpoint of a stage, lacks {', '.join(sorted(lacking))}")
        except UserError as error:
            damaged[path] = error
        else:
            return saved, damaged
    if damaged:
        problem = next(iter(damaged.values()))
        raise UserError(f"{problem}; no earlier one can be read either: remove {job.run.path} to train it anew")
    return None, {}


def _resume(state: TrainingState, saved: dict[str, Any]) -> None:
    state.epoch, state.step, state.best = saved["epoch"], saved.get("step", 0), saved["best"]
    if state.step:
        sums: list[SavedSums] = [
            {"terms": current_metrics(of_rank["terms"]), "gates": of_rank["gates"]} for of_rank in saved["sums"]
        ]
        state.sums = MetricSums.restored(sums, state.worker)
        state.diagnosis = current_metrics(saved.get("diagnosis", {}))
    state.distiller.load_state_dict(current_tensors(saved["distiller"]))
    state.optimizer.load_state_dict(saved["optimizer"])
    state.scaler.load_state_dict(saved["scaler"])
    if saved["world_size"] == state.worker.world_size:
        _set_random_state(saved["random"][state.worker.rank], state.worker.device)
    else:
        workers = counted(state.worker.world_size, "worker")
        state.reporter.event(
            Note(
                f"{state.job.stage}: goes on with {workers} after {saved['world_size']}; the "
                "result is no longer the same to the bit",
                warning=True,
            )
        )


def _drop_later_lines(path: Path, epoch: int) -> None:
    """Forget metrics of epochs whose checkpoint was not written any more: they are trained again."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["epoch"] <= epoch]
    atomic.write_atomically(path, lambda file: file.writelines(f"{line}\n".encode() for line in kept))


def _drop_later_weights(path: Path, epoch: int) -> None:
    """Put those weights in place that were best when the checkpoint was written, in the epoch given; 0: none yet.

    Later ones are of steps that are taken again: with other hardware or workers they would not come out the same.
    """
    found = versions(path)
    later = [*itertools.takewhile(lambda file: _epoch_of(file) > epoch, found)]
    for file in later:
        remove(file)
    if later and len(later) < len(found):
        rename(found[len(later)], path)


def _epoch_of(weights: Path) -> int:
    """Return the epoch that weights are of; 0 where their file does not say, or cannot be read."""
    try:
        return int(weights_file.load(weights).get("epoch", 0))
    except UserError:
        return 0


def _set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
