"""Training one stage: what it writes, what it repeats, and what stops it."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from raydistill.data.loading.loaders import MicroBatch
from raydistill.errors import UserError
from raydistill.inference.columns import Found
from raydistill.inference.evaluation import EvaluationResult, Scores
from raydistill.inference.threshold import Threshold
from raydistill.methods.schedules import decay_at
from raydistill.runs import weights_file
from raydistill.runs.events import EpochDone, StageStarted, StepDone
from raydistill.runs.worker import Worker
from raydistill.training import loop
from raydistill.training.metrics import MetricSums
from raydistill.training.resume import start
from raydistill.training.state import TrainingState
from tests.small import ProcessEndedError, Stage, repeatable, same_weights, small_run, weights_of


def _state(stage: Stage) -> TrainingState:
    distiller = stage.distiller()
    return start(stage.job, distiller, stage.loader(), stage.worker, stage.reporter)


def _gradients_of_step(stage: Stage, parts: list[MicroBatch], seed: int = 0) -> dict[str, Tensor]:
    """Take a step on ``parts`` with sampling from ``seed``; return the gradients it used."""
    state = _state(stage)
    torch.manual_seed(seed)
    loop.take_step(state, parts, 1.0, 0, MetricSums())
    return {name: p.grad.clone() for name, p in state.student.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    """A student alone and a distilled one that nothing interrupted, by stage; with all that their reporters heard."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_SECONDS_BETWEEN_EVENTS", 0.0)
        for name in ("baseline", "distilled"):
            made[name] = Stage(small_run(tmp_path_factory.mktemp("whole")), name)  # type: ignore[arg-type]
            made[name].fit()
    return made


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a student alone whose process ended before the second epoch's checkpoint; tests work on copies."""
    folder = tmp_path_factory.mktemp("cut")
    with pytest.raises(ProcessEndedError):
        Stage(small_run(folder)).fit(interrupt_after=1)
    return folder


@pytest.fixture
def cut(interrupted: Path, tmp_path: Path) -> Stage:
    """A copy of the interrupted run, ready to go on."""
    shutil.copytree(interrupted, tmp_path / "cut")
    return Stage(small_run(tmp_path / "cut"))


def test_the_loss_falls_when_four_images_are_learnt_by_heart(tmp_path: Path) -> None:
    config = small_run(
        tmp_path,
        *("data.num_train=4", "training.epochs=12", "evaluation.every=12", "augmentation.horizontal_flip=0"),
        *("training.optimizer.name=adamw", "training.optimizer.learning_rate=0.002"),
    )
    stage = Stage(config)
    stage.fit()
    losses = [line["train/total"] for line in stage.lines()]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("stage", ["baseline", "distilled"])
def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path: Path, stage: Any, whole: dict[str, Stage]) -> None:
    cut = Stage(small_run(tmp_path), stage)
    with pytest.raises(ProcessEndedError):
        cut.fit(interrupt_after=1)
    torch.rand(7)
    again = Stage(small_run(tmp_path), stage)
    again.fit()
    assert same_weights(weights_of(whole[stage].run.last), weights_of(again.run.last))
    assert same_weights(weights_of(whole[stage].run.best), weights_of(again.run.best))
    assert repeatable(whole[stage].lines()) == repeatable(again.lines())
    assert [event.first_epoch for event in again.listener.events if isinstance(event, StageStarted)] == [1]


def test_the_optimizers_momentum_survives_an_interruption(cut: Stage) -> None:
    saved = weights_file.load(cut.run.checkpoint)["optimizer"]["state"]
    resumed = _state(cut)
    assert resumed.epoch == 1
    assert saved
    for key, value in saved.items():
        assert torch.equal(resumed.optimizer.state_dict()["state"][key]["momentum_buffer"], value["momentum_buffer"])


def test_a_line_whose_checkpoint_was_not_written_is_dropped(cut: Stage) -> None:
    before = cut.lines()
    assert [line["epoch"] for line in before] == [1, 2]
    cut.fit()
    assert [line["epoch"] for line in cut.lines()] == [1, 2]
    assert cut.lines()[0] == before[0]
    assert cut.lines()[1]["seconds"] != before[1]["seconds"]


def test_a_line_of_a_run_that_never_wrote_a_checkpoint_is_dropped(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "training.epochs=1"))
    with pytest.raises(ProcessEndedError):
        stage.fit(interrupt_after=0)
    assert [line["epoch"] for line in stage.lines()] == [1]
    Stage(stage.config).fit()
    assert [line["epoch"] for line in stage.lines()] == [1]


def test_half_a_line_of_metrics_is_dropped(cut: Stage) -> None:
    text = cut.run.metrics.read_text()
    cut.run.metrics.write_text(text[:-30])
    cut.fit()
    assert [line["epoch"] for line in cut.lines()] == [1, 2]


def test_a_stage_interrupted_after_its_last_epoch_is_only_finished(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "training.epochs=1"))
    first = stage.fit()
    stage.run.result.unlink()
    written = stage.run.last.stat().st_mtime_ns
    again = Stage(stage.config).fit()
    assert again | {"images_per_second": 0} == first | {"images_per_second": 0}  # that is measured anew
    assert stage.run.last.stat().st_mtime_ns == written


def test_a_damaged_checkpoint_is_a_sentence_that_names_it(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "training.epochs=1"))
    stage.fit()
    stage.run.checkpoint.write_bytes(stage.run.checkpoint.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"checkpoint\.pt"):
        Stage(stage.config).fit()


def test_the_same_seed_twice_is_the_same_to_the_bit(tmp_path: Path, whole: dict[str, Stage]) -> None:
    first, second = whole["distilled"], Stage(small_run(tmp_path), "distilled")
    torch.rand(3)
    second.fit()
    assert same_weights(weights_of(first.run.last), weights_of(second.run.last))
    assert repeatable(first.lines()) == repeatable(second.lines())


def test_another_seed_gives_another_result(tmp_path: Path, whole: dict[str, Stage]) -> None:
    first, second = whole["baseline"], Stage(small_run(tmp_path, "seed=1"))
    second.fit()
    assert not same_weights(weights_of(first.run.last), weights_of(second.run.last))
    assert first.lines()[0]["train/total"] != second.lines()[0]["train/total"]


def test_accumulated_gradients_are_the_mean_of_the_parts(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "training.accumulation=2"))
    parts = next(stage.loader().epoch(0))
    assert [len(images) for images, _ in parts] == [2, 2]
    state = _state(stage)
    expected: dict[str, Tensor] = {}
    torch.manual_seed(0)
    for images, targets in parts:
        state.distiller.zero_grad(set_to_none=True)
        state.distiller(images, targets, 1.0).total.backward()
        for name, parameter in state.student.named_parameters():
            if parameter.grad is not None:
                expected[name] = expected.get(name, torch.zeros_like(parameter)) + parameter.grad / 2
    gradients = _gradients_of_step(stage, parts)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name])


def test_a_batch_twice_in_two_parts_has_the_gradients_of_the_batch_once(tmp_path: Path) -> None:
    """Every RoI and anchor is taken, so that sampling cannot make a difference."""
    take_all = ("student.box_batch_size_per_image=4000", "student.rpn_batch_size_per_image=8000")
    stage = Stage(small_run(tmp_path, "training.batch_size=2", *take_all))
    (part,) = next(stage.loader().epoch(0))
    doubled = Stage(small_run(tmp_path, "training.batch_size=4", *take_all))
    once, twice = _gradients_of_step(stage, [part]), _gradients_of_step(doubled, [part, part], seed=1)
    for name, gradient in once.items():
        torch.testing.assert_close(twice[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("images", "weight"), [(2, 4 / 3), (1, 2 / 3)])
def test_a_worker_with_more_of_the_batch_counts_for_more(tmp_path: Path, images: int, weight: float) -> None:
    """Two workers of a batch of three: DDP's mean over the workers is then the mean over the images."""
    (part,) = next(Stage(small_run(tmp_path, f"training.batch_size={images}")).loader().epoch(0))
    state = _state(Stage(small_run(tmp_path, "training.batch_size=3")))
    torch.manual_seed(0)
    state.distiller(*part, 1.0).total.backward()
    expected = {name: weight * p.grad for name, p in state.student.named_parameters() if p.grad is not None}
    state.worker = Worker(0, 2)
    torch.manual_seed(0)
    loop.take_step(state, [part], 1.0, 0, MetricSums())
    for name, parameter in state.student.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected[name])


@pytest.mark.parametrize("stage", ["baseline", "distilled"])
def test_a_loss_that_is_not_finite_stops_with_its_terms_and_images(tmp_path: Path, stage: Any) -> None:
    this = Stage(small_run(tmp_path), stage)
    distiller = this.distiller()
    with torch.no_grad():
        next(iter(distiller.student.model.roi_heads.box_predictor.cls_score.parameters())).fill_(torch.nan)
    with pytest.raises(UserError) as caught:
        loop.fit(this.job, distiller, this.loader(), this.worker, this.reporter)
    message = str(caught.value)
    ids = [int(target["image_id"]) for target in next(this.loader().epoch(0))[0][1]]
    assert message.startswith(f"{stage}, step 1 of 4: the loss must be finite")
    assert "detection/classifier=nan" in message
    assert f"images {ids}" in message
    assert not this.run.checkpoint.exists()


@pytest.mark.parametrize("stage", ["baseline", "distilled"])
def test_bf16_trains_on_a_cpu_and_keeps_float32_weights(tmp_path: Path, stage: Any) -> None:
    this = Stage(small_run(tmp_path, "training.precision=bf16", "training.epochs=1"), stage)
    before = this.distiller().student.exported().state_dict()
    this.fit()
    after = weights_of(this.run.last)
    assert all(value.dtype == torch.float32 for value in after.values() if value.is_floating_point())
    assert not same_weights(before, after)


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    settings = ("training.optimizer.momentum=0", "training.optimizer.weight_decay=0")
    free = Stage(small_run(tmp_path, *settings))
    bound = Stage(small_run(tmp_path, *settings, "training.clip_grad_norm=0.01"))
    parts = next(free.loader().epoch(0))
    norms = [torch.cat([g.flatten() for g in _gradients_of_step(s, parts).values()]).norm() for s in (free, bound)]
    assert norms[0] > 0.1
    assert norms[1] == pytest.approx(0.01, rel=1e-3)


def test_evaluation_comes_every_n_epochs_and_after_the_last(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "training.epochs=3", "evaluation.every=2", "data.num_train=4"))
    stage.fit()
    assert [line["epoch"] for line in stage.lines() if "val/AP" in line] == [2, 3]


def _scored(monkeypatch: pytest.MonkeyPatch, aps: list[float]) -> list[dict[str, Tensor]]:
    """Let evaluations give ``aps`` one after the other; return the weights that each of them saw."""
    seen: list[dict[str, Tensor]] = []

    def evaluate(detector: Any, *_: Any, **__: Any) -> EvaluationResult:
        seen.append(copy.deepcopy(detector.exported().state_dict()))
        ap = aps[len(seen) - 1]
        return EvaluationResult(Scores({"AP": ap, "AP50": 1 - ap, "AP75": ap}, {}), Found.joined([]), 1.0)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    return seen


def test_best_holds_the_best_epoch_and_last_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _scored(monkeypatch, [0.1, 0.3, 0.3, 0.2])
    stage = Stage(small_run(tmp_path, "training.epochs=4", "data.num_train=4"))
    result = stage.fit()
    assert same_weights(weights_of(stage.run.best), seen[1])
    assert same_weights(weights_of(stage.run.last), seen[3])
    assert (result["epoch"], result["AP"], result["epochs"]) == (2, 0.3, 4)


def test_weights_say_their_threshold_and_how_their_images_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _scored(monkeypatch, [0.1, 0.3, 0.2])
    scores = iter([0.25, 0.5, 0.75])
    monkeypatch.setattr(loop, "best_threshold", lambda truth, found: Threshold(next(scores), 1.0))
    stage = Stage(small_run(tmp_path, "training.epochs=3", "data.num_train=4"))
    result = stage.fit()
    best, last = (weights_file.load_weights(path) for path in (stage.run.best, stage.run.last))
    assert (best.threshold, last.threshold, result["threshold"]) == (0.5, 0.75, 0.5)
    assert best.pixels == {"max_megapixels": 179.0, "pixel_range": None, "alpha": "over_white"}


def test_the_program_that_uses_the_weights_lies_beside_them(whole: dict[str, Stage]) -> None:
    stage = whole["distilled"]
    assert 'with_name("best.pt")' in stage.run.use.read_text()


def test_the_best_epoch_is_chosen_by_the_metric_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _scored(monkeypatch, [0.2, 0.1, 0.3])
    stage = Stage(small_run(tmp_path, "training.epochs=3", "data.num_train=4", "evaluation.best_metric=AP50"))
    stage.fit()
    assert same_weights(weights_of(stage.run.best), seen[1])


def test_where_the_metric_does_not_exist_the_last_epoch_counts_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _scored(monkeypatch, [-1.0, -1.0])
    stage = Stage(small_run(tmp_path, "data.num_train=4"))
    result = stage.fit()
    assert same_weights(weights_of(stage.run.best), seen[1])
    assert (result["epoch"], result["AP"]) == (2, -1.0)
    assert stage.listener.warnings.count("AP does not exist on the validation split: the last epoch's weights") == 1


def test_the_best_epoch_of_before_an_interruption_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _scored(monkeypatch, [0.9, 0.2, 0.2])
    cut = Stage(small_run(tmp_path, "data.num_train=4"))
    with pytest.raises(ProcessEndedError):
        cut.fit(interrupt_after=1)
    assert Stage(cut.config).fit()["epoch"] == 1


def test_the_metrics_of_distillation_are_all_there(whole: dict[str, Stage]) -> None:
    stage = whole["distilled"]
    levels = ("feature", "classification", "regression", "rpn")
    expected = {
        *(f"train/detection/{name}" for name in ("classifier", "box_reg", "objectness", "rpn_box_reg", "total")),
        *(f"train/{kind}/tar/{level}" for kind in ("distillation", "weighted") for level in levels),
        *(f"train/gate/{name}" for name in ("class_open", "box_open", "rpn_objectness_open", "rpn_box_open")),
        *("epoch", "step", "seconds", "train/total", "train/decay", "train/learning_rate", "train/images_per_second"),
        *("val/AP", "val/AP50", "val/AP75", "val/AP_small", "val/AP_medium", "val/AP_large"),
    }
    assert len(stage.lines()) == 2
    for line in stage.lines():
        assert expected <= line.keys()
        assert all(isinstance(value, int | float) for value in line.values())


def test_the_total_is_the_detection_loss_plus_the_weighted_terms(whole: dict[str, Stage]) -> None:
    for line in whole["distilled"].lines():
        weighted = sum(value for name, value in line.items() if name.startswith("train/weighted/"))
        assert weighted > 0
        assert line["train/total"] == pytest.approx(line["train/detection/total"] + weighted)


def test_decay_and_learning_rate_follow_the_steps_and_not_the_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, float]] = []
    original = loop.take_step

    def step(state: TrainingState, parts: Any, decay: float, *rest: Any) -> Any:
        seen.append((decay, state.optimizer.param_groups[0]["lr"]))
        return original(state, parts, decay, *rest)

    monkeypatch.setattr(loop, "take_step", step)
    stage = Stage(small_run(tmp_path, "training.schedule.warmup_steps=0"), "distilled")
    stage.fit()
    assert [decay for decay, _ in seen] == [decay_at(stage.config.decay, n / 4) for n in range(4)]
    assert [rate for _, rate in seen] == pytest.approx([0.02, 0.0170711, 0.01, 0.0029289], rel=1e-4)


def test_the_student_begins_alike_alone_and_distilled_and_sees_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[Tensor]] = {"baseline": [], "distilled": []}
    original = loop.take_step

    def step(state: TrainingState, parts: Any, *rest: Any) -> Any:
        if not seen[state.job.stage]:
            seen[state.job.stage] += [value.clone() for value in state.student.state_dict().values()]
        seen[state.job.stage] += [image for images, _ in parts for image in images]
        return original(state, parts, *rest)

    monkeypatch.setattr(loop, "take_step", step)
    for name in ("baseline", "distilled"):
        Stage(small_run(tmp_path, "training.epochs=1"), name).fit()  # type: ignore[arg-type]
    assert len(seen["baseline"]) == len(seen["distilled"]) > 8
    assert all(torch.equal(a, b) for a, b in zip(seen["baseline"], seen["distilled"], strict=True))


def test_the_teacher_is_not_changed_by_distilling_from_it(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "training.epochs=1", "student.norm=batch", "teacher.norm=batch"), "distilled")
    teacher = stage.teacher()
    assert teacher is not None
    before = copy.deepcopy(teacher.state_dict())
    stage.teacher = lambda: teacher  # type: ignore[method-assign]
    stage.fit()
    assert same_weights(before, teacher.state_dict())


def test_going_on_with_another_number_of_workers_is_said(cut: Stage) -> None:
    saved = weights_file.load(cut.run.checkpoint)
    weights_file.save(cut.run.checkpoint, {**saved, "world_size": 2, "random": saved["random"] * 2})
    cut.fit()
    assert "goes on with 1 worker after 2" in cut.listener.warnings


def test_every_epoch_is_told_and_steps_about_once_a_second(whole: dict[str, Stage]) -> None:
    stage = whole["baseline"]
    epochs = [event for event in stage.listener.events if isinstance(event, EpochDone)]
    steps = [event for event in stage.listener.events if isinstance(event, StepDone)]
    assert [(event.epoch, event.epochs) for event in epochs] == [(1, 2), (2, 2)]
    assert [(event.epoch, event.step) for event in steps] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert all("detection/total" in event.losses for event in steps)


def test_only_the_main_worker_writes_and_speaks(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path), worker=Worker(rank=1))
    stage.reporter.report({"epoch": 1})
    stage.reporter.event(StageStarted("baseline", 1, 1, 0))
    assert not stage.run.metrics.exists()
    assert not stage.listener.events


def test_the_exported_student_loads_into_plain_torchvision_without_adapters(whole: dict[str, Stage]) -> None:
    stage = whole["distilled"]
    model = stage.detector(seed=5).exported()
    model.load_state_dict(weights_of(stage.run.last))
    assert not any("adapter" in key for key in weights_of(stage.run.last))


def test_the_best_weights_are_scored_on_the_test_split_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(small_run(tmp_path, "data.num_test=3"))
    seen = _scored(monkeypatch, [0.3, 0.2, 0.25])
    score, splits = loop.evaluate, []

    def watched(detector: Any, split: Any, *rest: Any, **options: Any) -> EvaluationResult:
        splits.append(split)
        return score(detector, split, *rest, **options)

    monkeypatch.setattr(loop, "evaluate", watched)
    result = stage.fit()
    assert [split is stage.job.test for split in splits] == [False, False, True]
    assert len(splits[2]) == 3
    assert same_weights(seen[2], seen[0])
    assert not same_weights(seen[2], weights_of(stage.run.last))
    assert (result["AP"], result["epoch"], result["test_AP"], result["test_AP50"]) == (0.3, 1, 0.25, 0.75)


def test_without_a_test_split_nothing_is_said_of_one(whole: dict[str, Stage]) -> None:
    result = json.loads(whole["baseline"].run.result.read_text())
    assert "AP" in result
    assert not any(name.startswith("test_") for name in result)


def test_a_diagnosis_is_logged_every_epoch_where_it_is_asked_for_and_changes_nothing(
    tmp_path: Path, whole: dict[str, Stage]
) -> None:
    plain, told = whole["distilled"], Stage(small_run(tmp_path, "logging.diagnosis=true"), "distilled")
    told.fit()
    added = [line.keys() - other.keys() for line, other in zip(told.lines(), plain.lines(), strict=True)]
    terms = ("feature", "classification", "regression", "rpn")
    quality = {f"train/quality/{who}_{what}" for who in ("student", "teacher") for what in ("probability", "iou")}
    assert added == 2 * [{f"train/{what}/tar/{term}" for what in ("gradient", "cosine") for term in terms} | quality]
    assert same_weights(weights_of(plain.run.last), weights_of(told.run.last))


def test_a_student_alone_has_no_diagnosis(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "logging.diagnosis=true", "training.epochs=1"))
    stage.fit()
    assert not any("gradient" in name or "quality" in name for line in stage.lines() for name in line)
