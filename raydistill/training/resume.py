"""How a stage starts: from its beginning, or from where its checkpoint says that it was."""

from __future__ import annotations

import inspect
import itertools
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from raydistill.config.renamed import current_metrics
from raydistill.data.loading.loaders import TrainingLoader
from raydistill.errors import UserError, counted, first_line
from raydistill.runs import weights_file
from raydistill.runs.directory import RunDirectory
from raydistill.runs.events import Note
from raydistill.runs.records import read_lines
from raydistill.runs.reporter import Reporter
from raydistill.runs.worker import Worker
from raydistill.storage.files import versions
from raydistill.training.checkpoint import WRONG_KIND, Wanted, read_checkpoint
from raydistill.training.distiller import Distiller
from raydistill.training.job import Job
from raydistill.training.metrics import MetricSums, SavedSums
from raydistill.training.optimizer import build_optimizer
from raydistill.training.state import TrainingState, export_best

_OPTION = "forward_sync_buffers"  # as PyTorch calls it since 2.14
_HAS_OPTION = _OPTION in inspect.signature(DistributedDataParallel).parameters
_KEEPING_BUFFERS: dict[str, Any] = {_OPTION if _HAS_OPTION else "broadcast_buffers": False}
"""What lets each rank keep its batch norm's statistics."""


def start(job: Job, distiller: Distiller, loader: TrainingLoader, worker: Worker, reporter: Reporter) -> TrainingState:
    """Move to the device, wrap, build the optimizer, and go on from a checkpoint where there is one.

    Raises:
        UserError: where there are checkpoints and none can be gone on from, or the best weights are not the ones that
            the checkpoint names.
    """
    distiller.to(worker.device)
    wrapped = in_ddp(distiller, worker) if worker.world_size > 1 else distiller
    scaler = torch.amp.GradScaler(worker.device.type, enabled=job.config.training.precision == "fp16")
    optimizer = build_optimizer(job.config.training.optimizer, distiller.parameter_groups())
    state = TrainingState(job, worker, reporter, distiller, wrapped, optimizer, scaler, loader)
    torch.manual_seed(job.config.seed + 1 + worker.rank)  # sampling of anchors and regions differs between workers
    damaged = _go_on(state, reporter.resume_from())
    if len(set(worker.gather((state.epoch, state.step)))) > 1:
        raise UserError(f"{job.run.path}: every worker must see the same files; choose an --output on shared storage")
    for path, problem in damaged.items():
        reporter.event(Note(f"{job.stage}: {problem}; goes on from an earlier one, {path.name} is put aside", True))
    if worker.is_main:
        for path in damaged:
            job.run.output.rename(path, path.with_name(f"{path.name}.damaged"))
        job.run.remove_leftovers()
        lost = _drop_later_lines(job.run, state.epoch)
        if lost:
            reporter.event(Note(f"{job.stage}: {lost}; weights and scores are not touched", True))
        _drop_later_weights(job.run, int(state.best["epoch"]) if state.best else 0)
    other_best = worker.broadcast(_problem_with_best(state) if worker.is_main else "")
    if other_best:
        raise UserError(other_best)
    return state


def in_ddp(distiller: Distiller, worker: Worker) -> DistributedDataParallel:
    """Let every worker of the group take the mean of their gradients.

    Gradients are views of what is sent, the same numbers to the bit without a copy of them all (4 bytes a parameter).
    ``static_graph`` must stay off: DDP then looks for tensors in what the distiller returns, does not see into its
    dataclass, and silently leaves every rank its own gradients.
    """
    device_ids = [worker.device.index] if worker.device.type == "cuda" else None
    return DistributedDataParallel(distiller, device_ids=device_ids, gradient_as_bucket_view=True, **_KEEPING_BUFFERS)


def _go_on(state: TrainingState, paths: list[Path]) -> dict[Path, UserError]:
    """Go on from the newest checkpoint of ``paths`` that fits; return what is wrong with later ones.

    Raises:
        UserError: when there are some and none fits.
    """
    job = state.job
    wanted = Wanted(job.identity, job.epochs, state.loader.steps_per_epoch, state.distiller, state.optimizer)
    damaged: dict[Path, UserError] = {}
    for path in paths:
        try:
            saved = read_checkpoint(path, wanted)
            try:
                _resume(state, saved)
            except WRONG_KIND as error:
                raise UserError(
                    f"{path}: must be a checkpoint that can be gone on from, got: {first_line(error)[:200]}"
                ) from error
        except UserError as error:
            damaged[path] = error
        else:
            return damaged
    if damaged:
        problem = next(iter(damaged.values()))
        raise UserError(f"{problem}; no earlier one can be read either: remove {job.run.path} to train it anew")
    return {}


def _resume(state: TrainingState, saved: dict[str, Any]) -> None:
    state.epoch, state.step, state.best = saved["epoch"], saved.get("step", 0), saved["best"]
    if state.step:
        sums: list[SavedSums] = [
            {"terms": current_metrics(of_rank["terms"]), "gates": of_rank["gates"]} for of_rank in saved["sums"]
        ]
        state.sums = MetricSums.restored(sums, state.worker)
        state.diagnosis = current_metrics(saved.get("diagnosis", {}))
    state.distiller.load_state_dict(saved["distiller"])
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


def _drop_later_lines(run: RunDirectory, epoch: int) -> str:
    """Forget metrics of epochs whose checkpoint was not written any more: they are trained again.

    Lines that cannot be read go too; what comes back says which epochs have none, empty where all have one.
    """
    path = run.metrics
    found = read_lines(path)
    kept = [line for line in found.lines if line["epoch"] <= epoch]
    if path.is_file():
        run.output.write(path, lambda file: file.writelines(f"{json.dumps(line)}\n".encode() for line in kept))
    lost = sorted({*range(1, epoch + 1)} - {int(line["epoch"]) for line in kept})
    if not lost:
        return ""
    epochs = ", ".join(map(str, lost[:10])) + (f" and {len(lost) - 10} more" if len(lost) > 10 else "")
    return f"{path}: the metrics of epochs {epochs} cannot be read any more and are missing in curves from now on"


def _drop_later_weights(run: RunDirectory, epoch: int) -> None:
    """Put those weights in place that were best when the checkpoint was written, in the epoch given; 0: none yet.

    Later ones are of steps that are taken again: with other hardware or workers they would not come out the same.
    """
    found = versions(run.best)
    later = [*itertools.takewhile(lambda file: _epoch_of(file) > epoch, found)]
    for file in later:
        run.output.remove(file)
    if later and len(later) < len(found):
        run.output.rename(found[len(later)], run.best)


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


def _problem_with_best(state: TrainingState) -> str:
    """Say where the best weights are not those that the checkpoint names; they are written again where it has them."""
    if state.best is None:
        return ""
    path, named = state.job.run.best, state.best.get("weights")
    try:
        found = weights_file.digest(weights_file.load_weights(path).model)
    except UserError:
        found = ""
    if found and named in (None, found):  # None: an earlier version wrote the checkpoint
        return ""
    epoch = int(state.best["epoch"])
    if epoch == state.epoch and state.step == 0:
        export_best(state.job, state.student, epoch, state.best.get("threshold"))
        state.reporter.event(Note(f"{state.job.stage}: {path}: was another one or damaged, and is written again", True))
        return ""
    return (
        f"{path}: must be the weights of epoch {epoch}, which the checkpoint names as the best, got "
        f"{'others' if found else 'none that can be read'}; put them back, or remove {state.job.run.path} to train the "
        "stage anew"
    )
