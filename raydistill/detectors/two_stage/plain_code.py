"""A Faster R-CNN as a few lines of torchvision: what ``build`` builds."""

from __future__ import annotations

from raydistill.config.sections import RESNETS, Detector, Input
from raydistill.detectors.plain_code import PlainCode
from raydistill.detectors.two_stage.build import POOLED_SIDE, TORCHVISION_CHANNELS

_NORMS = {
    "batch": "torch.nn.BatchNorm2d",
    "frozen": "FrozenBatchNorm2d",
    "group": "lambda channels: torch.nn.GroupNorm(gcd(32, channels), channels)",
}


def faster_rcnn_code(settings: Detector, image: Input) -> PlainCode:
    """Return the lines that build the net which ``settings`` describe."""
    resnet = settings.backbone in RESNETS
    function = "resnet_fpn_backbone" if resnet else "mobilenet_backbone"
    ops = ["FeaturePyramidNetwork"] if settings.fpn_channels != TORCHVISION_CHANNELS else []
    ops += ["FrozenBatchNorm2d"] if settings.norm == "frozen" else []
    imports = [
        "from torchvision.models.detection import FasterRCNN",
        "from torchvision.models.detection.anchor_utils import AnchorGenerator",
        f"from torchvision.models.detection.backbone_utils import {function}",
        "from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead",
        f"from torchvision.ops import {', '.join([*ops, 'MultiScaleRoIAlign'])}",
    ]
    imports += ["from math import gcd"] if settings.norm == "group" else []
    return PlainCode(tuple(imports), (*_backbone(settings, function, resnet), *_net(settings, image)))


def _backbone(settings: Detector, function: str, resnet: bool) -> list[str]:
    lines = [
        f"backbone = {function}(",
        f'    backbone_name="{settings.backbone}",',
        "    weights=None,",
        *(() if resnet else ("    fpn=True,",)),
        f"    norm_layer={_NORMS[settings.norm]},",
        f"    returned_layers={list(settings.returned_layers)},",
        ")",
    ]
    if settings.fpn_channels != TORCHVISION_CHANNELS:
        lines += [
            "channels = [block[0].in_channels for block in backbone.fpn.inner_blocks]",
            f"backbone.fpn = FeaturePyramidNetwork(channels, {settings.fpn_channels}, backbone.fpn.extra_blocks)",
            f"backbone.out_channels = {settings.fpn_channels}",
        ]
    return lines


def _net(settings: Detector, image: Input) -> list[str]:
    levels = [str(level) for level in range(len(settings.returned_layers))]
    named = [
        *("rpn_pre_nms_top_n_train", "rpn_pre_nms_top_n_test", "rpn_post_nms_top_n_train", "rpn_post_nms_top_n_test"),
        *("box_score_thresh", "box_nms_thresh", "box_detections_per_img"),
    ]
    return [
        "model = FasterRCNN(",
        "    backbone,",
        f"    min_size={image.min_size},",
        f"    max_size={image.max_size},",
        f"    rpn_anchor_generator=AnchorGenerator({settings.anchor_sizes}, "
        f"({settings.anchor_aspect_ratios},) * {len(settings.anchor_sizes)}),",
        *(f"    {name}={getattr(settings, name)}," for name in named),
        f"    box_roi_pool=MultiScaleRoIAlign({levels}, output_size={POOLED_SIDE}, sampling_ratio=2),",
        f"    box_head=TwoMLPHead({settings.fpn_channels * POOLED_SIDE**2}, {settings.box_head_size}),",
        f"    box_predictor=FastRCNNPredictor({settings.box_head_size}, len(CLASSES) + 1),",
        ")",
    ]
