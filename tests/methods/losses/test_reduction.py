import torch

from raydistill.methods.losses.reduction import normalized_sum


def test_that_the_weighted_sum_is_divided_by_the_normalizer():
    values, weights = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 0.0, 0.5])
    assert normalized_sum(values, weights, torch.tensor(2)).item() == 1.5


def test_that_no_weights_count_everything_once():
    assert normalized_sum(torch.tensor([1.0, 2.0]), None, torch.tensor(2)).item() == 1.5


def test_that_the_normalizer_is_at_least_one():
    assert normalized_sum(torch.tensor([3.0]), None, torch.tensor(0)).item() == 3
    assert normalized_sum(torch.tensor([3.0]), None, torch.tensor(0.25)).item() == 3


def test_that_empty_values_give_a_zero_attached_to_the_graph():
    values = torch.zeros(0, requires_grad=True)
    loss = normalized_sum(values, torch.zeros(0), torch.tensor(0))
    loss.backward()
    assert loss.item() == 0
    assert values.grad is not None
