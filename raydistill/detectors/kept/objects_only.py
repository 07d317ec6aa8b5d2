"""Maps of which only the cells on objects are kept: a feature term under the masks of boxes reads no others."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from raydistill.detectors.kept.tensors import Tensors
from raydistill.structures import Features

_MARGIN = 1  # cells around a box that are kept too: a batch that is padded further has strides that differ a little
_COARSE = 16  # a level with fewer cells than the finest by this factor is kept whole
_CELLS = "/cells"  # end of the name of what says which cells of a level are kept


def cut(maps: Features, boxes: Tensor, size: tuple[int, int]) -> Tensors:
    """Return the cells of ``maps`` [D, h, w] that lie on objects: [D, n] of a level, and which they are, [h, w] bool.

    Args:
        maps: of one image.
        boxes: [M, 4], its objects.
        size: (H, W) in pixels of what the maps cover.
    """
    finest = max(values.shape[1] * values.shape[2] for values in maps.values())
    found: Tensors = {}
    for level, values in maps.items():
        rows, columns = values.shape[1:]
        if rows * columns * _COARSE <= finest:
            found[level] = values
            continue
        inside = _cells(boxes, (rows, columns), size)
        found[level], found[f"{level}{_CELLS}"] = values[:, inside], inside
    return found


def filled(kept: Tensors) -> Features:
    """Return maps [D, h, w] with what ``cut`` has kept, and zeros elsewhere."""
    maps: Features = {}
    for level, values in kept.items():
        if level.endswith(_CELLS):
            continue
        inside = kept.get(f"{level}{_CELLS}")
        if inside is None:
            maps[level] = values
            continue
        maps[level] = values.new_zeros(values.shape[0], *inside.shape)
        maps[level][:, inside] = values
    return maps


def known_by(boxes: Tensor) -> str:
    """Return a text that stands for ``boxes`` [M, 4]."""
    return hashlib.blake2b(boxes.detach().cpu().contiguous().numpy().tobytes(), digest_size=8).hexdigest()


def _cells(boxes: Tensor, cells: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return the cells that boxes touch, and those around them, [h, w] bool."""
    of_axes = []
    for low, high, count, side in ((1, 3, cells[0], size[0]), (0, 2, cells[1], size[1])):
        stride = side / count
        at = torch.arange(count, device=boxes.device)
        first = (boxes[:, low, None] / stride).floor() - _MARGIN
        last = (boxes[:, high, None] / stride).floor() + _MARGIN
        of_axes.append((at >= first) & (at <= last))  # [M, cells]
    return (of_axes[0].unsqueeze(2) & of_axes[1].unsqueeze(1)).any(dim=0)
