"""The score from which on a detection counts."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.inference.columns import Found, Objects
from raydistill.inference.threshold import Threshold, best_threshold

BOX, FAR = [0.0, 0, 10, 10], [50.0, 50, 10, 10]


def objects(*rows: tuple[int, int, list[float]], ignored: tuple[int, ...] = ()) -> Objects:
    images, categories = (np.array([row[place] for row in rows], dtype=np.int64) for place in (0, 1))
    boxes = np.array([row[2] for row in rows], dtype=np.float64).reshape(-1, 4)
    return Objects(images, categories, boxes, boxes[:, 2] * boxes[:, 3], np.isin(np.arange(len(rows)), ignored))


def found(*rows: tuple[int, int, list[float], float]) -> Found:
    images, categories = (np.array([row[place] for row in rows], dtype=np.int64) for place in (0, 1))
    boxes = np.array([row[2] for row in rows], dtype=np.float64).reshape(-1, 4)
    return Found(images, categories, boxes, np.array([row[3] for row in rows]))


def test_it_lies_between_the_last_hit_and_the_first_miss_after_it() -> None:
    truth = objects((1, 1, BOX), (2, 1, BOX))
    seen = found((1, 1, BOX, 0.9), (2, 1, BOX, 0.6), (1, 1, FAR, 0.2), (2, 1, FAR, 0.1))
    assert best_threshold(truth, seen) == Threshold(pytest.approx(0.4), 1.0)


def test_a_miss_among_hits_is_taken_where_the_hits_are_worth_it() -> None:
    truth = objects((1, 1, BOX), (2, 1, BOX))
    seen = found((1, 1, BOX, 0.9), (1, 1, FAR, 0.8), (2, 1, BOX, 0.6))
    best = best_threshold(truth, seen)
    assert best == Threshold(pytest.approx(0.3), pytest.approx(2 * 2 / (3 + 2)))


def test_equal_scores_count_together() -> None:
    seen = found((1, 1, BOX, 0.5), *((1, 1, FAR, 0.5) for _ in range(3)))
    best = best_threshold(objects((1, 1, BOX)), seen)
    assert best == Threshold(0.25, pytest.approx(2 / (4 + 1)))


@pytest.mark.parametrize(
    "seen",
    [
        found(),
        found((1, 1, FAR, 0.9)),
        found((1, 2, BOX, 0.9)),  # of another class
        found((2, 1, BOX, 0.9)),  # in another image
        found((1, 1, BOX, float("nan"))),
    ],
)
def test_where_nothing_is_hit_there_is_none(seen: Found) -> None:
    assert best_threshold(objects((1, 1, BOX)), seen) is None


def test_an_object_is_hit_once() -> None:
    best = best_threshold(objects((1, 1, BOX)), found((1, 1, BOX, 0.9), (1, 1, BOX, 0.8)))
    assert best == Threshold(pytest.approx(0.85), 1.0)


def test_an_ignored_object_is_neither_hit_nor_miss() -> None:
    truth = objects((1, 1, BOX), (1, 1, FAR), ignored=(1,))
    best = best_threshold(truth, found((1, 1, FAR, 0.9), (1, 1, BOX, 0.8)))
    assert best == Threshold(pytest.approx(0.4), 1.0)


def test_it_is_the_best_of_all_scores_by_the_definition_of_f1() -> None:
    random = np.random.default_rng(0)
    boxes = random.uniform(0, 30, (60, 2)).round()
    rows = [(int(image), int(category), [*corner, 12.0, 12.0]) for image, category, corner in zip(
        random.integers(1, 6, 60), random.integers(1, 3, 60), boxes, strict=True
    )]  # fmt: skip
    truth = objects(*rows[:30])
    seen = found(*((*row, float(score)) for row, score in zip(rows[15:], random.random(45), strict=True)))
    best = best_threshold(truth, seen)
    assert best is not None
    tried = {score: _f1(truth, seen.rows(seen.scores >= score)) for score in seen.scores}
    assert best.f1 == pytest.approx(max(tried.values()))
    assert _f1(truth, seen.rows(seen.scores >= best.score)) == pytest.approx(best.f1)


def _f1(truth: Objects, seen: Found) -> float:
    """Count hits as COCO's protocol says, detection after detection."""
    taken: set[int] = set()
    for row in np.argsort(-seen.scores, kind="stable"):
        same = (truth.image_ids == seen.image_ids[row]) & (truth.category_ids == seen.category_ids[row])
        overlaps = {i: _iou(truth.boxes[i], seen.boxes[row]) for i in np.flatnonzero(same) if i not in taken}
        best = max(overlaps, key=overlaps.__getitem__, default=-1)
        if best >= 0 and overlaps[best] >= 0.5:
            taken.add(best)
    return 2 * len(taken) / (len(seen) + len(truth.boxes))


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)
