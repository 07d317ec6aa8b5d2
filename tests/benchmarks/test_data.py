"""Tests of tests.benchmarks.data."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest

from raydistill.config import load_config
from tests.benchmarks.data import as_text, measure_data

CASES = [f"{cache}, {number} processes" for cache in ("no cache", "warm cache") for number in (0, 1, 2)]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    config = load_config("quickstart", ["data.num_train=24", "training.batch_size=4", "input.min_size=32"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("here")))
        measured = measure_data(config, seconds=0.05, rounds=2)
        assert list(Path(tempfile.gettempdir()).iterdir()) == []
    return measured


def test_every_case_has_a_speed_with_its_spread(result: dict[str, Any]) -> None:
    speeds = result["images_per_second"]
    assert list(speeds) == [*CASES, "cold cache, 0 processes"]
    assert all(0 < speed["low"] <= speed["median"] <= speed["high"] for speed in speeds.values())


def test_a_filled_cache_is_faster_than_painting(result: dict[str, Any]) -> None:
    assert result["microseconds"]["reading from the cache"] < result["microseconds"]["decoding"]


def test_the_result_says_what_was_measured_and_can_be_written(result: dict[str, Any]) -> None:
    assert (result["images"], result["batch_size"], result["image_size"]) == (24, 4, [64, 64])
    assert result["cached_size"] == [32, 32]
    assert json.loads(json.dumps(result)) == result


def test_the_text_names_every_number(result: dict[str, Any]) -> None:
    text = as_text(result)
    assert all(name in text for name in (*result["images_per_second"], *result["microseconds"]))
    assert result["images_per_cpu_second"] > 0 and "cores that feed 8 GPUs: " in text


def test_the_set_number_of_processes_and_prefetch_are_measured_too() -> None:
    settings = ["data.num_train=8", "training.batch_size=4", "loader.num_workers=3", "loader.prefetch=1"]
    with warnings.catch_warnings(action="ignore"):  # torch advises against more processes than cores
        result = measure_data(load_config("quickstart", settings), seconds=0.01, rounds=1)
    assert "no cache, 3 processes" in result["images_per_second"]


def test_a_split_of_one_batch_has_no_speed_with_a_cold_cache() -> None:
    config = load_config("quickstart", ["data.num_train=2", "training.batch_size=2"])
    assert measure_data(config, seconds=0.01, rounds=1)["images_per_second"]["cold cache, 0 processes"]["median"] == 0
