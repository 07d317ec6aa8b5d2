"""The feature backbone level: imitating the teacher's map under a mask (METHOD section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from raydistill.methods.losses.precision import lifted
from raydistill.methods.losses.reduction import normalized_sum


def feature_loss(student: Tensor, teacher: Tensor, mask: Tensor, scale_free: bool) -> Tensor:
    """Return sum M ||F_student - F_teacher||^2 / (2 D max(1, sum M)) of one pyramid level, a scalar.

    Args:
        student: adapted student map [N, D, h, w].
        teacher: teacher map [N, D, h, w], without gradient.
        mask: M [N, h, w], 0 to 1; all zero gives 0.
        scale_free: divide by the variance of the teacher's map, so that its scale does not matter.
    """
    student, teacher = lifted(student), lifted(teacher)
    distance = (student - teacher).square().mean(dim=1) / 2  # [N, h, w]
    loss = normalized_sum(distance, mask, mask.sum())
    if scale_free:
        variance = teacher.var(unbiased=False)
        loss = loss * variance.clamp(min=torch.finfo(variance.dtype).eps).reciprocal()
    return loss
