"""The benchmark of the scoring, on a size that takes no time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raydistill.inference.columns import from_coco
from raydistill.inference.scoring import curves, score, scores_of
from tests.benchmarks import evaluation
from tests.benchmarks.evaluation import ALONE, as_text, make_up, measure_evaluation


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "_installed", lambda: ["pycocotools"])
        return measure_evaluation(20, 10, 3, rounds=1, workers=2)


def test_every_way_is_measured_and_compared_with_pycocotools_alone(result: dict[str, Any]) -> None:
    assert list(result["methods"]) == [ALONE, "score, pycocotools", "evaluate, pycocotools, 2 workers"]
    for found in result["methods"].values():
        assert 0 < found["least"] <= found["seconds"] <= found["most"]
        assert found["ratio"] == pytest.approx(found["seconds"] / result["methods"][ALONE]["seconds"])
        assert found["cpu_ratio"] == pytest.approx(found["cpu_seconds"] / result["methods"][ALONE]["cpu_seconds"])
        assert 0 <= found["memory"] < 2**30
        assert found["difference"] == 0


def test_the_text_has_a_line_per_way(result: dict[str, Any]) -> None:
    lines = as_text(result).splitlines()
    assert lines[0].startswith("20 images, 200 detections, 3 classes, median of 1")
    assert [line[:40].strip() for line in lines[2:]] == list(result["methods"])
    assert all(line.endswith("  equal") for line in lines[2:])


def test_numbers_that_differ_are_shown() -> None:
    numbers = dict.fromkeys(("seconds", "least", "most", "ratio", "cpu_seconds", "cpu_ratio", "memory"), 1.0)
    found = {**numbers, "difference": 2e-9}
    text = as_text({"images": 1, "detections": 1, "classes": 1, "rounds": 1, "methods": {"wrong": found}})
    assert text.endswith("differ by 2.0e-09")


def test_the_largest_difference_is_found_in_any_class() -> None:
    data = make_up(5, 20, 3, 0)
    scores = scores_of(curves(data.truth, data.found, [1, 2, 3]), ["a", "b", "c"])
    other = {**scores.per_class, "b": {**scores.per_class["b"], "AP50": scores.per_class["b"]["AP50"] + 0.25}}
    assert evaluation._difference(scores, scores) == 0
    assert evaluation._difference(type(scores)(scores.summary, other), scores) == pytest.approx(0.25)


def test_the_same_seed_makes_up_the_same_data() -> None:
    first, second, other = (make_up(10, 5, 4, seed) for seed in (1, 1, 2))
    assert first.ground_truth == second.ground_truth != other.ground_truth
    assert first.found.as_coco() == second.found.as_coco() != other.found.as_coco()


def test_made_up_data_is_like_that_of_a_detector() -> None:
    data = make_up(100, 100, 40, 0)
    counts = np.bincount(data.truth.image_ids, minlength=101)[1:]
    assert counts.min() < 3
    assert 6 < counts.mean() < 8
    assert np.bincount(data.found.image_ids)[1:].tolist() == [100] * 100
    assert 0 < data.truth.ignored.mean() < 0.03
    scores = score(data.ground_truth, data.found.as_coco())
    assert 0.15 < scores.summary["AP"] < 0.6
    assert all(scores.summary[name] > 0.1 for name in ("AP_small", "AP_medium", "AP_large"))


def test_made_up_dictionaries_are_the_columns() -> None:
    data = make_up(20, 10, 5, 0)
    truth, found, names = from_coco(data.ground_truth, data.found.as_coco())
    assert np.array_equal(truth.boxes, data.truth.boxes)
    assert np.array_equal(truth.ignored, data.truth.ignored)
    assert np.array_equal(found.category_ids, data.found.category_ids - 1)
    assert names == [f"class {number}" for number in range(1, 6)]
