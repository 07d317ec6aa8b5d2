"""How good a head's answers are, on regions small enough to compute by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raydistill.detectors.two_stage.values import HeadAnswers
from raydistill.detectors.values import Regions
from raydistill.methods.quality import answer_quality

BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]])
OBJECTS = torch.tensor([[0.0, 0, 10, 10], [0, 0, 20, 10], [0, 0, 0, 0]])


def _regions(labels: list[int]) -> Regions:
    return Regions([BOXES], torch.tensor(labels), OBJECTS)


def _answers(logits: Tensor, deltas: Tensor) -> HeadAnswers:
    """Return answers whose deltas shift the sides of a region's box."""
    return HeadAnswers(logits, deltas, BOXES, torch.add)


def test_foreground_regions_are_measured_on_their_true_class() -> None:
    logits = torch.tensor([[0.0, 0, 0], [0, 2, 0], [9, 0, 0]])
    deltas = torch.zeros(3, 3, 4)
    deltas[1, 2, 2] = 10.0  # the box of class 2 is made as wide as its object
    quality = answer_quality(_answers(logits, deltas), _regions([1, 2, 0]))
    second = 1 / (2 + torch.e**2)
    assert quality["probability"].open.item() == pytest.approx(1 / 3 + second)
    assert quality["iou"].open.item() == pytest.approx(2.0)
    assert {name: gate.total.item() for name, gate in quality.items()} == {"probability": 2, "iou": 2}
    other_class = answer_quality(_answers(logits, deltas), _regions([1, 1, 0]))
    assert other_class["iou"].open.item() == pytest.approx(1.5)


def test_without_foreground_there_is_nothing_to_measure() -> None:
    quality = answer_quality(_answers(torch.zeros(3, 2), torch.zeros(3, 2, 4)), _regions([0, 0, 0]))
    assert all(gate.open.item() == gate.total.item() == 0 for gate in quality.values())
