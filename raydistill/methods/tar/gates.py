"""Where the teacher's box beats a reference: the gate that both box terms share (METHOD sections 5 and 6)."""

from __future__ import annotations

import torch
from torch import Tensor

from raydistill.methods.losses.regression import closer_gate


def box_gate(reference: str, student: Tensor, teacher: Tensor, undecoded: Tensor, gt_boxes: Tensor) -> Tensor:
    """Return where the teacher's box beats the reference's, [R] bool; all boxes are [R, 4].

    Args:
        reference: ``student``, ``proposal`` (the box that deltas are relative to), or ``none``: everywhere.
        student: decoded, without gradient.
        teacher: decoded.
        undecoded: regions or anchors.
        gt_boxes: the objects.
    """
    if reference == "none":
        return torch.ones(len(gt_boxes), dtype=torch.bool, device=gt_boxes.device)
    return closer_gate(teacher, student if reference == "student" else undecoded, gt_boxes)
