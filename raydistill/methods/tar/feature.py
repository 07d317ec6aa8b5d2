"""The feature term: imitating the teacher's maps under a mask (METHOD section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raydistill.config.methods import Feature
from raydistill.detectors.base import AssignsLevels, Detector
from raydistill.errors import UserError
from raydistill.methods.losses.feature import feature_loss
from raydistill.methods.tar.masks import feature_masks
from raydistill.structures import Batch, Features


def build_adapters(settings: Feature, student: Detector, teacher: Detector) -> dict[str, nn.Module]:
    """Build a train-only layer for each of the student's levels, from its channels to the teacher's."""
    return {level: _adapter(settings, student, teacher) for level in student.feature_levels}


def _adapter(settings: Feature, student: Detector, teacher: Detector) -> nn.Module:
    if settings.adapter == "identity":
        if student.feature_channels != teacher.feature_channels:
            raise UserError(
                "methods.tar.feature.adapter: 'identity' needs equal channels, got "
                f"{student.feature_channels} of the student and {teacher.feature_channels} of the teacher; use conv1x1"
            )
        return nn.Identity()
    size = 1 if settings.adapter == "conv1x1" else 3
    return nn.Conv2d(student.feature_channels, teacher.feature_channels, size, padding=size // 2)


def feature_term(
    settings: Feature, adapters: nn.ModuleDict, batch: Batch, student: Detector, own: Features, theirs: Features
) -> Tensor:
    """Return the masked distance, averaged over the student's levels, a scalar.

    Args:
        settings: ``feature``.
        adapters: a layer for each of the student's levels.
        batch: boxes and image sizes.
        student: may say on which level a box belongs.
        own: the student's maps, finest first.
        theirs: the teacher's, without gradient.

    Raises:
        UserError: where no level of the teacher's has the size of one of the student's.
    """
    assign_levels = student.assign_levels if isinstance(student, AssignsLevels) else None
    objects, background = feature_masks(batch, list(own.values()), settings, assign_levels)
    scale_free = settings.normalization == "teacher_variance"
    losses = []
    for number, (level, student_map) in enumerate(own.items()):
        teacher_map = theirs[matching_level(level, student_map, theirs)]
        adapted = adapters[level](student_map)
        loss = feature_loss(adapted, teacher_map, objects[number], scale_free)
        if background is not None:
            outside = feature_loss(adapted, teacher_map, background[number], scale_free)
            loss = loss + settings.background_weight * outside
        losses.append(loss)
    return torch.stack(losses).mean()


def matching_level(level: str, student_map: Tensor, teacher: Features) -> str:
    """Return the teacher's level of the student's size: the one of that name if it fits, else the coarsest.

    Raises:
        UserError: where none has that size.
    """
    fitting = [name for name, features in teacher.items() if features.shape[2:] == student_map.shape[2:]]
    if not fitting:
        sizes = {name: list(features.shape[2:]) for name, features in teacher.items()}
        raise UserError(
            "methods.tar.feature.weight: every pyramid level of the student needs one of the teacher's of the same "
            f"size, got none for level {level} of {list(student_map.shape[2:])} cells among {sizes}; change "
            "returned_layers or set methods.tar.feature.weight=0"
        )
    return level if level in fitting else fitting[-1]
