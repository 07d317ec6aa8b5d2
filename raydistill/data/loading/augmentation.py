"""Random changes of training images and their boxes.

Plain functions of tensors: torchvision's transforms give the same numbers, and wrapping and unwrapping their inputs
takes several times as long as flipping an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional

from raydistill.config.sections import Augmentation
from raydistill.structures import Target

Augment = Callable[[Tensor, Target, Generator], tuple[Tensor, Target]]
"""Image uint8 [3, H, W], target with boxes [M, 4], labels [M], CPU generator to draw from -> the two, changed."""

# Padding has the mean colour of ImageNet, that is zero after normalisation, like the padding of batches.
_PADDING = (124, 116, 104)
_LEAST_SHARE = 0.25  # of its area that a box must keep in the frame to stay an object
_LEAST_SIDE = 1.0  # in pixels


def build_augmentation(augmentation: Augmentation) -> Augment:
    """Build the augmentation that the settings ask for; what would do nothing is left out and draws nothing."""
    changes: list[Augment] = []
    if augmentation.horizontal_flip > 0:
        changes.append(HorizontalFlip(augmentation.horizontal_flip))
    if augmentation.scale_jitter != (1.0, 1.0):
        changes.append(ScaleJitter(*augmentation.scale_jitter))
    return _InTurn(tuple(changes))


@dataclass(frozen=True)
class _InTurn:
    changes: tuple[Augment, ...]

    def __call__(self, image: Tensor, target: Target, generator: Generator) -> tuple[Tensor, Target]:
        for change in self.changes:
            image, target = change(image, target, generator)
        return image, target


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror left to right with a ``probability``."""

    probability: float

    def __call__(self, image: Tensor, target: Target, generator: Generator) -> tuple[Tensor, Target]:
        """Return image [3, H, W] and target, mirrored or as they are."""
        if torch.rand(1, generator=generator).item() >= self.probability:
            return image, target
        boxes = target["boxes"].clone()
        boxes[:, [2, 0]] = boxes[:, [0, 2]].sub_(image.shape[-1]).neg_()
        return image.flip(-1), _with_objects(target, boxes, target["labels"])


@dataclass(frozen=True)
class ScaleJitter:
    """Zoom by a factor drawn log-uniformly from [low, high]; the frame keeps its size.

    Above 1 a random part of the enlarged image is kept; below 1 the smaller image is put at a random place of the
    frame. Boxes are clipped to the frame; those that keep less than a quarter of their area, or have a side under one
    pixel, are dropped with their labels.
    """

    low: float
    high: float

    def __call__(self, image: Tensor, target: Target, generator: Generator) -> tuple[Tensor, Target]:
        """Return image [3, H, W] and target, zoomed; the number of objects may change."""
        height, width = image.shape[-2:]
        size, (x, y) = self._draw(height, width, generator)
        zoomed = functional.resize(image, list(size), antialias=True)
        pixels = zoomed[:, max(0, -y) : max(0, -y) + height, max(0, -x) : max(0, -x) + width]
        frame = torch.tensor(_PADDING, dtype=image.dtype)[:, None, None].repeat(1, height, width)
        top, left = max(0, y), max(0, x)
        frame[:, top : top + pixels.shape[1], left : left + pixels.shape[2]] = pixels

        scale = torch.tensor([size[1] / width, size[0] / height] * 2)
        boxes, kept = _clip(target["boxes"] * scale + torch.tensor([x, y, x, y]), height, width)
        return frame, _with_objects(target, boxes[kept], target["labels"][kept])

    def _draw(self, height: int, width: int, generator: Generator) -> tuple[tuple[int, int], tuple[int, int]]:
        """Draw the zoomed size (height, width) and the place (x, y) of its first pixel in the frame."""
        drawn = torch.rand(3, generator=generator).tolist()
        factor = math.exp(math.log(self.low) + drawn[0] * (math.log(self.high) - math.log(self.low)))
        size = max(1, round(height * factor)), max(1, round(width * factor))
        return size, (_between(width - size[1], drawn[1]), _between(height - size[0], drawn[2]))


def _with_objects(target: Target, boxes: Tensor, labels: Tensor) -> Target:
    return Target(boxes=boxes, labels=labels, image_id=target["image_id"])


def _clip(boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Clip ``boxes`` [M, 4] to the frame; say which keep enough, [M] bool."""
    limits = (width, height, width, height)
    clipped = torch.stack([boxes[:, side].clamp(0, limit) for side, limit in enumerate(limits)], dim=1)
    sides = clipped[:, 2:] - clipped[:, :2]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return clipped, (sides >= _LEAST_SIDE).all(1) & (sides.prod(1) >= _LEAST_SHARE * areas)


def _between(room: int, drawn: float) -> int:
    """Map ``drawn`` in [0, 1) onto the whole numbers from 0 to ``room``, which may be negative; both ends included."""
    return int(math.copysign(math.floor(drawn * (abs(room) + 1)), room))
