"""Arithmetic on boxes: paired overlap, and the masks that boxes lay over feature maps."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

MaskKind = Literal["gaussian", "box"]


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU of row i of ``boxes`` with row i of ``others``, both [R, 4]; [R]; 0 where both are empty.

    >>> paired_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])).item()
    0.3333333432674408
    """
    boxes, others = boxes.float(), others.float()
    top_left = torch.maximum(boxes[:, :2], others[:, :2])
    bottom_right = torch.minimum(boxes[:, 2:], others[:, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
    other_areas = (others[:, 2:] - others[:, :2]).clamp(min=0).prod(dim=1)
    union = areas + other_areas - intersection
    return intersection / union.clamp(min=torch.finfo(union.dtype).tiny)


def box_masks(
    boxes: Tensor,
    image_indices: Tensor,
    num_images: int,
    cells: tuple[int, int],
    stride: tuple[float, float],
    kind: MaskKind,
    sigma_squared: float,
) -> Tensor:
    """Return the mask M that boxes lay over one pyramid level, [N, h, w]; where they overlap, the maximum.

    With ``gaussian``, M(x, y) = exp(-(x - x0)^2 / (s (w/2)^2) - (y - y0)^2 / (s (h/2)^2)) inside, s being
    ``sigma_squared``; with ``box``, 1 inside. Taken at cell centres, (i + 0.5) * stride. Along an axis on which a box
    is smaller than a cell it counts 1 in the cell of its centre: no object is lost. METHOD section 3.

    Args:
        boxes: [B, 4], over all images; none gives zeros.
        image_indices: [B], the image of each box.
        num_images: N.
        cells: (h, w) of the level.
        stride: (vertical, horizontal) pixels per cell.
        kind: Gaussian or binary.
        sigma_squared: width of the Gaussian in half box sides, squared.
    """
    x_profile = _profile(boxes[:, 0], boxes[:, 2], cells[1], stride[1], kind, sigma_squared)  # [B, w]
    y_profile = _profile(boxes[:, 1], boxes[:, 3], cells[0], stride[0], kind, sigma_squared)  # [B, h]
    masks = y_profile.unsqueeze(2) * x_profile.unsqueeze(1)  # [B, h, w]
    image_of_cell = image_indices.view(-1, 1, 1).expand_as(masks)
    return boxes.new_zeros(num_images, *cells).scatter_reduce_(0, image_of_cell, masks, "amax")


def _profile(low: Tensor, high: Tensor, num_cells: int, stride: float, kind: MaskKind, sigma_squared: float) -> Tensor:
    """Return the mask of intervals [low, high] along one axis, [B, num_cells]."""
    centers = (torch.arange(num_cells, device=low.device, dtype=low.dtype) + 0.5) * stride  # [num_cells]
    middle, half = (low + high) / 2, (high - low) / 2  # [B]
    inside = (centers >= low.unsqueeze(1)) & (centers <= high.unsqueeze(1))
    if kind == "gaussian":
        offset = (centers - middle.unsqueeze(1)) / half.clamp(min=1e-6).unsqueeze(1)
        profile = torch.exp(-offset.square() / sigma_squared) * inside
    else:
        profile = inside.to(low.dtype)
    center_cell = (middle / stride).floor().clamp(0, num_cells - 1).unsqueeze(1)  # [B, 1]
    only_center = (torch.arange(num_cells, device=low.device) == center_cell).to(low.dtype)
    return torch.where((high - low < stride).unsqueeze(1), only_center, profile)


def image_mask(image_sizes: list[tuple[int, int]], cells: tuple[int, int], stride: tuple[float, float]) -> Tensor:
    """Return 1 on the cells whose centre lies in the image and 0 on the padding, [N, h, w], on the CPU."""
    sizes = torch.tensor(image_sizes, dtype=torch.float32).reshape(-1, 2)
    rows = (torch.arange(cells[0]) + 0.5) * stride[0] < sizes[:, :1]  # [N, h]
    columns = (torch.arange(cells[1]) + 0.5) * stride[1] < sizes[:, 1:]  # [N, w]
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).float()
