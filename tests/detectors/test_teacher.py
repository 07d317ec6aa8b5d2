from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from raydistill.config import precision
from raydistill.detectors import frozen
from raydistill.detectors.base import Normalization
from raydistill.detectors.frozen import make_fast
from raydistill.detectors.teacher import DTYPES, Teacher, decide_precision, renormalized
from raydistill.errors import UserError
from raydistill.runs.worker import Worker
from raydistill.training.distiller import Distiller
from tests.nets import gradients, mixed_batch, pair, small_config

CPU = torch.device("cpu")


def losses_and_gradients(config, fast=None, training="fp32"):
    student, teacher = pair(config)
    if fast is not None:
        make_fast(teacher, DTYPES[fast])
    torch.manual_seed(4)  # the adapters
    distiller = Distiller(student, teacher, config, fast or "fp32")
    torch.manual_seed(3)
    with torch.autocast("cpu", DTYPES[training], enabled=training != "fp32"):
        losses = distiller(*mixed_batch(), 1.0)
    losses.total.backward()
    return {name: value.item() for name, value in losses.terms.items()}, gradients(distiller)


# Weights like those of a run: the terms together are of the size of the detection loss.
CONFIG = small_config("methods.tar.feature.weight=0.1")


@pytest.mark.parametrize("source", ["student", "teacher", "both"])
def test_that_the_fast_teacher_gives_the_losses_and_gradients_of_the_plain_one(source):
    config = small_config("methods.tar.feature.weight=0.1", f"methods.tar.regions.source={source}")
    plain, plain_gradients = losses_and_gradients(config)
    fast, fast_gradients = losses_and_gradients(config, "fp32")
    assert fast == pytest.approx(plain, rel=1e-4, abs=1e-6)
    for name, gradient in plain_gradients.items():
        if gradient is not None:
            torch.testing.assert_close(
                fast_gradients[name], gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item() + 1e-7
            )


def test_that_a_bf16_teacher_gives_losses_within_two_percent_and_gradients_of_the_same_direction():
    plain, plain_gradients = losses_and_gradients(CONFIG)
    half, half_gradients = losses_and_gradients(CONFIG, "bf16")
    assert half != plain
    assert half["total"] == pytest.approx(plain["total"], rel=0.02)
    flat, half_flat = (
        torch.cat([g.flatten() for g in grads.values() if g is not None]) for grads in (plain_gradients, half_gradients)
    )
    assert torch.cosine_similarity(flat, half_flat, dim=0) > 0.99


def test_that_an_exact_teacher_stays_exact_beside_a_student_under_autocast():
    config = small_config()
    _, detector = pair(config)
    batch = detector.prepare(*mixed_batch())
    with torch.autocast("cpu", torch.bfloat16):
        seen = Teacher(detector, "fp32").look(batch)
        proposals = seen.proposals
    assert all(level.dtype == torch.float32 for level in seen.features.values())
    assert proposals.anchor_outputs is not None and proposals.anchor_outputs.objectness.dtype == torch.float32


def test_that_nothing_is_computed_before_it_is_asked_for_and_then_once(monkeypatch):
    config = small_config()
    _, detector = pair(config)
    batch = detector.prepare(*mixed_batch())
    asked = []
    for name in ("extract_features", "score_anchors", "answer"):
        stage = getattr(detector, name)
        monkeypatch.setattr(detector, name, lambda *given, name=name, stage=stage: asked.append(name) or stage(*given))
    seen = Teacher(detector).look(batch)
    assert asked == []
    assert seen.features is seen.features
    assert asked == ["extract_features"]
    assert seen.proposals is seen.proposals and seen.regions is seen.regions
    assert seen.answer(seen.regions) is seen.answer(seen.regions)
    assert asked == ["extract_features", "score_anchors", "answer"]


def test_that_the_teacher_answers_for_anchors_alike_with_and_without_its_proposals():
    config = small_config()
    _, detector = pair(config)
    teacher = Teacher(detector)
    batch = detector.prepare(*mixed_batch())
    indices = torch.tensor([5, 700, 3, 1100])
    looked = teacher.look(batch)
    assert looked.proposals.anchor_outputs is not None
    dense, sparse = looked.answer_anchors(indices), teacher.look(batch).answer_anchors(indices)
    torch.testing.assert_close(sparse.objectness, dense.objectness, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sparse.deltas, dense.deltas, rtol=1e-4, atol=1e-5)


@dataclass(frozen=True)
class _OneOfTwo(Worker):
    """A worker whose neighbour's processor computes with bf16, or does not."""

    other: bool = True

    def gather(self, value):
        return [value, self.other]


@pytest.mark.parametrize(
    ("settings", "device", "computes", "other", "expected"),
    [
        ([], "cpu", False, False, "fp32"),
        ([], "cpu", True, True, "bf16"),
        ([], "cpu", True, False, "fp32"),
        ([], "cpu", False, True, "fp32"),
        (["training.precision=bf16"], "cpu", False, False, "bf16"),
        (["training.precision=fp32"], "cuda", True, True, "fp32"),
        (["training.precision=bf16"], "cuda", False, False, "bf16"),
        (["training.precision=fp16"], "cuda", False, False, "fp16"),
        (["distillation.teacher_precision=fp32"], "cpu", True, True, "fp32"),
        (["distillation.teacher_precision=bf16"], "cpu", False, False, "bf16"),
        (["distillation.teacher_engine=onnxruntime"], "cpu", True, True, "fp32"),
        (["distillation.teacher_engine=onnxruntime", "training.precision=bf16"], "cpu", True, True, "fp32"),
        (["distillation.teacher_engine=openvino"], "cpu", True, True, "bf16"),
        (["distillation.teacher_engine=openvino", "training.precision=bf16"], "cpu", True, False, "fp32"),
    ],
)
def test_that_the_precision_follows_training_and_the_processors_of_all_workers(
    settings, device, computes, other, expected, monkeypatch
):
    monkeypatch.setattr(frozen, "computes_bf16", lambda: computes)
    worker = _OneOfTwo(0, 2, torch.device(device), other=other)
    assert decide_precision(small_config(*settings), worker) == expected


def test_that_auto_is_trainings_precision_where_bf16_costs_too_much(monkeypatch):
    monkeypatch.setattr(precision, "AUTO_MAY_BE_BF16", False)
    assert precision.meaning_of_auto(small_config(), all_compute_bf16=True) == "fp32"


def test_that_fp16_needs_a_gpu():
    with pytest.raises(UserError, match="teacher_precision: fp16 needs a GPU, got none"):
        decide_precision(small_config("distillation.teacher_precision=fp16"), Worker())


def test_that_a_teacher_that_normalises_otherwise_sees_its_own_batch():
    config = small_config()
    student, teacher = pair(config)
    other = Normalization((0.1, 0.5, 0.9), (0.5, 1.0, 0.25))
    teacher.normalization = other
    teacher.model.transform.image_mean, teacher.model.transform.image_std = list(other.mean), list(other.std)
    own, theirs = student.prepare(*mixed_batch()), teacher.prepare(*mixed_batch())
    assert own.image_sizes == [(96, 96), (64, 96), (96, 80)]  # with padding, which is 0 for both
    seen = renormalized(own, student.normalization, other)
    torch.testing.assert_close(seen.images, theirs.images, rtol=1e-5, atol=1e-5)
    looked = Teacher(teacher, "fp32", student.normalization).look(own)
    with torch.no_grad():
        expected = teacher.extract_features(theirs)
    torch.testing.assert_close(looked.features["0"], expected["0"], rtol=1e-3, atol=1e-4)


def test_that_a_batch_normalised_as_the_teacher_wants_it_is_handed_on_as_it_is():
    config = small_config()
    student, teacher = pair(config)
    batch = student.prepare(*mixed_batch())
    assert renormalized(batch, student.normalization, teacher.normalization) is batch
