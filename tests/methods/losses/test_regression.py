import pytest
import torch

from raydistill.methods.losses.regression import closer_gate, delta_distance

OBJECT = torch.tensor([[0.0, 0, 10, 10]])
HALF = torch.tensor([[0.0, 0, 10, 5]])  # IoU 0.5
MOST = torch.tensor([[0.0, 0, 10, 8]])  # IoU 0.8


def test_that_the_gate_opens_where_the_teachers_box_fits_better():
    assert closer_gate(MOST, HALF, OBJECT).tolist() == [True]


def test_that_the_gate_is_closed_where_the_reference_fits_better():
    assert closer_gate(HALF, MOST, OBJECT).tolist() == [False]


def test_that_equally_good_boxes_close_the_gate():
    assert closer_gate(HALF, HALF.clone(), OBJECT).tolist() == [False]


def test_that_the_gate_carries_no_gradient():
    gate = closer_gate(MOST, HALF.clone().requires_grad_(), OBJECT)
    assert gate.dtype == torch.bool
    assert not gate.requires_grad


def test_that_the_gate_of_no_regions_is_empty():
    empty = torch.zeros(0, 4)
    assert closer_gate(empty, empty, empty).shape == (0,)


def test_that_the_distance_is_quadratic_near_and_linear_far():
    # beta = 1/9: 0.5 d^2 / beta below, d - beta / 2 above
    distance = delta_distance(torch.tensor([[0.1, -0.1, 1.0, -2.0]]), torch.zeros(1, 4))
    assert distance.tolist() == pytest.approx([2 * 0.045 + (1 - 1 / 18) + (2 - 1 / 18)])


def test_that_every_region_has_its_own_distance():
    student = torch.tensor([[1.0, 0, 0, 0], [0.0, 0, 0, 0]])
    assert delta_distance(student, torch.zeros(2, 4)).tolist() == pytest.approx([1 - 1 / 18, 0])


def test_that_equal_deltas_have_no_distance():
    deltas = torch.randn(5, 4)
    assert delta_distance(deltas, deltas).tolist() == [0] * 5


def test_that_the_distance_of_no_regions_is_empty_and_attached():
    student = torch.zeros(0, 4, requires_grad=True)
    delta_distance(student, torch.zeros(0, 4)).sum().backward()
    assert student.grad is not None


def test_that_extreme_deltas_have_finite_distance_and_gradient():
    student = torch.tensor([[1e4, -1e4, 1e4, -1e4]], requires_grad=True)
    distance = delta_distance(student, -student.detach())
    distance.sum().backward()
    assert distance.item() == pytest.approx(8e4 - 4 / 18, abs=0.01)
    assert student.grad.tolist() == [[1, -1, 1, -1]]


def test_that_the_gradient_is_right():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: delta_distance(s, teacher), student)


def test_that_the_teacher_is_compared_in_full_precision_with_a_half_precision_student():
    student = torch.zeros(1, 4, dtype=torch.bfloat16)
    assert delta_distance(student, torch.full((1, 4), 1.001)).item() == pytest.approx(4 * (1.001 - 1 / 18), rel=1e-6)
