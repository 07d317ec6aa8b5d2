"""Small detectors, settings and batches that the tests share."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from raydistill.config import Config, load_config
from raydistill.config.sections import AnyDetector, Input
from raydistill.detectors.build import build_detector
from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector
from raydistill.methods.tar.method import Tar
from raydistill.structures import Target
from raydistill.training.distiller import Distiller

CLASSES = ("disc", "square", "star")

_SMALL = [
    f"{role}.{setting}"
    for role in ("teacher", "student")
    for setting in (
        "norm=group",
        "fpn_channels=16",
        "box_head_size=32",
        "rpn_pre_nms_top_n_train=300",
        "rpn_pre_nms_top_n_test=300",
        "rpn_post_nms_top_n_train=200",
        "rpn_post_nms_top_n_test=200",
        "rpn_batch_size_per_image=64",
        "box_batch_size_per_image=16",
    )
]


@functools.cache
def small_config(*overrides: str) -> Config:
    """Return the settings of ``nets.yaml`` with small nets and group norm, so that a step takes milliseconds."""
    return load_config(str(Path(__file__).with_name("nets.yaml")), [*_SMALL, *overrides])


def small_detector(settings: AnyDetector, config: Config, seed: int = 0) -> FasterRCNNDetector:
    """Return a detector for ``CLASSES`` with weights drawn from ``seed``, in training mode."""
    return copy.deepcopy(_built(settings, config.input, seed))


@functools.cache
def _built(settings: AnyDetector, image: Input, seed: int) -> FasterRCNNDetector:
    torch.manual_seed(seed)
    detector = build_detector(settings, image, CLASSES)
    assert isinstance(detector, FasterRCNNDetector)
    with torch.no_grad():  # livelier heads than the initial ones, which say the same of everything
        detector.model.roi_heads.box_predictor.cls_score.weight.mul_(20)
        detector.model.roi_heads.box_predictor.bbox_pred.weight.mul_(20)
        detector.model.rpn.head.cls_logits.weight.mul_(20)
        detector.model.rpn.head.bbox_pred.weight.mul_(10)
    return detector


def pair(config: Config) -> tuple[FasterRCNNDetector, FasterRCNNDetector]:
    """Return a student and a teacher with different weights."""
    return small_detector(config.student, config, seed=1), small_detector(config.teacher, config, seed=2)


def adapters_of(distiller: Distiller) -> nn.ModuleDict:
    """Return the layers from the student's to the teacher's channels, by level."""
    tar = distiller.methods["tar"]
    assert isinstance(tar, Tar)
    return tar.adapters


def mixed_batch() -> tuple[list[Tensor], list[Target]]:
    """Return float images of different sizes; the last has no object."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, *size, generator=generator) for size in ((96, 96), (64, 96), (96, 80))]
    return images, [
        {"boxes": torch.tensor([[10.0, 12, 40, 44], [50, 50, 90, 92]]), "labels": torch.tensor([1, 2])},
        {"boxes": torch.tensor([[5.0, 5, 60, 50]]), "labels": torch.tensor([3])},
        nothing(),
    ]


def batch_without_objects() -> tuple[list[Tensor], list[Target]]:
    """Return two float images on which there is nothing."""
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, 96, 96, generator=generator) for _ in range(2)], [nothing(), nothing()]


def nothing() -> Target:
    """Return the objects of an empty image."""
    return {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def gradients(module: torch.nn.Module) -> dict[str, Tensor | None]:
    """Return a copy of every parameter's gradient by name."""
    return {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}


def torchvision_twin(detector: FasterRCNNDetector) -> FasterRCNN:
    """Return a copy of the plain torchvision model inside ``detector``, which holds nothing of ours."""
    return copy.deepcopy(detector.model)
