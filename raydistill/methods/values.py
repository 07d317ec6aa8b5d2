"""What methods give: gates, and the losses of a step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from raydistill.structures import LossDict


@dataclass(frozen=True)
class Gate:
    """How many of the regions that could carry a term do."""

    open: Tensor  # scalar
    total: Tensor  # scalar


def metric_path(kind: str, term: str) -> str:
    """Return where a term's number stands among the metrics.

    >>> metric_path("weighted", "tar.feature")
    'weighted/tar/feature'
    """
    return f"{kind}/{term.replace('.', '/')}"


@dataclass(frozen=True)
class StepLosses:
    """What one forward pass of the ``Distiller`` gives."""

    total: Tensor  # the scalar to differentiate: the next two together
    detection: Tensor  # sum of the student's own losses
    weighted: LossDict  # distillation terms times weight and decay
    terms: LossDict  # every term by its metric path, detached
    gates: dict[str, Gate]
    quality: dict[str, Gate]  # of both heads' answers; where it is asked for
