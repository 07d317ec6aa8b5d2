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

    def select(self, keep: Tensor) -> tuple[Regions, Tensor]:
        """Return the regions where ``keep`` [R] bool is true, in the same order, and the numbers of their rows.

        Reads from the device once, how many there are of each image.
        """
        of_images = [part.sum() for part in torch.split(keep, self.counts)]
        counts: list[int] = torch.stack(of_images).tolist()
        rows = torch.nonzero_static(keep, size=sum(counts)).squeeze(1)
        boxes = list(torch.split(torch.cat(self.boxes)[rows], counts))
        return Regions(boxes, self.labels[rows], self.gt_boxes[rows]), rows

    def join(self, other: Regions) -> tuple[Regions, Tensor]:
        """Return both sets as one, image after image, and where each row of it comes from.

        The second value [R + R'] points into the rows of ``self`` followed by those of ``other``.
        """
        own = torch.split(torch.arange(len(self.labels), device=self.labels.device), self.counts)
        others = torch.split(
            torch.arange(len(other.labels), device=self.labels.device) + len(self.labels), other.counts
        )
        order = torch.cat([rows for pair in zip(own, others, strict=True) for rows in pair])
        boxes = [torch.cat(pair) for pair in zip(self.boxes, other.boxes, strict=True)]
        labels, gt_boxes = torch.cat([self.labels, other.labels]), torch.cat([self.gt_boxes, other.gt_boxes])
        return Regions(boxes, labels[order], gt_boxes[order]), order

    @property
    def counts(self) -> list[int]:
        """Number of regions of each image."""
        return [len(boxes) for boxes in self.boxes]


@dataclass(frozen=True)
class HeadOutputs:
    """What a box head says about regions."""

    class_logits: Tensor  # [R, C]
    box_deltas: Tensor  # [R, C, 4], encoded

    def select(self, rows: Tensor) -> HeadOutputs:
        """Return ``rows`` of them, given by their numbers or as [R] bool."""
        return HeadOutputs(self.class_logits[rows], self.box_deltas[rows])

    def join(self, other: HeadOutputs, order: Tensor) -> HeadOutputs:
        """Return the rows of both in the ``order`` that ``Regions.join`` gave."""
        return HeadOutputs(
            torch.cat([self.class_logits, other.class_logits])[order],
            torch.cat([self.box_deltas, other.box_deltas])[order],
        )

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
class AnchorAnswers:
    """What a region proposal network says about some anchors of a batch."""

    objectness: Tensor  # [F], logits
    deltas: Tensor  # [F, 4], encoded


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

    total: Tensor  # the scalar to differentiate: the next two together
    detection: Tensor  # sum of the student's own losses
    weighted: LossDict  # distillation terms times weight and decay
    terms: LossDict  # every term by its metric path, detached
    gates: dict[str, Gate]
    quality: dict[str, Gate]  # of both heads' answers; where it is asked for
