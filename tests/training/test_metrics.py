"""The optimizer's groups, and the sums that become an epoch's metrics."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from raydistill.config.sections import Optimizer
from raydistill.detectors.base import groups_by_dimension
from raydistill.errors import UserError
from raydistill.methods.values import Gate, StepLosses
from raydistill.runs.worker import Worker
from raydistill.training import metrics
from raydistill.training.metrics import FiniteWatch, MetricSums
from raydistill.training.optimizer import build_optimizer


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def _losses(gates: dict[str, tuple[float, float]] | None = None, **terms: float) -> StepLosses:
    values = {name: torch.tensor(value) for name, value in terms.items()}
    counted = {name: Gate(torch.tensor(opened), torch.tensor(total)) for name, (opened, total) in (gates or {}).items()}
    return StepLosses(torch.tensor(0.0), torch.tensor(0.0), {}, values, counted, {})


def test_norms_and_biases_carry_no_weight_decay() -> None:
    net = _net()
    optimizer = build_optimizer(Optimizer(weight_decay=0.5), groups_by_dimension(net))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        assert decays[id(parameter)] == (0.5 if name in ("0.weight", "2.weight") else 0.0)


def test_every_parameter_that_learns_is_in_one_group_and_no_other() -> None:
    net = _net()
    net[0].requires_grad_(False)
    optimizer = build_optimizer(Optimizer(), groups_by_dimension(net))
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters() if p.requires_grad)


def test_a_net_without_norms_and_biases_has_one_group() -> None:
    assert len(build_optimizer(Optimizer(), groups_by_dimension(nn.Linear(2, 2, bias=False))).param_groups) == 1


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_the_optimizer_that_was_named_is_built(name: str, kind: type) -> None:
    optimizer = build_optimizer(
        Optimizer.model_validate({"name": name, "learning_rate": 0.25}), groups_by_dimension(_net())
    )
    assert type(optimizer) is kind
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}


def test_sgd_takes_its_momentum() -> None:
    assert build_optimizer(Optimizer(momentum=0.3), groups_by_dimension(_net())).param_groups[0]["momentum"] == 0.3


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_optimizer_is_fused_and_goes_on_from_a_checkpoint_of_one_that_was_not(name: str) -> None:
    net, images = nn.Linear(3, 2), torch.ones(4, 3)
    settings = Optimizer.model_validate({"name": name, "learning_rate": 0.25})

    def stepped(optimizer: torch.optim.Optimizer) -> list[Tensor]:
        optimizer.zero_grad()
        net(images).square().sum().backward()
        optimizer.step()
        return [parameter.detach().clone() for parameter in net.parameters()]

    optimizer = build_optimizer(settings, groups_by_dimension(net))
    assert all(group["fused"] for group in optimizer.param_groups)
    plain = [{**group, "fused": None} for group in optimizer.param_groups]
    unfused = type(optimizer)(plain, lr=0.25)
    stepped(unfused)
    weights = [parameter.detach().clone() for parameter in net.parameters()]
    saved = copy.deepcopy(unfused.state_dict())
    expected = stepped(unfused)
    with torch.no_grad():
        for parameter, before in zip(net.parameters(), weights, strict=True):
            parameter.copy_(before)
    optimizer.load_state_dict(saved)
    for found, wanted in zip(stepped(optimizer), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_losses_become_means_over_the_steps() -> None:
    sums = MetricSums()
    sums.add(_losses(feature=1.0))
    sums.add(_losses(feature=2.0))
    assert sums.over(Worker()) == {"feature": 1.5}


def test_a_term_that_some_steps_lack_is_the_mean_over_those_that_have_it() -> None:
    sums = MetricSums()
    sums.add(_losses(total=1.0, feature=3.0))
    sums.add(_losses(total=2.0))
    assert sums.over(Worker()) == {"total": 1.5, "feature": 3.0}


def test_a_gate_is_the_share_of_all_regions_and_not_the_mean_of_shares() -> None:
    sums = MetricSums()
    sums.add(_losses({"box_open": (1, 1)}, total=0.0))
    sums.add(_losses({"box_open": (0, 3)}, total=0.0))
    assert sums.over(Worker())["gate/box_open"] == 0.25


def test_a_gate_without_regions_is_closed() -> None:
    sums = MetricSums()
    sums.add(_losses({"box_open": (0, 0)}, total=0.0))
    assert sums.over(Worker())["gate/box_open"] == 0.0


def test_an_epoch_without_steps_has_no_metrics() -> None:
    assert MetricSums().over(Worker()) == {}


@dataclass(frozen=True)
class _TwoAlike(Worker):
    """A worker whose neighbour has the same numbers."""

    def sum(self, values: Tensor) -> Tensor:
        return values * 2


def test_losses_are_averaged_over_the_workers_and_gates_summed() -> None:
    sums = MetricSums()
    sums.add(_losses({"box_open": (1, 4)}, total=3.0))
    assert sums.over(_TwoAlike(0, 2)) == {"total": 3.0, "gate/box_open": 0.25}


def test_sums_that_are_saved_and_restored_go_on_to_the_bit() -> None:
    whole, cut = MetricSums(), MetricSums()
    for step in range(7):
        for sums in (whole, cut):
            sums.add(_losses({"box_open": (0.1 * step, 1 / 3)}, total=0.1 * step) if step else _losses(total=0.7))
        if step == 3:
            cut = MetricSums.restored([cut.saved()], Worker())
    assert whole.over(Worker()) == cut.over(Worker())


@dataclass(frozen=True)
class _OneOfTwo(Worker):
    """A worker whose neighbour is asked for its own numbers, one call after the other."""

    others: tuple[Tensor, ...] = ()
    calls: list[int] = field(default_factory=list)

    def sum(self, values: Tensor) -> Tensor:
        self.calls.append(0)
        return values + self.others[len(self.calls) - 1]


def test_sums_of_one_worker_are_gone_on_with_by_two() -> None:
    """The first step was taken by one worker, the second by two whose losses are 1 and 5."""
    before = MetricSums()
    before.add(_losses({"box_open": (1, 4)}, total=2.0))
    main, other = (MetricSums.restored([before.saved()], Worker(rank, 2)) for rank in (0, 1))
    main.add(_losses({"box_open": (1, 1)}, total=1.0))
    other.add(_losses({"box_open": (0, 3)}, total=5.0))
    theirs = torch.tensor([3.5], dtype=torch.float64), torch.tensor([[0.0, 3.0]])
    assert other.saved() == {"terms": {"total": (7.0, 2)}, "gates": {"box_open": (0.0, 3.0)}}
    assert main.over(_OneOfTwo(0, 2, others=theirs)) == {"total": 2.5, "gate/box_open": 0.25}


def test_sums_of_two_workers_are_gone_on_with_by_one() -> None:
    saved = []
    for loss, opened in ((1.0, 1.0), (5.0, 0.0)):
        sums = MetricSums()
        sums.add(_losses({"box_open": (opened, 4)}, total=loss))
        saved.append(sums.saved())
    alone = MetricSums.restored(saved, Worker())
    alone.add(_losses({"box_open": (3, 8)}, total=6.0))
    assert alone.over(Worker()) == {"total": 4.5, "gate/box_open": 0.25}


def test_many_small_losses_are_summed_without_losing_digits() -> None:
    sums = MetricSums()
    for _ in range(20_000):
        sums.add(_losses(total=0.1))
    assert sums.over(Worker())["total"] == pytest.approx(0.1, abs=2e-9)


def _loss_on(value: float, device: str) -> StepLosses:
    """Return losses that say they lie on ``device``."""
    total = SimpleNamespace(device=torch.device(device), detach=lambda: torch.tensor(value))
    return StepLosses(total, total, {}, {"total": torch.tensor(value)}, {}, {})  # type: ignore[arg-type]


def test_a_loss_on_the_cpu_is_looked_at_at_once() -> None:
    with pytest.raises(UserError, match=r"step 3: the loss must be finite, got total=nan on images \[7\]; mend it"):
        FiniteWatch().add(_loss_on(float("nan"), "cpu"), "step 3", "images [7]", lambda: "mend it")


def test_a_loss_on_a_gpu_is_looked_at_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def arriving(flag: Tensor) -> Callable[[], bool]:
        return lambda: asked.append(bool(flag)) or asked[-1]

    monkeypatch.setattr(metrics, "arriving", arriving)
    watch = FiniteWatch()
    watch.add(_loss_on(1.0, "cuda"), "step 1", "images [5]", lambda: "mend it")
    watch.add(_loss_on(float("inf"), "cuda"), "step 2", "images [6]", lambda: "mend it")
    assert asked == [True]
    with pytest.raises(UserError, match=r"step 2: .* on images \[6\]"):
        watch.add(_loss_on(1.0, "cuda"), "step 3", "images [7]", lambda: "mend it")


def test_the_last_loss_on_a_gpu_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "arriving", lambda flag: lambda: bool(flag))
    watch = FiniteWatch()
    watch.add(_loss_on(float("nan"), "cuda"), "step 9", "images [1]", lambda: "mend it")
    with pytest.raises(UserError, match="step 9"):
        watch.check()
    watch.check()  # said once
