from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch

from raydistill.config import RECIPES, load_config
from raydistill.detectors.two_stage import roi_align
from raydistill.errors import UserError
from raydistill.runs.worker import Worker
from raydistill.training.distiller import Distiller
from tests.benchmarks.__main__ import main
from tests.benchmarks.cases import Bench, CaseOptions
from tests.benchmarks.commands import recipe_of
from tests.benchmarks.handwritten import term_weights
from tests.benchmarks.images import made_up_images
from tests.benchmarks.memory import peak_memory
from tests.benchmarks.nets import benchmark_net
from tests.benchmarks.step import StepOptions, as_text, measure_step

TINY = ["data.num_train=8", "data.num_val=2", "training.batch_size=2", "loader.num_workers=0", "scaling.num_workers=1"]
TINY_IMAGES = ["data.size=64", "input.min_size=64", "input.max_size=64"]
RATIOS = {"feature", "classification", "regression", "rpn", "all_levels", "terms_off", "handwritten"}
RATIOS |= {"known_memory", "known_disk", "filling", "plain_fast_roi"}
TWO_LEVELS = ["student.returned_layers=[2, 3]", "student.anchor_sizes=[[16], [32], [64]]", "methods.tar.rpn.weight=0"]
LIKE_FINETUNE = [  # two levels of the student have the teacher's third one's size, and none its name
    *("teacher.returned_layers=[1, 2, 4]", "student.backbone=mobilenet_v3_large", "student.returned_layers=[4, 5]"),
    *("student.anchor_sizes=[[16], [32], [64]]", "methods.tar.rpn.weight=0"),
]
SMALL_HEADS = ("box_batch_size_per_image=16", "rpn_post_nms_top_n_train=50")
SMALL_NETS = [*SMALL_HEADS, "backbone=resnet18", "box_head_size=64"]


def tiny_config(*overrides: str):
    heads = [f"{role}.{setting}" for role in ("teacher", "student") for setting in (*SMALL_HEADS, "box_head_size=64")]
    exact = ("distillation.teacher_precision=fp32", "training.roi_align=exact")
    return load_config("quickstart", [*TINY, *TINY_IMAGES, *heads, *exact, *overrides])


def both_losses(*overrides: str) -> tuple[float, float]:
    """Return the loss of the framework's step with all levels, and of the loop written by hand."""
    bench = Bench(tiny_config(*overrides), Worker(), CaseOptions())
    cases = bench.cases()
    cases["all_levels"]()
    cases["handwritten"]()
    return bench.totals["all_levels"], bench.totals["handwritten"]


@pytest.mark.parametrize("source", ["student", "teacher", "both"])
def test_that_the_handwritten_loop_has_the_same_loss(source):
    ours, handwritten = both_losses(f"methods.tar.regions.source={source}")
    assert handwritten == pytest.approx(ours, rel=1e-4)


@pytest.mark.parametrize("source", ["student", "both"])
@pytest.mark.parametrize("nets", [TWO_LEVELS, LIKE_FINETUNE], ids=["two of three levels", "levels of equal size"])
def test_that_the_handwritten_loop_has_the_same_loss_where_the_pyramids_differ(nets, source):
    ours, handwritten = both_losses(*nets, f"methods.tar.regions.source={source}")
    assert handwritten == pytest.approx(ours, rel=1e-4)


@pytest.mark.parametrize("off", ["methods.tar.feature.weight=0", "methods.tar.classification.weight=0"])
def test_that_the_handwritten_loop_leaves_out_what_the_recipe_leaves_out(off):
    ours, handwritten = both_losses(off, "methods.tar.regions.source=student")
    assert handwritten == pytest.approx(ours, rel=1e-4)


@pytest.mark.parametrize("source", ["student", "both"])
def test_that_the_handwritten_loop_has_nearly_the_same_loss_with_a_teacher_in_bf16(source):
    ours, handwritten = both_losses("distillation.teacher_precision=bf16", f"methods.tar.regions.source={source}")
    assert handwritten == pytest.approx(ours, rel=5e-3)  # folded norms are rounded otherwise


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


def test_that_the_plain_step_keeps_torchvisions_roi_align_and_one_beside_it_has_ours(monkeypatch):
    pooled = []
    pool = roi_align.pool_regions
    monkeypatch.setattr(roi_align, "pool_regions", lambda *given: pooled.append(1) or pool(*given))
    bench = Bench(tiny_config("training.roi_align=fast"), Worker(), CaseOptions())
    cases = bench.cases()
    cases["plain"]()
    assert not pooled
    cases["plain_fast_roi"]()
    assert pooled and bench.totals["plain_fast_roi"] == pytest.approx(bench.totals["plain"], rel=1e-5)
    assert "plain_fast_roi" not in Bench(tiny_config(), Worker(), CaseOptions()).cases()


def test_that_switched_off_terms_leave_the_loss_of_the_plain_step():
    bench = Bench(tiny_config(), Worker(), CaseOptions())
    cases = bench.cases()
    for name in ("plain", "terms_off", "all_levels"):
        cases[name]()
    assert bench.totals["terms_off"] == bench.totals["plain"] < bench.totals["all_levels"]


def test_that_a_known_step_does_not_ask_the_teacher_and_has_its_losses():
    bench = Bench(tiny_config(), Worker(), CaseOptions())
    cases = bench.cases()
    for name in ("all_levels", "filling", "known_memory", "known_disk"):
        cases[name]()
    with pytest.raises(TypeError):
        bench.teacher.extract_features = None
        cases["filling"]()
    bench.teacher.extract_features = None  # type: ignore[method-assign,assignment]
    for name in ("known_memory", "known_disk"):
        cases[name]()
        assert bench.totals[name] == pytest.approx(bench.totals["all_levels"], rel=1e-3)


def test_that_nothing_is_learnt():
    bench = Bench(tiny_config(), Worker(), CaseOptions())
    before = [parameter.clone() for parameter in bench.student.parameters()]
    for case in bench.cases().values():
        case()
    assert all(torch.equal(*both) for both in zip(before, bench.student.parameters(), strict=True))


def test_that_settings_the_handwritten_loop_does_not_know_leave_it_out():
    bench = Bench(tiny_config("methods.tar.feature.mask=box"), Worker(), CaseOptions())
    assert "handwritten" not in bench.cases()
    assert bench.notes == ["handwritten is left out: the loop does not know methods.tar.feature.mask"]


@pytest.mark.parametrize("name", ["regression", "rpn"])
def test_that_a_term_of_weight_zero_is_measured_alone_all_the_same(name):
    bench = Bench(tiny_config(f"methods.tar.{name}.weight=0"), Worker(), CaseOptions())
    cases = bench.cases()
    cases[name]()
    cases["plain"]()
    assert bench.totals[name] > bench.totals["plain"]


def test_that_a_term_which_the_nets_do_not_allow_is_left_out_with_the_reason():
    bench = Bench(tiny_config(*TWO_LEVELS), Worker(), CaseOptions())
    assert "rpn" not in bench.cases()
    assert [
        note
        for note in bench.notes
        if note.startswith("rpn is not measured alone: methods.tar.rpn.weight: teacher and")
    ]


def test_that_the_terms_are_those_of_the_distiller():
    config = tiny_config("methods.tar.feature.weight=0.25", "methods.tar.rpn.weight=0.5")
    bench = Bench(config, Worker(), CaseOptions())
    assert term_weights(config) == Distiller(bench.student, bench.teacher, config).weights


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
    arguments = ["step", "quickstart", *TINY, *TINY_IMAGES, "--rounds", "1", "--json", str(out), "--trace", str(trace)]
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


@pytest.mark.parametrize("recipe", RECIPES)
def test_that_every_recipe_can_be_measured_without_its_data_and_its_weights(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no data are
    small = SMALL_NETS if "r101" in recipe else SMALL_HEADS
    settings = [f"{role}.{setting}" for role in ("teacher", "student") for setting in small]
    settings += ["input.min_size=64", "input.max_size=96", "distillation.teacher_precision=fp32"]
    settings += [
        "methods.tar.regions.source=student"
    ]  # the teacher's scores are nearly equal: its folded norms choose others
    config = load_config(recipe, [*TINY[2:], *settings])
    bench = Bench(config, Worker(), CaseOptions())
    cases = bench.cases()
    for name in ("plain", "all_levels", "handwritten"):
        cases[name]()
    bench.check_losses()
    assert bench.totals["handwritten"] == pytest.approx(bench.totals["all_levels"], rel=1e-3)
    assert bench.totals["all_levels"] > bench.totals["plain"]
    said = "\n".join(bench.notes)
    for role in (config.teacher, config.student):
        assert role.weights == "random" or f"instead of {role.weights}" in said
    assert ("there is no folder" in said) == (config.data.format != "shapes")


def test_that_a_size_keeps_the_proportion_of_the_recipe():
    options = argparse.Namespace(recipe="finetune", overrides=["seed=3"], size=128)
    config = recipe_of(options)
    assert (config.input.min_size, config.input.max_size, config.seed) == (128, 213, 3)


def test_a_deep_net_with_frozen_norms_and_random_weights_stays_finite():
    settings = ["teacher.backbone=resnet101", "teacher.weights=imagenet", "teacher.norm=frozen"]
    config = tiny_config(*settings)
    data = made_up_images(config.input, 2, 3)
    images, targets = zip(*(data.load(index) for index in range(2)), strict=True)
    net = benchmark_net(config.teacher, config.input, data.classes, (list(images), list(targets)), "teacher").eval()
    features = net.extract_features(net.prepare(list(images), list(targets)))
    assert all(level.abs().max() < 1e3 for level in features.values())


def test_that_the_peak_is_that_of_the_run():
    small = peak_memory(lambda: None, torch.device("cpu"))
    large = peak_memory(lambda: torch.ones(64 * 1024**2), torch.device("cpu"))
    assert 200 < large - small < 320  # 256 MiB


def test_that_chosen_steps_are_timed_alone_beside_the_plain_one():
    result = measure_step(tiny_config(), Worker(), StepOptions(rounds=1, only=("known_memory",)))
    assert result["ratios"].keys() == {"known_memory"}
    assert "shares" not in result
    assert "where the time goes" not in as_text(result)
    with pytest.raises(UserError, match=r"--only: must be of plain, terms_off, .*, got known"):
        measure_step(tiny_config(), Worker(), StepOptions(rounds=1, only=("known",)))
