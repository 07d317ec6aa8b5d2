import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from raydistill.methods.losses.classification import (
    bce_divergence,
    gated_loss,
    kl_divergence,
    objectness_divergence,
    objectness_gate,
    teacher_better_gate,
)


def logits(dtype=torch.float32, rows=4, classes=5):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(rows, classes, generator=generator, dtype=dtype, requires_grad=True)
    return student, torch.randn(rows, classes, generator=generator, dtype=dtype)


def of(*probabilities):
    """Return logits whose softmax is ``probabilities``."""
    return torch.tensor([probabilities]).log()


# ------------------------------------------------------------------------------------------------------------- gates
def test_that_the_class_gate_opens_where_the_teacher_is_surer_of_the_true_class():
    student, teacher = of(0.2, 0.3, 0.5), of(0.5, 0.4, 0.1)
    labels = [teacher_better_gate(student, teacher, torch.tensor([label])).item() for label in range(3)]
    assert labels == [True, True, False]


def test_that_the_class_gate_compares_probabilities_and_not_logits():
    student, teacher = torch.tensor([[0.0, 1.0]]), torch.tensor([[5.0, 5.5]])  # logit 5.5 > 1, yet the less sure
    assert teacher_better_gate(student, teacher, torch.tensor([1])).tolist() == [False]


def test_that_equal_answers_close_the_class_gate():
    student, _ = logits()
    assert not teacher_better_gate(student, student.detach(), torch.tensor([0, 1, 2, 3])).any()


def test_that_the_class_gate_still_tells_nearly_certain_answers_apart_from_hopeless_ones():
    student, teacher = torch.tensor([[200.0, 0.0]]), torch.tensor([[150.0, 0.0]])  # both probabilities underflow
    assert teacher_better_gate(student, teacher, torch.tensor([1])).tolist() == [True]


def test_that_the_class_gate_carries_no_gradient():
    student, teacher = logits()
    gate = teacher_better_gate(student, teacher, torch.zeros(4, dtype=torch.int64))
    assert gate.dtype == torch.bool
    assert not gate.requires_grad


def test_that_the_objectness_gate_opens_where_the_teacher_is_surer():
    student = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)
    gate = objectness_gate(student, torch.tensor([0.5, 0.5, 2.0]))
    assert gate.tolist() == [True, False, False]  # equal answers close it
    assert not gate.requires_grad


# --------------------------------------------------------------------------------------------------------------- bce
def test_that_bce_sums_the_binary_divergence_over_the_classes():
    student, teacher = (0.5, 0.3, 0.2), (0.7, 0.2, 0.1)
    expected = sum(
        t * math.log(t / s) + (1 - t) * math.log((1 - t) / (1 - s)) for s, t in zip(student, teacher, strict=True)
    )
    assert bce_divergence(of(*student), of(*teacher)).item() == pytest.approx(expected, rel=1e-5)


def test_that_the_gradient_of_bce_is_that_of_plain_binary_cross_entropy():
    student, teacher = logits(torch.float64)
    (ours,) = torch.autograd.grad(bce_divergence(student, teacher).sum(), student)
    plain = F.binary_cross_entropy(student.softmax(1), teacher.softmax(1), reduction="sum")
    (expected,) = torch.autograd.grad(plain, student)
    torch.testing.assert_close(ours, expected)


def test_that_bce_differs_from_plain_binary_cross_entropy_by_the_teachers_entropy():
    student, teacher = logits(torch.float64)
    p = teacher.softmax(1)
    plain = F.binary_cross_entropy(student.softmax(1), p, reduction="none").sum(1)
    entropy = F.binary_cross_entropy(p, p, reduction="none").sum(1)
    torch.testing.assert_close(bce_divergence(student, teacher), plain - entropy)


def test_that_bce_of_a_nearly_certain_student_is_exact():
    student = torch.tensor([[40.0, 0.0]])  # 1 - p = e^-40 is lost when computed as 1 - p
    teacher = torch.tensor([[0.0, 0.0]])
    assert bce_divergence(student, teacher).item() == pytest.approx(2 * (20 - math.log(2)), rel=1e-5)


def test_that_bce_is_exact_where_two_classes_tie():
    student = torch.tensor([[1.0, 1.0]], requires_grad=True)
    divergence = bce_divergence(student, of(0.8, 0.2))
    divergence.sum().backward()
    assert divergence.item() == pytest.approx(2 * (0.8 * math.log(1.6) + 0.2 * math.log(0.4)), rel=1e-5)
    assert student.grad[0].tolist() == pytest.approx([-0.6, 0.6])


# ---------------------------------------------------------------------------------------------------------------- kl
def test_that_kl_is_that_of_the_softened_distributions_times_temperature_squared():
    student, teacher = np.array([1.0, 2.0, 4.0]), np.array([3.0, 0.0, 1.0])
    p = np.exp(teacher / 2) / np.exp(teacher / 2).sum()
    q = np.exp(student / 2) / np.exp(student / 2).sum()
    expected = 4 * (p * np.log(p / q)).sum()
    ours = kl_divergence(torch.tensor(student).unsqueeze(0), torch.tensor(teacher).unsqueeze(0), 2.0)
    assert ours.item() == pytest.approx(expected)


def test_that_kl_agrees_with_torch():
    student, teacher = logits()
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=teacher), torch.distributions.Categorical(logits=student)
    )
    torch.testing.assert_close(kl_divergence(student, teacher, 1.0), expected)


# -------------------------------------------------------------------------------------------------------- objectness
def test_that_objectness_is_the_divergence_of_two_probabilities():
    student, teacher = torch.tensor([0.0]), torch.tensor([math.log(3.0)])  # 1/2 and 3/4
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert objectness_divergence(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_that_the_gradient_of_objectness_is_the_difference_of_probabilities():
    student = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    teacher = torch.tensor([1.0, 1.0, -3.0])
    objectness_divergence(student, teacher).sum().backward()
    torch.testing.assert_close(student.grad, (student.sigmoid() - teacher.sigmoid()).detach())


# ---------------------------------------------------------------------------------------------------- all divergences
DIVERGENCES = {
    "bce": bce_divergence,
    "kl": lambda student, teacher: kl_divergence(student, teacher, 2.0),
    "objectness": lambda student, teacher: objectness_divergence(student.flatten(), teacher.flatten()),
}
each_divergence = pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES.keys())


@each_divergence
def test_that_equal_answers_diverge_by_zero(divergence):
    student, _ = logits()
    assert not divergence(student, student.detach()).any()


@each_divergence
def test_that_the_gradient_is_right(divergence):
    student, teacher = logits(torch.float64)
    assert torch.autograd.gradcheck(lambda s: divergence(s, teacher), student)


@each_divergence
def test_that_extreme_logits_give_finite_divergences_and_gradients(divergence):
    rows = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [-1e4, -1e4, 1e4], [1e4, 1e4, -1e4], [0.0, 0.0, 0.0]])
    student = rows.repeat_interleave(5, dim=0).requires_grad_()
    result = divergence(student, rows.repeat(5, 1))
    result.sum().backward()
    assert result.isfinite().all()
    assert (result >= -1e-5).all()
    assert student.grad.isfinite().all()


@each_divergence
def test_that_permuting_the_regions_permutes_the_divergences(divergence):
    student, teacher = logits()
    order = torch.tensor([2, 0, 3, 1])
    result = divergence(student, teacher).reshape(4, -1)
    torch.testing.assert_close(divergence(student[order], teacher[order]).reshape(4, -1), result[order])


@each_divergence
def test_that_no_regions_give_an_attached_empty_divergence(divergence):
    student = torch.zeros(0, 3, requires_grad=True)
    divergence(student, torch.zeros(0, 3)).sum().backward()
    assert student.grad is not None


@each_divergence
def test_that_half_precision_logits_are_compared_in_full_precision(divergence):
    student, teacher = logits()
    student, teacher = student.detach().bfloat16(), teacher.bfloat16()
    result = divergence(student, teacher)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, divergence(student.float(), teacher.float()))


# -------------------------------------------------------------------------------------------------------- gated loss
def test_that_closed_regions_count_in_the_normaliser_only():
    loss = gated_loss(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, False, True]), torch.tensor(3))
    assert loss.item() == pytest.approx(4 / 3)


def test_that_background_regions_can_carry_the_loss_without_counting_in_the_normaliser():
    loss = gated_loss(torch.tensor([1.0, 2.0, 3.0]), torch.ones(3, dtype=torch.bool), torch.tensor(1))
    assert loss.item() == 6


def test_that_the_loss_does_not_change_when_every_region_comes_twice():
    divergence, gate = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([True, False, True])
    once = gated_loss(divergence, gate, torch.tensor(3))
    twice = gated_loss(divergence.repeat(2), gate.repeat(2), torch.tensor(6))
    assert twice.item() == pytest.approx(once.item())


def test_that_no_region_gives_an_attached_zero():
    divergence = torch.zeros(0, requires_grad=True)
    loss = gated_loss(divergence, torch.zeros(0, dtype=torch.bool), torch.tensor(0))
    loss.backward()
    assert loss.item() == 0


def test_that_a_closed_gate_passes_no_gradient():
    divergence = torch.tensor([1.0, 2.0], requires_grad=True)
    gated_loss(divergence, torch.tensor([True, False]), torch.tensor(2)).backward()
    assert divergence.grad.tolist() == [0.5, 0]
