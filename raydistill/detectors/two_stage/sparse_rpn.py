"""The head of a region proposal network on a few anchors: a hundred of a teacher's ten thousand carry a term."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torchvision.models.detection.rpn import RPNHead

from raydistill.detectors.values import AnchorAnswers

_REACH = 1  # cells around an anchor's own that a 3x3 convolution sees


def answers_at(head: RPNHead, levels: list[Tensor], indices: Tensor) -> AnchorAnswers:
    """Return what ``head`` says about the anchors ``indices`` alone, without looking at the other cells.

    The same numbers as those of the whole maps up to rounding; the convolution becomes a matrix product over the
    gathered neighbourhoods. Nothing here waits for a GPU.

    Args:
        head: torchvision's, one 3x3 convolution before the two outputs.
        levels: feature maps [N, D, h, w], finest first.
        indices: [F], anchors numbered image after image, in an image level after level, in a level row after row.
    """
    num_anchors = head.cls_logits.out_channels  # A per cell
    anchor = indices % num_anchors
    rows = _neighbourhoods(levels, torch.div(indices, num_anchors, rounding_mode="floor"))  # [F, 9, D]
    (block,) = head.conv
    convolution = block[0]
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)  # [D, 9 D]
    hidden = F.relu(F.linear(rows.flatten(1), weight, convolution.bias))
    own = torch.arange(len(indices), device=indices.device)
    objectness = _at_a_cell(head.cls_logits, hidden)[own, anchor]
    deltas = _at_a_cell(head.bbox_pred, hidden).view(-1, num_anchors, 4)[own, anchor]
    return AnchorAnswers(objectness, deltas)


def _at_a_cell(convolution: torch.nn.Conv2d, hidden: Tensor) -> Tensor:
    """Apply a 1x1 convolution to cells [F, D]."""
    return F.linear(hidden, convolution.weight.flatten(1), convolution.bias)


def _neighbourhoods(levels: list[Tensor], cells: Tensor) -> Tensor:
    """Gather the 3x3 cells around each of ``cells`` [F], zeros beyond the edge: [F, 9, D].

    Cells are numbered over all images, in an image level after level.
    """
    device = cells.device
    per_image = sum(level.shape[2] * level.shape[3] for level in levels)
    image = torch.div(cells, per_image, rounding_mode="floor").unsqueeze(1)  # [F, 1]
    in_image = cells % per_image
    offsets = torch.arange(-_REACH, _REACH + 1, device=device)
    side = len(offsets)
    dy, dx = offsets.repeat_interleave(side, output_size=side * side), offsets.repeat(side)  # [9]
    gathered = levels[0].new_zeros(len(cells), side * side, levels[0].shape[1])
    start = 0
    for level in levels:
        height, width = level.shape[2:]
        here = in_image - start
        on_level = (here >= 0) & (here < height * width)
        here = here.clamp(0, height * width - 1)
        y = torch.div(here, width, rounding_mode="floor").unsqueeze(1) + dy  # [F, 9]
        x = (here % width).unsqueeze(1) + dx
        inside = on_level.unsqueeze(1) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        found = level[image, :, y.clamp(0, height - 1), x.clamp(0, width - 1)]  # [F, 9, D]
        gathered = torch.where(inside.unsqueeze(2), found, gathered)
        start += height * width
    return gathered
