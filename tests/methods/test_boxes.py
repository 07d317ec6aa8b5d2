import math

import pytest
import torch

from raydistill.methods.boxes import Grid, box_masks, image_masks, paired_iou


def mask_of(*boxes, images=None, num_images=1, cells=(5, 5), stride=1.0, kind="gaussian", sigma_squared=2.0):
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    indices = torch.tensor(images if images is not None else [0] * len(boxes), dtype=torch.int64)
    grid = Grid.of([cells], (round(cells[0] * stride), round(cells[1] * stride)), tensor.device)
    return box_masks(tensor, indices, num_images, grid, kind, sigma_squared)[0]


def test_that_paired_iou_compares_row_with_row():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 4, 4]])
    others = torch.tensor([[1.0, 1, 3, 3], [5, 5, 6, 6], [0, 0, 4, 4]])
    assert paired_iou(boxes, others).tolist() == pytest.approx([1 / 7, 0, 1])


def test_that_paired_iou_of_empty_and_inverted_boxes_is_zero_and_not_nan():
    boxes = torch.tensor([[1.0, 1, 1, 1], [3, 3, 1, 1]])
    assert paired_iou(boxes, boxes).tolist() == [0, 0]


def test_that_the_gaussian_is_one_at_the_centre_and_falls_by_half_sides():
    # box [0.5, 4.5]: centre 2.5, half side 2; its edges pass through the centres of cells 0 and 4
    mask = mask_of([0.5, 0.5, 4.5, 4.5])[0]
    assert mask[2, 2].item() == 1
    assert mask[2, 0].item() == pytest.approx(math.exp(-0.5))  # mid-edge, 0.607
    assert mask[0, 4].item() == pytest.approx(math.exp(-1))  # corner, 0.368
    assert mask[2, 1].item() == pytest.approx(math.exp(-1 / 8))  # half-way


def test_that_rows_of_the_mask_are_y_and_columns_are_x():
    # 4 wide, 2 high: x half side 2, y half side 1
    mask = mask_of([0.5, 1.5, 4.5, 3.5])[0]
    assert mask[2, 1].item() == pytest.approx(math.exp(-1 / 8))
    assert mask[1, 2].item() == pytest.approx(math.exp(-1 / 2))
    assert mask[0].tolist() == [0] * 5


def test_that_sigma_squared_sets_the_width_of_the_gaussian():
    assert mask_of([0.5, 0.5, 4.5, 4.5], sigma_squared=0.5)[0, 2, 0].item() == pytest.approx(math.exp(-2))


def test_that_the_mask_is_zero_outside_the_box():
    mask = mask_of([1.0, 1.0, 4.0, 4.0])[0]
    assert (mask > 0).tolist() == [[1 <= x <= 3 and 1 <= y <= 3 for x in range(5)] for y in range(5)]


def test_that_cell_centres_are_measured_in_strides():
    fine = mask_of([0.5, 0.5, 4.5, 4.5])
    coarse = mask_of([4.0, 4.0, 36.0, 36.0], stride=8.0)
    assert torch.equal(fine, coarse)


def test_that_vertical_and_horizontal_stride_may_differ():
    boxes = torch.tensor([[4.0, 8, 36, 72]])
    mask = box_masks(boxes, torch.tensor([0]), 1, Grid.of([(5, 5)], (80, 40), boxes.device), "gaussian", 2.0)[0]
    assert torch.equal(mask, mask_of([0.5, 0.5, 4.5, 4.5]))


def test_that_overlapping_boxes_give_the_maximum():
    first, second = [0.5, 0.5, 4.5, 4.5], [0.0, 0.0, 3.0, 3.0]
    assert torch.equal(mask_of(first, second), torch.maximum(mask_of(first), mask_of(second)))


def test_that_a_box_smaller_than_a_cell_counts_fully_in_the_cell_of_its_centre():
    mask = mask_of([2.6, 1.6, 2.9, 1.9])[0]  # contains no cell centre
    assert mask[1, 2].item() == 1
    assert mask.sum().item() == 1


def test_that_a_thin_box_is_one_cell_wide_and_gaussian_along_its_length():
    mask = mask_of([2.6, 0.5, 2.9, 4.5])[0]
    assert mask[:, 2].tolist() == pytest.approx([math.exp(-0.5), math.exp(-0.125), 1, math.exp(-0.125), math.exp(-0.5)])
    assert mask[:, [0, 1, 3, 4]].sum().item() == 0


def test_that_a_box_without_area_counts_in_its_cell():
    assert mask_of([2.5, 2.5, 2.5, 2.5])[0, 2, 2].item() == 1


def test_that_a_tiny_box_on_the_far_border_counts_in_the_last_cell():
    assert mask_of([4.99, 4.99, 5.01, 5.01])[0, 4, 4].item() == 1


@pytest.mark.parametrize("kind", ["gaussian", "box"])
def test_that_no_boxes_give_zeros(kind):
    assert torch.equal(mask_of(num_images=2, kind=kind), torch.zeros(2, 5, 5))


def test_that_every_box_marks_its_own_image_only():
    small, large = [2.0, 2.0, 3.0, 3.0], [0.5, 0.5, 4.5, 4.5]
    masks = mask_of(large, small, images=[2, 0], num_images=3)
    assert torch.equal(masks[0], mask_of(small)[0])
    assert torch.equal(masks[1], torch.zeros(5, 5))
    assert torch.equal(masks[2], mask_of(large)[0])


def test_that_the_box_mask_is_binary():
    mask = mask_of([0.0, 1.0, 3.0, 3.0], kind="box")[0]
    assert mask.tolist() == [[float(x <= 2 and 1 <= y <= 2) for x in range(5)] for y in range(5)]


def test_that_the_image_mask_leaves_out_padding():
    (mask,) = image_masks([(16, 32), (32, 20)], Grid.of([(4, 4)], (32, 32), torch.device("cpu")))
    assert mask[0].tolist() == [[1.0] * 4] * 2 + [[0.0] * 4] * 2
    assert mask[1].tolist() == [[1.0, 1.0, 0.0, 0.0]] * 4  # centre of column 2 is at 20, the border itself
