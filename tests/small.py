"""Small runs that the tests of the running parts share: settings, jobs, and reporters that listen or interrupt."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from raydistill import reports
from raydistill.config import Config, load_config
from raydistill.config.loader import split_overrides
from raydistill.data.build import build_splits
from raydistill.data.loading.loaders import TrainingLoader
from raydistill.detectors.two_stage.build import build_faster_rcnn
from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector
from raydistill.runs.directory import RunDirectory, StageName
from raydistill.runs.events import Event, Note
from raydistill.runs.reporter import FileReporter
from raydistill.runs.worker import Worker
from raydistill.training.distiller import Distiller
from raydistill.training.job import Job
from raydistill.training.loop import fit, make_loader

REPOSITORY = Path(__file__).resolve().parents[1]
PATIENCE = 900
"""Seconds that are waited for what takes a few on a machine that does nothing else, before it is called lost."""
NOT_REPEATABLE = ("seconds", "train/images_per_second")
"""Metrics that measure time."""

SMALL_RUN = [
    *("data.num_train=8", "data.num_val=4", "data.size=64", "input.min_size=64", "input.max_size=64"),
    *(
        "scaling.num_workers=1",
        "training.epochs=2",
        "training.batch_size=4",
        "evaluation.every=1",
        "loader.num_workers=0",
    ),
    "teacher.epochs=null",
    "training.schedule={shape: cosine, warmup_steps: 2}",
    "training.optimizer={name: sgd, learning_rate: 0.02, weight_decay: 1e-4, momentum: 0.9}",
    *(
        f"{role}.{setting}"
        for role in ("teacher", "student")
        for setting in (
            *("backbone=mobilenet_v3_small", "norm=group", "trainable_layers=6", "returned_layers=[2, 3, 4, 5]"),
            "anchor_sizes=[[8], [16], [32], [64], [128]]",
            *("fpn_channels=16", "box_head_size=32", "rpn_batch_size_per_image=32", "box_batch_size_per_image=16"),
            *("rpn_pre_nms_top_n_train=100", "rpn_post_nms_top_n_train=50"),
            *("rpn_pre_nms_top_n_test=100", "rpn_post_nms_top_n_test=20", "box_detections_per_img=10"),
        )
    ),
]
"""Overrides that make the quickstart a matter of a second or two, whatever its own settings are."""


def small_run(output: Path, *overrides: str) -> Config:
    """Return the quickstart's settings for a run of seconds that writes below ``output``."""
    return _loaded(overrides).model_copy(update={"output": str(output)})


@functools.cache
def _loaded(overrides: tuple[str, ...]) -> Config:
    return load_config("quickstart", [*SMALL_RUN, *overrides])


SMALL_SWEEP: dict[str, Any] = {
    "base": "quickstart",
    "settings": {
        **dict(split_overrides(SMALL_RUN)[0]),
        "data.num_train": 4,
        "data.num_val": 2,
        "distillation.preflight": "warn",
        "logging.tensorboard": False,
        "student.box_score_thresh": 0,  # a new net has a score too, so that two sweeps can differ in it
    },
    "seeds": 1,
    "space": {"decay.shape": {"grid": ["linear"]}},
}
"""A sweep of one point and two controls, each a matter of a second."""


def small_sweep(folder: Path, settings: dict[str, Any] | None = None, **changes: Any) -> str:
    """Write ``SMALL_SWEEP`` with other keys and more settings, and return the file; its output is ``folder/sweep``."""
    folder.mkdir(parents=True, exist_ok=True)
    fixed = SMALL_SWEEP["settings"] | (settings or {})
    path = folder / "small.yaml"
    sweep = SMALL_SWEEP | {"output": str(folder / "sweep"), "settings": fixed} | changes
    path.write_text(yaml.safe_dump(sweep, sort_keys=False))
    return str(path)


@dataclass
class Listener:
    """Keeps the events it hears."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def notes(self) -> list[Note]:
        return [event for event in self.events if isinstance(event, Note)]

    @property
    def text(self) -> str:
        return "\n".join(note.text for note in self.notes)

    @property
    def warnings(self) -> str:
        return "\n".join(note.text for note in self.notes if note.warning)


class ProcessEndedError(Exception):
    """Stands for whatever ends a process."""


def ending(take_step: Callable[..., Any], before_step: int) -> Callable[..., Any]:
    """Return ``take_step``, at which the process "ends" at the beginning of a step, counted over all epochs from 0."""

    def step(state: Any, parts: Any, decay: float, global_step: int, sums: Any) -> Any:
        if global_step >= before_step:
            raise ProcessEndedError
        return take_step(state, parts, decay, global_step, sums)

    return step


@dataclass
class InterruptedReporter:
    """A file reporter whose process ends when epoch ``after`` + 1 has been reported and before its checkpoint."""

    inner: FileReporter
    after: int
    files_first: bool = False

    def report(self, metrics: dict[str, float]) -> None:
        self.inner.report(metrics)
        if metrics["epoch"] > self.after:
            raise ProcessEndedError

    def event(self, event: Event) -> None:
        self.inner.event(event)

    def resume_from(self) -> list[Path]:
        return self.inner.resume_from()


@dataclass
class Stage:
    """One stage ready to be trained without the others."""

    config: Config
    name: StageName = "baseline"
    worker: Worker = field(default_factory=Worker)
    listener: Listener = field(default_factory=Listener)

    def __post_init__(self) -> None:
        splits = build_splits(self.config.data)
        run = RunDirectory(Path(self.config.output) / self.name)
        settings = self.config.teacher if self.name == "teacher" else self.config.student
        self.job = Job(self.name, self.config, settings, self.config.training.epochs, run, *splits)

    @property
    def run(self) -> RunDirectory:
        return self.job.run

    @property
    def reporter(self) -> FileReporter:
        return FileReporter(self.run, self.worker, self.listener)

    def detector(self, seed: int = 0) -> FasterRCNNDetector:
        torch.manual_seed(seed)
        return build_faster_rcnn(self.job.settings, self.config.input, self.job.train.classes)

    def teacher(self) -> FasterRCNNDetector | None:
        if self.name != "distilled":
            return None
        torch.manual_seed(77)
        teacher = build_faster_rcnn(self.config.teacher, self.config.input, self.job.train.classes)
        with torch.no_grad():  # a new net says the same of everything: let this one have opinions
            teacher.model.roi_heads.box_predictor.cls_score.weight.mul_(50)
            teacher.model.roi_heads.box_predictor.bbox_pred.weight.mul_(50)
            teacher.model.rpn.head.cls_logits.weight.mul_(50)
            teacher.model.rpn.head.bbox_pred.weight.mul_(20)
        return teacher

    def loader(self) -> TrainingLoader:
        return make_loader(self.job, self.worker)

    def distiller(self) -> Distiller:
        student = self.detector(self.config.seed)
        return Distiller(student, self.teacher(), self.config)

    def fit(self, interrupt_after: int | None = None) -> dict[str, Any]:
        """Train; with ``interrupt_after`` the process "ends" once that many epochs have their checkpoint."""
        reporter: Any = self.reporter
        if interrupt_after is not None:
            reporter = InterruptedReporter(self.reporter, interrupt_after)
        distiller = self.distiller()
        torch.manual_seed(self.config.seed)
        return fit(self.job, distiller, self.loader(), self.worker, reporter)

    def lines(self) -> list[dict[str, float]]:
        return metrics_of(self.run)


def metrics_of(run: RunDirectory) -> list[dict[str, float]]:
    """Return the lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def repeatable(lines: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Return metrics without those that measure time."""
    return [{name: value for name, value in line.items() if name not in NOT_REPEATABLE} for line in lines]


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of an exported weights file."""
    model: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
    return model


def same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Return whether two state dicts are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def run_python(
    *arguments: str, timeout: float = PATIENCE, folder: Path = REPOSITORY, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, one thread per library, in the repository or another folder."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


_write_report = reports.write_report


def plain_report(*directories: Any, pictures: bool = True, **where: Any) -> Any:
    """Write a report without pictures, whatever its caller wants of them: they take seconds, and have their tests."""
    return _write_report(*directories, pictures=False, **where)
