"""The values that travel between modules.

Shapes: N images, H x W pixels of the padded batch, D channels, h x w cells, R regions (over all images of a batch,
image after image), A anchors (likewise), F sampled foreground anchors, B boxes (likewise), M objects of one image,
K classes without background, C = K + 1 with it. Boxes are ``xyxy`` in pixels of the resized image unless said
otherwise; label 0 is the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from torch import Tensor

Features = dict[str, Tensor]
"""Pyramid level -> [N, D, h, w], finest first."""
LossDict = dict[str, Tensor]
"""Name of a term -> scalar."""


class Target(TypedDict, total=False):
    """The objects of one image, or what a detector found there."""

    boxes: Tensor  # [M, 4]
    labels: Tensor  # [M], 1 to K
    scores: Tensor  # [M], detections only
    image_id: int  # as in the data's annotations
    digest: str  # stands for the pixels as they came from the loader, where somebody wants to know them again


@dataclass(frozen=True)
class Batch:
    """Images resized, normalised and padded once, as both nets see them."""

    images: Tensor  # [N, 3, H, W]
    image_sizes: list[tuple[int, int]]  # (height, width) of each image without padding
    targets: list[Target]  # boxes in pixels of the resized image
