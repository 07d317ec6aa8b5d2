"""The terms of both heads on shared regions (METHOD sections 2, 4 and 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raydistill.config.methods import Classification, Regression
from raydistill.detectors.values import RawAnswers, Regions
from raydistill.methods.base import Compared
from raydistill.methods.losses.classification import (
    bce_divergence,
    gated_loss,
    kl_divergence,
    teacher_better_gate,
)
from raydistill.methods.losses.regression import delta_distance
from raydistill.methods.tar.gates import box_gate
from raydistill.methods.values import Gate


@dataclass(frozen=True)
class Shared:
    """The regions on which both heads are compared, and which rows of all regions they are."""

    regions: Regions
    rows: Tensor  # [R'], into the rows of all regions


def compares_background(settings: Classification) -> bool:
    """Return whether the class term may count background regions too."""
    return bool(settings.weight) and settings.gate in ("all", "teacher_better_all")


def choose_regions(settings: Classification, regions: Regions) -> Shared:
    """Choose the regions that the teacher has to answer at all."""
    if compares_background(settings):
        return Shared(regions, torch.arange(len(regions.labels), device=regions.labels.device))
    return Shared(*regions.select(regions.foreground))


def head_terms(
    classification: Classification, regression: Regression, regions: Regions, own: RawAnswers, theirs: RawAnswers
) -> Compared:
    """Return the terms that have a weight, over one normaliser, and the share of foreground that carries each."""
    num_foreground = regions.foreground.sum()
    found = Compared()
    class_term = compare_classes(classification, regions, own, theirs)
    box_term = compare_boxes(regression, regions, own, theirs)
    for name, gate_name, weight, (divergence, gate) in (
        ("classification", "class_open", classification.weight, class_term),
        ("regression", "box_open", regression.weight, box_term),
    ):
        if weight:
            found.terms[name] = gated_loss(divergence, gate, num_foreground)
            found.gates[gate_name] = Gate((regions.foreground & gate).sum(), num_foreground)
    return found


def compare_classes(
    settings: Classification, regions: Regions, own: RawAnswers, theirs: RawAnswers
) -> tuple[Tensor, Tensor]:
    """Return divergence and gate of every region, [R] each."""
    if settings.divergence == "bce":
        divergence = bce_divergence(own.class_logits, theirs.class_logits)
    else:
        divergence = kl_divergence(own.class_logits, theirs.class_logits, settings.temperature)
    everywhere = settings.gate in ("all", "teacher_better_all")
    gate = torch.ones_like(regions.foreground) if everywhere else regions.foreground
    if settings.gate in ("teacher_better", "teacher_better_all"):
        gate = gate & teacher_better_gate(own.class_logits, theirs.class_logits, regions.labels)
    return divergence, gate


def compare_boxes(settings: Regression, regions: Regions, own: RawAnswers, theirs: RawAnswers) -> tuple[Tensor, Tensor]:
    """Return distance and gate of every region, [R] each."""
    with torch.no_grad():
        gate = regions.foreground & box_gate(
            settings.reference,
            own.boxes_of(regions.labels),
            theirs.boxes_of(regions.labels),
            torch.cat(regions.boxes),
            regions.gt_boxes,
        )
    return delta_distance(own.deltas_of(regions.labels), theirs.deltas_of(regions.labels)), gate
