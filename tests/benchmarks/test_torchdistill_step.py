"""The comparison with torchdistill, on a size that takes no time."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from raydistill.config import load_config
from raydistill.runs.worker import Worker
from tests.benchmarks.__main__ import main
from tests.benchmarks.cases import Bench, CaseOptions
from tests.benchmarks.torchdistill_step import OURS, TEACHERS, VARIANTS, VERSION, build_box, build_cases
from tests.nets import adapters_of

TINY = ["data.num_train=8", "data.num_val=2", "training.batch_size=2", "loader.num_workers=0", "scaling.num_workers=1"]

needs_torchdistill = pytest.mark.skipif(
    importlib.util.find_spec("torchdistill") is None, reason=f"needs torchdistill=={VERSION} (the extra 'bench')"
)


def tiny_bench(*overrides: str) -> Bench:
    return Bench(load_config("quickstart", [*TINY, *overrides]), Worker(), CaseOptions())


def distance_of_the_levels(bench: Bench) -> float:
    """Return what torchdistill is asked to add to the detection losses, without torchdistill."""
    with torch.no_grad():
        batch = bench.student.train().prepare(*bench.batch)
        student, teacher = bench.student.extract_features(batch), bench.slow_teacher.extract_features(batch)
        adapters = adapters_of(bench.states["feature"].distiller)
        compared = [level for level in student if level != "pool"]
        losses = [nn.MSELoss()(adapters[level](student[level]), teacher[level]) for level in compared]
    return torch.stack(losses).mean().item()


def test_that_a_missing_package_is_named_with_its_command(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "torchdistill", None)
    assert main(["torchdistill", "quickstart"]) == 2
    assert capsys.readouterr().err == f"torchdistill is missing; install it with: pip install torchdistill=={VERSION}\n"


@needs_torchdistill
@pytest.mark.parametrize("adapter", ["conv1x1", "conv3x3", "identity"])
def test_that_torchdistill_adds_the_distance_of_the_levels_to_the_plain_loss(adapter):
    bench = tiny_bench(f"methods.tar.feature.adapter={adapter}")
    cases = build_cases(bench)
    for name in ("plain", "td_backbone", "td_detector"):
        cases[name]()
    expected = bench.totals["plain"] + distance_of_the_levels(bench)
    assert bench.totals["td_backbone"] == pytest.approx(expected, rel=1e-4)
    assert bench.totals["td_detector"] == pytest.approx(expected, rel=1e-4)


@needs_torchdistill
@pytest.mark.parametrize("name", list(VARIANTS))
def test_that_torchdistill_learns_with_the_parameters_of_our_step_alone_and_stands_still(name):
    bench = tiny_bench()
    build_cases(bench)
    box = build_box(bench, VARIANTS[name])
    levels = len(box.student_model.connector_dict)
    ours = bench.states["feature"].optimizer.param_groups
    pool = sum(parameter.numel() for parameter in adapters_of(bench.states["feature"].distiller)["pool"].parameters())
    assert levels == 3
    assert _size(box.optimizer.param_groups) + pool == _size(ours)
    assert [group["lr"] for group in box.optimizer.param_groups] == [0.0, 0.0]
    assert not any(parameter.requires_grad for parameter in box.teacher_model.parameters())


def _size(groups) -> int:
    return sum(parameter.numel() for group in groups for parameter in group["params"])


@needs_torchdistill
def test_that_only_one_variant_asks_a_teacher_in_training_mode():
    bench = tiny_bench()
    build_cases(bench)
    modes = {name: build_box(bench, variant).teacher_model for name, variant in VARIANTS.items()}
    assert {name: model.training for name, model in modes.items() if name != "td_backbone"} == {
        "td_training": True,
        "td_detector": False,
    }
    backbone = modes["td_backbone"].seq.backbone
    assert not any(module.training for module in backbone.modules())


@needs_torchdistill
@pytest.mark.parametrize(("name", "detects"), [("plain_and_backbone", 0), ("plain_and_detector", 1)])
def test_that_the_teacher_beside_a_plain_step_is_asked_once_without_gradients(name, detects):
    bench = tiny_bench()
    cases = build_cases(bench)
    teacher, asked = bench.slow_teacher.model, []
    for part in (teacher.backbone, teacher.roi_heads):
        part.register_forward_hook(lambda module, *_: asked.append((module, torch.is_grad_enabled())))
    cases[name]()
    assert asked == [(teacher.backbone, False), (teacher.roi_heads, False)][: 1 + detects]
    assert not teacher.training


@needs_torchdistill
def test_that_fpns_of_different_depths_are_refused():
    bench = tiny_bench(
        "student.returned_layers=[2, 3]", "student.anchor_sizes=[[16], [32], [64]]", "methods.tar.rpn.weight=0"
    )
    with pytest.raises(Exception, match="as many levels, got 2 and 3"):
        build_cases(bench)


@needs_torchdistill
def test_the_command_prints_a_table_and_writes_the_ratios(tmp_path: Path, capsys) -> None:
    out = tmp_path / "step.json"
    threads = torch.get_num_threads()
    assert main(["torchdistill", "quickstart", *TINY, "--rounds", "1", "--json", str(out), "--made-up"]) == 0
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    result = json.loads(out.read_text())
    assert list(result["seconds"]) == [*OURS, *TEACHERS, *VARIANTS]
    assert all(name in printed for name in result["seconds"])
    assert result["ratios"].keys() == result["seconds"].keys() - {"plain"}
    assert all(0 < ratio["low"] <= ratio["median"] <= ratio["high"] for ratio in result["ratios"].values())
    assert result["ratios_to"].keys() == {*TEACHERS, "all_levels"}
    assert all(f"x {base}" in printed for base in ("plain", *result["ratios_to"]))
    assert result["losses"].keys() == result["seconds"].keys() - {*TEACHERS}
