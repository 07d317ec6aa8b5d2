"""A detector run over images, and what it finds in the forms that others take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from raydistill.detectors.predict import DEFAULT_THRESHOLD
from raydistill.detectors.predictions import Prediction, Predictions
from raydistill.errors import UserError
from raydistill.structures import Target
from tests.nets import CLASSES, small_config, small_detector

IMAGES = [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)) for size in
          ((96, 80), (64, 96), (96, 96))]  # fmt: skip
FOUND = Prediction(
    *("a.jpg", 80, 60, torch.tensor([[1.0, 2, 31, 42], [5, 6, 7, 8]]), torch.tensor([2, 1])),
    *(torch.tensor([0.75, 0.5]), CLASSES),
)


@pytest.fixture(scope="module")
def detector() -> Any:
    """A net in training mode that says much of everything."""
    config = small_config("student.box_score_thresh=0")
    net = small_detector(config.student, config, seed=1)
    net.threshold = 0.3
    return net


def test_it_finds_what_detect_finds_from_the_threshold_on(detector: Any) -> None:
    detector.eval()
    expected = [detector.detect([image])[0] for image in IMAGES]
    detector.train()
    found = detector.predict(IMAGES)
    assert detector.training
    assert len(found) == 3
    assert sum(map(len, found)) > 0
    for one, image, target in zip(found, IMAGES, expected, strict=True):
        kept = target["scores"] >= 0.3
        torch.testing.assert_close(dict(one.to_torchvision()), {key: value[kept] for key, value in target.items()})
        assert (one.width, one.height) == (image.shape[2], image.shape[1])


def test_another_threshold_gives_more_or_less(detector: Any) -> None:
    everything, nothing = (detector.predict(IMAGES[0], threshold=score)[0] for score in (0, 1))
    assert len(everything) > len(nothing) == 0
    with pytest.raises(UserError, match=r"^threshold: must be a score from 0 to 1, got 1\.5"):
        detector.predict(IMAGES[0], threshold=1.5)


def test_a_net_that_does_not_know_its_threshold_takes_a_usual_one_and_says_so(
    detector: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(detector, "threshold", None)
    found = detector.predict(IMAGES[0])[0]
    assert len(found) == int((detector.predict(IMAGES[0], threshold=0)[0].scores >= DEFAULT_THRESHOLD).sum())
    assert caplog.messages == ["the weights do not say from which score on a detection counts: 0.5 is taken"]


def test_images_are_taken_in_batches_in_their_order(detector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def detect(images: list[Tensor]) -> list[Target]:
        sizes.append(len(images))
        return [
            Target(boxes=torch.zeros(1, 4), labels=torch.ones(1, dtype=torch.int64), scores=image.float().mean()[None])
            for image in images
        ]

    monkeypatch.setattr(detector, "detect", detect)
    shades = [np.full((4, 4, 3), shade, np.uint8) for shade in (1, 0, 1, 0, 1)]
    found = detector.predict((shade for shade in shades), batch_size=2)
    assert sizes == [2, 2, 1]
    assert [len(one) for one in found] == [1, 0, 1, 0, 1]
    with pytest.raises(UserError, match=r"^batch_size: must be 1 to 10000, got 0"):
        detector.predict(shades, batch_size=0)


def test_a_broken_image_ends_it_or_is_left_out_and_named(detector: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    Image.fromarray(IMAGES[0].permute(1, 2, 0).numpy()).save(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"a\.png: must be a complete image"):
        detector.predict(tmp_path)
    found = detector.predict(tmp_path, on_bad_image="skip")
    assert [one.image for one in found] == [str(tmp_path / "b.png")]
    assert len(found.left_out) == 1 and str(tmp_path / "a.png") in found.left_out[0]


def test_the_surest_comes_first(detector: Any) -> None:
    scores = detector.predict(IMAGES, threshold=0)[0].scores
    assert torch.equal(scores, scores.sort(descending=True).values)


# Forms ----------------------------------------------------------------------------------------------------------------
def test_pandas_has_a_row_per_object() -> None:
    expected = pd.DataFrame(
        [["a.jpg", "square", 0.75, 1.0, 2, 31, 42], ["a.jpg", "disc", 0.5, 5, 6, 7, 8]],
        columns=["image", "class", "score", "x1", "y1", "x2", "y2"],
    )
    pd.testing.assert_frame_equal(FOUND.to_pandas(), expected, check_dtype=False)
    nothing = _without_objects()
    both = Predictions((FOUND, nothing, FOUND)).to_pandas()
    pd.testing.assert_frame_equal(both, pd.concat([expected, expected], ignore_index=True), check_dtype=False)
    assert list(Predictions((nothing,)).to_pandas().columns) == list(expected.columns)
    assert len(Predictions(()).to_pandas()) == 0


def test_supervision_counts_classes_from_0() -> None:
    supervision = pytest.importorskip("supervision")
    (found,) = Predictions((FOUND,)).to_supervision()
    assert isinstance(found, supervision.Detections)
    assert found.class_id.tolist() == [1, 0]
    assert found.xyxy.tolist() == FOUND.boxes.tolist()
    assert found.confidence.tolist() == [0.75, 0.5]
    assert found["class_name"].tolist() == ["square", "disc"]
    assert len(_without_objects().to_supervision()) == 0


def test_where_supervision_is_missing_the_line_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        FOUND.to_supervision()


def test_coco_has_width_and_height() -> None:
    assert FOUND.to_coco(7)[0] == {"image_id": 7, "category_id": 2, "bbox": [1, 2, 30, 40], "score": 0.75}


def _without_objects() -> Prediction:
    return Prediction("b.jpg", 8, 8, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0), CLASSES)
