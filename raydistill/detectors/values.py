"""What detectors of any family tell each other about: regions, answers at them, and the outcome of a training step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from raydistill.structures import Features, LossDict


@dataclass(frozen=True)
class Regions:
    """Boxes at which detectors are compared: sampled RoIs, or what dense and query-based nets make of theirs."""

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


@runtime_checkable
class Answers(Protocol):
    """What a detector of any family says about R regions."""

    def class_probabilities(self) -> Tensor:
        """Return the probability of each of the K classes, [R, K]; what is left to 1 is the background's."""
        ...

    def boxes_of(self, labels: Tensor) -> Tensor:
        """Return the box [R, 4] of the class ``labels`` [R] (0: background's, without meaning) of each region."""
        ...

    def select(self, rows: Tensor) -> Self:
        """Return ``rows`` of them, given by their numbers or as [R] bool."""
        ...

    def join(self, other: Self, order: Tensor) -> Self:
        """Return the rows of both in the ``order`` that ``Regions.join`` gave."""
        ...


@runtime_checkable
class RawAnswers(Answers, Protocol):
    """Answers that also have what the net itself computed: two nets of a kind are compared on these."""

    @property
    def class_logits(self) -> Tensor:
        """Return logits of the background and the K classes, [R, C]."""
        ...

    def deltas_of(self, labels: Tensor) -> Tensor:
        """Return the encoded deltas [R, 4] of the class ``labels`` [R] of each region."""
        ...


@dataclass(frozen=True)
class AnchorOutputs:
    """What a region proposal network says about every anchor of a batch, image after image."""

    objectness: Tensor  # [A], logits
    deltas: Tensor  # [A, 4], encoded
    anchors: list[Tensor]  # per image [Ai, 4]
    num_per_level: list[int]  # anchors of one image on each pyramid level


@dataclass(frozen=True)
class AnchorAnswers:
    """What is said about some anchors of a batch."""

    objectness: Tensor  # [F], logits
    deltas: Tensor  # [F, 4], encoded


@dataclass(frozen=True)
class AnchorSample:
    """The foreground anchors that the student was trained on in this step."""

    outputs: AnchorOutputs
    indices: Tensor  # [F], into the A anchors of the batch
    anchors: Tensor  # [F, 4]
    gt_boxes: Tensor  # [F, 4]

    @property
    def answers(self) -> AnchorAnswers:
        """What the student said about these anchors."""
        return AnchorAnswers(self.outputs.objectness[self.indices], self.outputs.deltas[self.indices])

    @property
    def num_anchors(self) -> int:
        """A, the anchors of the whole batch."""
        return len(self.outputs.objectness)


@dataclass(frozen=True)
class Proposals:
    """The regions that a detector itself proposes, and what its RPN said on the way where it has one."""

    boxes: list[Tensor]  # per image [Ri, 4]
    anchor_outputs: AnchorOutputs | None = None


@dataclass(frozen=True)
class Outcome:
    """What a detector's training step gives: its losses, and what was computed on the way, with gradient."""

    losses: LossDict
    features: Features
    regions: Regions | None = None
    answers: Answers | None = None  # at these regions
    anchors: AnchorSample | None = None
