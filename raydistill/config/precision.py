"""In what type the teacher answers: what ``auto`` means, which is decided once for a run or a sweep and then kept."""

from __future__ import annotations

from typing import Literal

from raydistill.config.sections import Config

Precision = Literal["fp32", "bf16", "fp16"]
TEACHER_PRECISION = "distillation.teacher_precision"
"""The setting."""
AUTO_MAY_BE_BF16 = True
"""Whether ``auto`` takes bf16 at all: only while that costs no more AP than noise does (``config.distillation``)."""


def meaning_of_auto(config: Config, all_compute_bf16: bool) -> Precision:
    """Return what ``auto`` means, given whether the processors of all workers compute with bf16; GPUs do not count.

    A teacher in another engine than torch answers in fp32, in OpenVINO in bf16 where that is fast.
    """
    engine = config.distillation.teacher_engine
    if engine != "torch":
        return "bf16" if AUTO_MAY_BE_BF16 and all_compute_bf16 and engine == "openvino" else "fp32"
    return "bf16" if AUTO_MAY_BE_BF16 and all_compute_bf16 else config.training.precision


def precision_of(config: Config) -> Precision | None:
    """Return the teacher's precision; None where it is left open."""
    wanted = config.distillation.teacher_precision
    return None if wanted == "auto" else wanted


def with_precision(config: Config, precision: Precision) -> Config:
    """Return ``config`` with a teacher that answers in ``precision``."""
    distillation = config.distillation.model_copy(update={"teacher_precision": precision})
    return config.model_copy(update={"distillation": distillation})


def precision_text(precision: Precision, config: Config, kept: bool = False) -> str:
    """Say in a line what the teacher answers in, and why where ``config`` left it open.

    Args:
        precision: what was decided.
        config: the settings before that.
        kept: whether it was decided when the run or the sweep was begun.
    """
    text = f"teacher: answers in {precision}"
    if precision_of(config) is not None:
        return text
    why = "as it was begun" if kept else "as training.precision"
    if not kept and precision != config.training.precision:
        why = "which the processors of all workers compute with"
    return f"{text}, {why} ({TEACHER_PRECISION}=auto)"
