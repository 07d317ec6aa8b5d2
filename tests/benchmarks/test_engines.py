"""Tests of tests.benchmarks.engines."""

from __future__ import annotations

import csv
import sys

import pytest

from raydistill.config import Config, load_config
from raydistill.runs.worker import Worker
from tests.benchmarks import engines
from tests.benchmarks.engines import BASE, add_to_table, as_text, measure_engines
from tests.small import SMALL_RUN


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config("quickstart", SMALL_RUN)


def test_that_every_way_of_this_machine_is_measured_beside_torch(config, monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "computes_bf16", lambda: False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    result = measure_engines(config, Worker(), rounds=2, compiled=False)
    assert list(result["seconds"]) == [BASE, "onnxruntime, fp32"]
    assert [note.partition(" is left out: ")[0] for note in result["notes"][1:]] == [
        "torch, bf16",
        "openvino, fp32",
        "openvino, bf16",
    ]
    assert result["off"][BASE] == 0 < result["off"]["onnxruntime, fp32"] < 1e-4
    text = as_text(result)
    assert "4 x 3 x 64 x 64" in text and all(name in text for name in result["seconds"])
    table = tmp_path / "engines.csv"
    add_to_table(result, table)
    add_to_table(result, table)
    with table.open() as opened:
        rows = list(csv.DictReader(opened))
    assert [row["way"] for row in rows] == 2 * list(result["seconds"])
    assert rows[0]["times_torch_fp32"] == "1.000" and float(rows[1]["low"]) <= float(rows[1]["times_torch_fp32"])


def test_that_a_machine_without_a_compiler_is_measured_without(config, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no g++")

    monkeypatch.setattr("torch.compile", fail)
    monkeypatch.setattr(engines, "_ON_A_CPU", engines._ON_A_CPU[:3:2])
    result = measure_engines(config, Worker(), rounds=1)
    assert list(result["seconds"]) == [BASE]
    assert "torch.compile, fp32 is left out" in result["notes"][-1] and "no g++" in result["notes"][-1]
