"""How many detections of an image count, and where small and large begin: COCO's rules, and others."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from raydistill.config import load_config
from raydistill.config.training import Backend
from raydistill.data.build import Splits
from raydistill.detectors.two_stage.build import build_faster_rcnn
from raydistill.errors import UserError
from raydistill.evaluate import main
from raydistill.inference.scoring import ABSENT, Rules, score
from raydistill.training.stages import _crowded
from tests.small import SMALL_RUN, Stage, small_run

SIZES = {"AP_small": 100.0, "AP_medium": 2500.0, "AP_large": 40000.0}
"""Areas that COCO's rules call so."""


def crowd(number: int, areas: float | list[float] = 100.0, classes: int = 1) -> dict[str, Any]:
    """One image with ``number`` square objects that do not touch."""
    sides = np.sqrt(np.broadcast_to(areas, number))
    boxes = [[300.0 * (place % 40), 300.0 * (place // 40), side, side] for place, side in enumerate(sides.tolist())]
    return {
        "images": [{"id": 1, "width": 12000, "height": 12000}],
        "categories": [{"id": label, "name": f"c{label}"} for label in range(1, classes + 1)],
        "annotations": [
            {"id": i + 1, "image_id": 1, "category_id": i % classes + 1, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for i, b in enumerate(boxes)
        ],
    }


def perfect(truth: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"image_id": 1, "category_id": a["category_id"], "bbox": a["bbox"], "score": 1 - place / 1e4}
        for place, a in enumerate(truth["annotations"])
    ]


@pytest.fixture(params=["pycocotools", "faster_coco_eval"])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param != "pycocotools":
        pytest.importorskip(request.param)
    backend: Backend = request.param
    return backend


@pytest.mark.parametrize(
    ("number", "most", "ap"),
    [
        (240, 100, 42 / 101),  # recall 0.4166, of 101 steps
        (240, 240, 1.0),
        (240, 120, 51 / 101),
        (100, 100, 1.0),
        (101, 100, 1.0 - 1 / 101),
        (101, 101, 1.0),
        (20, 5, 26 / 101),
        (20, 1, 6 / 101),
    ],
)
def test_perfect_detections_score_as_far_as_they_count(backend: Backend, number: int, most: int, ap: float) -> None:
    truth = crowd(number)
    scores = score(truth, perfect(truth), backend, Rules(max_detections=most))
    assert scores.summary["AP"] == pytest.approx(ap, abs=1e-9)
    assert scores.per_class["c1"]["AP_small"] == pytest.approx(ap, abs=1e-9)
    assert scores.summary[f"AR{most}"] == pytest.approx(min(1.0, most / number))
    assert scores.summary["AR_small"] == pytest.approx(min(1.0, most / number))
    assert scores.summary["AR1"] == pytest.approx(1 / number)


def test_detections_count_by_image_and_class(backend: Backend) -> None:
    truth = crowd(240, classes=3)
    assert score(truth, perfect(truth), backend).summary["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("ranges", "sizes"),
    [
        ((1024.0, 9216.0), ["AP_small", "AP_medium", "AP_large"]),
        ((50.0, 9216.0), ["AP_medium", "AP_medium", "AP_large"]),
        ((50.0, 60.0), ["AP_large", "AP_large", "AP_large"]),
        ((3000.0, 50000.0), ["AP_small", "AP_small", "AP_medium"]),
        ((1e12, 1e13), ["AP_small", "AP_small", "AP_small"]),
    ],
)
def test_objects_are_sorted_by_the_ranges(backend: Backend, ranges: tuple[float, float], sizes: list[str]) -> None:
    truth = crowd(3, list(SIZES.values()))
    for place, size in enumerate(sizes):
        one = {**truth, "annotations": truth["annotations"][place : place + 1]}
        scores = score(one, perfect(one), backend, Rules(area_ranges=ranges)).summary
        assert {name: scores[name] for name in SIZES} == {
            name: pytest.approx(1) if name == size else ABSENT for name in SIZES
        }
        assert scores["AP"] == pytest.approx(1)


def test_objects_larger_than_cocos_largest_count_where_large_begins_later(backend: Backend) -> None:
    truth = crowd(1)
    truth["annotations"][0].update(bbox=[0, 0, 2e5, 2e5], area=4e10)
    assert score(truth, perfect(truth), backend).summary["AP"] == ABSENT
    scores = score(truth, perfect(truth), backend, Rules(area_ranges=(1024, 3e10))).summary
    assert (scores["AP"], scores["AP_large"]) == (pytest.approx(1), pytest.approx(1))


def test_other_rules_give_the_curves_of_cocoeval_with_its_parameters_set() -> None:
    rng = np.random.default_rng(0)
    truth, rules = crowd(60, rng.uniform(20, 40000, 60).tolist()), Rules(20, (400.0, 10000.0))
    found = [{**item, "bbox": (np.array(item["bbox"]) * rng.uniform(0.9, 1.1, 4)).tolist()} for item in perfect(truth)]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = json.loads(json.dumps(truth))
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(json.loads(json.dumps(found))), "bbox")
        evaluation.params.maxDets = [1, 10, 20]
        evaluation.params.areaRng = [[0, 1e10], [0, 400], [400, 10000], [10000, 1e10]]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    scores = score(truth, found, rules=rules).summary
    for area, name in enumerate(("", "_small", "_medium", "_large")):
        there = precision[:, :, :, area, 2]
        assert scores[f"AP{name}"] == np.mean(there[there > -1])
        there = recall[:, :, area, 2]
        assert scores[f"AR{name or '20'}"] == np.mean(there[there > -1])
    assert scores["AR10"] == np.mean(recall[:, :, 0, 1])


def test_the_nets_give_as_many_detections_as_count() -> None:
    def limits(*overrides: str) -> tuple[Any, Any]:
        config = load_config("quickstart", [*SMALL_RUN, *overrides])
        return config.teacher.box_detections_per_img, config.student.box_detections_per_img

    assert limits() == (10, 10)
    assert limits("evaluation.max_detections=100") == (10, 10)
    assert limits("evaluation.max_detections=50") == (10, 10)
    assert limits("evaluation.max_detections=300") == (300, 300)
    assert limits("evaluation.max_detections=300", "student.box_detections_per_img=400") == (300, 400)
    assert limits("evaluation.max_detections=300", "teacher.box_detections_per_img=null") == (300, 300)
    assert limits("evaluation={max_detections: 1e3}") == (1000, 1000)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "true", "'300'", "null", "[300]", "100001", "{}"])
def test_a_number_of_detections_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(UserError, match=r"evaluation\.max_detections"):
        load_config("quickstart", [f"evaluation.max_detections={value}"])


@pytest.mark.parametrize("value", ["[9, 4]", "[4, 4]", "[0, 4]", "[1, 2, 3]", "5", "[1, .inf]", "[a, b]", "{}"])
def test_ranges_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(UserError, match=r"evaluation\.area_ranges"):
        load_config("quickstart", [f"evaluation.area_ranges={value}"])


def test_a_net_that_gives_fewer_gives_as_many_as_count_while_it_is_scored(tmp_path: Path) -> None:
    config = small_run(tmp_path, "student.box_score_thresh=0", "student.box_nms_thresh=1")
    config = config.model_copy(update={"student": config.student.model_copy(update={"rpn_post_nms_top_n_test": 60})})
    torch.manual_seed(0)
    detector = build_faster_rcnn(config.student, config.input, ("a", "b")).eval()
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    assert len(detector.detect([image])[0]["scores"]) == 10
    with detector.finding_at_least(50):
        assert len(detector.detect([image])[0]["scores"]) == 50
    with detector.finding_at_least(5):
        assert len(detector.detect([image])[0]["scores"]) == 10
    assert len(detector.detect([image])[0]["scores"]) == 10


def test_a_run_says_that_images_hold_more_objects_than_can_be_found(tmp_path: Path) -> None:
    def notes(*overrides: str) -> list[str]:
        stage = Stage(small_run(tmp_path, "data.max_objects=8", "data.num_val=6", *overrides))
        splits: Any = (stage.job.train, stage.job.val, stage.job.test)
        return [note.text for note in _crowded(stage.config, Splits(*splits)) if note.warning]

    assert notes() == []
    several = [f"{role}.box_detections_per_img=2" for role in ("teacher", "student")]
    (said,) = notes(*several)
    assert "images hold more than the 2 objects that can be found in one (" in said
    assert "teacher.box_detections_per_img=2 keeps the rest from being found; raise it" in said
    assert "evaluation.max_detections=1" in notes("evaluation.max_detections=1")[0]


@pytest.mark.parametrize(
    ("options", "ap", "words"),
    [
        ([], "41.6", "1 of 1 images and classes hold more than the 100 objects that can be found in one (240 at most)"),
        (["--max-detections", "240"], "100.0", ""),
        (["--max-detections", "240", "--area-ranges", "50", "60"], "100.0", ""),
    ],
)
def test_files_are_scored_by_the_options(
    tmp_path: Path,
    options: list[str],
    ap: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    truth = crowd(240)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(perfect(truth)))
    files = ["--annotations", str(tmp_path / "truth.json"), "--detections", str(tmp_path / "found.json")]
    with caplog.at_level(logging.WARNING):
        assert main([*files, *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[1] == ap
    assert lines[1].split()[4:] == ([ap, "-", "-"] if "50" not in options else ["-", "-", ap])
    assert [words in message for message in caplog.messages] == [True] * bool(words)


@pytest.mark.parametrize(
    "given", ["--max-detections 0", *(f"--area-ranges {pair}" for pair in ("5 5", "0 5", "nan 5"))]
)
def test_options_that_are_none_are_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--annotations", "x", "--detections", "y", *given.split()])
    assert f"{given.split()[0]} must be" in capsys.readouterr().err
