from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from raydistill.config import load_config
from raydistill.detectors import frozen
from raydistill.detectors.frozen import check_compiler, make_fast
from raydistill.detectors.two_stage.build import build_faster_rcnn
from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector
from raydistill.errors import UserError
from tests.nets import mixed_batch, small_config, small_detector

NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


def teacher_with_statistics(backbone: str = "resnet18", norm: str = "batch") -> FasterRCNNDetector:
    """Return a detector in eval mode whose norms do something."""
    weights = "imagenet" if norm == "frozen" else "random"
    overrides = [f"teacher.{setting}" for setting in (f"backbone={backbone}", f"norm={norm}", f"weights={weights}")]
    returned = ["teacher.returned_layers=null", "teacher.anchor_sizes=null", "methods.tar.rpn.weight=0"]
    config = load_config("quickstart", [*overrides, *returned])
    torch.manual_seed(0)
    detector = build_faster_rcnn(config.teacher, config.input, ("disc", "square")).eval()
    generator = torch.Generator().manual_seed(1)
    for module in detector.modules():
        if isinstance(module, NORMS):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.6, generator=generator)
            module.weight.data.uniform_(0.5, 1.2, generator=generator)
            module.bias.data.normal_(0, 0.1, generator=generator)
    return detector


def answers(detector: FasterRCNNDetector) -> list[torch.Tensor]:
    with torch.no_grad():
        batch = detector.prepare(*mixed_batch())
        features = detector.extract_features(batch)
        outputs = detector.score_anchors(batch, features)
    return [*(level.contiguous() for level in features.values()), outputs.objectness, outputs.deltas]


@pytest.mark.parametrize(
    ("backbone", "norm"),
    [("resnet18", "batch"), ("resnet50", "frozen"), ("mobilenet_v3_small", "batch"), ("mobilenet_v3_large", "frozen")],
)
def test_that_a_fast_teacher_says_the_same_up_to_rounding(backbone, norm):
    detector = teacher_with_statistics(backbone, norm)
    before = answers(detector)
    make_fast(detector)
    for was, now in zip(before, answers(detector), strict=True):
        assert (now - was).abs().max() <= 1e-5 * was.abs().max()


def test_that_no_norm_is_left_to_compute():
    detector = teacher_with_statistics("resnet50", "frozen")
    assert any(isinstance(module, NORMS) for module in detector.modules())
    make_fast(detector)
    assert not any(isinstance(module, NORMS) for module in detector.modules())


def test_that_a_norm_that_cannot_be_folded_stays():
    config = small_config()  # group norm
    detector = small_detector(config.teacher, config).eval()
    before = answers(detector)
    make_fast(detector)
    assert any(isinstance(module, nn.GroupNorm) for module in detector.modules())
    for was, now in zip(before, answers(detector), strict=True):
        assert (now - was).abs().max() <= 1e-5 * was.abs().max()


def test_that_nothing_of_it_can_learn():
    detector = teacher_with_statistics().train().requires_grad_(True)
    make_fast(detector)
    assert not any(parameter.requires_grad for parameter in detector.parameters())
    assert not any(module.training for module in detector.modules())


def test_that_a_half_type_changes_convolutions_and_linear_layers_only():
    config = small_config()
    detector = small_detector(config.teacher, config)
    make_fast(detector, torch.bfloat16)
    for module in detector.modules():
        wanted = torch.bfloat16 if isinstance(module, nn.Conv2d | nn.Linear) else torch.float32
        assert all(parameter.dtype == wanted for parameter in module.parameters(recurse=False))


def test_that_a_bf16_teacher_is_close_to_the_exact_one():
    detector = teacher_with_statistics()
    before = answers(detector)
    half = copy.deepcopy(detector)
    make_fast(half, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        after = answers(half)
    for was, now in zip(before, after, strict=True):
        assert now.dtype == torch.bfloat16
        assert (now.float() - was).abs().max() <= 0.05 * was.abs().max()


def test_that_a_machine_without_a_compiler_is_told_so(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no g++ found\nlong story")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(UserError, match=r"distillation\.compile_teacher: .*\(no g\+\+ found\)"):
        check_compiler(torch.device("cpu"))


def test_that_a_copy_of_a_compiled_teacher_is_a_net_of_its_own(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    detector = teacher_with_statistics()
    make_fast(detector, compiled=True)
    other = copy.deepcopy(detector)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert answers(other)[0].abs().max() == 0


def test_that_the_compiled_backbone_is_the_one_that_is_asked(monkeypatch):
    compiled = []

    def count(function, **options):
        compiled.append(options)
        return function

    monkeypatch.setattr(torch, "compile", count)
    detector = teacher_with_statistics()
    before = answers(detector)
    make_fast(detector, compiled=True)
    assert compiled[-1] == {"dynamic": False}  # one graph per shape
    for was, now in zip(before, answers(detector), strict=True):
        assert (now - was).abs().max() <= 1e-5 * was.abs().max()


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, False),
        ({"avx2": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
    ],
)
def test_that_bf16_is_for_processors_that_compute_with_it(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert frozen.computes_bf16() is expected
