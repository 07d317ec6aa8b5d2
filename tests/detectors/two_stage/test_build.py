import pytest
import torch
from torch import nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn, fasterrcnn_resnet50_fpn
from torchvision.ops import FrozenBatchNorm2d

from raydistill.config import Config, load_config
from raydistill.detectors.two_stage.build import build_faster_rcnn
from tests.nets import CLASSES, mixed_batch, small_config


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def recipe(*overrides: str) -> Config:
    return load_config("coco_r101_r50", ["teacher.backbone=resnet50", *overrides])


def built(*overrides: str) -> nn.Module:
    config = small_config(*overrides)
    return build_faster_rcnn(config.student, config.input, CLASSES).model


def test_that_a_resnet50_with_default_settings_is_torchvisions_detector():
    config = recipe("student.weights=random")
    with torch.device("meta"):
        ours = build_faster_rcnn(config.student, config.input, CLASSES).model
        theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4)
    assert shapes(ours) == shapes(theirs)
    assert ours.rpn.anchor_generator.sizes == theirs.rpn.anchor_generator.sizes
    assert ours.rpn.anchor_generator.aspect_ratios == theirs.rpn.anchor_generator.aspect_ratios
    assert ours.roi_heads.box_roi_pool.featmap_names == theirs.roi_heads.box_roi_pool.featmap_names


def test_that_a_mobilenet_with_default_settings_is_torchvisions_detector():
    config = recipe("student.backbone=mobilenet_v3_large", "student.weights=random", "methods.tar.rpn.weight=0")
    with torch.device("meta"):
        ours = build_faster_rcnn(config.student, config.input, CLASSES).model
        theirs = fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None, num_classes=4)
    assert shapes(ours) == shapes(theirs)
    assert ours.rpn.anchor_generator.sizes == theirs.rpn.anchor_generator.sizes
    assert ours.roi_heads.box_roi_pool.featmap_names == ["0", "1"]  # torchvision names four, of which these exist


def test_that_pretrained_backbones_keep_the_stages_below_trainable_layers_frozen():
    config = recipe("student.weights=imagenet")
    with torch.device("meta"):
        body = build_faster_rcnn(config.student, config.input, CLASSES).model.backbone.body
    trained = {name.split(".")[0] for name, parameter in body.named_parameters() if parameter.requires_grad}
    assert trained == {"layer2", "layer3", "layer4"}


def test_that_random_backbones_train_everything():
    assert all(parameter.requires_grad for parameter in built().parameters())


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_that_the_norm_is_the_one_asked_for(norm):
    kinds = {"batch": nn.BatchNorm2d, "group": nn.GroupNorm, "frozen": FrozenBatchNorm2d}
    model = built(f"student.norm={norm}")
    for name, kind in kinds.items():
        assert any(isinstance(module, kind) for module in model.modules()) == (name == norm)


def test_that_a_pretrained_detector_is_frozen_by_default():
    config = recipe("student.weights=imagenet")
    with torch.device("meta"):
        model = build_faster_rcnn(config.student, config.input, CLASSES).model
    assert any(isinstance(module, FrozenBatchNorm2d) for module in model.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_that_returned_layers_decide_the_pyramid():
    config = small_config(
        "student.returned_layers=[2, 3]", "student.anchor_sizes=[[16], [32], [64]]", "methods.tar.rpn.weight=0"
    )
    detector = build_faster_rcnn(config.student, config.input, CLASSES)
    features = detector.extract_features(detector.prepare(*mixed_batch()))
    assert [tuple(level.shape[2:]) for level in features.values()] == [(12, 12), (6, 6), (3, 3)]
    assert tuple(features) == detector.feature_levels


@pytest.mark.parametrize("channels", [16, 256])
def test_that_the_pyramid_has_the_channels_asked_for(channels):
    config = small_config(f"student.fpn_channels={channels}")
    detector = build_faster_rcnn(config.student, config.input, CLASSES)
    assert detector.feature_channels == channels
    assert detector.model.backbone.fpn.layer_blocks[0][0].out_channels == channels
