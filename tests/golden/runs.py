"""The golden runs: what is run, and what is kept of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill.config import Config
from raydistill.config.loader import split_overrides
from raydistill.runs.directory import RunDirectory
from raydistill.runs.reporter import FileReporter
from raydistill.runs.worker import Worker
from raydistill.sweeps.file import load_sweep
from raydistill.sweeps.trial import run_trial
from raydistill.training import loop
from raydistill.training.stages import run_stages
from tests.outputs import output_of, plan_of
from tests.ranks import on_ranks
from tests.small import ProcessEndedError, ending, metrics_of, repeatable, small_run, small_sweep, weights_of

Values = dict[str, Any]
"""Of one run: for each stage its metrics without the clock's, and a hash of all tensors after its last epoch."""

_SETTINGS = (
    *(
        "distillation.teacher_precision=fp32",
        "distillation.preflight=warn",
        "teacher.epochs=8",
        "teacher.learning_rate=null",
    ),
    *("logging.tensorboard=false", "student.box_score_thresh=0", "training.roi_align=exact"),
)
_OTHER_TERMS = (
    *(
        "methods.tar.regions.source=student",
        "methods.tar.classification.gate=foreground",
        "methods.tar.regression.reference=proposal",
    ),
    *(
        "methods.tar.classification.divergence=kl",
        "methods.tar.classification.temperature=2",
        "methods.tar.feature.mask=box",
        "methods.tar.feature.levels=assigned",
    ),
    *("methods.tar.feature.background_weight=0.1", "decay={shape: polynomial, power: 2}"),
)


def compute(folder: Path) -> dict[str, Values]:
    """Run everything below ``folder``, and return the values of each run by its name."""
    os.fsync = lambda handle: None  # type: ignore[assignment]  # nothing need outlive a power cut
    default = _config(folder / "default")
    run_here(default)
    teacher = f"teacher.weights={folder / 'default' / 'teacher' / 'best.pt'}"
    given = (teacher, "teacher.train=false", "distillation.baseline=false")
    values = {"default": _values(default)}
    for name, settings in {"other_terms": _OTHER_TERMS, "accumulation": ("training.accumulation=2",)}.items():
        config = _config(folder / name, *given, *settings)
        run_here(config)
        values[name] = _values(config)
    config = _config(folder / "interrupted", *given, "checkpoint.every_steps=1")
    _interrupt(config, before_step=3)  # in the middle of the second epoch of two
    run_here(config)
    values["interrupted"] = _values(config)
    config = _config(folder / "two_ranks", *given)
    assert on_ranks(run_on_rank, 2, config) == [0, 0]
    values["two_ranks"] = _values(config)
    values["trial"] = _trial(folder / "trial", teacher)
    return values


def run_here(config: Config) -> None:
    """Run the stages of ``config`` in this process."""
    run_on_rank(Worker(), config)


def run_on_rank(worker: Worker, config: Config) -> None:
    """Run the stages of ``config`` as one worker of several."""
    run_stages(config, output_of(config), worker, lambda run: FileReporter(run, worker, lambda event: None))


def _config(output: Path, *settings: str) -> Config:
    return small_run(output, *_SETTINGS, *settings)


def _interrupt(config: Config, before_step: int) -> None:
    """Run until the process "ends" at the beginning of a step of the student, counted over all epochs from 0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "take_step", ending(loop.take_step, before_step))
        with pytest.raises(ProcessEndedError):
            run_here(config)


def _trial(folder: Path, teacher: str) -> Values:
    """Return the values of the one point of a sweep, whose controls are not run."""
    file = small_sweep(folder, dict(split_overrides([*_SETTINGS, teacher, "teacher.train=false"])[0]))
    plan = plan_of(load_sweep(file))
    config = plan.loaded.config
    run_stages(
        config, output_of(config), Worker(), lambda run: FileReporter(run, Worker(), lambda event: None), only="teacher"
    )
    (point,) = [record.name for record in iter(plan.next, None) if record.role == "searched"]
    assert run_trial(plan.directory, point, Worker(), lambda _: None, lambda _: None) == ""
    return {"distilled": _stage(plan.directory.trial(point).run)}


def _values(config: Config) -> Values:
    stages = sorted(path.parent for path in Path(config.output).glob("*/result.json"))
    return {stage.name: _stage(RunDirectory(stage)) for stage in stages if (stage / "metrics.jsonl").exists()}


def _stage(run: RunDirectory) -> Values:
    return {"metrics": repeatable(metrics_of(run)), "tensors": hash_tensors(weights_of(run.last))}


def hash_tensors(tensors: dict[str, torch.Tensor]) -> str:
    """Return one hash of all tensors with their names, shapes and types."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
