"""A detector on a split to COCO scores, by one worker and by several."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from raydistill.config.training import Backend
from raydistill.data.loading.loaders import evaluation_loader
from raydistill.errors import UserError
from raydistill.inference import evaluation
from raydistill.inference.columns import Objects
from raydistill.inference.evaluation import EvaluationResult, evaluate, found_on, objects_of, score, score_together
from raydistill.runs.worker import Worker
from raydistill.structures import Target
from tests.benchmarks.evaluation import make_up
from tests.ranks import on_ranks
from tests.small import Stage, small_run

BACKENDS: tuple[Backend, ...] = get_args(Backend)


# Columns of a detector and of a split ---------------------------------------------------------------------------------
def _detection(*rows: tuple[list[float], int, float]) -> Target:
    return {
        "boxes": torch.tensor([box for box, _, _ in rows]).reshape(-1, 4),
        "labels": torch.tensor([label for _, label, _ in rows], dtype=torch.int64),
        "scores": torch.tensor([confidence for _, _, confidence in rows]),
    }


def test_boxes_become_corner_and_size_and_labels_category_ids() -> None:
    detection = _detection(([10.0, 20, 30, 60], 2, 0.5))
    assert found_on([42], [detection], (4, 9)).as_coco() == [
        {"image_id": 42, "category_id": 9, "bbox": [10, 20, 20, 40], "score": 0.5}
    ]
    assert detection["boxes"].tolist() == [[10, 20, 30, 60]]


def test_the_detections_of_a_batch_keep_their_images_and_their_order() -> None:
    box = [0.0, 0, 1, 1]
    batch = [_detection((box, 1, 0.5), (box, 2, 0.75)), _detection(), _detection((box, 1, 0.25))]
    found = found_on([7, 5, 6], batch, (4, 9))
    assert [(f["image_id"], f["category_id"], f["score"]) for f in found.as_coco()] == [
        *((7, 4, 0.5), (7, 9, 0.75), (6, 4, 0.25)),
    ]


def test_a_batch_without_detections_gives_none() -> None:
    assert len(found_on([1, 2], [_detection(), _detection()], (4, 9))) == 0


def test_the_objects_of_a_split_are_those_of_its_coco_annotations(tmp_path: Path) -> None:
    val = Stage(small_run(tmp_path, "data.num_val=5")).job.val
    records = val.records
    records.ignored[1] = True
    annotations = val.ground_truth["annotations"]
    objects = objects_of(val)
    assert len(annotations) > 5
    assert objects.image_ids.tolist() == [a["image_id"] for a in annotations]
    assert objects.category_ids.tolist() == [a["category_id"] for a in annotations]
    assert objects.boxes.tolist() == [a["bbox"] for a in annotations]
    assert objects.areas.tolist() == [a["area"] for a in annotations]
    assert objects.ignored.tolist() == [bool(a["iscrowd"]) for a in annotations]


# One worker -----------------------------------------------------------------------------------------------------------
class _Oracle:
    """Stands for a detector: finds every object, given its images' targets in the order they come."""

    def __init__(self, classes: tuple[str, ...], answers: Iterable[Target], moved: float = 0) -> None:
        self.classes = classes
        self.training = True
        self._answers = iter(answers)
        self._moved = moved

    def eval(self) -> None:
        self.training = False

    def train(self, mode: bool) -> None:
        self.training = mode

    def detect(self, images: list[Tensor]) -> list[Target]:
        assert not self.training
        found = [next(self._answers) for _ in images]
        return [
            {
                "boxes": t["boxes"] + self._moved * torch.arange(len(t["labels"]))[:, None],
                "labels": t["labels"],
                "scores": torch.linspace(0.9, 0.5, len(t["labels"])),
            }
            for t in found
        ]


def _targets(stage: Stage, rank: int = 0, world_size: int = 1) -> list[Target]:
    loader = evaluation_loader(stage.job.val, 3, rank, world_size, stage.config.loader)
    return [target for _, targets in loader for target in targets]


def _evaluated(stage: Stage, detector: Any, worker: Worker, **more: Any) -> EvaluationResult:
    batches = evaluation_loader(stage.job.val, 3, worker.rank, worker.world_size, stage.config.loader)
    return evaluate(detector, stage.job.val, batches, worker, **more)


def test_a_detector_that_finds_everything_scores_one_on_a_data_set(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "data.num_val=7"))
    result = _evaluated(stage, _Oracle(stage.job.val.classes, _targets(stage)), Worker())
    assert result.scores.summary["AP"] == pytest.approx(1)
    assert {d["image_id"] for d in result.detections} <= set(range(1, 8))
    assert result.images_per_second > 0


def test_the_order_of_the_detectors_classes_may_differ_from_the_datas(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "data.num_val=7"))
    classes = tuple(reversed(stage.job.val.classes))
    answers = [{**target, "labels": len(classes) + 1 - target["labels"]} for target in _targets(stage)]
    assert len({int(label) for answer in answers for label in answer["labels"]}) > 1
    result = _evaluated(stage, _Oracle(classes, answers), Worker())
    assert result.scores.summary["AP"] == pytest.approx(1)


def test_the_detector_is_left_in_the_mode_it_was_in(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path))
    detector = stage.detector()
    detector.train()
    _evaluated(stage, detector, Worker())
    assert detector.training
    assert detector.model.training


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_scores_are_those_of_the_detections_against_the_annotations(tmp_path: Path, backend: Backend) -> None:
    if backend != "pycocotools":
        pytest.importorskip(backend)
    stage = Stage(small_run(tmp_path, "data.num_val=7"))
    result = _evaluated(stage, _Oracle(stage.job.val.classes, _targets(stage), moved=3), Worker(), backend=backend)
    assert 0.1 < result.scores.summary["AP"] < 0.95
    assert result.scores == score(stage.job.val.ground_truth, result.detections, backend)


def test_a_backend_that_is_missing_is_told_before_anything_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    stage = Stage(small_run(tmp_path))
    with pytest.raises(UserError, match="faster_coco_eval must be installed"):
        _evaluated(stage, _Oracle(stage.job.val.classes, []), Worker(), backend="faster_coco_eval")


# Signs of life --------------------------------------------------------------------------------------------------------
class _Clock:
    """Stands for ``time``: every look at it takes a while."""

    def __init__(self, step: float) -> None:
        self.step, self.now = step, 0.0

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        self.now += self.step
        return self.now


def _signs(folder: Path, monkeypatch: pytest.MonkeyPatch, seconds_per_batch: float, rank: int = 0) -> Any:
    monkeypatch.setattr(evaluation, "time", _Clock(seconds_per_batch / 2))
    stage = Stage(small_run(folder, "data.num_val=7"))
    signs: list[tuple[int, int]] = []
    _evaluated(
        stage, _Oracle(stage.job.val.classes, _targets(stage)), Worker(), progress=lambda *sign: signs.append(sign)
    )
    return signs


def test_images_done_of_all_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _signs(tmp_path, monkeypatch, 1.5) == [(3, 7), (6, 7), (7, 7)]


def test_signs_of_life_are_a_second_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _signs(tmp_path, monkeypatch, 0.6) == [(6, 7)]
    assert _signs(tmp_path, monkeypatch, 0.1) == []


def test_there_are_signs_of_life_while_classes_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_SECONDS_BETWEEN_SIGNS", 0)
    stage = Stage(small_run(tmp_path, "data.num_val=7"))
    signs = _signs(tmp_path, monkeypatch, 0)
    assert signs == [(3, 7), (6, 7)] + [(7, 7)] * (1 + len(stage.job.val.classes))


# Two workers ----------------------------------------------------------------------------------------------------------
SETTINGS = ("data.num_val=7", "student.box_score_thresh=0")
SCORED = "classes scored by rank"


def _numbers(result: EvaluationResult) -> dict[str, Any]:
    found = sorted(result.detections, key=repr)
    return {"summary": result.scores.summary, "per_class": result.scores.per_class, "found": found}


def _made_up(worker: Worker, backend: Backend) -> dict[str, Any]:
    """Score made-up detections, this worker bringing those of its images."""
    data = make_up(50, 20, 12, seed=3)
    own = data.found.rows(data.found.image_ids % worker.world_size == worker.rank)
    ticks: list[None] = []
    id_of = {f"class {number}": number for number in range(12, 0, -1)}
    scores, found = score_together(data.truth, own, id_of, worker, backend, lambda: ticks.append(None))
    return {"summary": scores.summary, "per_class": scores.per_class, "found": len(found), SCORED: len(ticks)}


def _without_objects(worker: Worker) -> dict[str, float]:
    nothing = make_up(1, 1, 3, seed=0)
    none = nothing.truth.image_ids[:0]
    truth = Objects(none, none, nothing.truth.boxes[:0], nothing.truth.areas[:0], nothing.truth.ignored[:0])
    own = nothing.found.rows(nothing.found.image_ids < 0)
    return score_together(truth, own, {"a": 1}, worker)[0].summary


def _all_results(folder: Path, worker: Worker) -> dict[str, Any]:
    """Everything that one and two workers are compared in."""
    stage = Stage(small_run(folder, *SETTINGS), worker=worker)
    answers = _targets(stage, worker.rank, worker.world_size)
    single = Stage(small_run(folder, "data.num_val=1"), worker=worker)
    return {
        "net": _numbers(_evaluated(stage, stage.detector(), worker)),
        "oracle": _numbers(_evaluated(stage, _Oracle(stage.job.val.classes, answers, moved=3), worker)),
        "one image": _numbers(_evaluated(single, single.detector(), worker)),
        "no objects": _without_objects(worker),
        **{backend: _made_up(worker, backend) for backend in _installed()},
    }


def _installed() -> list[Backend]:
    try:
        import faster_coco_eval  # noqa: F401
    except ImportError:
        return ["pycocotools"]
    return list(BACKENDS)


def _on_rank(worker: Worker, folder: str) -> None:
    found = _all_results(Path(folder), worker)
    (Path(folder) / f"rank{worker.rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two real processes found, by rank."""
    folder = tmp_path_factory.mktemp("ranks")
    assert on_ranks(_on_rank, 2, str(folder)) == [0, 0]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process found."""
    found: dict[str, Any] = json.loads(json.dumps(_all_results(tmp_path_factory.mktemp("alone"), Worker())))
    return found


@pytest.mark.parametrize("what", ["net", "oracle", "one image", *BACKENDS])
def test_two_workers_find_the_scores_of_one_to_the_bit_and_both_know_them(
    what: str, two_ranks: list[dict[str, Any]], alone: dict[str, Any]
) -> None:
    if what not in alone:
        pytest.skip(f"needs {what}")
    for rank in two_ranks:
        assert rank[what]["summary"] == alone[what]["summary"]
        assert rank[what]["per_class"] == alone[what]["per_class"]
        assert list(rank[what]["per_class"]) == list(alone[what]["per_class"])
    assert two_ranks[0]["no objects"] == two_ranks[1]["no objects"] == alone["no objects"]
    assert 0.1 < alone["oracle"]["summary"]["AP"] < 0.95
    assert 0.1 < alone["pycocotools"]["summary"]["AP"] < 0.95


def test_the_main_worker_has_what_both_found_and_the_other_nothing(
    two_ranks: list[dict[str, Any]], alone: dict[str, Any]
) -> None:
    for what in ("net", "oracle", "one image"):
        assert two_ranks[0][what]["found"] == alone[what]["found"]
        assert two_ranks[1][what]["found"] == []
        assert len(alone[what]["found"]) > 1


def test_two_workers_share_the_classes(two_ranks: list[dict[str, Any]], alone: dict[str, Any]) -> None:
    own = [rank["pycocotools"][SCORED] for rank in two_ranks]
    assert min(own) > 0
    assert sum(own) == alone["pycocotools"][SCORED] == 12


def test_the_classes_come_in_the_order_of_their_ids() -> None:
    data = make_up(5, 5, 3, seed=0)
    scores, _ = score_together(data.truth, data.found, {"c": 3, "a": 1, "b": 2}, Worker())
    assert list(scores.per_class) == ["a", "b", "c"]


def test_every_image_is_in_the_share_of_one_worker_only(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "data.num_val=7"))
    ids = [int(target["image_id"]) for rank in range(3) for target in _targets(stage, rank, 3)]
    assert sorted(ids) == list(range(1, 8))


def test_a_worker_without_images_brings_nothing(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "data.num_val=1"))
    assert _targets(stage, 1, 2) == []
