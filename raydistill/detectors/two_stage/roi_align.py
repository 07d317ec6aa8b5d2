"""RoIAlign on a CPU as the product with a sparse matrix: torchvision's numbers up to rounding in a fifth of its time.

Pooling is linear in the feature maps: a bin of a region is a weighted sum of at most 16 cells (2 x 2 samples, each
interpolated between 4 cells; He et al., Mask R-CNN, 2017, section 3). Which cells and weights these are depends on the
boxes alone and is the same for all channels; per axis at most 4 lines take part, and a cell's weight is the product of
its line's and its column's. Forward, backward and second derivatives are products with that one matrix or its
transpose, a few channels at a time, so that what is being read stays in the processor's cache.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.ops import MultiScaleRoIAlign

from raydistill.structures import Features

_SAMPLES = 2  # per bin and axis
_CACHED = 2**21  # numbers that are worked on at once
_LEAST_CHANNELS = 16  # at once: a line of the processor's cache
_HALVES = (torch.bfloat16, torch.float16)


def pool_regions(
    pooler: MultiScaleRoIAlign, features: Features, boxes: list[Tensor], image_sizes: list[tuple[int, int]]
) -> Tensor:
    """Return what ``pooler(features, boxes, image_sizes)`` does, [R, D, h, w], up to rounding.

    ``pooler`` itself is asked where it is not torchvision's own with 2 samples per axis, on other devices than a CPU,
    in types that torchvision would refuse, and where a net is traced or compiled. What it learns from its first batch,
    it learns here too.
    """
    maps = [level for name, level in features.items() if name in pooler.featmap_names]
    if not _is_ours(pooler, maps, boxes):
        pooled: Tensor = pooler(features, boxes, image_sizes)
        return pooled
    if pooler.scales is None or pooler.map_levels is None:
        pooler(features, [rows[:0] for rows in boxes], image_sizes)
    ours: Tensor = _Pool.apply(_sampling(pooler, maps, boxes), *maps)
    return ours


def with_pool_regions(net: FasterRCNN) -> FasterRCNN:
    """Return ``net`` with its regions pooled by ``pool_regions``; it shares all else, and ``net`` stays as it is."""
    heads, changed = copy.copy(net.roi_heads), copy.copy(net)
    heads._modules = {**heads._modules, "box_roi_pool": _Pooler(net.roi_heads.box_roi_pool)}
    changed._modules = {**net._modules, "roi_heads": heads}
    return changed


class _Pooler(nn.Module):
    """``pool_regions`` in the place of torchvision's pooler."""

    def __init__(self, pooler: MultiScaleRoIAlign) -> None:
        super().__init__()
        self.pooler = pooler

    def forward(self, features: Features, boxes: list[Tensor], image_sizes: list[tuple[int, int]]) -> Tensor:
        """Pool regions [Ri, 4] of each image."""
        return pool_regions(self.pooler, features, boxes, image_sizes)


def _is_ours(pooler: MultiScaleRoIAlign, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> bool:
    """Return whether torchvision would pool these on a CPU, with as many samples as are known here."""
    if type(pooler) is not MultiScaleRoIAlign or pooler.sampling_ratio != _SAMPLES or not maps:
        return False
    if torch._C._get_tracing_state() is not None or torch.compiler.is_compiling():
        return False
    if not any(len(rows) for rows in boxes) or not all(level.numel() for level in maps):
        return False
    tensors = [*maps, *boxes]
    if any(type(tensor) is not Tensor or tensor.device.type != "cpu" for tensor in tensors):
        return False
    kinds = {tensor.dtype for tensor in tensors}
    if torch.is_autocast_enabled("cpu"):  # torchvision computes in single precision then
        return kinds <= {torch.float32, *_HALVES} and len({level.dtype for level in maps}) == 1
    return kinds in ({torch.float32}, {torch.float64})


@dataclass
class _Sampling:
    """The matrix, [R x h x w bins, cells], by its rows; cells are numbered map after map and image after image."""

    cells: Tensor  # [E] int32
    weights: Tensor  # [E]
    starts: Tensor  # [bins + 1] int32, of the rows
    size: tuple[int, int]  # h, w
    num_cells: int

    @property
    def num_bins(self) -> int:
        """How many bins there are in all regions."""
        return len(self.starts) - 1

    def channels_at_once(self, num_channels: int) -> int:
        """Return how many channels are best worked on at once."""
        fitting = _CACHED // (self.num_cells + self.num_bins)
        return min(num_channels, max(_LEAST_CHANNELS, 1 << max(fitting, 1).bit_length() - 1))

    @functools.cached_property
    def transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        """By its columns: bins [E], weights [E] and the columns' starts [cells + 1]."""
        cells, order = self.cells.sort(stable=True)
        bins = torch.repeat_interleave(
            torch.arange(self.num_bins, dtype=torch.int32), self.starts.diff(), output_size=len(cells)
        )
        starts = torch.zeros(self.num_cells + 1, dtype=torch.int32)
        torch.cumsum(torch.bincount(cells, minlength=self.num_cells), 0, dtype=torch.int32, out=starts[1:])
        return bins[order], self.weights[order], starts


def _sampling(pooler: MultiScaleRoIAlign, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> _Sampling:
    """Find the cells that make up each bin, and their weights."""
    height, width = pooler.output_size
    heights, widths, scales = ([] for _ in range(3))
    firsts, num_cells = [], 0
    for level, scale in zip(maps, pooler.scales, strict=True):
        heights.append(level.shape[2])
        widths.append(level.shape[3])
        scales.append(scale)
        firsts.append(num_cells)
        num_cells += level.shape[0] * level.shape[2] * level.shape[3]
    rows = torch.cat(list(boxes))
    assigned = pooler.map_levels(list(boxes)) if len(maps) > 1 else torch.zeros(len(rows), dtype=torch.int64)
    exists = (assigned >= 0) & (assigned < len(maps))  # of a box without area, where that is negative, none does
    assigned = assigned.clamp(0, len(maps) - 1)
    rows = rows.to(torch.float64 if maps[0].dtype == torch.float64 else torch.float32)
    rows = rows * torch.tensor(scales, dtype=rows.dtype)[assigned].unsqueeze(1)
    heights_of, widths_of, firsts_of = (
        torch.tensor(values, dtype=torch.int32)[assigned] for values in (heights, widths, firsts)
    )
    image = torch.repeat_interleave(torch.arange(len(boxes), dtype=torch.int32), torch.tensor([len(b) for b in boxes]))
    firsts_of = firsts_of + image * heights_of * widths_of
    lines, line_weights = _along(rows[:, 1], rows[:, 3], heights_of, height)
    columns, column_weights = _along(rows[:, 0], rows[:, 2], widths_of, width)
    line_weights = line_weights * (exists / _SAMPLES**2).to(rows.dtype)[:, None, None]
    lines = lines * widths_of[:, None, None] + firsts_of[:, None, None]
    return _product(lines, columns, line_weights, column_weights, num_cells)


def _product(lines: Tensor, columns: Tensor, line_weights: Tensor, column_weights: Tensor, num_cells: int) -> _Sampling:
    """Return what the lines and columns of each bin, [R, h, 4] and [R, w, 4], have in common, without weights of 0."""
    num_rows, height, each = lines.shape
    width = columns.shape[1]
    pairs = each**2

    def cross(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:  # to broadcast: [R, h, 1, 16] and [R, 1, w, 16]
        repeated = first.repeat_interleave(each, 2, output_size=pairs), second.repeat(1, 1, each)
        return repeated[0][:, :, None], repeated[1][:, None]

    of_lines, of_columns = line_weights != 0, column_weights != 0
    first, second = cross(of_lines, of_columns)
    counted = (first & second).flatten().nonzero().squeeze(1)  # not of the product, which may underflow
    first, second = cross(lines, columns)
    cells = (first + second).flatten()
    first, second = cross(line_weights, column_weights)
    weights = (first * second).flatten()
    starts = torch.zeros(num_rows * height * width + 1, dtype=torch.int32)
    per_line, per_column = (of_axis.sum(2, dtype=torch.int32) for of_axis in (of_lines, of_columns))
    torch.cumsum((per_line[:, :, None] * per_column[:, None]).flatten(), 0, dtype=torch.int32, out=starts[1:])
    size = (height, width)
    return _Sampling(cells.index_select(0, counted), weights.index_select(0, counted), starts, size, num_cells)


def _along(low: Tensor, high: Tensor, size: Tensor, num_bins: int) -> tuple[Tensor, Tensor]:
    """Return lines [R, bins, 4] and their weights along one axis, by torchvision's rules.

    A sample beyond -1 or the size counts nothing, one between that and the first or last line counts as if it lay
    there. Lines that both samples take part in come once, the other time with weight 0.

    Args:
        low: where regions begin, in cells, [R].
        high: where they end.
        size: lines of their maps.
        num_bins: of each region.
    """
    length = (high - low).clamp(min=1)
    per_bin = (length / num_bins)[:, None, None]
    bins = torch.arange(num_bins, dtype=low.dtype)[:, None]
    samples = torch.arange(_SAMPLES, dtype=low.dtype) + 0.5
    at = low[:, None, None] + bins * per_bin + samples * per_bin / _SAMPLES  # [R, bins, 2]
    last = size.to(low.dtype)[:, None, None] - 1
    inside = (at >= -1) & (at <= last + 1)
    at = torch.minimum(torch.where(inside, at, 0).clamp(min=0), last)
    first = at.floor()
    share = (at - first) * inside
    lines = torch.stack([first, torch.minimum(first + 1, last)], 3).to(torch.int32)
    weights = torch.stack([inside.to(at.dtype) - share, share], 3)  # [R, bins, 2, 2]
    return _joined(lines, weights)


def _joined(lines: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Add the weights of lines that the first and the second of two samples share."""
    (one, next_one), (other, next_other) = (weights[:, :, sample].unbind(2) for sample in range(_SAMPLES))
    same = lines[:, :, 1, 0] == lines[:, :, 0, 0]
    follows = (lines[:, :, 1, 0] == lines[:, :, 0, 1]) & ~same
    joined = [
        one + other * same,
        next_one + next_other * same + other * follows,
        other * ~(same | follows),
        next_other * ~same,
    ]
    return lines.flatten(2), torch.stack(joined, 2)


class _Pool(torch.autograd.Function):
    """Maps [N, D, H, W] -> regions [R, D, h, w]."""

    @staticmethod
    def forward(ctx: Any, sampling: _Sampling, *maps: Tensor) -> Tensor:
        """Multiply with the matrix."""
        ctx.sampling, ctx.shapes = sampling, [level.shape for level in maps]
        num_channels, at_once = maps[0].shape[1], sampling.channels_at_once(maps[0].shape[1])
        cells = sampling.weights.new_empty(sampling.num_cells * at_once)
        bins_per_region = sampling.size[0] * sampling.size[1]
        pooled = maps[0].new_empty(sampling.num_bins // bins_per_region, num_channels, bins_per_region)
        for start in range(0, num_channels, at_once):
            part = slice(start, min(start + at_once, num_channels))
            width = part.stop - part.start
            block = cells[: sampling.num_cells * width].view(-1, width)
            for level, mine in zip(maps, _by_map(block, ctx.shapes), strict=True):
                mine.copy_(level[:, part].permute(0, 2, 3, 1))
            summed = _summed(block, sampling.cells, sampling.weights, sampling.starts)
            pooled[:, part] = summed.view(len(pooled), bins_per_region, width).transpose(1, 2)
        return pooled.view(*pooled.shape[:2], *sampling.size)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply with the transpose."""
        return None, *_Spread.apply(ctx.sampling, ctx.shapes, gradient)


class _Spread(torch.autograd.Function):
    """Gradients of regions [R, D, h, w] -> gradients of maps [N, D, H, W]: what ``_Pool`` does, transposed."""

    @staticmethod
    def forward(ctx: Any, sampling: _Sampling, shapes: list[torch.Size], gradient: Tensor) -> tuple[Tensor, ...]:
        """Multiply with the transpose of the matrix."""
        ctx.sampling = sampling
        num_channels, at_once = gradient.shape[1], sampling.channels_at_once(gradient.shape[1])
        bins, weights, starts = sampling.transposed
        maps = tuple(gradient.new_empty(shape) for shape in shapes)
        of_bins = gradient.flatten(2)
        rows = weights.new_empty(sampling.num_bins * at_once)
        for start in range(0, num_channels, at_once):
            part = slice(start, min(start + at_once, num_channels))
            width = part.stop - part.start
            block = rows[: sampling.num_bins * width].view(len(of_bins), -1, width)
            block.copy_(of_bins[:, part].transpose(1, 2))
            summed = _summed(block.view(-1, width), bins, weights, starts)
            for level, mine in zip(maps, _by_map(summed, shapes), strict=True):
                level[:, part] = mine.permute(0, 3, 1, 2)
        return maps

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply with the matrix itself."""
        return None, None, _Pool.apply(ctx.sampling, *gradients)


def _summed(rows: Tensor, indices: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    """Return for each stretch of ``indices`` the weighted sum of these ``rows``."""
    return F.embedding_bag(indices, rows, starts, mode="sum", per_sample_weights=weights, include_last_offset=True)


def _by_map(cells: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Return views of ``cells`` [cells, D], each [N, H, W, D]."""
    parts = torch.split(cells, [shape[0] * shape[2] * shape[3] for shape in shapes])
    return [part.view(shape[0], shape[2], shape[3], -1) for part, shape in zip(parts, shapes, strict=True)]
