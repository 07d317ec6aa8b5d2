"""Random changes of training images and their boxes, with torchvision's transforms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from raydistill.config.sections import Augmentation
from raydistill.structures import Target

Augment = Callable[[Tensor, Target], tuple[Tensor, Target]]
"""Image uint8 [3, H, W] and target with boxes [M, 4], labels [M] -> the same, changed; draws from torch's CPU RNG."""

# Padding has the mean colour of ImageNet, that is zero after normalisation, like the padding of batches.
_PADDING = (124, 116, 104)
_LEAST_SHARE = 0.25  # of its area that a box must keep in the frame to stay an object
_LEAST_SIDE = 1.0  # in pixels


def build_augmentation(augmentation: Augmentation) -> Augment:
    """Build the augmentation that the settings ask for; transforms that would do nothing are left out."""
    transforms: list[v2.Transform] = []
    if augmentation.horizontal_flip > 0:
        transforms.append(v2.RandomHorizontalFlip(augmentation.horizontal_flip))
    if augmentation.scale_jitter != (1.0, 1.0):
        transforms.append(ScaleJitter(*augmentation.scale_jitter))
    return _Transforms(tuple(transforms))


@dataclass(frozen=True)
class _Transforms:
    """Wraps image and boxes for torchvision's transforms and unwraps what comes out."""

    transforms: tuple[v2.Transform, ...]

    def __call__(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        if not self.transforms:
            return image, target
        height, width = image.shape[-2:]
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=(height, width))
        changed: Any = (tv_tensors.Image(image), {"boxes": boxes, "labels": target["labels"]})
        for transform in self.transforms:
            changed = transform(*changed)
        pixels, objects = changed
        return pixels.as_subclass(Tensor), Target(
            boxes=objects["boxes"].as_subclass(Tensor), labels=objects["labels"], image_id=target["image_id"]
        )


class ScaleJitter(v2.Transform):  # type: ignore[misc]  # torchvision is untyped
    """Zoom by a factor drawn log-uniformly from [low, high]; the frame keeps its size.

    Above 1 a random part of the enlarged image is kept; below 1 the smaller image is put at a random place of the
    frame. Boxes are clipped to the frame; those that keep less than a quarter of their area, or have a side under one
    pixel, are dropped with their labels.
    """

    def __init__(self, low: float, high: float) -> None:
        """Set the range of the factor."""
        super().__init__()
        self.low, self.high = low, high

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the zoomed ``size`` (height, width) and the ``place`` (x, y) of its first pixel in the frame."""
        height, width = functional.get_size(flat_inputs[0])
        drawn = torch.rand(3).tolist()
        factor = math.exp(math.log(self.low) + drawn[0] * (math.log(self.high) - math.log(self.low)))
        size = max(1, round(height * factor)), max(1, round(width * factor))
        place = _between(width - size[1], drawn[1]), _between(height - size[0], drawn[2])
        return {"size": size, "place": place}

    def forward(self, *inputs: Any) -> Any:
        """Transform (image [3, H, W], {boxes [M, 4], labels [M]}) into the same with other pixels and M."""
        image, objects = inputs
        height, width = functional.get_size(image)
        params = self.make_params([image])
        size, (x, y) = params["size"], params["place"]
        zoomed = functional.resize(image, list(size), antialias=True)
        pixels = zoomed[:, max(0, -y) : max(0, -y) + height, max(0, -x) : max(0, -x) + width]
        frame = torch.tensor(_PADDING, dtype=image.dtype)[:, None, None].repeat(1, height, width)
        top, left = max(0, y), max(0, x)
        frame[:, top : top + pixels.shape[1], left : left + pixels.shape[2]] = pixels

        scale = torch.tensor([size[1] / width, size[0] / height] * 2)
        moved = objects["boxes"].as_subclass(Tensor) * scale + torch.tensor([x, y, x, y])
        clipped = torch.stack(
            [moved[:, side].clamp(0, limit) for side, limit in enumerate((width, height, width, height))], dim=1
        )
        sides = clipped[:, 2:] - clipped[:, :2]
        areas = (moved[:, 2:] - moved[:, :2]).prod(1)
        kept = (sides >= _LEAST_SIDE).all(1) & (sides.prod(1) >= _LEAST_SHARE * areas)
        boxes = tv_tensors.wrap(clipped[kept], like=objects["boxes"])
        return tv_tensors.Image(frame), {"boxes": boxes, "labels": objects["labels"][kept]}


def _between(room: int, drawn: float) -> int:
    """Map ``drawn`` in [0, 1) onto the whole numbers from 0 to ``room``, which may be negative; both ends included."""
    return int(math.copysign(math.floor(drawn * (abs(room) + 1)), room))
