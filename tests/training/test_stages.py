"""Teacher, student alone, distilled student: what is run, what is reused, and what is refused."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from raydistill.config import Config
from raydistill.config.sections import Data, Downloads
from raydistill.data.build import build_splits
from raydistill.detectors.two_stage.build import build_faster_rcnn
from raydistill.errors import UserError
from raydistill.runs import weights_file
from raydistill.runs.comparison import comparison
from raydistill.runs.directory import RunDirectory, planned
from raydistill.runs.events import StageStarted
from raydistill.runs.reporter import FileReporter
from raydistill.runs.worker import Worker
from raydistill.training import stages
from raydistill.training.job import Job
from raydistill.training.stages import run_stages
from raydistill.training.state import export
from tests.outputs import output_of, refuse_other_settings
from tests.small import Listener, metrics_of, same_weights, small_run, weights_of

STAGES = ("teacher", "baseline", "distilled")
QUICK = ("distillation.preflight=warn", "training.epochs=1", "data.num_train=4", "data.num_val=2")


def _config(output: Path, *overrides: str) -> Config:
    return small_run(output, *QUICK, *overrides)


def _run(config: Config) -> Listener:
    listener, worker = Listener(), Worker()
    run_stages(config, output_of(config), worker, lambda run: FileReporter(run, worker, listener))
    return listener


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Listener]:
    """The output of a run of all three stages, and what was heard of it."""
    output = tmp_path_factory.mktemp("finished")
    return output, _run(_config(output))


@pytest.fixture(scope="module")
def finished(heard: tuple[Path, Listener]) -> Path:
    """The output of that run; tests work on copies of it."""
    return heard[0]


@pytest.fixture
def output(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def _written(output: Path) -> dict[str, int]:
    return {stage: (output / stage / "best.pt").stat().st_mtime_ns for stage in STAGES}


def _started(listener: Listener) -> list[str]:
    return [event.stage for event in listener.events if isinstance(event, StageStarted)]


def test_all_stages_leave_their_files(finished: Path) -> None:
    for stage in STAGES:
        run = RunDirectory(finished / stage)
        assert run.finished
        assert all(path.is_file() for path in (run.config, run.metrics, run.checkpoint, run.best, run.last))
    assert [row.stage for row in comparison(finished)] == list(STAGES)
    assert (finished / "comparison.csv").read_text().count("\n") == 4


def test_stages_run_in_order(heard: tuple[Path, Listener]) -> None:
    assert _started(heard[1]) == list(STAGES)


def test_finished_stages_are_not_trained_again(output: Path) -> None:
    before = _written(output)
    listener = _run(_config(output))
    assert _written(output) == before
    assert _started(listener) == []
    assert [note.text for note in listener.notes] == [
        f"{stage}: finished before, not trained again" for stage in STAGES
    ]


def test_only_the_missing_stage_is_run(output: Path) -> None:
    expected = weights_of(output / "baseline" / "last.pt")
    shutil.rmtree(output / "baseline")
    assert _started(_run(_config(output))) == ["baseline"]
    assert same_weights(expected, weights_of(output / "baseline" / "last.pt"))


def test_other_settings_are_refused_with_the_difference(output: Path) -> None:
    with pytest.raises(UserError) as caught:
        refuse_other_settings(_config(output, "training.optimizer.learning_rate=0.5", "student.box_head_size=33"))
    message = str(caught.value)
    assert "training.optimizer.learning_rate=0.02 then, 0.5 now" in message
    assert message.count("student.box_head_size=32 then, 33 now") == 2  # not in the teacher's stage
    assert "choose another --output" in message


def test_nothing_is_touched_when_settings_are_refused(output: Path) -> None:
    before = _written(output)
    with pytest.raises(UserError):
        _run(_config(output, "seed=5"))
    assert _written(output) == before


def test_the_same_settings_are_never_called_different(output: Path) -> None:
    refuse_other_settings(_config(output))


@pytest.mark.parametrize(
    "setting",
    [
        *("loader.num_workers=1", "evaluation.batch_size=2", "scaling.max_failures=0"),
        *("distillation.preflight=strict", "evaluation.backend=faster_coco_eval", "loader.cache=kept"),
        "checkpoint.every_steps=7",
    ],
)
def test_settings_without_influence_on_the_result_may_change(output: Path, setting: str) -> None:
    refuse_other_settings(_config(output, setting))


def test_the_rehearsal_has_the_teacher_on_the_workers_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher is no part of the distiller, which moves itself."""
    moved = []
    original = torch.nn.Module.to

    def to(self: torch.nn.Module, *args: object, **named: object) -> torch.nn.Module:
        moved.append((self, args))
        return original(self, *args, **named)

    monkeypatch.setattr(torch.nn.Module, "to", to)
    rehearsed = []
    monkeypatch.setattr(stages, "rehearse", lambda job, distiller, *_: rehearsed.append(distiller))
    monkeypatch.setattr(stages, "_run_stage", lambda *_: None)
    monkeypatch.setattr(stages, "comparison", lambda _: [])
    _run(_config(tmp_path / "other"))
    (distiller,) = rehearsed
    assert distiller.teacher is not None
    assert any(net is distiller.teacher.detector and args == (torch.device("cpu"),) for net, args in moved)


def test_a_machine_without_a_compiler_is_found_out_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no g++")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(UserError, match=r"compile_teacher: .*no g"):
        _run(_config(tmp_path / "other", "distillation.compile_teacher=true"))
    assert not list((tmp_path / "other").rglob("*.pt"))


def test_a_run_begun_before_a_setting_existed_goes_on_with_its_default(output: Path) -> None:
    file = RunDirectory(output / "distilled").config
    older = yaml.safe_load(file.read_text())
    del older["methods"]["tar"]["feature"]["levels"], older["distillation"]["compile_teacher"]
    file.write_text(yaml.safe_dump(older))
    refuse_other_settings(_config(output))
    with pytest.raises(UserError, match=r"feature\.levels=all then, assigned now"):
        refuse_other_settings(_config(output, "methods.tar.feature.levels=assigned"))


AUTO = "distillation.teacher_precision=auto"


def _on_a_processor_with(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raydistill.detectors.frozen.computes_bf16", lambda: bf16)


def _precision_of(output: Path) -> tuple[str, str]:
    """Return in what the teacher answered by the distilled stage's settings, and by its result."""
    run = RunDirectory(output / "distilled")
    settings = yaml.safe_load(run.config.read_text())
    return settings["distillation"]["teacher_precision"], json.loads(run.result.read_text())["teacher_precision"]


@pytest.mark.parametrize(("bf16", "meant"), [(False, "fp32"), (True, "bf16")])
def test_what_auto_means_is_decided_before_anything_is_trained_and_said_and_stored(
    output: Path, bf16: bool, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(output / "distilled")
    _on_a_processor_with(bf16, monkeypatch)
    lines = _run(_config(output, AUTO)).text.splitlines()
    why = "which the processors of all workers compute with" if bf16 else "as training.precision"
    said = lines.index(f"teacher: answers in {meant}, {why} (distillation.teacher_precision=auto)")
    assert said == lines.index("device: cpu, 1 worker, 1 threads each") + 1
    assert f"distilled: the teacher answers in {meant}" in lines
    assert _precision_of(output) == (meant, meant)


@pytest.mark.parametrize(("bf16", "meant"), [(False, "fp32"), (True, "bf16")])
def test_what_auto_meant_stays_on_another_processor_before_the_student_is_begun(
    output: Path, bf16: bool, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(output / "distilled")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    _on_a_processor_with(bf16, monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stages, "fit", interrupt)
        _run(_config(output, AUTO))
    _on_a_processor_with(not bf16, monkeypatch)
    text = _run(_config(output, AUTO)).text
    assert f"teacher: answers in {meant}, as it was begun (distillation.teacher_precision=auto)" in text
    assert _precision_of(output) == (meant, meant)


def test_what_the_teachers_precision_was_stays_on_another_processor(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``auto`` is written down as what it meant, and holds until the stage is finished."""
    run = RunDirectory(output / "distilled")
    for then, now in (("fp32", True), ("bf16", False)):
        run.result.unlink(missing_ok=True)
        settings = yaml.safe_load(run.config.read_text())
        settings["distillation"]["teacher_precision"] = then
        run.config.write_text(yaml.safe_dump(settings))
        for checkpoint in run.checkpoints():
            saved = weights_file.load(checkpoint)
            saved["run"]["settings"]["distillation"]["teacher_precision"] = then
            weights_file.save(checkpoint, saved)
        _on_a_processor_with(now, monkeypatch)
        assert f"distilled: the teacher answers in {then}" in _run(_config(output, AUTO)).text
        assert _precision_of(output) == (then, then)
    with pytest.raises(UserError, match=r"distillation\.teacher_precision=bf16 then, fp32 now"):
        refuse_other_settings(_config(output, "distillation.teacher_precision=fp32"))


def test_a_run_begun_before_its_recipe_named_a_precision_goes_on(output: Path) -> None:
    file = RunDirectory(output / "distilled").config
    settings = yaml.safe_load(file.read_text())
    for then in ("fp32", "auto", None):  # what auto meant; left open by an earlier version; from before the setting
        settings["distillation"]["teacher_precision"] = then
        if then is None:
            del settings["distillation"]["teacher_precision"]
        file.write_text(yaml.safe_dump(settings))
        refuse_other_settings(_config(output, "distillation.teacher_precision=fp32"))
        refuse_other_settings(_config(output, AUTO))


def test_fp16_without_a_gpu_is_found_out_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="teacher_precision: fp16 needs a GPU, got none"):
        _run(_config(tmp_path / "other", "distillation.teacher_precision=fp16"))
    assert not list((tmp_path / "other").rglob("*.pt"))


@pytest.mark.parametrize("damage", ["feature: [", "", "5", "feature: !!bool x"])
def test_settings_that_cannot_be_read_any_more_are_a_users_error(output: Path, damage: str) -> None:
    file = RunDirectory(output / "distilled").config
    file.write_text(damage)
    with pytest.raises(UserError, match=r"the stage.s settings are lost: remove .*distilled"):
        refuse_other_settings(_config(output))


def test_another_feature_weight_concerns_the_distilled_student_only(output: Path) -> None:
    config = _config(output, "methods.tar.feature.weight=0.5")
    with pytest.raises(UserError) as caught:
        refuse_other_settings(config)
    message = str(caught.value)
    assert "methods.tar.feature.weight=3.0 then, 0.5 now" in message
    assert f"{output / 'distilled'}:" in message
    assert not any(f"{output / stage}:" in message for stage in ("teacher", "baseline"))
    shutil.rmtree(output / "distilled")
    before = {stage: (output / stage / "best.pt").stat().st_mtime_ns for stage in ("teacher", "baseline")}
    assert _started(_run(config)) == ["distilled"]
    assert {stage: (output / stage / "best.pt").stat().st_mtime_ns for stage in before} == before


def test_a_decay_of_another_shape_is_refused(output: Path) -> None:
    with pytest.raises(UserError, match=r"decay\.shape=linear then, exponential now"):
        refuse_other_settings(_config(output, "decay.shape=exponential"))


def test_a_baseline_may_be_left_out(tmp_path: Path) -> None:
    config = _config(tmp_path, "distillation.baseline=false")
    assert planned(config) == ["teacher", "distilled"]


def test_without_any_distillation_term_only_the_student_is_trained(tmp_path: Path) -> None:
    off = [f"{level}.weight=0" for level in ("feature", "classification", "regression", "rpn")]
    config = _config(tmp_path, *off)
    assert planned(config) == ["baseline"]
    assert _started(_run(config)) == ["baseline"]
    assert not (tmp_path / "teacher").exists()
    assert not any(
        name.startswith("train/distillation/") for name in metrics_of(RunDirectory(tmp_path / "baseline"))[0]
    )


def test_a_student_without_terms_is_the_baseline_to_the_bit(output: Path, tmp_path: Path) -> None:
    off = [f"{level}.weight=0" for level in ("feature", "classification", "regression", "rpn")]
    _run(_config(tmp_path / "plain", *off))
    plain, baseline = (weights_of(path / "last.pt") for path in (tmp_path / "plain" / "baseline", output / "baseline"))
    assert same_weights(plain, baseline)


def test_distillation_changes_the_student(finished: Path) -> None:
    first, second = (weights_of(finished / stage / "last.pt") for stage in ("baseline", "distilled"))
    assert not same_weights(first, second)


def test_a_teacher_that_is_given_is_scored_and_not_trained(output: Path, tmp_path: Path) -> None:
    given = output / "teacher"
    config = _config(tmp_path / "new", f"teacher.weights={given}", "teacher.norm=group", "teacher.trainable_layers=6")
    assert _started(_run(config)) == ["baseline", "distilled"]
    assert same_weights(weights_of(given / "best.pt"), weights_of(tmp_path / "new" / "teacher" / "best.pt"))
    scored, trained = (
        json.loads((path / "teacher" / "result.json").read_text()) for path in (tmp_path / "new", output)
    )
    assert scored["AP"] == trained["AP"]
    assert (scored["epochs"], scored["epoch"]) == (0, 0)


@pytest.fixture
def scored(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, tuple[str, ...]]:
    """A run with a given teacher, interrupted once that is scored: its output, and the settings it was begun with."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    settings = (f"teacher.weights={output / 'teacher'}", "teacher.norm=group", "teacher.trainable_layers=6")
    settings += ("teacher.learning_rate=0.003", "teacher.epochs=7")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stages, "fit", interrupt)
        _run(_config(tmp_path / "new", *settings))
    assert RunDirectory(tmp_path / "new" / "teacher").finished
    return tmp_path / "new", settings


def test_the_same_command_goes_on_after_a_given_teacher_was_scored(scored: tuple[Path, tuple[str, ...]]) -> None:
    output, settings = scored
    assert _started(_run(_config(output, *settings))) == ["baseline", "distilled"]
    assert _started(_run(_config(output, *settings))) == []


def test_what_no_scoring_depends_on_may_change_under_a_given_teacher_and_the_rest_may_not(
    scored: tuple[Path, tuple[str, ...]],
) -> None:
    output, settings = scored
    file = RunDirectory(output / "teacher").config
    written = yaml.safe_load(file.read_text())
    written["training"]["optimizer"]["learning_rate"] = 0.003  # so wrote it a version before
    file.write_text(yaml.safe_dump(written))
    refuse_other_settings(_config(output, *settings))
    for free in (
        "seed=4",
        "training.epochs=9",
        "teacher.epochs=2",
        "evaluation.every=2",
        "augmentation.horizontal_flip=0",
    ):
        refuse_other_settings(_config(output, *settings, free))
    for other in ("input.min_size=48", "teacher.box_score_thresh=0.2", "data.num_val=3", "teacher.weights=random"):
        with pytest.raises(UserError, match=rf"{other.split('=')[0]}=.* then, .* now".replace(".", r"\.", 1)):
            refuse_other_settings(_config(output, *settings, other))


def test_a_given_teacher_of_other_classes_is_refused(output: Path, tmp_path: Path) -> None:
    config = _config(tmp_path / "new")
    train, val, _ = build_splits(config.data)
    detector = build_faster_rcnn(config.teacher, config.input, ("wolf", *train.classes[1:]))
    run = RunDirectory(tmp_path / "wolves")
    export(Job("teacher", config, config.teacher, 1, run, train, val), detector, run.best, epoch=1)
    with pytest.raises(UserError, match="wolf"):
        _run(_config(tmp_path / "new", f"teacher.weights={run.path}"))


def test_a_given_teacher_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        _run(_config(tmp_path, f"teacher.weights={tmp_path / 'nowhere'}"))


def test_the_students_neck_and_heads_can_start_from_the_teachers(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[dict[str, torch.Tensor]] = []

    def fit(job: Any, distiller: Any, *_: Any) -> None:
        begun.append({key: value.clone() for key, value in distiller.student.model.state_dict().items()})

    monkeypatch.setattr(stages, "fit", fit)
    shutil.rmtree(output / "distilled")
    listener = _run(_config(output, "distillation.initialize_from_teacher=true"))
    teacher = weights_of(output / "teacher" / "best.pt")
    outside = [key for key in teacher if not key.startswith("backbone.body.")]
    assert outside
    assert all(torch.equal(begun[0][key], teacher[key]) for key in outside)
    assert not all(torch.equal(begun[0][key], value) for key, value in teacher.items())
    assert f"{len(outside)} of {len(outside)} tensors of neck and heads start from the teacher's" in listener.text


def test_of_a_teacher_of_another_width_only_what_fits_is_taken(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "fit", lambda *_: None)
    for stage in ("baseline", "distilled"):
        shutil.rmtree(output / stage)
    wider = ("student.box_head_size=48", "distillation.initialize_from_teacher=true", "distillation.baseline=false")
    listener = _run(_config(output, *wider))
    line = next(note.text for note in listener.notes if "start from the teacher's" in note.text)
    taken, candidates = (int(word) for word in line.split()[1:4:2])
    assert 0 < taken < candidates


def test_a_teacher_below_the_student_is_a_warning(output: Path) -> None:
    for stage, ap in (("teacher", 0.1), ("baseline", 0.2)):
        path = output / stage / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"AP": ap}))
    shutil.rmtree(output / "distilled")
    assert "teacher 10.0 AP, student alone 20.0 AP; a teacher below the student" in _run(_config(output)).warnings


def test_the_preflight_says_what_it_found(output: Path) -> None:
    shutil.rmtree(output / "distilled")
    text = _run(_config(output)).text
    assert "preflight: teacher: " in text
    assert "classes as in the data, in the same order" in text
    assert "preflight: tar.feature" in text


def test_what_the_data_readers_log_reaches_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(data: Data, downloads: Downloads) -> Any:
        logging.getLogger("raydistill.data.formats.coco").warning("2 boxes dropped")
        return build_splits(data, downloads)

    monkeypatch.setattr(stages, "build_splits", build)
    monkeypatch.setattr(stages, "_run_stage", lambda *_: None)
    monkeypatch.setattr(stages, "_rehearse", lambda *_: None)
    monkeypatch.setattr(stages, "comparison", lambda _: [])
    assert _run(_config(tmp_path)).warnings.splitlines()[0] == "2 boxes dropped"
    assert logging.getLogger("raydistill").propagate
    assert not logging.getLogger("raydistill").handlers


def test_a_teacher_may_have_epochs_of_its_own(tmp_path: Path) -> None:
    _run(_config(tmp_path, "teacher.epochs=2", "distillation.baseline=false"))
    lines = {stage: len(metrics_of(RunDirectory(tmp_path / stage))) for stage in ("teacher", "distilled")}
    assert lines == {"teacher": 2, "distilled": 1}
