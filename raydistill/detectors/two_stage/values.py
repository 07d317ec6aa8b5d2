"""What the box head of a two-stage detector says about regions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Decode = Callable[[Tensor, Tensor], Tensor]
"""Encoded deltas [R, 4] and the boxes [R, 4] they are relative to -> boxes [R, 4]."""


@dataclass(frozen=True)
class HeadAnswers:
    """Class logits and encoded box deltas of regions (``RawAnswers``)."""

    class_logits: Tensor  # [R, C]
    box_deltas: Tensor  # [R, C, 4], encoded
    boxes: Tensor  # [R, 4], of the regions
    decode: Decode

    def class_probabilities(self) -> Tensor:
        """Return the softmax without its column of the background, [R, K]."""
        return self.class_logits.float().softmax(dim=1)[:, 1:]

    def deltas_of(self, labels: Tensor) -> Tensor:
        """Return the encoded deltas [R, 4] of the class ``labels`` [R] of each region."""
        return self.box_deltas[torch.arange(len(labels), device=labels.device), labels]

    def boxes_of(self, labels: Tensor) -> Tensor:
        """Return the decoded boxes [R, 4] of the class ``labels`` [R] of each region."""
        return self.decode(self.deltas_of(labels).float(), self.boxes)

    def select(self, rows: Tensor) -> HeadAnswers:
        """Return ``rows`` of them, given by their numbers or as [R] bool."""
        return replace(
            self, class_logits=self.class_logits[rows], box_deltas=self.box_deltas[rows], boxes=self.boxes[rows]
        )

    def join(self, other: HeadAnswers, order: Tensor) -> HeadAnswers:
        """Return the rows of both in the ``order`` that ``Regions.join`` gave."""
        return replace(
            self,
            class_logits=torch.cat([self.class_logits, other.class_logits])[order],
            box_deltas=torch.cat([self.box_deltas, other.box_deltas])[order],
            boxes=torch.cat([self.boxes, other.boxes])[order],
        )
