"""The values that travel between modules.

Shapes: N images, H x W pixels of the padded batch, D channels, h x w cells, R regions (over all images of a batch,
image after image), A anchors (likewise), F sampled foreground anchors, B boxes (likewise), M objects of one image,
K classes without background, C = K + 1 with it. Boxes are ``xyxy`` in pixels of the resized image unless said
otherwise; label 0 is the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import torch
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


@dataclass(frozen=True)
class Batch:
    """Images resized, normalised and padded once, as both nets see them."""

    images: Tensor  # [N, 3, H, W]
    image_sizes: list[tuple[int, int]]  # (height, width) of each image without padding
    targets: list[Target]  # boxes in pixels of the resized image


@dataclass(frozen=True)
class Regions:
    """Boxes at which heads are evaluated and compared: sampled RoIs, or anchors."""

    boxes: list[Tensor]  # per image [Ri, 4]
    labels: Tensor  # [R], 0 is background
    gt_boxes: Tensor  # [R, 4], the matched object; without meaning for background

    @property
    def foreground(self) -> Tensor:
        """Which regions lie on an object, [R] bool."""
        return self.labels > 0

    def select(self, keep: Tensor) -> Regions:
        """Return the regions where ``keep`` [R] bool is true, in the same order."""
        kept = [boxes[mask] for boxes, mask in zip(self.boxes, torch.split(keep, self.counts), strict=True)]
        return Regions(kept, self.labels[keep], self.gt_boxes[keep])

    @property
    def counts(self) -> list[int]:
        """Number of regions of each image."""
        return [len(boxes) for boxes in self.boxes]


@dataclass(frozen=True)
class HeadOutputs:
    """What a box head says about regions."""

    class_logits: Tensor  # [R, C]
    box_deltas: Tensor  # [R, C, 4], encoded

    def select(self, keep: Tensor) -> HeadOutputs:
        """Return the rows where ``keep`` [R] bool is true."""
        return HeadOutputs(self.class_logits[keep], self.box_deltas[keep])

    def true_class_deltas(self, labels: Tensor) -> Tensor:
        """Return the deltas of each region's true class, [R, 4]; ``labels`` are [R]."""
        return self.box_deltas[torch.arange(len(labels), device=labels.device), labels]


@dataclass(frozen=True)
class AnchorOutputs:
    """What a region proposal network says about every anchor of a batch, image after image."""

    objectness: Tensor  # [A], logits
    deltas: Tensor  # [A, 4], encoded
    anchors: list[Tensor]  # per image [Ai, 4]
    num_per_level: list[int]  # anchors of one image on each pyramid level


@dataclass(frozen=True)
class AnchorSample:
    """The foreground anchors that the student's RPN was trained on in this step."""

    indices: Tensor  # [F], into the A anchors of the batch
    anchors: Tensor  # [F, 4]
    gt_boxes: Tensor  # [F, 4]


@dataclass(frozen=True)
class Gate:
    """How many of the regions that could carry a term do."""

    open: Tensor  # scalar
    total: Tensor  # scalar


@dataclass(frozen=True)
class StepLosses:
    """What one forward pass of the ``Distiller`` gives."""

    total: Tensor  # the scalar to differentiate
    terms: LossDict  # every term by its metric path, detached
    gates: dict[str, Gate]
