"""Tests of raydistill.data.formats.shapes and of the layout of its images."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from raydistill.config import ShapesData
from raydistill.data.dataset import DetectionDataset
from raydistill.data.formats.shape_layout import CLASSES, Shape
from raydistill.data.formats.shapes import make_shapes, smooth_mask


def settings(**changes: Any) -> ShapesData:
    return ShapesData.model_validate({"format": "shapes", "num_train": 12, "num_val": 12} | changes)


def contrast(dataset: DetectionDataset) -> float:
    """Mean distance in grey levels of the pixels at the centre of filled shapes from the image's median."""
    distances = []
    for index, record in enumerate(dataset.records):
        image, _ = dataset.load(index)
        ground = image.float().flatten(1).median(dim=1).values
        for box, label in zip(record.boxes, record.labels, strict=True):
            if CLASSES[int(label) - 1] != "ring":
                x, y = ((box[:2] + box[2:]) / 2).long().tolist()
                distances.append(float((image[:, y, x] - ground).abs().mean()))
    return float(np.mean(distances))


def test_the_same_settings_give_the_same_images_in_any_order() -> None:
    first, second = make_shapes(settings(), "train"), make_shapes(settings(), "train")
    forwards = [first.load(index)[0] for index in range(5)]
    backwards = [second.load(index)[0] for index in reversed(range(5))]
    assert all(torch.equal(one, other) for one, other in zip(forwards, reversed(backwards), strict=True))
    assert first.ground_truth == second.ground_truth


def test_a_pickled_dataset_paints_the_same_images() -> None:
    dataset = make_shapes(settings(), "train")
    assert torch.equal(pickle.loads(pickle.dumps(dataset)).load(3)[0], dataset.load(3)[0])


def test_fewer_images_are_the_first_ones_of_more() -> None:
    few, many = make_shapes(settings(num_train=4), "train"), make_shapes(settings(num_train=9), "train")
    assert [few.records.annotated(i) for i in range(4)] == [many.records.annotated(i) for i in range(4)]
    assert torch.equal(few.load(3)[0], many.load(3)[0])


def test_training_and_validation_differ() -> None:
    train, val = make_shapes(settings(), "train"), make_shapes(settings(), "val")
    assert not any(torch.equal(train.load(i)[0], val.load(i)[0]) for i in range(12))


def test_another_seed_gives_other_images() -> None:
    one, other = make_shapes(settings(seed=0), "train"), make_shapes(settings(seed=1), "train")
    assert not torch.equal(one.load(0)[0], other.load(0)[0])


def test_painting_leaves_the_global_random_numbers_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    make_shapes(settings(), "train").load(0)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]


@pytest.mark.parametrize("label", range(1, len(CLASSES) + 1))
def test_boxes_are_tight_around_the_painted_shape(label: int) -> None:
    for angle in np.linspace(0, 6, 7):
        shape = Shape(label, 50.3, 47.8, 20.0, 0.9, angle)
        patch, (left, top) = smooth_mask(shape.outlines, (96, 96))
        assert patch is not None
        rows, columns = np.nonzero(np.asarray(patch) >= 32)
        painted = [left + columns.min(), top + rows.min(), left + columns.max() + 1, top + rows.max() + 1]
        x, y, width, height = shape.box
        # The tip of a star is thinner than a pixel: it pales before its end.
        assert np.abs(np.array(painted) - [x, y, x + width, y + height]).max() < 1.6


def test_boxes_lie_where_the_image_differs_from_its_ground() -> None:
    dataset = make_shapes(settings(difficulty=0.0, num_train=30, max_objects=1), "train")
    for index, record in enumerate(dataset.records):
        image = dataset.load(index)[0].float()
        ground = image.flatten(1).median(dim=1).values[:, None, None]
        rows, columns = torch.nonzero((image - ground).abs().sum(0) > 100, as_tuple=True)
        painted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert (torch.tensor(painted) - record.boxes[0]).abs().max() < 2.5


def test_boxes_lie_inside_the_image_and_are_not_tiny() -> None:
    boxes = torch.cat([record.boxes for record in make_shapes(settings(num_train=200), "train").records])
    assert boxes.min() >= 0
    assert boxes.max() <= 96
    assert (boxes[:, 2:] - boxes[:, :2]).min() > 5


def test_the_number_of_objects_lies_between_one_and_the_largest() -> None:
    counts = {len(record.labels) for record in make_shapes(settings(num_train=100, max_objects=3), "train").records}
    assert counts == {1, 2, 3}


def test_every_class_occurs() -> None:
    labels = torch.cat([record.labels for record in make_shapes(settings(num_train=100), "train").records])
    assert set(labels.tolist()) == set(range(1, len(CLASSES) + 1))


def test_small_medium_and_large_objects_occur_in_larger_images() -> None:
    areas = make_shapes(settings(num_train=150, size=256), "train").records.areas
    assert (areas < 32**2).any()
    assert ((areas > 32**2) & (areas < 96**2)).any()
    assert (areas > 96**2).any()


def test_difficulty_lowers_the_contrast() -> None:
    easy, hard = (make_shapes(settings(difficulty=value, num_train=60), "train") for value in (0.0, 1.0))
    assert contrast(easy) > 1.4 * contrast(hard)


def test_difficulty_roughens_the_ground() -> None:
    easy, hard = (make_shapes(settings(difficulty=value, num_train=20), "train") for value in (0.0, 1.0))
    corners = [
        torch.stack([dataset.load(index)[0][:, :8, :8].float().std() for index in range(20)]).median()
        for dataset in (easy, hard)
    ]
    assert corners[1] > corners[0]


def test_without_difficulty_no_object_hides_another() -> None:
    """Half of the occlusion is drawn on purpose, so that it must show at difficulty 1 and not at 0."""

    def hidden(difficulty: float) -> float:
        painter = make_shapes(settings(difficulty=difficulty, num_train=60, max_objects=6), "train").read_image
        return sum(share for index in range(60) for share in hidden_shares(painter, index))

    assert hidden(0.0) < 1.0  # pixels along shared edges
    assert hidden(1.0) > 4.0


def test_at_least_two_fifths_of_every_object_are_visible() -> None:
    painter = make_shapes(settings(difficulty=1.0, num_train=60, max_objects=8), "train").read_image
    assert max(share for index in range(60) for share in hidden_shares(painter, index)) < 0.6


def hidden_shares(painter: Any, index: int) -> list[float]:
    """Share of each object of an image that the objects and the clutter over it hide."""
    from raydistill.data.formats.shape_layout import draw_layout
    from raydistill.data.formats.shapes import _random_numbers

    layout = draw_layout(painter.data, _random_numbers(painter.data, painter.split, index, "layout"))
    masks = []
    for outlines in [*(shape.outlines for shape in layout.objects), *([cover] for cover in layout.covers)]:
        full = np.zeros((96, 96), dtype=bool)
        patch, (left, top) = smooth_mask(outlines, (96, 96))
        if patch is not None:
            full[top : top + patch.height, left : left + patch.width] = np.asarray(patch) >= 128
        masks.append(full)
    shares = []
    for place in range(len(layout.objects)):
        over = np.any([*masks[place + 1 :], np.zeros((96, 96), dtype=bool)], axis=0)
        shares.append(float((masks[place] & over).sum() / max(1, masks[place].sum())))
    return shares
