from __future__ import annotations

import torch

from raydistill.detectors.two_stage.values import HeadAnswers
from raydistill.detectors.values import Regions


def regions(*counts: int, start: int = 0) -> Regions:
    """Return regions of which each is numbered in its boxes, labels and objects."""
    numbers = torch.arange(start, start + sum(counts))
    boxes = numbers.float().unsqueeze(1).repeat(1, 4)
    return Regions(list(torch.split(boxes, list(counts))), numbers, boxes + 0.5)


def numbers_of(some: Regions) -> list[list[int]]:
    rows = torch.cat(some.boxes)
    assert torch.equal(rows[:, 0].long(), some.labels)
    assert torch.equal(rows + 0.5, some.gt_boxes)
    return [boxes[:, 0].long().tolist() for boxes in some.boxes]


def test_that_selected_regions_stay_with_their_image_and_in_order():
    keep = torch.tensor([False, True, True, False, False, True])
    chosen, rows = regions(3, 2, 1).select(keep)
    assert numbers_of(chosen) == [[1, 2], [], [5]]
    assert rows.tolist() == [1, 2, 5]


def test_that_selecting_nothing_leaves_every_image_without_regions():
    chosen, rows = regions(2, 1).select(torch.zeros(3, dtype=torch.bool))
    assert numbers_of(chosen) == [[], []]
    assert rows.shape == (0,)


def test_that_joined_regions_go_image_after_image():
    joined, order = regions(2, 0, 1).join(regions(1, 2, 0, start=100))
    assert numbers_of(joined) == [[0, 1, 100], [101, 102], [2]]
    assert order.tolist() == [0, 1, 3, 4, 5, 2]


def test_that_joined_outputs_follow_the_regions():
    own, others = regions(2, 1), regions(1, 2, start=100)
    joined, order = own.join(others)
    outputs = [
        HeadAnswers(some.labels.float().unsqueeze(1), some.gt_boxes.unsqueeze(1), torch.cat(some.boxes), torch.add)
        for some in (own, others)
    ]
    both = outputs[0].join(outputs[1], order)
    assert both.class_logits.squeeze(1).long().tolist() == joined.labels.tolist()
    assert torch.equal(both.box_deltas.squeeze(1), joined.gt_boxes)
    assert torch.equal(both.boxes, torch.cat(joined.boxes))
