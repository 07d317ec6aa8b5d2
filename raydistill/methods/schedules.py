"""Distillation decay and learning rate as pure functions of the training's progress."""

from __future__ import annotations

import math
from collections.abc import Sequence

from raydistill.config import Decay
from raydistill.config.sections import Schedule


def decay_at(decay: Decay, progress: float) -> float:
    """Return the factor d(t) on every distillation term, METHOD section 7.

    Args:
        decay: shape and parameters.
        progress: t in [0, 1], the share of the optimizer steps already taken.

    >>> from raydistill.config.distillation import LinearDecay, StepDecay
    >>> decay_at(LinearDecay(shape="linear"), 0.25)
    0.75
    >>> decay_at(StepDecay(shape="step", milestones=(0.5, 0.75), factor=0.1), 0.5)
    0.1
    """
    if decay.shape == "linear":
        return 1 - progress
    if decay.shape == "cosine":
        return _half_cosine(progress)
    if decay.shape == "exponential":
        return math.exp(-decay.rate * progress)
    if decay.shape == "polynomial":
        return float((1 - progress) ** decay.power)
    if decay.shape == "step":
        return _steps(decay.milestones, decay.factor, progress)
    return 1.0


def learning_rate_factor(schedule: Schedule, step: int, total_steps: int) -> float:
    """Return the factor on the learning rate of optimizer step ``step``, warm-up included.

    After ``total_steps`` it stays what it ended at.
    """
    progress = min(1.0, step / total_steps)
    if schedule.shape == "step":
        factor = _steps(schedule.milestones, schedule.factor, progress)
    else:
        factor = schedule.final_factor + (1 - schedule.final_factor) * _half_cosine(progress)
    if step < schedule.warmup_steps:
        factor *= schedule.warmup_factor + (1 - schedule.warmup_factor) * step / schedule.warmup_steps
    return factor


def _half_cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def _steps(milestones: Sequence[float], factor: float, progress: float) -> float:
    return float(factor ** sum(progress >= milestone for milestone in milestones))
