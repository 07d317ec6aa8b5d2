"""The stages that a detector promises."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from raydistill.detectors.two_stage.values import AnchorAnswers, AnchorOutputs, AnchorSample, HeadOutputs, Regions
from raydistill.structures import Batch, Features, LossDict, Target


class Detector(nn.Module, ABC):
    """A two-stage detector, taken apart so that two of them can be compared stage by stage.

    In training mode, prepare -> extract_features -> score_anchors -> anchor_losses -> propose -> sample_regions ->
    predict -> detection_losses gives the losses of the whole detector.
    """

    classes: tuple[str, ...]
    """Names of the K classes in the order of their labels 1 to K."""
    feature_channels: int
    """D of the pyramid."""
    feature_levels: tuple[str, ...]
    """Names of the pyramid levels, finest first."""

    @abstractmethod
    def prepare(self, images: list[Tensor], targets: list[Target]) -> Batch:
        """Resize, normalise and pad ``images`` [3, Hi, Wi], uint8 or float in [0, 1], and move the boxes along."""

    @abstractmethod
    def extract_features(self, batch: Batch) -> Features:
        """Return the feature pyramid."""

    @abstractmethod
    def score_anchors(self, batch: Batch, features: Features) -> AnchorOutputs:
        """Return what the RPN says about every anchor."""

    @abstractmethod
    def num_anchors(self, features: Features) -> int:
        """Return A, the number of anchors that the RPN lays over ``features``."""

    @abstractmethod
    def score_anchors_at(self, features: Features, indices: Tensor) -> AnchorAnswers:
        """Return what the RPN says about the anchors ``indices`` [F] alone, numbered as in ``score_anchors``."""

    @abstractmethod
    def anchor_losses(self, batch: Batch, outputs: AnchorOutputs) -> tuple[LossDict, AnchorSample]:
        """Sample anchors, and return the RPN's losses on them and the foreground among them."""

    @abstractmethod
    def propose(self, batch: Batch, outputs: AnchorOutputs) -> list[Tensor]:
        """Return the proposals of each image, [Ri, 4], after non-maximum suppression, without gradient."""

    @abstractmethod
    def sample_regions(self, batch: Batch, proposals: list[Tensor]) -> Regions:
        """Match ``proposals`` and the objects themselves to the objects, and sample the regions to train on."""

    @abstractmethod
    def predict(self, batch: Batch, features: Features, regions: Regions) -> HeadOutputs:
        """Return what the box head says about ``regions``."""

    @abstractmethod
    def detection_losses(self, outputs: HeadOutputs, regions: Regions) -> LossDict:
        """Return the box head's losses."""

    @abstractmethod
    def decode_anchor_boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Return the boxes [R, 4] that the RPN's ``deltas`` [R, 4] make of ``anchors`` [R, 4]."""

    @abstractmethod
    def decode_region_boxes(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Return the boxes [R, 4] that the head's ``deltas`` [R, 4] make of the regions' ``boxes`` [R, 4]."""

    @abstractmethod
    def assign_levels(self, boxes: Tensor) -> Tensor:
        """Return the pyramid level of each of ``boxes`` [B, 4], [B], 0 the finest; after ``predict``."""

    @abstractmethod
    def detect(self, images: list[Tensor]) -> list[Target]:
        """Return the detections of each image in its own pixels; in eval mode."""

    @abstractmethod
    def exported(self) -> nn.Module:
        """Return the plain module that is deployed: no wrapper, nothing of the training."""
