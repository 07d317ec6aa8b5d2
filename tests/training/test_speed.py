"""The speed of a stage's net: measured once for all that have the same one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raydistill.inference.latency import WARM_UP, Timing, time_in_turn
from raydistill.training import speed
from raydistill.training.speed import speed_of
from tests.small import Stage, small_run


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Speeds in seconds, each another, as they were measured."""
    found: list[float] = []

    def time_one(calls: Any, **_: Any) -> list[Timing]:
        calls[0]()
        found.append(1 / (len(found) + 4))
        return [Timing(found[-1], 1)]

    monkeypatch.setattr(speed, "time_in_turn", time_one)
    return found


def _finished(stage: Stage) -> dict[str, Any]:
    found = speed_of(stage.job, stage.detector(), stage.worker)
    stage.run.path.mkdir(parents=True, exist_ok=True)
    stage.run.result.write_text(json.dumps({"epochs": 1, "parameters": 1, "AP": 0.5, **found}))
    return found


def test_stages_of_one_net_have_one_speed_and_others_their_own(tmp_path: Path, measured: list[float]) -> None:
    config = small_run(tmp_path, "teacher.fpn_channels=32")
    teacher, alone, distilled = (_finished(Stage(config, name)) for name in ("teacher", "baseline", "distilled"))
    assert len(measured) == 2
    assert alone == distilled
    assert (teacher["images_per_second"], alone["images_per_second"]) == (4, 5)
    assert alone["speed"].keys() == {"net", "batch_size", "device", "threads"}


def test_a_speed_that_was_measured_under_other_conditions_is_not_taken(
    tmp_path: Path, measured: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_run(tmp_path)
    _finished(Stage(config, "baseline"))
    monkeypatch.setattr("torch.get_num_threads", lambda: 7)
    assert _finished(Stage(config, "distilled"))["speed"]["threads"] == 7
    assert len(measured) == 2


def test_the_net_stays_in_its_mode(tmp_path: Path, measured: list[float]) -> None:
    stage = Stage(small_run(tmp_path))
    detector = stage.detector()
    speed_of(stage.job, detector.train(), stage.worker)
    assert detector.training


def test_calls_are_warmed_up_and_made_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    made: list[str] = []
    timings = time_in_turn([lambda: made.append("a"), lambda: made.append("b")], seconds=100, least=2, most=3)
    assert made == ["a", "b"] * (WARM_UP + 3)
    assert timings == [Timing(1.0, 3), Timing(1.0, 3)]


def test_slow_calls_are_made_as_often_as_they_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    made: list[str] = []
    (timing,) = time_in_turn([lambda: made.append("a")], seconds=1, least=2, most=30)
    assert len(made) == 1 + 2
    assert timing.repeats == 2
