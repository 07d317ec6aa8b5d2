"""torchvision's Faster R-CNN opened into stages; the same numbers as ``model(images, targets)``, bit for bit.

With ``fast_roi_align`` they are the same up to rounding on a CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.transforms.v2.functional import to_dtype

from raydistill.detectors.base import Detector, Normalization
from raydistill.detectors.exact_transform import with_exact_transform
from raydistill.detectors.two_stage.roi_align import pool_regions, with_pool_regions
from raydistill.detectors.two_stage.sparse_rpn import answers_at
from raydistill.detectors.two_stage.values import HeadAnswers
from raydistill.detectors.values import AnchorAnswers, AnchorOutputs, AnchorSample, Outcome, Proposals, Regions
from raydistill.structures import Batch, Features, LossDict, Target


class _Remembering:
    """torchvision's anchor sampler, which also keeps the foreground that it picked."""

    def __init__(self, sampler: BalancedPositiveNegativeSampler) -> None:
        self._sampler = sampler
        self.foreground = torch.empty(0, dtype=torch.bool)  # [A]

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        foreground, background = self._sampler(labels)
        self.foreground = torch.cat(foreground).bool()
        return foreground, background


@contextlib.contextmanager
def _remembering(rpn: RegionProposalNetwork) -> Iterator[_Remembering]:
    """Let the RPN's sampler tell what it picks, and leave the RPN as it was."""
    sampler = rpn.fg_bg_sampler
    rpn.fg_bg_sampler = remembering = _Remembering(sampler)
    try:
        yield remembering
    finally:
        rpn.fg_bg_sampler = sampler


class FasterRCNNDetector(Detector):
    """A torchvision ``FasterRCNN`` behind the stages of ``Detector``; ``model`` is the plain module inside."""

    body = "backbone.body."

    def __init__(self, model: FasterRCNN, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.classes = classes
        self.feature_channels = model.backbone.out_channels
        num_pooled = len(model.backbone.fpn.inner_blocks)
        self.feature_levels = (*(str(level) for level in range(num_pooled)), "pool")
        self.sides = (model.transform.min_size[0], model.transform.max_size)
        self.normalization = Normalization(tuple(model.transform.image_mean), tuple(model.transform.image_std))

    def prepare(self, images: list[Tensor], targets: list[Target]) -> Batch:
        """Resize, normalise and pad once, as torchvision's transform does."""
        floats = [to_dtype(image, torch.float32, scale=True) for image in images]
        image_list, resized = self.model.transform(floats, targets)
        return Batch(image_list.tensors, image_list.image_sizes, resized)

    def extract_features(self, batch: Batch) -> Features:
        """Return the FPN's levels."""
        features: Features = self.model.backbone(batch.images)
        return features

    def train_step(self, batch: Batch, features: Features) -> Outcome:
        """Go through both stages: anchors, proposals, sampled regions, heads."""
        anchor_outputs = self.score_anchors(batch, features)
        anchor_losses, anchors = self.anchor_losses(batch, anchor_outputs)
        regions = self.sample_regions(batch, self.propose(batch, anchor_outputs))
        answers = self.answer(batch, features, regions)
        return Outcome(self.head_losses(answers, regions) | anchor_losses, features, regions, answers, anchors)

    def propose_regions(self, batch: Batch, features: Features) -> Proposals:
        """Run the RPN."""
        anchor_outputs = self.score_anchors(batch, features)
        return Proposals(self.propose(batch, anchor_outputs), anchor_outputs)

    def score_anchors(self, batch: Batch, features: Features) -> AnchorOutputs:
        """Run the RPN's head."""
        rpn = self.model.rpn
        levels = list(features.values())
        objectness, deltas = rpn.head(levels)
        # Under autocast the levels are of a half type, in which torchvision would compute the anchors: off by pixels.
        shapes = [batch.images.new_empty(()).expand(level.shape) for level in levels]
        anchors = rpn.anchor_generator(ImageList(batch.images, batch.image_sizes), shapes)
        num_per_level = [scores[0].numel() for scores in objectness]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        return AnchorOutputs(objectness.flatten(), deltas, anchors, num_per_level)

    def num_anchors(self, features: Features) -> int:
        """Count: images x cells x anchors per cell."""
        per_cell = self.model.rpn.anchor_generator.num_anchors_per_location()
        levels = zip(features.values(), per_cell, strict=True)
        return sum(level.shape[0] * level.shape[2] * level.shape[3] * number for level, number in levels)

    def score_anchors_at(self, features: Features, indices: Tensor) -> AnchorAnswers:
        """Run the RPN's head on the cells of these anchors alone."""
        levels = list(features.values())
        return answers_at(self.model.rpn.head, levels, indices)

    def anchor_losses(self, batch: Batch, outputs: AnchorOutputs) -> tuple[LossDict, AnchorSample]:
        """Return torchvision's two RPN losses and the foreground anchors they were computed on."""
        rpn = self.model.rpn
        labels, gt_boxes = rpn.assign_targets_to_anchors(outputs.anchors, batch.targets)
        targets = rpn.box_coder.encode(gt_boxes, outputs.anchors)
        with _remembering(rpn) as sampler:
            objectness, box_reg = rpn.compute_loss(outputs.objectness, outputs.deltas, labels, targets)
        indices = sampler.foreground.nonzero().squeeze(1)
        sample = AnchorSample(outputs, indices, torch.cat(outputs.anchors)[indices], torch.cat(gt_boxes)[indices])
        return {"objectness": objectness, "rpn_box_reg": box_reg}, sample

    def propose(self, batch: Batch, outputs: AnchorOutputs) -> list[Tensor]:
        """Decode, filter and suppress."""
        rpn = self.model.rpn
        boxes = rpn.box_coder.decode(outputs.deltas.detach().float(), outputs.anchors).view(len(outputs.anchors), -1, 4)
        proposals, _ = rpn.filter_proposals(
            boxes, outputs.objectness.unsqueeze(1), batch.image_sizes, outputs.num_per_level
        )
        return list(proposals)

    def sample_regions(self, batch: Batch, proposals: list[Tensor]) -> Regions:
        """Match, add the objects themselves, and sample foreground and background."""
        boxes, matches, labels, _ = self.model.roi_heads.select_training_samples(list(proposals), batch.targets)
        gt_boxes = [
            target["boxes"][match] if len(target["boxes"]) else torch.zeros_like(region_boxes)
            for target, match, region_boxes in zip(batch.targets, matches, boxes, strict=True)
        ]
        return Regions(boxes, torch.cat(labels), torch.cat(gt_boxes))

    def answer(self, batch: Batch, features: Features, regions: Regions) -> HeadAnswers:
        """Pool the regions and run the box head."""
        heads = self.model.roi_heads
        pooler, boxes = heads.box_roi_pool, list(regions.boxes)
        if self.fast_roi_align:
            pooled = pool_regions(pooler, features, boxes, batch.image_sizes)
        else:
            pooled = pooler(features, boxes, batch.image_sizes)
        class_logits, deltas = heads.box_predictor(heads.box_head(pooled))
        decode = heads.box_coder.decode_single
        return HeadAnswers(class_logits, deltas.unflatten(1, (-1, 4)), torch.cat(regions.boxes), decode)

    def head_losses(self, answers: HeadAnswers, regions: Regions) -> LossDict:
        """Return torchvision's two box head losses."""
        targets = self.model.roi_heads.box_coder.encode(
            list(torch.split(regions.gt_boxes, regions.counts)), list(regions.boxes)
        )
        classifier, box_reg = fastrcnn_loss(
            answers.class_logits, answers.box_deltas.flatten(1), [regions.labels], list(targets)
        )
        return {"classifier": classifier, "box_reg": box_reg}

    def decode_anchor_boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Decode with the RPN's box coder."""
        boxes: Tensor = self.model.rpn.box_coder.decode_single(deltas, anchors)
        return boxes

    def assign_levels(self, boxes: Tensor) -> Tensor:
        """Ask the RoI pooling's own level mapper, which exists once something was pooled."""
        levels: Tensor = self.model.roi_heads.box_roi_pool.map_levels([boxes])
        return levels

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[Target]:
        """Run the plain torchvision model; it must be in eval mode."""
        model = with_pool_regions(self.model) if self.fast_roi_align else self.model
        detections: list[Target] = model([to_dtype(image, torch.float32, scale=True) for image in images])
        return detections

    @contextlib.contextmanager
    def finding_at_least(self, number: int) -> Iterator[None]:
        """Raise the limit of the box head for a while."""
        heads = self.model.roi_heads
        before = heads.detections_per_img
        heads.detections_per_img = max(before, number)
        try:
            yield
        finally:
            heads.detections_per_img = before

    def exported(self) -> nn.Module:
        """Return torchvision's module."""
        module: nn.Module = self.model
        return module

    def deployable(self) -> nn.Module:
        """Return torchvision's module, in eval mode, with a transform that can be traced and scripted."""
        return with_exact_transform(self.model)

    def untold_settings(self) -> dict[str, Any]:
        """Return the anchors."""
        generator = self.model.rpn.anchor_generator
        return {
            "anchor_sizes": [list(sizes) for sizes in generator.sizes],
            "anchor_aspect_ratios": list(generator.aspect_ratios[0]),
        }

    def feature_extractor(self) -> nn.Module:
        """Return body and FPN."""
        module: nn.Module = self.model.backbone
        return module
