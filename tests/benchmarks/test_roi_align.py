from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.benchmarks.__main__ import main
from tests.benchmarks.roi_align import Case, memory, run_of


def test_the_table_says_seconds_and_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pooled.json"
    arguments = [
        "--channels",
        "4",
        "--regions",
        "8",
        "--size",
        "64",
        "96",
        "--rounds",
        "2",
        "--time-only",
        "--json",
        str(file),
    ]
    assert main(["roi_align", *arguments]) == 0
    (row,) = json.loads(file.read_text())["rows"]
    assert row["both_low"] <= row["both_ratio"] <= row["both_high"]
    assert row["forward_ours"] > 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_memory_is_that_of_the_peak_beyond_the_maps() -> None:
    taken = memory(Case(channels=32, regions=400, height=64, width=96))
    assert all(mib > 2 for mib in taken.values())  # what is pooled, and its gradient


def test_both_ways_pool_the_same() -> None:
    case = Case(channels=4, regions=40, height=64, width=96)
    ours, theirs = (run_of(case, way, "forward")() for way in ("ours", "torchvision"))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
