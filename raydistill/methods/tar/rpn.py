"""The RPN term: objectness and deltas on the foreground anchors that the student was trained on (METHOD section 6)."""

from __future__ import annotations

import torch

from raydistill.config.methods import Rpn
from raydistill.detectors.base import ScoresAnchors
from raydistill.detectors.teacher import TeacherPass
from raydistill.detectors.values import AnchorSample
from raydistill.errors import UserError
from raydistill.methods.base import Compared
from raydistill.methods.losses.classification import gated_loss, objectness_divergence, objectness_gate
from raydistill.methods.losses.regression import delta_distance
from raydistill.methods.tar.gates import box_gate
from raydistill.methods.values import Gate


def rpn_term(settings: Rpn, student: ScoresAnchors, sample: AnchorSample, teacher: TeacherPass) -> Compared:
    """Return the term ``rpn`` and the share of anchors that carry its two parts.

    Raises:
        UserError: where both nets lay different numbers of anchors.
    """
    if teacher.num_anchors != sample.num_anchors:
        raise UserError(
            "methods.tar.rpn.weight: teacher and student must have the same anchors, got "
            f"{teacher.num_anchors} and {sample.num_anchors} on this batch; set methods.tar.rpn.weight=0"
        )
    theirs = teacher.answer_anchors(sample.indices)
    own = sample.answers
    surer = objectness_gate(own.objectness, theirs.objectness)
    objectness_open = surer if settings.gate == "teacher_better" else torch.ones_like(surer)
    box_open = box_gate(
        settings.reference,
        student.decode_anchor_boxes(own.deltas.detach().float(), sample.anchors),
        teacher.decode_anchor_boxes(theirs.deltas.float(), sample.anchors),
        sample.anchors,
        sample.gt_boxes,
    )
    num_foreground = torch.tensor(len(sample.indices), device=own.objectness.device)
    loss = gated_loss(
        objectness_divergence(own.objectness, theirs.objectness), objectness_open, num_foreground
    ) + gated_loss(delta_distance(own.deltas, theirs.deltas), box_open, num_foreground)
    gates = {
        "rpn_objectness_open": Gate(objectness_open.sum(), num_foreground),
        "rpn_box_open": Gate(box_open.sum(), num_foreground),
    }
    return Compared({"rpn": loss}, gates)
