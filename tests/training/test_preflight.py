"""The check before the student is distilled: what it finds, and that it leaves no trace."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from raydistill.errors import UserError
from raydistill.methods.values import StepLosses
from raydistill.runs.events import Note
from raydistill.runs.worker import Worker
from raydistill.training.diagnosis import Diagnosis
from raydistill.training.preflight import preflight, rehearse
from tests.small import Stage, same_weights, small_run

T = TypeVar("T")


def _stage(output: Path, *overrides: str) -> Stage:
    return Stage(small_run(output, "data.num_train=4", *overrides), "distilled")


def _check(stage: Stage, distiller: Any = None) -> list[Note]:
    preflight(stage.job, distiller or stage.distiller(), stage.loader(), stage.worker, stage.listener)
    return stage.listener.notes


class _Fixed:
    """Stands for a distiller whose losses are given."""

    def __init__(self, terms: dict[str, float], detection: float = 1.0, weight: float = 1.0) -> None:
        self.weights = {**dict.fromkeys(terms, weight), "off": 0.0}
        self._losses = {"detection/total": detection}
        for name, value in terms.items():
            path = name.replace(".", "/")
            self._losses |= {f"distillation/{path}": value, f"weighted/{path}": weight * value}

    def __call__(self, *_: Any) -> StepLosses:
        losses = {name: torch.tensor(value) for name, value in self._losses.items()}
        return StepLosses(losses["detection/total"], losses["detection/total"], {}, losses, {}, {})

    def to(self, _: torch.device) -> None:
        """Move nothing."""

    def train(self) -> None:
        """Switch nothing."""

    measures_quality = False

    def named_buffers(self) -> list[Any]:
        return []


@dataclass(frozen=True)
class _TwoWorkers(Worker):
    """A worker whose neighbour found other losses."""

    other: Any = None

    def gather(self, value: T) -> list[T]:
        return [value, self.other]


def test_weights_statistics_and_random_numbers_are_left_as_they_were(tmp_path: Path) -> None:
    stage = _stage(tmp_path, "student.norm=batch", "teacher.norm=batch", "distillation.preflight=warn")
    distiller = stage.distiller()
    assert distiller.teacher is not None
    teacher = distiller.teacher.detector
    before, teacher_before = copy.deepcopy(distiller.state_dict()), copy.deepcopy(teacher.state_dict())
    state = torch.get_rng_state()
    _check(stage, distiller)
    assert torch.equal(torch.get_rng_state(), state)
    assert same_weights(before, distiller.state_dict())
    assert same_weights(teacher_before, teacher.state_dict())
    assert all(parameter.grad is None for parameter in distiller.parameters())


def test_each_term_is_named_with_its_share_of_the_detection_loss(tmp_path: Path) -> None:
    notes = _check(_stage(tmp_path), _Fixed({"tar.feature": 0.25, "tar.rpn": 0.5}, detection=2.0, weight=3.0))
    assert not any(note.warning for note in notes)
    assert len(notes) == 2
    assert "tar.feature" in notes[0].text
    assert "0.2500 raw" in notes[0].text
    assert "0.7500 weighted" in notes[0].text
    assert "37.5%" in notes[0].text


def test_a_real_pair_of_nets_has_the_gradient_of_every_term(tmp_path: Path) -> None:
    notes = [note.text for note in _check(_stage(tmp_path, "distillation.preflight=warn")) if " raw, " in note.text]
    shares = [re.search(r"of the detection loss, (\d+\.\d\d) of its gradient", text) for text in notes]
    assert len(shares) == 4
    assert all(share is not None for share in shares)
    assert any(share is not None and float(share[1]) > 0 for share in shares)


def test_a_real_pair_of_nets_has_a_note_for_every_term_with_a_weight(tmp_path: Path) -> None:
    notes = _check(_stage(tmp_path, "distillation.preflight=warn", "methods.tar.classification.weight=0"))
    text = "\n".join(note.text for note in notes)
    assert "preflight: tar.feature" in text
    assert "preflight: tar.rpn" in text
    assert "classification" not in text


def test_the_decay_is_that_of_the_first_step(tmp_path: Path) -> None:
    stage = _stage(tmp_path, "distillation.preflight=warn", "decay.shape=step", "decay.milestones=[0.0]")
    note = _check(stage)[0].text
    raw, weighted = (float(part.split()[-1]) for part in note.split(" raw")[0:1] + note.split(" weighted")[0:1])
    assert weighted == pytest.approx(0.1 * 3.0 * raw, rel=1e-2)


def test_a_term_that_is_not_finite_is_an_error_even_where_warnings_are_wanted(tmp_path: Path) -> None:
    stage = _stage(tmp_path, "distillation.preflight=warn")
    with pytest.raises(UserError, match=r"'tar\.feature' must be finite"):
        _check(stage, _Fixed({"tar.feature": float("nan")}))


def test_a_teacher_with_a_broken_weight_is_found(tmp_path: Path) -> None:
    stage = _stage(tmp_path)
    distiller = stage.distiller()
    with torch.no_grad():
        next(iter(distiller.teacher.detector.model.backbone.fpn.parameters())).fill_(torch.nan)
    with pytest.raises(UserError, match="must be finite on the first batch"):
        _check(stage, distiller)


def test_a_term_that_is_zero_is_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'tar\.regression' is zero on the first batch") as caught:
        _check(_stage(tmp_path), _Fixed({"tar.feature": 1.0, "tar.regression": 0.0}))
    assert "distillation.preflight=warn" in str(caught.value)
    assert "methods.tar.regression.weight" in str(caught.value)
    assert "'tar.feature'" not in str(caught.value)


def test_a_term_that_is_zero_is_a_warning_where_that_is_wanted(tmp_path: Path) -> None:
    notes = _check(_stage(tmp_path, "distillation.preflight=warn"), _Fixed({"tar.regression": 0.0}))
    assert any(note.warning and "'tar.regression' is zero" in note.text for note in notes)


@pytest.mark.parametrize("rounding", [0.0, 1e-6])
def test_a_student_that_is_the_teacher_has_nothing_to_learn_from_it(tmp_path: Path, rounding: float) -> None:
    """The heads are asked about other numbers of regions, which some processors round differently; the RPN is not."""
    stage = _stage(tmp_path)
    teacher = stage.detector(stage.config.seed)
    with torch.no_grad():
        teacher.model.roi_heads.box_predictor.cls_score.weight.mul_(1 + rounding)
    stage.teacher = lambda: teacher  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"'tar\.rpn' is zero on the first batch"):
        _check(stage)


def test_a_term_that_drowns_the_detection_loss_is_a_warning(tmp_path: Path) -> None:
    notes = _check(_stage(tmp_path), _Fixed({"tar.feature": 6.0, "tar.rpn": 4.0}))
    assert [note.warning for note in notes] == [True, False]
    assert "drowns the detection loss: lower methods.tar.feature.weight" in notes[0].text


def test_a_term_that_is_zero_on_one_worker_is_a_warning(tmp_path: Path) -> None:
    stage = _stage(tmp_path)
    other = {"detection/total": 1.0, "distillation/tar/rpn": 0.5, "weighted/tar/rpn": 0.5}
    stage.worker = _TwoWorkers(other=Diagnosis(other, {}, {}))
    notes = _check(stage, _Fixed({"tar.rpn": 0.0}))
    assert any(note.warning and "zero on the first batch of workers [0]" in note.text for note in notes)


def test_a_term_that_is_not_finite_on_another_worker_is_an_error(tmp_path: Path) -> None:
    stage = _stage(tmp_path)
    inf = float("inf")
    stage.worker = _TwoWorkers(
        other=Diagnosis({"detection/total": 1.0, "distillation/tar/rpn": inf, "weighted/tar/rpn": inf}, {}, {})
    )
    with pytest.raises(UserError, match=r"got \[0\.5, inf\]"):
        _check(stage, _Fixed({"tar.rpn": 0.5}))


def test_the_terms_are_told_before_an_error_about_them(tmp_path: Path) -> None:
    stage = _stage(tmp_path)
    with pytest.raises(UserError):
        _check(stage, _Fixed({"tar.feature": 1.0, "tar.regression": 0.0}))
    assert "preflight: tar.regression" in stage.listener.text


def test_a_rehearsal_changes_nothing_and_finds_nets_that_do_not_fit(tmp_path: Path) -> None:
    stage = _stage(tmp_path)
    distiller = stage.distiller()
    before = copy.deepcopy(distiller.state_dict())
    rehearse(stage.job, distiller, stage.loader(), stage.worker)
    assert same_weights(before, distiller.state_dict())
    smaller = ("teacher.returned_layers=[3, 4, 5]", "teacher.anchor_sizes=[[8], [16], [32], [64]]")
    other = _stage(
        tmp_path,
        *smaller,
        "methods.tar.rpn.weight=0",
        "methods.tar.classification.weight=0",
        "methods.tar.regression.weight=0",
    )
    with pytest.raises(UserError, match="every pyramid level of the student needs one of the teacher's"):
        rehearse(other.job, other.distiller(), other.loader(), other.worker)


def test_data_without_objects_is_a_warning(tmp_path: Path) -> None:
    stage = _stage(tmp_path)
    loader = stage.loader()
    loader.sample_batch = lambda: None  # type: ignore[method-assign]
    preflight(stage.job, stage.distiller(), loader, stage.worker, stage.listener)
    (note,) = stage.listener.notes
    assert note.warning
    assert "no image with an object" in note.text


def test_a_term_that_the_decay_turns_off_from_the_start_is_zero_and_not_a_crash(tmp_path: Path) -> None:
    off = ("decay.shape=step", "decay.milestones=[0.0]", "decay.factor=0")
    with pytest.raises(UserError, match="is zero on the first batch"):
        _check(_stage(tmp_path, *off))
