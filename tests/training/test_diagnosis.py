"""What one batch says of the terms: gradients computed by hand, and that nothing is left changed."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import nn

from raydistill.methods.values import StepLosses
from raydistill.runs.worker import Worker
from raydistill.training.diagnosis import Diagnosis, Pull, first_batch_diagnosis, mean_metrics
from tests.small import Stage, same_weights, small_run

T = TypeVar("T")


class _Plane(nn.Module):
    """Stands for a distiller whose student is a point in the plane and one that no term reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.ParameterList([nn.Parameter(torch.tensor([1.0, 1.0])), nn.Parameter(torch.tensor(1.0))])
        self.measures_quality = False

    def forward(self, *_: Any) -> StepLosses:
        point, other = self.student
        detection = 3 * point[0] + 4 * point[1] + 100 * other  # gradient (3, 4) where the terms reach
        terms = {
            "with": 30 * point[0] + 40 * point[1],
            "against": -3 * point[0] - 4 * point[1],
            "across": 4 * point[0] - 3 * point[1],
        }
        total = detection + sum(terms.values())
        return StepLosses(total, detection, terms, {"total": total.detach()}, {}, {})


def _stage(output: Path) -> Stage:
    return Stage(small_run(output, "data.num_train=4"), "distilled")


def _measured(stage: Stage, distiller: Any, gradients: bool = True, decay: float = 1.0) -> Diagnosis:
    found = first_batch_diagnosis(stage.job, distiller, stage.loader(), stage.worker, decay, gradients)
    assert found is not None
    return found


def test_a_pull_is_measured_where_the_term_reaches(tmp_path: Path) -> None:
    pulls = _measured(_stage(tmp_path), _Plane()).pulls
    assert pulls["with"].ratio == pytest.approx(10)
    assert pulls["with"].cosine == pytest.approx(1)
    assert pulls["against"].ratio == pytest.approx(1)
    assert pulls["against"].cosine == pytest.approx(-1)
    assert pulls["across"].ratio == pytest.approx(1)
    assert pulls["across"].cosine == pytest.approx(0, abs=1e-12)


def test_without_gradients_losses_are_measured_only(tmp_path: Path) -> None:
    found = _measured(_stage(tmp_path), _Plane(), gradients=False)
    assert found.pulls == {} and found.quality == {}
    assert found.losses["total"] == pytest.approx(107 + 70 - 7 + 1)


def test_the_pulls_of_real_nets_follow_weight_and_decay(tmp_path: Path) -> None:
    stage = _stage(tmp_path)
    distiller = stage.distiller()
    whole, half = _measured(stage, distiller), _measured(stage, distiller, decay=0.5)
    assert set(whole.pulls) == {"tar.feature", "tar.classification", "tar.regression", "tar.rpn"}
    for name, pull in whole.pulls.items():
        assert half.pulls[name].ratio == pytest.approx(pull.ratio / 2, rel=1e-4)
        assert half.pulls[name].cosine == pytest.approx(pull.cosine, abs=1e-4)
        assert -1 <= pull.cosine <= 1


def test_a_teacher_equal_to_the_student_is_as_good(tmp_path: Path) -> None:
    stage = _stage(tmp_path)
    distiller = stage.distiller()
    assert distiller.teacher is not None
    distiller.teacher.detector.load_state_dict(distiller.student.state_dict())
    distiller.student.requires_grad_(True)
    quality = _measured(stage, distiller).quality
    for what in ("probability", "iou"):
        assert 0 < quality[f"student_{what}"] < 1
        assert quality[f"teacher_{what}"] == pytest.approx(quality[f"student_{what}"], abs=1e-5)


def test_nothing_is_left_changed(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "data.num_train=4", "student.norm=batch"), "distilled")
    distiller = stage.distiller()
    before, state = copy.deepcopy(distiller.state_dict()), torch.get_rng_state()
    _measured(stage, distiller)
    assert same_weights(before, distiller.state_dict())
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in distiller.parameters())
    assert not distiller.measures_quality


@dataclass(frozen=True)
class _Neighbours(Worker):
    """A worker with neighbours that measured something else, or nothing."""

    others: tuple[Any, ...] = ()

    def gather(self, value: T) -> list[T]:
        return [value, *self.others]


def test_workers_are_averaged_over_those_that_measured_something() -> None:
    own = Diagnosis({}, {"tar.feature": Pull(1.0, 0.5)}, {"teacher_iou": 0.4})
    other = Diagnosis({}, {"tar.feature": Pull(3.0, -0.5)}, {"teacher_iou": 0.8})
    metrics = mean_metrics(own, _Neighbours(others=(other, None)))
    assert metrics == pytest.approx(
        {"gradient/tar/feature": 2.0, "cosine/tar/feature": 0.0, "quality/teacher_iou": 0.6}
    )
    assert mean_metrics(None, _Neighbours(others=(None,))) == {}
