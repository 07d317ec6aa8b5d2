from __future__ import annotations

import pytest
import torch

from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector
from tests.nets import mixed_batch, nothing, small_config, small_detector


def detector_and_features() -> tuple[FasterRCNNDetector, dict[str, torch.Tensor], object]:
    config = small_config()
    detector = small_detector(config.teacher, config, seed=2).eval()
    with torch.no_grad():
        batch = detector.prepare(*mixed_batch())
        return detector, detector.extract_features(batch), batch


def test_that_every_anchor_has_the_answer_of_the_whole_map():
    detector, features, batch = detector_and_features()
    with torch.no_grad():
        dense = detector.score_anchors(batch, features)
        sparse = detector.score_anchors_at(features, torch.arange(len(dense.objectness)))
    assert dense.objectness.std() > 0.01
    torch.testing.assert_close(sparse.objectness, dense.objectness, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sparse.deltas, dense.deltas, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_that_some_anchors_in_any_order_are_answered_as_asked(memory_format):
    detector, features, batch = detector_and_features()
    laid_out = {name: level.to(memory_format=memory_format) for name, level in features.items()}
    with torch.no_grad():
        dense = detector.score_anchors(batch, features)
        chosen = torch.randperm(len(dense.objectness), generator=torch.Generator().manual_seed(0))[:50]
        sparse = detector.score_anchors_at(laid_out, chosen)
    torch.testing.assert_close(sparse.objectness, dense.objectness[chosen], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sparse.deltas, dense.deltas[chosen], rtol=1e-4, atol=1e-5)


def test_that_no_anchor_is_no_answer():
    detector, features, _ = detector_and_features()
    answers = detector.score_anchors_at(features, torch.zeros(0, dtype=torch.int64))
    assert answers.objectness.shape == (0,)
    assert answers.deltas.shape == (0, 4)


def test_that_anchors_are_counted_as_they_are_laid():
    detector, features, batch = detector_and_features()
    with torch.no_grad():
        assert detector.num_anchors(features) == len(detector.score_anchors(batch, features).objectness)


def test_that_anchors_are_exact_under_autocast():
    config = small_config()
    detector = small_detector(config.teacher, config)
    batch = detector.prepare([torch.rand(3, 96, 608)], [nothing()])
    with torch.no_grad():
        exact = detector.score_anchors(batch, detector.extract_features(batch)).anchors
        with torch.autocast("cpu", torch.bfloat16):
            features = detector.extract_features(batch)
            assert features["0"].dtype == torch.bfloat16
            rounded = detector.score_anchors(batch, features).anchors
    assert torch.equal(exact[0], rounded[0])
