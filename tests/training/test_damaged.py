"""Checkpoints, results and weights that are damaged, or of another training: put aside, repaired, or a sentence."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill.errors import UserError
from raydistill.runs import weights_file
from raydistill.runs.directory import RunDirectory
from raydistill.runs.identity import Identity
from raydistill.runs.reporter import FileReporter
from raydistill.runs.worker import Worker
from raydistill.training import loop
from raydistill.training.resume import start
from raydistill.training.stages import run_stages
from raydistill.training.state import TrainingState
from tests.outputs import output_of
from tests.small import Listener, ProcessEndedError, Stage, ending, metrics_of, same_weights, small_run, weights_of

THREE_STEPS = ("data.num_train=6", "training.batch_size=2", "checkpoint.every_steps=1", "logging.tensorboard=false")
Saved = dict[str, Any]


def _stage(folder: Path, *settings: str, data: str = "these", teacher: str = "") -> Stage:
    stage = Stage(small_run(folder, *THREE_STEPS, *settings))
    identity = Identity.of("baseline", stage.config, data, ()).with_teacher(teacher)
    stage.job = replace(stage.job, identity=identity)
    return stage


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was interrupted in its second epoch, with two checkpoints: after its first and its second step."""
    folder = tmp_path_factory.mktemp("halfway")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ProcessEndedError):
        patch.setattr(loop, "take_step", ending(loop.take_step, 5))
        _stage(folder, teacher="this").fit()
    return folder


@pytest.fixture
def cut(halfway: Path, tmp_path: Path) -> Path:
    shutil.copytree(halfway, tmp_path / "cut")
    return tmp_path / "cut"


def _started(stage: Stage) -> TrainingState:
    return start(stage.job, stage.distiller(), stage.loader(), stage.worker, stage.reporter)


def _edit(checkpoint: Path, change: Callable[[Saved], Any]) -> None:
    saved = weights_file.load(checkpoint)
    change(saved)
    weights_file.save(checkpoint, saved)


def _first(saved: Saved) -> str:
    return next(name for name, value in saved["distiller"].items() if value.is_floating_point())


def _state(saved: Saved) -> Saved:
    entry: Saved = next(iter(saved["optimizer"]["state"].values()))
    return entry


OTHERS: dict[str, tuple[Callable[[Saved], Any], str]] = {
    "of another seed": (lambda s: s["run"]["settings"].update(seed=3), "other settings: seed=3 then, 0 now"),
    "of another stage": (lambda s: s["run"].update(stage="teacher"), "is one of the stage teacher"),
    "of other data": (lambda s: s["run"].update(data="those"), "was trained with other data"),
    "of another teacher": (lambda s: s["run"].update(teacher="that"), "was trained with another teacher"),
    "of a run that is a list": (lambda s: s.update(run=[1]), "does not say whose it is"),
    "of an epoch beyond the last": (lambda s: s.update(epoch=99), "is of epoch 99 of 2"),
    "of an epoch below none": (lambda s: s.update(epoch=-1), "is of epoch -1 of 2"),
    "of an epoch that is a text": (lambda s: s.update(epoch="1"), "is of epoch '1' of 2"),
    "of a step beyond the last": (lambda s: s.update(step=4), "is of step 4 of 3 after epoch 1 of 2"),
    "of a step after the last epoch": (lambda s: s.update(epoch=2, step=1), "is of step 1 of 3 after epoch 2 of 2"),
    "of no worker": (lambda s: s.update(world_size=0), "is of 0 workers"),
    "with NaN in its weights": (lambda s: s["distiller"][_first(s)].fill_(torch.nan), "finite numbers, got 1 tensors"),
    "of another net": (lambda s: s["distiller"].update({_first(s): torch.zeros(3)}), "1 of another shape"),
    "without a tensor": (lambda s: s["distiller"].pop(_first(s)), "1 missing"),
    "with a number for a tensor": (lambda s: s["distiller"].update({_first(s): 5}), "holds no tensors for the nets"),
    "with a list for the nets": (lambda s: s.update(distiller=[1]), "holds something of another kind"),
    "with a text for the optimizer": (lambda s: s.update(optimizer="sgd"), "holds something of another kind"),
    "with an empty optimizer": (lambda s: s["optimizer"].update(state={}), "holds an optimizer without its state"),
    "with no optimizer": (lambda s: s.update(optimizer={}), "holds something of another kind"),
    "with an optimizer of other parameters": (
        lambda s: s["optimizer"]["param_groups"].pop(),
        "holds an optimizer of other parameters",
    ),
    "with a momentum of another shape": (
        lambda s: _state(s).update(momentum_buffer=torch.zeros(7)),
        "whose state does not fit its parameters",
    ),
    "with NaN in its momentum": (
        lambda s: _state(s)["momentum_buffer"].fill_(torch.nan),
        "whose state does not fit its parameters, or is not finite",
    ),
    "with a cut random state": (
        lambda s: s["random"][0].update(cpu=s["random"][0]["cpu"][:99].clone()),
        "holds no random state for each of 1 workers",
    ),
    "without random states": (lambda s: s.update(random=[]), "holds no random state for each of 1 workers"),
    "with sums that are a list": (lambda s: s.update(sums=[[1]]), "holds something of another kind"),
    "with sums without numbers": (
        lambda s: s["sums"][0]["terms"].update(total=("a", 1)),
        "holds no sums of the epoch for each of 1 workers",
    ),
    "with a best that is a list": (lambda s: s.update(best=[1]), "holds something of another kind"),
    "with a best of an epoch to come": (lambda s: s["best"].update(epoch=5), "names the scores .* as the best"),
    "with a best AP that is a text": (lambda s: s["best"].update(AP="high"), "names the scores .* as the best"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_that_does_not_fit_is_put_aside_with_the_reason(name: str, cut: Path) -> None:
    change, reason = OTHERS[name]
    stage = _stage(cut, teacher="this")
    _edit(stage.run.checkpoint, change)
    state = _started(stage)
    assert (state.epoch, state.step) == (1, 1)  # the one before
    assert re.search(reason, stage.listener.warnings)
    assert stage.listener.warnings.count("goes on from an earlier one, checkpoint.pt is put aside") == 1
    assert (stage.run.path / "checkpoint.pt.damaged").is_file()


def test_where_no_checkpoint_fits_the_sentence_says_what_to_remove(cut: Path) -> None:
    stage = _stage(cut, "seed=3", teacher="this")
    with pytest.raises(UserError, match=r"of this training, .*seed=0 then, 3 now; .*: remove .*cut"):
        _started(stage)


def test_members_of_a_population_may_differ_in_what_they_exchange_and_in_nothing_else(cut: Path) -> None:
    stage = _stage(cut, "seed=3", "training.optimizer.weight_decay=0.5", teacher="this")
    free = Identity.of("baseline", stage.config, "these", ("training.optimizer.weight_decay",)).with_teacher("this")
    stage.job = replace(stage.job, identity=free)
    assert _started(stage).step == 2
    stage.job = replace(stage.job, identity=replace(free, data="those"))
    with pytest.raises(UserError, match="was trained with other data"):
        _started(stage)


def test_an_earlier_versions_checkpoint_is_anybodys(cut: Path) -> None:
    stage = _stage(cut, data="those", teacher="that")
    _edit(stage.run.checkpoint, lambda saved: saved.pop("run"))
    assert _started(stage).step == 2


BESTS: dict[str, Callable[[Path], Any]] = {
    "of another net": lambda path: _edit(path, lambda s: s["model"][next(iter(s["model"]))].add_(1)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:999]),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("name", BESTS)
def test_best_weights_that_the_checkpoint_does_not_name_are_a_sentence(name: str, cut: Path) -> None:
    stage = _stage(cut, teacher="this")
    BESTS[name](stage.run.best)
    with pytest.raises(UserError, match=r"must be the weights of epoch 1, which the checkpoint names .*; put"):
        _started(stage)


METRICS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "zeros": (lambda content: bytes(len(content)), "metrics of epochs 1 cannot be read any more"),
    "gone": (lambda _: b"", "metrics of epochs 1 cannot be read any more"),
    "a wrong byte": (lambda content: content.replace(b"{", b"\xff", 1), "metrics of epochs 1 cannot be read any more"),
    "a foreign line": (lambda content: b"hello\n" + content, ""),
    "a list": (lambda content: content + b"[1]\n", ""),
    "an epoch to come": (lambda content: content + b'{"epoch": 2}\n', ""),
}


@pytest.mark.parametrize("name", METRICS)
def test_damaged_metrics_hold_up_nothing(name: str, cut: Path) -> None:
    change, told = METRICS[name]
    stage = _stage(cut, teacher="this")
    stage.run.metrics.write_bytes(change(stage.run.metrics.read_bytes()))
    _started(stage)
    assert told in stage.listener.warnings and bool(told) == bool(stage.listener.warnings)
    assert [line["epoch"] for line in metrics_of(stage.run)] == ([] if told else [1])


# Stages that were finished --------------------------------------------------------------------------------------------
QUICK = ("distillation.preflight=warn", "training.epochs=1", "data.num_train=4", "data.num_val=2")
TESTED = (*QUICK, "data.num_test=2", "logging.tensorboard=false")


def _run(output: Path) -> Listener:
    listener, worker = Listener(), Worker()
    config = small_run(output, *TESTED)
    run_stages(config, output_of(config), worker, lambda run: FileReporter(run, worker, listener))
    return listener


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    _run(output)
    return output


@pytest.fixture
def output(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def _no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "take_step", ending(loop.take_step, 0))


@pytest.mark.parametrize("damage", [b"", b'{"AP": null}'])
def test_a_damaged_result_is_made_anew_from_the_checkpoint(
    damage: bytes, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_training(monkeypatch)
    before = {}
    for stage in ("teacher", "distilled"):
        run = RunDirectory(output / stage)
        before[stage] = json.loads(run.result.read_text())
        run.result.write_bytes(damage)
    listener = _run(output)
    assert listener.warnings.count("; the stage is finished again, without training what was trained") == 2
    for stage, result in before.items():
        assert json.loads(RunDirectory(output / stage).result.read_text()) == result


@pytest.mark.parametrize("metrics", [True, False])
def test_without_a_checkpoint_the_result_is_made_of_metrics_or_by_scoring_again(
    metrics: bool, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_training(monkeypatch)
    run = RunDirectory(output / "distilled")
    before = json.loads(run.result.read_text())
    run.result.write_text("")
    run.remove_checkpoints()
    if not metrics:
        run.metrics.write_text("")
    assert (
        f"its result is made anew, {'of the metrics of epoch 1' if metrics else 'by scoring again'}"
        in _run(output).text
    )
    after = json.loads(run.result.read_text())
    for result in (before, after):
        result.pop("images_per_second", None)
        if metrics:  # they do not say by which rules they are
            result.pop("rules", None)
    assert after == before


def test_a_result_without_anything_left_is_a_sentence(output: Path) -> None:
    run = RunDirectory(output / "distilled")
    run.result.write_text("")
    run.remove_checkpoints()
    run.best.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"neither result nor weights are left: remove .*distilled to train it anew"):
        _run(output)


def test_a_teacher_that_is_not_the_one_scored_teaches_nobody(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _no_training(monkeypatch)
    shutil.rmtree(output / "distilled")
    best = output / "teacher" / "best.pt"
    weights = weights_of(best)
    _edit(best, lambda saved: saved["model"][next(iter(saved["model"]))].add_(1))
    assert not same_weights(weights, weights_of(best))
    with pytest.raises(UserError, match=r"must be the teacher's weights that were scored .*, got others; put"):
        _run(output)
    result = output / "teacher" / "result.json"
    result.write_text(json.dumps({k: v for k, v in json.loads(result.read_text()).items() if k != "weights"}))
    with pytest.raises(ProcessEndedError):  # an earlier version did not say which
        _run(output)


def test_the_student_is_not_gone_on_with_under_another_teacher(output: Path) -> None:
    RunDirectory(output / "distilled").result.unlink()
    _edit(output / "teacher" / "best.pt", lambda saved: saved["model"][next(iter(saved["model"]))].add_(1))
    result = output / "teacher" / "result.json"
    changed = json.loads(result.read_text()) | {
        "weights": weights_file.digest(weights_of(output / "teacher" / "best.pt"))
    }
    result.write_text(json.dumps(changed))
    with pytest.raises(UserError, match=r"must be a checkpoint of this training, was trained with another teacher"):
        _run(output)
