"""What a two-stage detector computes on the way: sampled regions, and the answers of its heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
