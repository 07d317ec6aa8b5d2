"""Boxes that readers keep stay boxes, whatever training does to them."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torchvision.models.detection.transform import resize_boxes

from raydistill.data.checks import THINNEST, Box, clip_box
from raydistill.data.dataset import _scaled
from raydistill.data.formats.coco import read_coco
from raydistill.data.formats.voc import read_voc
from raydistill.data.loading.augmentation import HorizontalFlip, ScaleJitter
from raydistill.structures import Target
from tests.data.conftest import CocoFolder
from tests.data.formats.test_voc import SIZE, thing, write_image


def _corners(box: Box) -> Tensor:
    """Return a box as records hand it to training."""
    xywh = np.array([box])
    return torch.from_numpy(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.float32))


def _sound(boxes: Tensor) -> bool:
    return len(boxes) == 1 and bool((boxes[:, 2:] > boxes[:, :2]).all())


THIN: list[Box] = [
    (-0.3, 10, 0.1 + 0.2, 20),  # ends on the left border, but for a rounding
    (10, -0.7, 20, 0.1 + 0.6 + 1e-17),
    (5, 5, 1e-9, 9),
    (5, 5, 9, 1e-300),
    (39.99999999, 5, 1, 9),
    (5, 29.99999999, 9, 9),
    (math.nextafter(40, 0), 0, 1, 30),
    (-1e14, 5, 1e14 + 1e-3, 9),
    (1e-20, 1e-20, 1e-20, 1e-20),
]


@pytest.mark.parametrize("box", THIN)
def test_a_box_one_rounding_wide_is_none(box: Box) -> None:
    assert clip_box(box, 40, 30) is None


@pytest.mark.parametrize("box", [(-0.3, 10, 0.4, 20), (5, 5, 0.01, 0.01), (0, 0, 40, 30), (39.9, 29.9, 5, 5)])
def test_a_thin_box_is_one(box: Box) -> None:
    assert clip_box(box, 40, 30) is not None


def test_a_box_that_is_kept_stays_one_mirrored_zoomed_and_resized() -> None:
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(400):
        width, height = (int(side) for side in rng.integers(8, 6000, 2))
        w, h = (side * THINNEST * rng.uniform(0.5, 3) for side in (width, height))
        box = clip_box((rng.uniform(-w, width), rng.uniform(-h, height), w, h), width, height)
        if box is None:
            continue
        kept += 1
        boxes = _corners(box)
        assert _sound(boxes)
        strip = torch.empty(3, 1, width, dtype=torch.uint8)
        target = Target(boxes=boxes, labels=torch.tensor([1]), image_id=1)
        mirrored = HorizontalFlip(1.0)(strip, target, Generator())[1]["boxes"]
        for one in (boxes, mirrored):
            for size in rng.integers(1, 3000, (4, 2)).tolist():
                assert _sound(resize_boxes(one, [height, width], size))
                assert _sound(resize_boxes(_scaled(one, (width, height), (size[0], size[1])), size[::-1], [64, 64]))
    assert kept > 100


def test_what_a_zoom_leaves_of_a_box_is_one() -> None:
    rng = np.random.default_rng(0)
    image = torch.empty(3, 30, 40, dtype=torch.uint8)
    for seed in range(200):
        box = clip_box((*rng.uniform(0, 25, 2), *rng.uniform(0, 3, 2)), 40, 30)
        target = Target(boxes=_corners(box or (0, 0, 1, 1)), labels=torch.tensor([1]), image_id=1)
        boxes = ScaleJitter(0.5, 2.0)(image, target, Generator().manual_seed(seed))[1]["boxes"]
        assert not len(boxes) or _sound(boxes)


def test_readers_drop_such_boxes_and_name_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    coco = CocoFolder(tmp_path)
    coco.content["annotations"].append(coco.box(2, 3, 9, [-0.3, 10, 0.1 + 0.2, 20]))
    assert json.loads(json.dumps(coco.content))["annotations"][1]["bbox"][2] == 0.1 + 0.2
    with caplog.at_level(logging.WARNING):
        dataset = read_coco(*coco.write())
    assert [len(record.labels) for record in dataset.records] == [1, 0]
    assert (
        "dropped 1 box without width or height inside the image: annotation 2 of a.png [-0.3, 10, 0.3, 20]"
        in (caplog.messages[0])
    )


def test_voc_readers_drop_such_boxes(tmp_path: Path) -> None:
    write_image(tmp_path, "a", SIZE + thing("cat", (0.5, 1, 1 - 1 + 1e-9, 9)) + thing("cat", (1, 1, 9, 9)))
    assert (
        read_voc(tmp_path, "train", coordinates="one_based").left_out["without width or height inside the image"] == 1
    )
