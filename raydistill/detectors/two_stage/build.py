"""From settings to a Faster R-CNN with random weights."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import (
    BackboneWithFPN,
    mobilenet_backbone,
    resnet_fpn_backbone,
)
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from raydistill.config.sections import RESNETS, Detector, Input
from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector

POOLED_SIDE = 7  # cells; torchvision's RoI pooling
TORCHVISION_CHANNELS = 256


def build_faster_rcnn(settings: Detector, image: Input, classes: tuple[str, ...]) -> FasterRCNNDetector:
    """Build the net that ``settings`` describe, with random weights, for K = len(classes) classes."""
    backbone = _backbone(settings)
    ratios = (settings.anchor_aspect_ratios,) * len(settings.anchor_sizes)
    model = FasterRCNN(
        backbone,
        min_size=image.min_size,
        max_size=image.max_size,
        rpn_anchor_generator=AnchorGenerator(settings.anchor_sizes, ratios),
        rpn_pre_nms_top_n_train=settings.rpn_pre_nms_top_n_train,
        rpn_pre_nms_top_n_test=settings.rpn_pre_nms_top_n_test,
        rpn_post_nms_top_n_train=settings.rpn_post_nms_top_n_train,
        rpn_post_nms_top_n_test=settings.rpn_post_nms_top_n_test,
        rpn_batch_size_per_image=settings.rpn_batch_size_per_image,
        box_roi_pool=MultiScaleRoIAlign(
            featmap_names=[str(level) for level in range(len(settings.returned_layers))],
            output_size=POOLED_SIDE,
            sampling_ratio=2,
        ),
        box_head=TwoMLPHead(settings.fpn_channels * POOLED_SIDE**2, settings.box_head_size),
        box_predictor=FastRCNNPredictor(settings.box_head_size, len(classes) + 1),
        box_score_thresh=settings.box_score_thresh,
        box_nms_thresh=settings.box_nms_thresh,
        box_detections_per_img=settings.box_detections_per_img,
        box_batch_size_per_image=settings.box_batch_size_per_image,
    )
    return FasterRCNNDetector(model, classes)


def _backbone(settings: Detector) -> BackboneWithFPN:
    norm_layer = _norm_layer(settings.norm)
    if settings.backbone in RESNETS:
        backbone = resnet_fpn_backbone(
            backbone_name=settings.backbone,
            weights=None,
            norm_layer=norm_layer,
            trainable_layers=settings.trainable_layers,
            returned_layers=list(settings.returned_layers),
        )
    else:
        backbone = mobilenet_backbone(
            backbone_name=settings.backbone,
            weights=None,
            fpn=True,
            norm_layer=norm_layer,
            trainable_layers=settings.trainable_layers,
            returned_layers=list(settings.returned_layers),
        )
    if settings.fpn_channels != TORCHVISION_CHANNELS:
        in_channels = [block[0].in_channels for block in backbone.fpn.inner_blocks]
        backbone.fpn = FeaturePyramidNetwork(in_channels, settings.fpn_channels, LastLevelMaxPool())
        backbone.out_channels = settings.fpn_channels
    return backbone


def _norm_layer(norm: str) -> Callable[[int], nn.Module]:
    if norm == "batch":
        return nn.BatchNorm2d
    return _frozen_norm if norm == "frozen" else _group_norm


def _frozen_norm(num_channels: int) -> nn.Module:
    layer: nn.Module = FrozenBatchNorm2d(num_channels)
    return layer


def _group_norm(num_channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(32, num_channels), num_channels)
