from __future__ import annotations

import torch

from raydistill.config.methods import Feature
from raydistill.methods.boxes import Grid, box_masks
from raydistill.methods.tar.masks import feature_masks
from raydistill.structures import Batch

LEVELS = [(6, 12), (3, 6)]
BOXES = torch.tensor([[0.0, 0, 24, 24], [10, 8, 90, 40], [40, 20, 44, 22]])


def batch_of(*counts: int) -> Batch:
    """Return a batch of 48 x 96 pixels with ``counts`` of BOXES on its images."""
    boxes = torch.split(BOXES[: sum(counts)], list(counts))
    sizes = [(48, 96 if number == 0 else 60) for number in range(len(counts))]
    return Batch(torch.zeros(len(counts), 3, 48, 96), sizes, [{"boxes": own} for own in boxes])


def maps(num_images: int) -> list[torch.Tensor]:
    return [torch.zeros(num_images, 4, *cells) for cells in LEVELS]


def never(boxes: torch.Tensor) -> torch.Tensor:
    raise AssertionError("levels are asked for where boxes are assigned to them only")


def test_that_each_box_lies_on_its_own_image_on_every_level():
    objects, background = feature_masks(batch_of(1, 2), maps(2), Feature(), never)
    assert background is None
    assert [mask.shape for mask in objects] == [(2, 6, 12), (2, 3, 6)]
    for cells, mask in zip(LEVELS, objects, strict=True):
        grid = Grid.of([cells], (48, 96), torch.device("cpu"))
        alone = [box_masks(own, torch.zeros(len(own), dtype=torch.int64), 1, grid, "gaussian", 2.0)[0] for own in
                 (BOXES[:1], BOXES[1:])]  # fmt: skip
        assert torch.equal(mask, torch.cat(alone))
        assert mask.max() > 0


def test_that_an_assigned_box_lies_on_its_level_alone():
    on_coarse = feature_masks(batch_of(1), maps(1), Feature(levels="assigned"), lambda boxes: torch.ones(len(boxes)))[0]
    everywhere = feature_masks(batch_of(1), maps(1), Feature(), never)[0]
    assert on_coarse[0].sum() == 0
    assert torch.equal(on_coarse[1], everywhere[1])


def test_that_background_and_objects_share_the_image_and_leave_out_the_padding():
    settings = Feature(mask="box", background_weight=0.5)
    objects, background = feature_masks(batch_of(1, 1), maps(2), settings, never)
    assert background is not None
    for mask, outside in zip(objects, background, strict=True):
        assert torch.equal((mask + outside)[0], torch.ones_like(mask[0]))
    assert torch.equal((objects[0] + background[0])[1, :, 8:], objects[0][1, :, 8:])  # 60 of 96 pixels: padding


def test_that_the_full_mask_is_the_image():
    objects, background = feature_masks(batch_of(1, 1), maps(2), Feature(mask="full"), never)
    assert background is None
    assert objects[0][0].min() == 1
    assert objects[0][1, :, :7].min() == 1
    assert objects[0][1, :, 8:].max() == 0


def test_that_images_without_objects_have_empty_masks():
    objects, _ = feature_masks(batch_of(0, 0), maps(2), Feature(), never)
    assert [mask.abs().sum().item() for mask in objects] == [0, 0]
