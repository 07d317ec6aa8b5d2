from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from raydistill.config import load_config
from raydistill.runs.worker import Worker
from tests.benchmarks.__main__ import main
from tests.benchmarks.cases import Bench, CaseOptions
from tests.benchmarks.memory import peak_memory
from tests.benchmarks.nets import benchmark_net, made_up_data
from tests.benchmarks.step import StepOptions, measure_step

TINY = ["data.num_train=8", "data.num_val=2", "training.batch_size=2", "loader.num_workers=0", "scaling.num_workers=1"]
RATIOS = {"feature", "classification", "regression", "rpn", "all_levels", "terms_off", "handwritten"}


def tiny_config(*overrides: str):
    return load_config("quickstart", [*TINY, *overrides])


@pytest.mark.parametrize("source", ["student", "teacher", "both"])
def test_that_the_handwritten_loop_has_the_same_loss(source):
    bench = Bench(tiny_config(f"regions.source={source}"), Worker(), CaseOptions())
    cases = bench.cases()
    cases["all_levels"]()
    cases["handwritten"]()
    assert bench.totals["handwritten"] == pytest.approx(bench.totals["all_levels"], rel=1e-4)


def test_that_the_handwritten_loop_has_the_same_gradients():
    bench = Bench(tiny_config(), Worker(), CaseOptions())
    cases = bench.cases()
    gradients = []
    for name in ("all_levels", "handwritten"):
        cases[name]()
        gradients.append({name: p.grad.clone() for name, p in bench.student.named_parameters()})
    for name, gradient in gradients[0].items():
        largest = gradient.abs().max().item()
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-2, atol=1e-3 * largest + 1e-6)


def test_that_switched_off_terms_leave_the_loss_of_the_plain_step():
    bench = Bench(tiny_config(), Worker(), CaseOptions())
    cases = bench.cases()
    for name in ("plain", "terms_off", "all_levels"):
        cases[name]()
    assert bench.totals["terms_off"] == bench.totals["plain"] < bench.totals["all_levels"]


def test_that_nothing_is_learnt():
    bench = Bench(tiny_config(), Worker(), CaseOptions())
    before = [parameter.clone() for parameter in bench.student.parameters()]
    for case in bench.cases().values():
        case()
    assert all(torch.equal(*both) for both in zip(before, bench.student.parameters(), strict=True))


def test_that_settings_the_handwritten_loop_does_not_know_leave_it_out():
    bench = Bench(tiny_config("feature.mask=box"), Worker(), CaseOptions())
    assert "handwritten" not in bench.cases()


def test_that_a_term_of_weight_zero_is_measured_alone_all_the_same():
    bench = Bench(tiny_config("regression.weight=0"), Worker(), CaseOptions())
    cases = bench.cases()
    cases["regression"]()
    cases["plain"]()
    assert bench.totals["regression"] > bench.totals["plain"]


def test_that_several_students_ask_the_teacher_once(monkeypatch):
    bench = Bench(tiny_config(), Worker(), CaseOptions(students=(2,)))
    case = bench.cases()["2_students"]
    looks = []
    extract = bench.teacher.extract_features
    monkeypatch.setattr(bench.teacher, "extract_features", lambda batch: looks.append(1) or extract(batch))
    case()
    case()
    assert len(looks) == 2
    assert bench.totals["student 1 of 2"] == bench.totals["student 2 of 2"]


def test_that_a_broken_net_is_not_measured(monkeypatch):
    original = Bench.cases

    def broken(self):
        with torch.no_grad():
            self.student.model.roi_heads.box_predictor.cls_score.bias.fill_(torch.nan)
        return original(self)

    monkeypatch.setattr(Bench, "cases", broken)
    with pytest.raises(Exception, match="must be finite"):
        measure_step(tiny_config(), Worker(), StepOptions(rounds=1))


def test_the_command_prints_a_table_and_writes_the_ratios_and_a_trace(tmp_path: Path, capsys) -> None:
    out, trace = tmp_path / "step.json", tmp_path / "trace.json"
    threads = torch.get_num_threads()
    arguments = ["step", "quickstart", *TINY, "--rounds", "1", "--json", str(out), "--trace", str(trace)]
    assert main([*arguments, "--made-up", "--students", "2"]) == 0
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["ratios"].keys() == RATIOS | {"2_students"}
    assert all(name in printed for name in RATIOS)
    assert all(0 < ratio["low"] <= ratio["median"] <= ratio["high"] for ratio in result["ratios"].values())
    assert result["shares"].keys() == {"student", "teacher", "terms", "logging", "ddp", "data_wait"}
    assert result["shares"]["teacher"] > 0
    assert result["peak_memory_mib"]["all_levels"] > 100
    assert "traceEvents" in json.loads(trace.read_text())


def test_a_recipe_must_be_named(capsys) -> None:
    assert main(["step"]) == 2
    assert "must be given a recipe" in capsys.readouterr().err


def test_a_deep_net_with_frozen_norms_and_random_weights_stays_finite():
    settings = ["teacher.backbone=resnet101", "teacher.weights=imagenet", "teacher.norm=frozen"]
    config = tiny_config(*settings)
    data = made_up_data(config.input, 2, 3)
    images, targets = zip(*(data.load(index) for index in range(2)), strict=True)
    net = benchmark_net(config.teacher, config.input, data.classes, (list(images), list(targets)), "teacher").eval()
    features = net.extract_features(net.prepare(list(images), list(targets)))
    assert all(level.abs().max() < 1e3 for level in features.values())


def test_that_the_peak_is_that_of_the_run():
    small = peak_memory(lambda: None, torch.device("cpu"))
    large = peak_memory(lambda: torch.ones(64 * 1024**2), torch.device("cpu"))
    assert 200 < large - small < 320  # 256 MiB
