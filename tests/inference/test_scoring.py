"""COCO scores: of hand-made cases, against published numbers, and against pycocotools used as it comes."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import math
import random
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from raydistill.config.training import Backend
from raydistill.data.formats.coco_results import read_detections, read_ground_truth
from raydistill.errors import UserError
from raydistill.inference.columns import Detections, from_coco
from raydistill.inference.scoring import (
    ABSENT,
    SUMMARY,
    Curves,
    Scores,
    check_backend,
    curves,
    joined_curves,
    score,
    scores_of,
    shares,
)
from tests.benchmarks.evaluation import make_up
from tests.small import REPOSITORY

REFERENCE = REPOSITORY.parent / "shared" / "references" / "coco_val2014_fake100"
BACKENDS: tuple[Backend, ...] = get_args(Backend)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    name: Backend = request.param
    if name != "pycocotools":
        pytest.importorskip(name)
    return name


def _truth(boxes: list[tuple[int, int, list[float]]]) -> dict[str, Any]:
    """Return COCO annotations of (image, category, bbox) on images 1 to 3 with categories 4 and 9."""
    return {
        "images": [{"id": number, "width": 200, "height": 200} for number in (1, 2, 3)],
        "categories": [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for number, (image, category, box) in enumerate(boxes, start=1)
        ],
    }


BOXES: list[tuple[int, int, list[float]]] = [
    (1, 4, [10, 10, 50, 50]),
    (2, 9, [5, 5, 20, 20]),
    (2, 4, [60, 60, 100, 120]),
]


def _found(boxes: list[tuple[int, int, list[float]]], confidence: float = 0.9) -> Detections:
    return [
        {"image_id": image, "category_id": category, "bbox": box, "score": confidence} for image, category, box in boxes
    ]


# Hand-made cases ------------------------------------------------------------------------------------------------------
def test_perfect_detections_score_one(backend: Backend) -> None:
    scores = score(_truth(BOXES), _found(BOXES), backend)
    assert scores.summary["AP"] == pytest.approx(1)
    assert scores.per_class["dog"]["AP"] == pytest.approx(1)


def test_no_detections_score_zero(backend: Backend) -> None:
    scores = score(_truth(BOXES), [], backend)
    assert scores.summary["AP"] == scores.summary["AR100"] == 0
    assert scores.per_class["cat"]["AP"] == 0


def test_without_objects_there_is_no_score(backend: Backend) -> None:
    scores = score(_truth([]), _found(BOXES), backend)
    assert set(scores.summary.values()) == {ABSENT}
    assert scores.per_class["cat"]["AP"] == ABSENT


def test_a_class_without_objects_has_no_score_and_does_not_count(backend: Backend) -> None:
    scores = score(_truth(BOXES[:1]), _found(BOXES), backend)
    assert scores.per_class["dog"]["AP"] == ABSENT
    assert scores.summary["AR100"] == pytest.approx(1)


def test_half_of_the_objects_found_is_half_the_precision(backend: Backend) -> None:
    boxes = [(1, 4, [10.0, 10, 50, 50]), (1, 4, [100.0, 100, 50, 50])]
    scores = score(_truth(boxes), _found(boxes[:1]), backend)
    assert scores.summary["AP"] == pytest.approx(51 / 101)  # 51 of 101 recalls


def test_a_box_of_iou_six_tenths_counts_at_the_lower_thresholds_only(backend: Backend) -> None:
    truth = [(1, 4, [0.0, 0, 100, 100])]
    scores = score(_truth(truth), _found([(1, 4, [0, 0, 62, 100])]), backend)
    assert scores.summary["AP50"] == pytest.approx(1)
    assert scores.summary["AP75"] == 0
    assert scores.summary["AP"] == pytest.approx(0.3)  # 0.50, 0.55 and 0.60


def test_sizes_are_told_apart_by_area(backend: Backend) -> None:
    scores = score(_truth(BOXES), _found(BOXES[:1]), backend)  # the medium one
    assert (scores.summary["AP_small"], scores.summary["AP_large"]) == (0, 0)
    assert scores.summary["AP_medium"] == pytest.approx(1)


def test_a_crowd_is_neither_hit_nor_miss(backend: Backend) -> None:
    truth = _truth(BOXES)
    crowd = {"id": 77, "image_id": 1, "category_id": 4, "bbox": [100, 100, 90, 90], "area": 8100, "iscrowd": 1}
    with_crowd = {**truth, "annotations": [*truth["annotations"], crowd]}
    detections = _found(BOXES) + _found([(1, 4, [110, 110, 30, 30]), (1, 4, [150, 150, 30, 30])], 0.95)
    assert score(truth, _found(BOXES), backend).summary == score(with_crowd, _found(BOXES), backend).summary
    assert score(with_crowd, detections, backend).summary["AP"] == pytest.approx(1)
    assert score(truth, detections, backend).summary["AP"] < 0.9


def test_the_scores_per_class_average_to_those_overall(backend: Backend) -> None:
    moved = [(image, category, [x + 4, y, w, h]) for image, category, (x, y, w, h) in BOXES]
    scores = score(_truth(BOXES), _found(moved), backend)
    for name in ("AP", "AP50", "AP75"):
        mean = (scores.per_class["cat"][name] + scores.per_class["dog"][name]) / 2
        assert scores.summary[name] == pytest.approx(mean)
    assert 0 < scores.summary["AP"] < 1


def test_scoring_prints_nothing_and_changes_nothing(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    truth, detections = _truth(BOXES), _found(BOXES)
    before = copy.deepcopy((truth, detections))
    score(truth, detections, backend)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert (truth, detections) == before


def test_a_score_that_is_no_number_comes_last(backend: Backend) -> None:
    wrong = [{**found, "score": math.nan} for found in _found([(1, 4, [150, 150, 9, 9])])]
    assert score(_truth(BOXES), wrong + _found(BOXES), backend).summary["AP"] == pytest.approx(1)


# Against others -------------------------------------------------------------------------------------------------------
def _alone(truth: dict[str, Any], found: Detections) -> Scores:
    """Return what pycocotools gives for all classes at once, used as in its example."""
    truth, found = copy.deepcopy((truth, found))
    with contextlib.redirect_stdout(io.StringIO()):
        coco, nothing = COCO(), COCO()
        coco.dataset, nothing.dataset = truth, {**truth, "annotations": []}
        coco.createIndex()
        nothing.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found) if found else nothing, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = {category["id"]: category["name"] for category in truth["categories"]}
    result = Curves(evaluation.eval["precision"], evaluation.eval["recall"])
    scores = scores_of(result, [names[number] for number in evaluation.params.catIds])
    assert list(scores.summary.values()) == evaluation.stats.tolist()
    return scores


def _assert_same(ours: Scores, theirs: Scores, backend: Backend) -> None:
    """Equal to the bit by pycocotools, to 1e-9 by others."""
    if backend == "pycocotools":
        assert ours == theirs
    assert list(ours.per_class) == list(theirs.per_class)
    assert ours.summary == pytest.approx(theirs.summary, abs=1e-9, rel=0)
    for name, values in theirs.per_class.items():
        assert ours.per_class[name] == pytest.approx(values, abs=1e-9, rel=0), name


@pytest.mark.parametrize("crowds", ["as they are", "left out", "as ordinary objects"])
def test_the_published_numbers_of_coco_are_reproduced_with_those_of_every_class(backend: Backend, crowds: str) -> None:
    if not REFERENCE.is_dir():
        pytest.skip(f"needs {REFERENCE}")
    truth, found, alone = _of_coco(crowds)
    scores = score(truth, found, backend)
    if crowds == "as they are":
        expected = json.loads((REFERENCE / "expected.json").read_text())["bbox"]
        published = dict(zip(SUMMARY, expected["faster_coco_eval_test_full_digits"], strict=True))
        assert scores.summary == pytest.approx(published, abs=1e-9, rel=0)
    assert len(scores.per_class) == 80
    _assert_same(scores, alone, backend)


@functools.cache
def _of_coco(crowds: str) -> tuple[dict[str, Any], Detections, Scores]:
    """Return published annotations and detections, with what pycocotools alone gives for them."""
    truth = read_ground_truth(REFERENCE / "instances_val2014_100.json")
    found = read_detections(REFERENCE / json.loads((REFERENCE / "expected.json").read_text())["bbox"]["dt"], truth)
    if crowds == "left out":
        truth["annotations"] = [a for a in truth["annotations"] if not a["iscrowd"]]
    elif crowds == "as ordinary objects":
        truth["annotations"] = [{**a, "iscrowd": 0} for a in truth["annotations"]]
    return truth, found, _alone(truth, found)


class _Draw:
    """Objects and detections at random, in the situation that is named."""

    def __init__(self, seed: int, situation: str = "") -> None:
        self.random = random.Random(seed)
        self.grid = 20.0 if situation == "boxes on a grid" else 0.0
        self.levels = 3 if situation in ("equal scores", "boxes on a grid") else 10**6
        self.categories = self.random.sample(range(1, 90), 4)
        self.images = self.random.sample(range(1, 10**6), 12)
        shown = self.images[:6] if situation == "images without objects" else self.images
        common = self.categories[:2] if situation == "classes without objects" else self.categories
        ignored = {"crowds": 0.3, "only crowds": 1.0}.get(situation, 0.0)
        self.objects = [
            self.object(image, common, ignored) for image in shown for _ in range(self.random.choice((1, 3, 8)))
        ]
        number = 0 if situation == "no detections" else 150 if situation == "many detections" else 12
        if situation == "many detections":
            self.images, self.categories = self.images[:3], self.categories[:1]
            self.objects = [o for o in self.objects if o["image_id"] in self.images]
        self.found = [self.detection(image) for image in self.images for _ in range(number)]

    @property
    def truth(self) -> dict[str, Any]:
        annotations = [{"id": number, **found} for number, found in enumerate(self.objects, start=1)]
        images = [{"id": image, "width": 300, "height": 300} for image in self.images]
        return {
            "info": {},
            "images": images,
            "categories": [{"id": number, "name": f"class {number}"} for number in self.categories],
            "annotations": annotations,
        }

    def box(self) -> list[float]:
        values = [self.random.uniform(*limits) for limits in ((0, 100), (0, 100), (1, 200), (1, 200))]
        return [round(value / self.grid) * self.grid for value in values] if self.grid else values

    def object(self, image: int, categories: list[int], ignored: float) -> dict[str, Any]:
        box = self.box()
        crowd = int(self.random.random() < ignored)
        area = box[2] * box[3] * self.random.choice((1, 0.7))
        category = self.random.choice(categories)
        return {"image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": crowd}

    def detection(self, image: int) -> dict[str, Any]:
        box, category = self.box(), self.random.choice(self.categories)
        near = [found for found in self.objects if found["image_id"] == image]
        if near and self.random.random() < 0.7:
            chosen = self.random.choice(near)
            box = [value + (0 if self.grid else self.random.uniform(0, 6)) for value in chosen["bbox"]]
            category = chosen["category_id"] if self.random.random() < 0.8 else category
        confidence = round(self.random.random() * self.levels) / self.levels
        return {"image_id": image, "category_id": category, "bbox": box, "score": confidence}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "situation",
    [
        *("plain", "crowds", "only crowds", "classes without objects", "images without objects"),
        *("no detections", "equal scores", "boxes on a grid", "many detections"),
    ],
)
def test_the_scores_are_those_of_pycocotools_on_everything_at_once(situation: str, seed: int, backend: Backend) -> None:
    truth, found, alone = _drawn(seed, situation)
    _assert_same(score(truth, found, backend), alone, backend)


@functools.cache
def _drawn(seed: int, situation: str) -> tuple[dict[str, Any], Detections, Scores]:
    """Return objects and detections at random, with what pycocotools alone gives for them."""
    draw = _Draw(seed, situation)
    return draw.truth, draw.found, _alone(draw.truth, draw.found)


def test_only_the_hundred_best_detections_of_an_image_and_class_count(backend: Backend) -> None:
    truth, wrong = _truth(BOXES[:1]), _found([(1, 4, [150, 150, 9, 9])] * 100)
    assert score(truth, wrong[:99] + _found(BOXES[:1], 0.5), backend).summary["AR100"] == pytest.approx(1)
    assert score(truth, wrong + _found(BOXES[:1], 0.5), backend).summary["AR100"] == 0


@pytest.mark.parametrize(("name", "found"), [("pycocotools", 1), ("faster_coco_eval", 0)])
def test_a_box_with_nan_for_a_corner_is_the_one_thing_that_the_backends_see_differently(
    name: Backend, found: int
) -> None:
    if name != "pycocotools":
        pytest.importorskip(name)
    broken = _found([(1, 4, [math.nan, 10, 50, 50])])
    assert score(_truth(BOXES[:1]), broken, name).summary["AR100"] == pytest.approx(found)


def test_ids_may_be_strings(backend: Backend) -> None:
    truth, found = _truth(BOXES), _found(BOXES)
    expected = score(truth, found, backend)
    for item in (*truth["annotations"], *found):
        item["image_id"] = f"image {item['image_id']}"
    for image in truth["images"]:
        image["id"] = f"image {image['id']}"
    assert score(truth, found, backend) == expected


# Shares of the classes ------------------------------------------------------------------------------------------------
DATA = make_up(30, 30, 20, seed=1)
CATEGORIES = range(1, 21)


@pytest.mark.parametrize("parts", [1, 2, 5, 30])
def test_every_class_lies_in_one_share(parts: int) -> None:
    shared = shares(DATA.truth, DATA.found, CATEGORIES, parts)
    assert len(shared) == parts
    assert sorted(index for share in shared for index in share) == list(range(20))


def test_shares_have_about_as_many_objects_and_detections() -> None:
    sizes = np.bincount(DATA.truth.category_ids, minlength=21) + np.bincount(DATA.found.category_ids, minlength=21)
    rising = CATEGORIES[::-1]  # the largest class comes last: dealt out in turn, they would not be even
    loads = [sum(int(sizes[rising[i]]) for i in share) for share in shares(DATA.truth, DATA.found, rising, 3)]
    assert sum(loads) == sizes.sum()
    assert max(loads) < 1.02 * min(loads)


def test_classes_that_cannot_be_scored_weigh_nothing() -> None:
    truth = _truth([BOXES[0]])
    many = _found([(1, 9, [1, 1, 1, 1])] * 50)
    columns, found, _ = from_coco(truth, many)
    assert shares(columns, found, [0, 1], 2) == [[0], [1]]
    assert shares(*from_coco(_truth(BOXES), many)[:2], [0, 1], 2) == [[1], [0]]


@pytest.mark.parametrize("parts", [2, 3])
def test_shares_put_together_are_the_whole_to_the_bit(parts: int, backend: Backend) -> None:
    shared = shares(DATA.truth, DATA.found, CATEGORIES, parts)
    scored = [curves(DATA.truth, DATA.found, [CATEGORIES[i] for i in share], backend) for share in shared]
    joined = joined_curves(scored, shared)
    whole = _whole(backend)
    assert np.array_equal(joined.precision, whole.precision)
    assert np.array_equal(joined.recall, whole.recall)
    assert len({curve.tobytes() for curve in np.moveaxis(whole.precision, 2, 0)}) > 15  # so that the order matters


@functools.cache
def _whole(backend: Backend) -> Curves:
    return curves(DATA.truth, DATA.found, CATEGORIES, backend)


def test_there_is_a_tick_for_each_class() -> None:
    ticks: list[None] = []
    curves(DATA.truth, DATA.found, [3, 7, 99], tick=lambda: ticks.append(None))
    assert len(ticks) == 3


# Backends that are not there ------------------------------------------------------------------------------------------
def test_the_default_backend_is_there() -> None:
    check_backend("pycocotools")


def test_a_missing_backend_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(UserError) as caught:
        check_backend("faster_coco_eval")
    assert str(caught.value).startswith("evaluation.backend: faster_coco_eval must be installed, got ")
    assert "pip install 'raydistill[fast-eval]'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scoring_with_a_missing_backend_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(UserError, match="must be installed"):
        score(_truth(BOXES), _found(BOXES), "faster_coco_eval")


def test_the_extra_that_is_named_exists() -> None:
    assert 'fast-eval = ["faster-coco-eval' in (Path(REPOSITORY) / "pyproject.toml").read_text(encoding="utf-8")
