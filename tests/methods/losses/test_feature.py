import pytest
import torch

from raydistill.methods.losses.feature import feature_loss


def maps(seed=0, dtype=torch.float32, shape=(2, 3, 4, 5)):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True)
    teacher = torch.randn(shape, generator=generator, dtype=dtype)
    mask = torch.rand(shape[0], *shape[2:], generator=generator, dtype=dtype)
    return student, teacher, mask


def test_that_the_loss_is_half_the_masked_squared_distance_per_channel_and_mask():
    student = torch.tensor([[[[1.0, 5.0, 3.0]], [[2.0, 0.0, 3.0]]]])  # [1, 2, 1, 3]
    teacher = torch.zeros(1, 2, 1, 3)
    mask = torch.tensor([[[1.0, 0.0, 0.5]]])
    # squared distances 5, 25, 18; sum M d = 5 + 9 = 14; 2 * 2 channels * 1.5
    assert feature_loss(student, teacher, mask, False).item() == pytest.approx(14 / 6)


def test_that_a_mask_of_less_than_one_cell_does_not_enlarge_the_loss():
    student, teacher = torch.full((1, 1, 1, 1), 2.0), torch.zeros(1, 1, 1, 1)
    assert feature_loss(student, teacher, torch.full((1, 1, 1), 0.25), False).item() == 0.5


def test_that_scale_free_divides_by_the_variance_of_the_teachers_map():
    student, teacher = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 5.0]]]])  # variance 4
    mask = torch.ones(1, 1, 2)
    assert feature_loss(student, teacher, mask, False).item() == 6.5
    assert feature_loss(student, teacher, mask, True).item() == 6.5 / 4


def test_that_scale_free_does_not_change_when_both_maps_are_scaled():
    student, teacher, mask = maps()
    expected = feature_loss(student, teacher, mask, True).item()
    assert feature_loss(student * 7, teacher * 7, mask, True).item() == pytest.approx(expected, rel=1e-5)


def test_that_scale_free_of_a_constant_teacher_is_finite():
    student, _, mask = maps()
    loss = feature_loss(student, torch.ones_like(student), mask, True)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_that_a_zero_mask_gives_an_attached_zero():
    student, teacher, mask = maps()
    loss = feature_loss(student, teacher, torch.zeros_like(mask), False)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_that_equal_maps_give_zero():
    student, _, mask = maps()
    assert feature_loss(student, student.detach(), mask, False).item() == 0


@pytest.mark.parametrize("scale_free", [False, True])
def test_that_showing_every_image_twice_changes_nothing(scale_free):
    student, teacher, mask = maps()
    twice = [torch.cat([value, value]) for value in (student, teacher, mask)]
    once = feature_loss(student, teacher, mask, scale_free)
    assert feature_loss(*twice, scale_free).item() == pytest.approx(once.item(), rel=1e-5)


def test_that_the_order_of_the_images_does_not_matter():
    student, teacher, mask = maps()
    flipped = [value.flip(0) for value in (student, teacher, mask)]
    assert feature_loss(*flipped, True).item() == pytest.approx(feature_loss(student, teacher, mask, True).item())


@pytest.mark.parametrize("scale_free", [False, True])
def test_that_the_gradient_is_right(scale_free):
    student, teacher, mask = maps(dtype=torch.float64, shape=(1, 2, 2, 3))
    assert torch.autograd.gradcheck(lambda s: feature_loss(s, teacher, mask, scale_free), student)


def test_that_half_precision_maps_far_apart_do_not_overflow():
    student = torch.full((1, 2, 2, 2), 300.0, dtype=torch.float16)  # 300 ** 2 is more than a half holds
    loss = feature_loss(student, torch.zeros_like(student), torch.ones(1, 2, 2), False)
    assert loss.item() == 45000
