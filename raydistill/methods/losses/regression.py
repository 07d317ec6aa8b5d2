"""The box regression head level: gate and distance (METHOD section 5)."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from raydistill.methods.boxes import paired_iou
from raydistill.methods.losses.precision import lifted

_BETA = 1 / 9  # torchvision's in both its box losses


def closer_gate(teacher_boxes: Tensor, reference_boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """Return where the teacher's box overlaps the object more than the reference does, [R] bool, no gradient.

    All boxes are [R, 4] decoded.
    """
    return paired_iou(teacher_boxes, gt_boxes) > paired_iou(reference_boxes.detach(), gt_boxes)


def delta_distance(student_deltas: Tensor, teacher_deltas: Tensor) -> Tensor:
    """Return smooth L1 between encoded deltas [R, 4], summed over the four, [R]."""
    distance = F.smooth_l1_loss(lifted(student_deltas), lifted(teacher_deltas), beta=_BETA, reduction="none")
    return distance.sum(dim=1)
