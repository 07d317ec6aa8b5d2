import math

import pytest

from raydistill.config.distillation import (
    ConstantDecay,
    CosineDecay,
    ExponentialDecay,
    LinearDecay,
    PolynomialDecay,
    StepDecay,
)
from raydistill.config.training import CosineSchedule, StepSchedule
from raydistill.methods.schedules import decay_at, learning_rate_factor


def test_that_linear_decay_falls_from_one_to_exactly_zero():
    decay = LinearDecay(shape="linear")
    assert [decay_at(decay, t) for t in (0, 0.25, 0.5, 1)] == [1, 0.75, 0.5, 0]


def test_that_cosine_decay_is_half_a_cosine_down_to_exactly_zero():
    decay = CosineDecay(shape="cosine")
    assert [decay_at(decay, t) for t in (0, 0.25, 0.5)] == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5])
    assert decay_at(decay, 1) == 0


def test_that_exponential_decay_ends_at_exp_of_minus_rate():
    decay = ExponentialDecay(shape="exponential", rate=2)
    assert [decay_at(decay, t) for t in (0, 0.5, 1)] == pytest.approx([1, math.exp(-1), math.exp(-2)])


def test_that_step_decay_multiplies_the_factor_at_every_milestone_reached():
    decay = StepDecay(shape="step", milestones=(0.5, 0.75), factor=0.1)
    assert [decay_at(decay, t) for t in (0, 0.499, 0.5, 0.749, 0.75, 1)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_that_step_decay_with_factor_zero_ends_distillation_at_the_milestone():
    decay = StepDecay(shape="step", milestones=(0.5,), factor=0)
    assert [decay_at(decay, t) for t in (0, 0.5, 1)] == [1, 0, 0]


def test_that_polynomial_decay_is_the_power_of_what_remains():
    decay = PolynomialDecay(shape="polynomial", power=3)
    assert [decay_at(decay, t) for t in (0, 0.5, 1)] == [1, 0.125, 0]


def test_that_constant_decay_stays_at_one():
    assert [decay_at(ConstantDecay(shape="constant"), t) for t in (0, 0.5, 1)] == [1, 1, 1]


def test_that_the_step_schedule_drops_at_its_milestones():
    schedule = StepSchedule(shape="step", milestones=(0.5, 0.75), factor=0.1, warmup_steps=0)
    factors = [learning_rate_factor(schedule, step, 8) for step in range(8)]
    assert factors == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_that_the_cosine_schedule_falls_to_its_final_factor():
    schedule = CosineSchedule(shape="cosine", final_factor=0.2, warmup_steps=0)
    assert [learning_rate_factor(schedule, step, 4) for step in (0, 2, 4)] == pytest.approx([1, 0.6, 0.2])


def test_that_warm_up_rises_linearly_and_meets_the_schedule_at_its_end():
    schedule = StepSchedule(shape="step", milestones=(0.9,), warmup_steps=4, warmup_factor=0.2)
    factors = [learning_rate_factor(schedule, step, 100) for step in range(6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def test_that_warm_up_multiplies_the_cosine():
    schedule = CosineSchedule(shape="cosine", warmup_steps=4, warmup_factor=0)
    assert learning_rate_factor(schedule, 2, 4) == pytest.approx(0.5 * 0.5)
