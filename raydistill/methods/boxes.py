"""Arithmetic on boxes: paired overlap, and the masks that boxes lay over feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Grid:
    """The cells of all pyramid levels along both axes, one level after the other: masks of all levels in one go."""

    rows: Axis
    columns: Axis

    @staticmethod
    def of(levels: Sequence[tuple[int, int]], size: tuple[int, int], device: torch.device) -> Grid:
        """Lay out ``levels`` of (h, w) cells each over a batch of ``size`` (H, W) pixels."""
        heights, widths = zip(*levels, strict=True)
        return Grid(Axis.of(heights, size[0], device), Axis.of(widths, size[1], device))


@dataclass(frozen=True)
class Axis:
    """The cells of all levels along one axis, S in sum."""

    counts: list[int]  # cells of each level
    level: Tensor  # [S], which level a cell is of
    cell: Tensor  # [S], its number within the level
    last: Tensor  # [S], the number of the level's last cell
    stride: Tensor  # [S], pixels per cell

    @staticmethod
    def of(counts: Sequence[int], size: int, device: torch.device) -> Axis:
        """Lay out levels of ``counts`` cells over ``size`` pixels."""
        level = [number for number, count in enumerate(counts) for _ in range(count)]
        cell = [cell for count in counts for cell in range(count)]
        table = torch.tensor([level, cell, [counts[number] for number in level]]).to(device, non_blocking=True)
        return Axis(list(counts), table[0], table[1], table[2] - 1, size / table[2].float())

    @property
    def centers(self) -> Tensor:
        """Pixels of the cells' centres, [S]."""
        return (self.cell + 0.5) * self.stride

    def per_level(self, values: Tensor) -> tuple[Tensor, ...]:
        """Cut ``values`` [B, S] into those of each level."""
        return torch.split(values, self.counts, dim=1)


def box_masks(
    boxes: Tensor,
    image_indices: Tensor,
    num_images: int,
    grid: Grid,
    kind: MaskKind,
    sigma_squared: float,
    box_levels: Tensor | None = None,
) -> list[Tensor]:
    """Return the mask M that boxes lay over each pyramid level, [N, h, w]; where they overlap, the maximum.

    With ``gaussian``, M(x, y) = exp(-(x - x0)^2 / (s (w/2)^2) - (y - y0)^2 / (s (h/2)^2)) inside, s being
    ``sigma_squared``; with ``box``, 1 inside. Taken at cell centres, (i + 0.5) * stride. Along an axis on which a box
    is smaller than a cell it counts 1 in the cell of its centre: no object is lost. METHOD section 3.

    Args:
        boxes: [B, 4], over all images; none gives zeros.
        image_indices: [B], the image of each box.
        num_images: N.
        grid: the cells of all levels.
        kind: Gaussian or binary.
        sigma_squared: width of the Gaussian in half box sides, squared.
        box_levels: [B], the only level that a box lies on; ``None``: it lies on all.
    """
    x_profile = _profile(boxes[:, 0], boxes[:, 2], grid.columns, kind, sigma_squared)  # [B, S]
    y_profile = _profile(boxes[:, 1], boxes[:, 3], grid.rows, kind, sigma_squared)
    if box_levels is not None:
        y_profile = y_profile * (box_levels.unsqueeze(1) == grid.rows.level)
    masks = []
    for x, y in zip(grid.columns.per_level(x_profile), grid.rows.per_level(y_profile), strict=True):
        of_boxes = y.unsqueeze(2) * x.unsqueeze(1)  # [B, h, w]
        image_of_cell = image_indices.view(-1, 1, 1).expand_as(of_boxes)
        empty = boxes.new_zeros(num_images, *of_boxes.shape[1:])
        masks.append(empty.scatter_reduce_(0, image_of_cell, of_boxes, "amax"))
    return masks


def _profile(low: Tensor, high: Tensor, axis: Axis, kind: MaskKind, sigma_squared: float) -> Tensor:
    """Return the mask of intervals [low, high], [B] each, along one axis, [B, S]."""
    low, high = low.unsqueeze(1), high.unsqueeze(1)  # [B, 1]
    middle, half = (low + high) / 2, (high - low) / 2
    centers = axis.centers  # [S]
    profile = ((centers >= low) & (centers <= high)).to(low.dtype)
    if kind == "gaussian":
        offset = (centers - middle) / half.clamp(min=1e-6)
        profile = torch.exp(-offset.square() / sigma_squared) * profile
    center_cell = torch.minimum((middle / axis.stride).floor().clamp(min=0), axis.last)
    only_center = (axis.cell == center_cell).to(low.dtype)
    return torch.where(high - low < axis.stride, only_center, profile)


def image_masks(image_sizes: list[tuple[int, int]], grid: Grid) -> list[Tensor]:
    """Return 1 on the cells of each level whose centre lies in the image and 0 on the padding, [N, h, w]."""
    device = grid.rows.cell.device
    sizes = torch.tensor(image_sizes, dtype=torch.float32).to(device, non_blocking=True).reshape(-1, 2)
    rows = grid.rows.per_level((grid.rows.centers < sizes[:, :1]).float())  # [N, h] of each level
    columns = grid.columns.per_level((grid.columns.centers < sizes[:, 1:]).float())
    return [row.unsqueeze(2) * column.unsqueeze(1) for row, column in zip(rows, columns, strict=True)]
