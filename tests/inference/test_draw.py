"""Boxes on pictures: where they lie, what is written at them, and that they can be read at every size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from raydistill.inference.draw import color_of, draw_boxes

GREY = (128, 128, 128)


def _count(picture: Image.Image, color: tuple[int, int, int]) -> int:
    return int((np.asarray(picture) == color).all(-1).sum())


def _rows(picture: Image.Image, color: tuple[int, int, int]) -> tuple[int, int]:
    """Return the first and the last row with pixels of a colour."""
    rows = np.flatnonzero((np.asarray(picture) == color).all(-1).any(1))
    return int(rows[0]), int(rows[-1])


def test_a_box_is_drawn_at_its_pixels_in_the_colour_of_its_class() -> None:
    picture = draw_boxes(Image.new("RGB", (600, 500), GREY), [[100, 200, 300, 400]], [2], None, ["cat", "dog"])
    assert [picture.getpixel(at) for at in ((100, 300), (200, 399), (299, 300))] == [color_of(2)] * 3
    assert [picture.getpixel(at) for at in ((50, 300), (200, 300), (400, 300))] == [GREY] * 3


def test_the_picture_that_was_given_stays_as_it_was() -> None:
    image = Image.new("RGB", (600, 500), GREY)
    draw_boxes(image, [[100, 200, 300, 400]], [1])
    assert _count(image, GREY) == 600 * 500


@pytest.mark.parametrize("kind", ["bytes", "floats", "palette"])
def test_tensors_and_images_of_any_mode_are_drawn_on_alike(kind: str) -> None:
    plain = Image.new("RGB", (600, 500), GREY)
    pixels = torch.full((3, 500, 600), 128, dtype=torch.uint8)
    image = {"bytes": pixels, "floats": pixels / 255, "palette": plain.quantize(2)}[kind]
    same = draw_boxes(plain, [[100, 200, 300, 400]], [1], [0.5], ["cat"])
    assert draw_boxes(image, [[100, 200, 300, 400]], [1], [0.5], ["cat"]).tobytes() == same.tobytes()


def test_a_small_picture_is_enlarged_with_its_boxes_so_that_names_can_be_read() -> None:
    picture = draw_boxes(Image.new("RGB", (64, 48), GREY), [[8, 24, 40, 44]], [1], None, ["cat"])
    assert picture.size == (512, 384)
    assert picture.getpixel((8 * 8, 34 * 8)) == color_of(1)


def test_letters_grow_with_the_picture() -> None:
    heights = []
    for side in (600, 2400):
        box = [side / 4, side / 2, side / 4 + 2, side / 2 + 2]  # next to nothing beside its name
        first, last = _rows(draw_boxes(Image.new("RGB", (side, side), GREY), [box], [1], None, ["cat"]), color_of(1))
        heights.append(last - first)
    assert heights[0] >= 10
    assert heights[1] > 2.5 * heights[0]


def test_a_name_stays_in_the_picture_wherever_its_box_lies() -> None:
    for box in ([0, 0, 600, 500], [590, 0, 600, 10], [0, 490, 10, 500], [590, 490, 600, 500], [-50, -50, 900, 900]):
        picture = draw_boxes(Image.new("RGB", (600, 500), GREY), [box], [1], [0.987], ["a name of its own"])
        assert _count(picture, color_of(1)) > 500


def test_names_of_boxes_in_one_place_do_not_cover_each_other() -> None:
    box = [200.0, 200.0, 400.0, 400.0]
    alone = [
        _count(draw_boxes(Image.new("RGB", (600, 500)), [box], [label], [0.9]), color_of(label)) for label in (1, 2)
    ]
    both = draw_boxes(Image.new("RGB", (600, 500)), [box, box], [1, 2], [0.9, 0.8])
    frame = 4 * 200 * 2
    assert all(_count(both, color_of(label)) > own - frame - 20 for label, own in zip((1, 2), alone, strict=True))


def test_the_surest_box_lies_on_top() -> None:
    box = [200.0, 200.0, 400.0, 400.0]
    for scores, on_top in (([0.9, 0.2], 1), ([0.2, 0.9], 2)):
        assert draw_boxes(Image.new("RGB", (600, 500)), [box, box], [1, 2], scores).getpixel((399, 300)) == color_of(
            on_top
        )


def test_a_label_without_a_name_and_names_of_any_letters_are_drawn() -> None:
    names = ["\u732b", "a" * 500, "two\nlines", ""]
    picture = draw_boxes(Image.new("RGB", (600, 500)), [[10, 50, 90, 90]] * 5, [1, 2, 3, 4, 5], [0.5] * 5, names)
    assert _count(picture, color_of(5)) > 100


def test_nothing_found_is_the_picture_itself() -> None:
    image = Image.new("RGB", (600, 500), GREY)
    assert draw_boxes(image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0)).tobytes() == (
        image.tobytes()
    )
