"""Tests of tests.benchmarks.gpu, as far as they go without a GPU."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from raydistill.runs.worker import Worker
from tests.benchmarks import gpu
from tests.benchmarks.__main__ import main
from tests.benchmarks.gpu import Plan, as_text, by_whom, measure_gpu
from tests.small import SMALL_RUN

STEP = {
    "teacher": "a",
    "student": "b",
    "image_size": [64, 64],
    "batch_size": 4,
    "data": "noise",
    "device": "cpu",
    "threads": 1,
    "clock": "cpu",
    "rounds": 1,
    "teacher_precision": "fp32",
    "notes": [],
    "regions_source": "both",
    "seconds": {"all_levels": {"median": 0.1}},
    "ratios": {},
    "shares": {},
    "peak_memory_mib": {},
}


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["gpu"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gpu: must run where torch sees a GPU, got none; ") and said.count("\n") == 1


def test_its_parts_run_and_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr(gpu.engines, "computes_bf16", lambda: False)
    monkeypatch.setattr(gpu, "measure_step", lambda config, *_: measured.append(config) or STEP)
    monkeypatch.setattr(gpu.step, "as_text", lambda _: "a table")
    changes = (("training.precision=fp32",), ("training.precision=bf16",))
    settings = tuple(setting for setting in SMALL_RUN if not setting.startswith("data."))  # photographs have no such
    plan = Plan("quickstart", settings, changes, rounds=1, photograph=(96, 64), compiled=False)
    result = measure_gpu(plan, Worker())
    assert [config.training.precision for config in measured] == ["fp32", "bf16"]
    assert list(result["waiting"]) == ["plain", "terms_off", "all_levels"]
    text = as_text(result)
    assert "## training.precision=bf16\n\na table" in text and "torch, fp32" in text
    assert "all_levels  not counted" in text and "at 40, " in text


def test_the_recipe_of_its_plan_can_be_loaded() -> None:
    plan = Plan()
    assert {plan.config(changes).training.precision for changes in plan.changes} == {"fp32", "bf16"}


def test_waits_are_counted_by_whose_code_makes_them() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for file in ("/here/raydistill/methods/tar/feature.py", "/lib/torchvision/ops/boxes.py", "/lib/x.py"):
            warnings.warn_explicit("called a synchronizing CUDA operation", UserWarning, file, 3)
        warnings.warn_explicit("something else", UserWarning, str(Path("raydistill") / "a.py"), 4)
    assert by_whom(caught) == {"ours": 1, "others": 2}
