"""A teacher as it is asked while a student is trained: as fast as settings and machine let it be."""

from __future__ import annotations

import numpy as np

from raydistill.config import Config
from raydistill.config.precision import Precision
from raydistill.data.dataset import DetectionDataset
from raydistill.data.loading.loaders import plan_epoch
from raydistill.detectors.base import Detector
from raydistill.detectors.engines import SETTING, check_engine, is_used
from raydistill.detectors.frozen import check_compiler, computes_bf16, make_fast
from raydistill.detectors.teacher import DTYPES
from raydistill.runs.worker import Worker
from raydistill.training.job import Job

MOST_COMPILED = 8
"""Sizes of batches that torch compiles one net for (``torch._dynamo.config.recompile_limit``)."""
_MULTIPLE = 32  # pixels to which torchvision pads


def check_teachers_means(config: Config, precision: Precision, worker: Worker) -> None:
    """Make sure that what the teacher is to be run with is on this worker's machine.

    Raises:
        UserError: without a compiler or a package, or where an engine does not compute in ``precision`` here.
    """
    if config.distillation.compile_teacher:
        check_compiler(worker.device)
    check_engine(config.distillation.teacher_engine, precision, worker.device, computes_bf16())


def make_teacher_fast(teacher: Detector, config: Config, precision: Precision, worker: Worker) -> None:
    """Freeze ``teacher``, in place, and let it be run as ``config`` says.

    Raises:
        UserError: as ``check_teachers_means`` does, but for a compiler.
    """
    distillation = config.distillation
    check_engine(distillation.teacher_engine, precision, worker.device, computes_bf16())
    make_fast(teacher, DTYPES[precision], distillation.compile_teacher, distillation.teacher_engine)


def engine_text(config: Config) -> str:
    """Return what is added to a sentence on the teacher; empty where torch computes it."""
    engine = config.distillation.teacher_engine
    return "" if engine == "torch" else f", its maps computed by {engine}"


def doubt_of_engine(teacher: Detector, config: Config) -> str:
    """Say that an engine was not asked, after a first look of the teacher's; empty where it was, or there is none."""
    engine = config.distillation.teacher_engine
    if engine == "torch" or is_used(teacher.feature_extractor()):
        return ""
    return (
        f"{SETTING}: {engine} was not asked for the first batches; a detector's extract_features must call what its "
        "feature_extractor() returns"
    )


def doubt_of_compiling(job: Job, worker: Worker) -> str:
    """Say that batches come in too many sizes for ``torch.compile``; empty where few, or nothing is compiled."""
    config = job.config
    if not config.distillation.compile_teacher:
        return ""
    sizes = batch_sizes(job.train, config, worker)
    if len(sizes) <= MOST_COMPILED:
        return ""
    shown = ", ".join(f"{height} x {width}" for height, width in sorted(sizes)[:: max(1, len(sizes) // 3)][:3])
    return (
        f"distillation.compile_teacher: pays where batches have few sizes, got {len(sizes)} in the first epoch "
        f"({shown} ...); torch compiles the first {MOST_COMPILED} and runs the others plainly: give the images one "
        "size, or leave it out"
    )


def batch_sizes(dataset: DetectionDataset, config: Config, worker: Worker) -> set[tuple[int, int]]:
    """Return the heights and widths that torchvision's transform gives this worker's batches in the first epoch."""
    training, image = config.training, config.input
    sides = dataset.records.sizes[:, ::-1].astype(np.float64)  # height, width
    scales = np.minimum(image.min_size / sides.min(axis=1), image.max_size / sides.max(axis=1))
    resized = np.floor(sides * scales[:, None])
    grouped = config.loader.group_by_aspect_ratio
    groups = sides[:, 1] >= sides[:, 0] if grouped else np.ones(len(sides), dtype=np.bool_)
    found = set()
    for step in plan_epoch(groups, training.batch_size, config.seed, 0):
        for part in np.array_split(step[worker.rank :: worker.world_size], training.accumulation):
            height, width = np.ceil(resized[part].max(axis=0) / _MULTIPLE).astype(int) * _MULTIPLE
            found.add((int(height), int(width)))
    return found
