"""A teacher as it is asked while a student is trained: as fast as settings and machine let it be."""

from __future__ import annotations

from raydistill.config import Config
from raydistill.config.precision import Precision
from raydistill.detectors.base import Detector
from raydistill.detectors.engines import SETTING, check_engine, is_used
from raydistill.detectors.frozen import check_compiler, computes_bf16, make_fast
from raydistill.detectors.teacher import DTYPES
from raydistill.runs.worker import Worker


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
