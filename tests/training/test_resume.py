"""A run that was interrupted, in the middle of an epoch too, against one that was not."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill.errors import UserError
from raydistill.runs import weights_file
from raydistill.runs.events import StageStarted
from raydistill.runs.worker import Worker
from raydistill.training import loop
from tests.outputs import refuse_other_settings, write_settings
from tests.ranks import on_ranks
from tests.small import ProcessEndedError, Stage, ending, repeatable, same_weights, small_run, weights_of

THREE_STEPS = ("data.num_train=12", "data.num_val=2", "student.box_score_thresh=0")
"""Of an epoch; there are two epochs. Detections of a new net count, so that the scores are not all zero."""


def _stage(folder: Path, *settings: str, name: Any = "baseline", worker: Worker | None = None) -> Stage:
    return Stage(small_run(folder, *THREE_STEPS, *settings), name, worker or Worker())


def _cut(stage: Stage, before_step: int) -> None:
    """Train until the process "ends" at the beginning of a step, counted over all epochs from 0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "take_step", ending(loop.take_step, before_step))
        with pytest.raises(ProcessEndedError):
            stage.fit()
    torch.rand(5)


def _assert_same(one: Stage, other: Stage) -> None:
    assert repeatable(one.lines()) == repeatable(other.lines())
    assert same_weights(weights_of(one.run.last), weights_of(other.run.last))
    assert same_weights(weights_of(one.run.best), weights_of(other.run.best))


def _started(stage: Stage) -> tuple[int, int]:
    (event,) = (event for event in stage.listener.events if isinstance(event, StageStarted))
    return event.first_epoch, event.first_step


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A run that nothing interrupted."""
    stage = _stage(tmp_path_factory.mktemp("whole"))
    stage.fit()
    return stage


def test_a_run_interrupted_in_every_step_ends_as_if_it_had_not_been(tmp_path: Path, whole: Stage) -> None:
    for step in range(1, 6):
        cut = _stage(tmp_path / "cut", "checkpoint.every_steps=1")
        _cut(cut, step)
        assert _started(cut) == divmod(step - 1, 3)
    again = _stage(tmp_path / "cut", "checkpoint.every_steps=1")
    again.fit()
    _assert_same(whole, again)


def test_a_distilled_run_goes_on_after_its_last_checkpoint_in_an_epoch(tmp_path: Path) -> None:
    settings = (
        *("training.optimizer={name: adamw, learning_rate: 0.001}", "training.accumulation=2"),
        "logging.diagnosis=true",
    )
    whole = _stage(tmp_path / "whole", *settings, name="distilled")
    whole.fit()
    cut = _stage(tmp_path / "cut", *settings, "checkpoint.every_steps=2", name="distilled")
    _cut(cut, 5)
    again = _stage(tmp_path / "cut", *settings, name="distilled")
    again.fit()
    assert _started(again) == (1, 1)
    _assert_same(whole, again)


def test_a_run_interrupted_in_an_evaluation_takes_no_step_again(tmp_path: Path, whole: Stage) -> None:
    cut = _stage(tmp_path / "cut", "checkpoint.every_steps=3")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ProcessEndedError):
        patch.setattr(loop, "evaluate", _raising(ProcessEndedError()))
        cut.fit()
    with pytest.MonkeyPatch.context() as patch:
        taken: list[int] = []
        original = loop.take_step
        patch.setattr(loop, "take_step", lambda *given: taken.append(given[3]) or original(*given))  # type: ignore[func-returns-value]
        again = _stage(tmp_path / "cut")
        again.fit()
    assert _started(again) == (0, 3)
    assert taken == [3, 4, 5]
    _assert_same(whole, again)


def test_without_the_setting_only_epochs_have_a_checkpoint(tmp_path: Path) -> None:
    cut = _stage(tmp_path)
    _cut(cut, 2)
    assert not cut.run.checkpoint.exists()


def test_a_checkpoint_in_an_epoch_leaves_the_weights_of_the_last_epoch(tmp_path: Path) -> None:
    cut = _stage(tmp_path, "checkpoint.every_steps=2")
    _cut(cut, 4)
    after_the_epoch = weights_of(cut.run.last)
    again = _stage(tmp_path, "checkpoint.every_steps=2")
    _cut(again, 5)
    assert weights_file.load(again.run.checkpoint)["step"] == 1
    assert same_weights(weights_of(again.run.last), after_the_epoch)


def test_a_checkpoint_of_a_version_without_steps_is_gone_on_from(tmp_path: Path, whole: Stage) -> None:
    cut = _stage(tmp_path / "cut")
    _cut(cut, 4)
    saved = weights_file.load(cut.run.checkpoint)
    weights_file.save(cut.run.checkpoint, {key: saved[key] for key in saved if key not in ("step", "sums")})
    again = _stage(tmp_path / "cut")
    again.fit()
    _assert_same(whole, again)


def test_weights_that_never_got_their_checkpoint_are_written_again(tmp_path: Path, whole: Stage) -> None:
    """The last epoch's weights come before its checkpoint, so that none of them can be missing at the end."""
    cut = _stage(tmp_path / "cut")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ProcessEndedError):
        patch.setattr(weights_file, "save", _ending_at(weights_file.save, "checkpoint.pt", epoch=2))
        cut.fit()
    _stage(tmp_path / "cut").fit()
    _assert_same(whole, cut)


def _raising(error: BaseException) -> Callable[..., Any]:
    def run(*_: Any, **__: Any) -> None:
        raise error

    return run


def _ending_at(save: Callable[..., None], name: str, epoch: int) -> Callable[..., None]:
    def saving(path: Path, state: dict[str, Any], *more: Any) -> None:
        if path.name == name and state["epoch"] == epoch:
            raise ProcessEndedError
        save(path, state, *more)

    return saving


# Several workers ------------------------------------------------------------------------------------------------------
TWO_RANKS = ("student.norm=batch", "training.batch_size=4", "evaluation.every=2", "checkpoint.every_steps=1")


def _on_rank(worker: Worker, folder: str, before_step: int | None) -> None:
    stage = _stage(Path(folder), *TWO_RANKS, worker=worker)
    if before_step is not None:
        loop.take_step = ending(loop.take_step, before_step)
    stage.fit()


def test_two_workers_go_on_in_an_epoch_to_the_bit_and_one_goes_on_after_them(tmp_path: Path) -> None:
    """With batch norm, whose statistics differ between workers, and sampling, which differs too."""
    assert on_ranks(_on_rank, 2, str(tmp_path / "whole"), None) == [0, 0]
    assert on_ranks(_on_rank, 2, str(tmp_path / "cut"), 2) == [1, 1]
    saved = weights_file.load(_stage(tmp_path / "cut").run.checkpoint)
    assert (saved["epoch"], saved["step"], len(saved["sums"])) == (0, 2, 2)
    alone = tmp_path / "alone" / "baseline" / "checkpoint.pt"
    weights_file.save(alone, saved)
    assert on_ranks(_on_rank, 2, str(tmp_path / "cut"), None) == [0, 0]
    _assert_same(_stage(tmp_path / "whole"), _stage(tmp_path / "cut"))
    stage = _stage(tmp_path / "alone", *TWO_RANKS)
    stage.fit()
    assert "goes on with 1 worker after 2; the result is no longer the same to the bit" in stage.listener.warnings
    assert _started(stage) == (0, 2)
    whole = _stage(tmp_path / "whole").lines()[0]["train/total"]
    assert stage.lines()[0]["train/total"] == pytest.approx(whole, rel=0.1)
    assert stage.lines()[0]["train/total"] != whole


# Files that are damaged -----------------------------------------------------------------------------------------------
class _Hostile:
    """A pickle that would make a folder."""

    def __init__(self, witness: Path) -> None:
        self.witness = str(witness)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.witness,)


def _flipped(path: Path) -> None:
    """Change one bit of a tensor, which torch.load does not see."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a bit": _flipped,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "nothing in it": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another file": lambda path: torch.save({"model": {}}, path),
    "code": lambda path: torch.save({**weights_file.load(path), "epoch": _Hostile(path.parent / "ran")}, path),
    "a pickle with code": lambda path: path.write_bytes(pickle.dumps(_Hostile(path.parent / "ran"))),
}


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was interrupted with two checkpoints; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("halfway")
    _cut(_stage(folder, "checkpoint.every_steps=1"), 5)
    return folder


@pytest.fixture
def cut(halfway: Path, tmp_path: Path) -> Stage:
    """A copy of the interrupted run."""
    shutil.copytree(halfway, tmp_path / "cut")
    return _stage(tmp_path / "cut")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_put_aside_for_the_one_before(damage: str, whole: Stage, cut: Stage) -> None:
    last, before = cut.run.checkpoints()
    assert (last.name, before.name) == ("checkpoint.pt", "checkpoint.1.pt")
    DAMAGES[damage](last)
    cut.fit()
    assert _started(cut) == (1, 1)
    assert f"{last}: must " in cut.listener.warnings
    assert "goes on from an earlier one, checkpoint.pt is put aside" in cut.listener.warnings
    assert not (cut.run.path / "ran").exists()
    assert (cut.run.path / "checkpoint.pt.damaged").is_file()
    assert [weights_file.load(path)["epoch"] for path in cut.run.checkpoints()] == [2, 1]
    _assert_same(whole, cut)


def test_a_checkpoint_that_was_renamed_and_never_replaced_is_found(whole: Stage, cut: Stage) -> None:
    cut.run.checkpoint.unlink()
    write_settings(cut.config, "baseline")
    with pytest.raises(UserError, match=r"seed=0 then, 3 now"):  # what is there is not mixed with another run
        refuse_other_settings(small_run(Path(cut.config.output), *THREE_STEPS, *_off(), "seed=3"))
    cut.fit()
    assert _started(cut) == (1, 1)
    _assert_same(whole, cut)


def test_no_checkpoint_that_can_be_read_is_a_sentence_with_advice(cut: Stage) -> None:
    for path in cut.run.checkpoints():
        path.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"checkpoint\.pt: must .*; no earlier one can be read either: remove .*cut"):
        cut.fit()


def test_a_full_disk_is_a_sentence_and_the_run_goes_on_from_the_checkpoint_before(whole: Stage, cut: Stage) -> None:
    before = cut.run.checkpoint.read_bytes()
    save_to = torch.save

    def full(state: Any, file: Any) -> None:
        save_to(state, file)
        file.truncate(file.tell() // 2)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(
            UserError, match=r"cannot be written \(.*No space left on device\); what was there is intact"
        ):
            cut.fit()
    assert cut.run.checkpoint.read_bytes() == before
    again = _stage(Path(cut.config.output))
    again.fit()
    assert not [*cut.run.path.glob(".*")]
    _assert_same(whole, again)


def test_what_a_killed_writer_left_is_removed(cut: Stage) -> None:
    left = cut.run.path / ".checkpoint.pt.abcdefgh.part"
    left.write_bytes(b"half")
    cut.fit()
    assert not left.exists()


def _off() -> list[str]:
    return [f"{level}.weight=0" for level in ("feature", "classification", "regression", "rpn")]


# The best weights -----------------------------------------------------------------------------------------------------
def _scored(stage: Stage, scores: list[float], patch: pytest.MonkeyPatch) -> None:
    """Let the evaluations of ``stage`` give these AP, one after the other."""
    original, left = loop.evaluate, iter(scores)

    def evaluate(*given: Any, **named: Any) -> Any:
        result = original(*given, **named)
        result.scores.summary["AP"] = next(left)
        return result

    patch.setattr(loop, "evaluate", evaluate)


def test_the_best_weights_are_those_of_the_checkpoint_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epoch 2 is the best at first; taken again, as another machine might, it is not."""
    stage = _stage(tmp_path, "checkpoint.every_steps=1", "training.epochs=3")
    _scored(stage, [0.3, 0.5], monkeypatch)
    _cut(stage, 6)
    assert weights_file.load(stage.run.best)["epoch"] == 2
    for path in stage.run.checkpoints()[:1]:
        path.unlink()
    monkeypatch.undo()
    again = _stage(tmp_path, "checkpoint.every_steps=1", "training.epochs=3")
    _scored(again, [0.2, 0.1], monkeypatch)
    again.fit()
    assert _started(again) == (1, 3)
    assert weights_file.load(again.run.best)["epoch"] == 1
    assert [line["epoch"] for line in again.lines()] == [1, 2, 3]
    assert sorted(path.name for path in again.run.path.glob("best*")) == ["best.pt"]


def test_best_weights_that_no_checkpoint_knows_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = _stage(tmp_path)
    _scored(stage, [0.9, 0.0], monkeypatch)
    monkeypatch.setattr(weights_file, "save", _ending_at(weights_file.save, "checkpoint.pt", epoch=1))
    with pytest.raises(ProcessEndedError):
        stage.fit()
    monkeypatch.undo()
    again = _stage(tmp_path)
    _scored(again, [0.1, 0.2], monkeypatch)
    again.fit()
    assert weights_file.load(again.run.best)["epoch"] == 2


def test_every_checkpoint_kept_finds_its_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The most that can happen: each epoch is better, and the newest weights have no checkpoint yet."""
    stage = _stage(tmp_path, "training.epochs=4")
    _scored(stage, [0.1, 0.2, 0.3, 0.4], monkeypatch)
    monkeypatch.setattr(weights_file, "save", _ending_at(weights_file.save, "checkpoint.pt", epoch=4))
    with pytest.raises(ProcessEndedError):
        stage.fit()
    kept = {weights_file.load(path)["best"]["epoch"] for path in stage.run.checkpoints()}
    there = {weights_file.load(path)["epoch"] for path in stage.run.path.glob("best*.pt")}
    assert (kept, there) == ({2, 3}, {2, 3, 4})
