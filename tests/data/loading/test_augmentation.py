"""Tests of raydistill.data.loading.augmentation."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Generator, Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from raydistill.config.sections import Augmentation
from raydistill.data.loading.augmentation import build_augmentation
from raydistill.structures import Target


def picture() -> tuple[Tensor, Target]:
    """A 60 x 40 image that is white inside its one box and black outside of it."""
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[:, 10:30, 5:25] = 255
    target = Target(boxes=torch.tensor([[5.0, 10.0, 25.0, 30.0]]), labels=torch.tensor([4]), image_id=17)
    return image, target


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def settings(flip: float, low: float = 1.0, high: float = 1.0) -> Augmentation:
    return Augmentation(horizontal_flip=flip, scale_jitter=(low, high))


def test_without_changes_image_and_target_come_back_as_they_are() -> None:
    image, target = picture()
    same_image, same_target = build_augmentation(settings(0.0))(image, target, seeded(0))
    assert same_image is image
    assert same_target is target


def test_a_flip_mirrors_pixels_and_boxes() -> None:
    image, target = build_augmentation(settings(1.0))(*picture(), seeded(0))
    assert target["boxes"].tolist() == [[35, 10, 55, 30]]
    assert torch.equal(image, picture()[0].flip(2))
    assert type(image) is Tensor
    assert type(target["boxes"]) is Tensor


def test_a_flip_happens_as_often_as_asked() -> None:
    generator = seeded(0)
    augment = build_augmentation(settings(0.25))
    flips = sum(augment(*picture(), generator)[1]["boxes"][0, 0].item() == 35 for _ in range(400))
    assert 70 < flips < 130


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.3])
def test_boxes_follow_the_pixels_of_a_zoom(factor: float) -> None:
    generator = seeded(1)
    augment = build_augmentation(settings(0.0, factor, factor))
    for _ in range(20):
        image, target = augment(*picture(), generator)
        assert image.shape == (3, 40, 60)
        assert image.dtype == torch.uint8
        rows, columns = torch.nonzero(image[0] > 190, as_tuple=True)
        painted = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert (painted - target["boxes"][0]).abs().max() <= 1.01


def test_a_zoom_in_and_out_fills_the_frame_at_random_places() -> None:
    generator = seeded(2)
    for factor in (0.5, 2.0):
        augment = build_augmentation(settings(0.0, factor, factor))
        targets = [augment(*picture(), generator)[1] for _ in range(30)]
        places = {tuple(target["boxes"][0].tolist()) for target in targets if len(target["labels"])}
        assert len(places) > 10


def test_padding_has_the_mean_colour() -> None:
    image, _ = build_augmentation(settings(0.0, 0.2, 0.2))(*picture(), seeded(0))
    assert image.flatten(1).median(dim=1).values.tolist() == [124, 116, 104]


def test_factors_are_drawn_log_uniformly() -> None:
    generator = seeded(3)
    augment = build_augmentation(settings(0.0, 0.25, 1.0))
    sides = [augment(*picture(), generator)[1]["boxes"][0] for _ in range(300)]
    smaller_than_half = sum(float(box[2] - box[0]) < 10 for box in sides)
    assert 120 < smaller_than_half < 180


def test_boxes_that_leave_the_frame_are_dropped_with_their_labels() -> None:
    generator = seeded(4)
    augment = build_augmentation(settings(0.0, 2.5, 2.5))
    boxes = torch.tensor([[5.0, 10.0, 25.0, 30.0], [40.0, 5.0, 58.0, 35.0]])
    seen = set()
    for _ in range(60):
        _, target = augment(picture()[0], Target(boxes=boxes, labels=torch.tensor([1, 2]), image_id=0), generator)
        assert len(target["boxes"]) == len(target["labels"])
        sides = target["boxes"][:, 2:] - target["boxes"][:, :2]
        whole = torch.tensor([400.0, 540.0])[target["labels"] - 1] * 2.5**2
        assert (sides.prod(1) >= 0.24 * whole).all()
        seen.add(tuple(target["labels"].tolist()))
    assert {(), (1,), (2,)} & seen >= {(1,), (2,)}


def test_boxes_under_a_pixel_are_dropped() -> None:
    target = Target(boxes=torch.tensor([[5.0, 5.0, 7.0, 30.0]]), labels=torch.tensor([1]), image_id=0)
    assert len(build_augmentation(settings(0.0, 0.4, 0.4))(picture()[0], target, seeded(0))[1]["boxes"]) == 0


def test_images_without_objects_are_changed_too() -> None:
    empty = Target(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64), image_id=1)
    image, target = build_augmentation(settings(1.0, 0.5, 2.0))(picture()[0], empty, seeded(0))
    assert target["boxes"].shape == (0, 4)
    assert target["image_id"] == 1
    assert not torch.equal(image, picture()[0])


def test_an_augmentation_can_be_sent_to_another_process() -> None:
    augment = build_augmentation(settings(1.0, 0.5, 2.0))
    copy = pickle.loads(pickle.dumps(augment))
    once = augment(*picture(), seeded(5))[0]
    assert torch.equal(copy(*picture(), seeded(5))[0], once)


def test_nothing_is_drawn_from_the_global_random_numbers() -> None:
    before = torch.get_rng_state()
    build_augmentation(settings(0.5, 0.5, 2.0))(*picture(), seeded(6))
    assert torch.equal(before, torch.get_rng_state())


def test_an_augmentation_that_does_nothing_draws_nothing() -> None:
    generator = seeded(7)
    before = generator.get_state()
    build_augmentation(settings(0.0))(*picture(), generator)
    assert torch.equal(before, generator.get_state())


def test_a_flip_gives_the_numbers_of_torchvisions() -> None:
    boxes = torch.rand(20, 4, generator=seeded(8)) * 40
    target = Target(boxes=boxes, labels=torch.ones(20, dtype=torch.int64), image_id=3)
    _, flipped = build_augmentation(settings(1.0))(picture()[0], target, seeded(0))
    expected = functional.horizontal_flip(tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(40, 60)))
    assert torch.equal(flipped["boxes"], expected.as_subclass(Tensor))
    assert torch.equal(target["boxes"], boxes)
