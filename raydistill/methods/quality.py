"""How good a head's answers are on given regions: what teacher and student know of the very places compared."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from raydistill.detectors.two_stage.values import HeadOutputs, Regions
from raydistill.methods.boxes import paired_iou
from raydistill.methods.values import Gate

Decode = Callable[[Tensor, Tensor], Tensor]
"""Encoded deltas [R, 4] and region boxes [R, 4] -> boxes [R, 4]."""


@torch.no_grad()
def answer_quality(outputs: HeadOutputs, regions: Regions, decode: Decode) -> dict[str, Gate]:
    """Return sums over the foreground regions, with their number, of two measures from 0 to 1.

    ``probability`` is what the head gives the true class; ``iou`` is the overlap of its box of the true class with the
    object.
    """
    rows = regions.foreground
    labels = regions.labels[rows]
    of_rows = outputs.select(rows)
    probability = of_rows.class_logits.float().softmax(dim=1).gather(1, labels.unsqueeze(1))
    boxes = decode(of_rows.true_class_deltas(labels).float(), torch.cat(regions.boxes)[rows])
    total = rows.sum()
    return {
        "probability": Gate(probability.sum(), total),
        "iou": Gate(paired_iou(boxes, regions.gt_boxes[rows]).sum(), total),
    }
