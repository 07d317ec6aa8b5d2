"""Where on its maps the student imitates the teacher: the masks of the feature term (METHOD section 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from raydistill.config.methods import Feature
from raydistill.methods.boxes import Grid, box_masks, image_masks
from raydistill.structures import Batch


def feature_masks(
    batch: Batch, levels: list[Tensor], settings: Feature, assign_levels: Callable[[Tensor], Tensor] | None
) -> tuple[list[Tensor], list[Tensor] | None]:
    """Return the masks of the objects and, where it has a weight, of the background, [N, h, w] of each level.

    Args:
        batch: boxes and image sizes.
        levels: the student's maps [N, D, h, w].
        settings: ``feature``.
        assign_levels: the pyramid level of each of given boxes [B, 4]; for ``levels: assigned`` only.
    """
    height, width = batch.images.shape[2:]
    grid = Grid.of([(level.shape[2], level.shape[3]) for level in levels], (height, width), batch.images.device)
    if settings.mask == "full":
        return image_masks(batch.image_sizes, grid), None
    boxes = torch.cat([target["boxes"] for target in batch.targets])
    box_levels = assign_levels(boxes) if settings.levels == "assigned" and assign_levels is not None else None
    place = (boxes, _image_indices(batch, boxes.device), len(batch.targets), grid)
    objects = box_masks(*place, settings.mask, settings.sigma_squared, box_levels)
    if not settings.background_weight:
        return objects, None
    covered = box_masks(*place, "box", settings.sigma_squared, box_levels)
    images = image_masks(batch.image_sizes, grid)
    return objects, [inside * (1 - cover) for inside, cover in zip(images, covered, strict=True)]


def _image_indices(batch: Batch, device: torch.device) -> Tensor:
    """Return the image of each box, [B]."""
    indices = [number for number, target in enumerate(batch.targets) for _ in range(len(target["boxes"]))]
    return torch.tensor(indices, dtype=torch.int64).to(device, non_blocking=True)
