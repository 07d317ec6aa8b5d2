"""How good a head's answers are on given regions: what teacher and student know of the very places compared."""

from __future__ import annotations

import torch

from raydistill.detectors.values import Answers, Regions
from raydistill.methods.boxes import paired_iou
from raydistill.methods.values import Gate


@torch.no_grad()
def answer_quality(answers: Answers, regions: Regions) -> dict[str, Gate]:
    """Return sums over the foreground regions, with their number, of two measures from 0 to 1.

    ``probability`` is what the answers give the true class; ``iou`` is the overlap of their box of the true class with
    the object.
    """
    rows = regions.foreground
    labels = regions.labels[rows]
    of_rows = answers.select(rows)
    probability = of_rows.class_probabilities().gather(1, labels.unsqueeze(1) - 1)
    total = rows.sum()
    return {
        "probability": Gate(probability.sum(), total),
        "iou": Gate(paired_iou(of_rows.boxes_of(labels), regions.gt_boxes[rows]).sum(), total),
    }
