"""Files written in a thread: copies of what was, one after the other, and what goes wrong is heard."""

from __future__ import annotations

import errno
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill.errors import UserError
from raydistill.runs import weights_file
from raydistill.runs.events import EpochDone
from raydistill.runs.stopping import Stopped
from raydistill.training import loop, writing
from raydistill.training.writing import Writing, copied
from tests.small import ProcessEndedError, Stage, ending, metrics_of, same_weights, small_run, weights_of

_SECONDS = 60


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Checkpoints are only written once this is set."""
    may_write, save = threading.Event(), weights_file.save

    def waiting(path: Path, *rest: Any, **named: Any) -> None:
        assert path.name != "checkpoint.pt" or may_write.wait(_SECONDS)
        save(path, *rest, **named)

    monkeypatch.setattr(weights_file, "save", waiting)
    return may_write


def _failing(path: Path, *_: Any, **__: Any) -> None:
    raise UserError(f"{path}: cannot be written (made up)")


def test_training_goes_on_while_a_checkpoint_is_written_of_what_was(
    tmp_path: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, steps = Stage(small_run(tmp_path)), []
    take_step = loop.take_step

    def counting(*given: Any) -> Any:
        steps.append(stage.run.checkpoint.exists())
        if len(steps) == 4:  # the second epoch's last: the first one's checkpoint is written only now
            held.set()
        return take_step(*given)

    monkeypatch.setattr(loop, "take_step", counting)
    stage.fit()
    assert steps == [False] * 4
    again = Stage(small_run(tmp_path / "again"))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", ending(take_step, before_step=2))
        with pytest.raises(ProcessEndedError):
            again.fit()
    first = torch.load(again.run.checkpoint, weights_only=True)
    before = torch.load(stage.run.path / "checkpoint.1.pt", weights_only=True)
    assert (first["epoch"], before["epoch"]) == (1, 1)
    assert same_weights(first["distiller"], before["distiller"])


def test_who_wants_the_files_first_has_them_with_the_epoch(tmp_path: Path) -> None:
    stage, found = Stage(small_run(tmp_path)), []

    class Asking(type(stage.reporter)):  # type: ignore[misc]
        def event(self, event: Any) -> None:
            if isinstance(event, EpochDone):
                found.append(torch.load(stage.run.checkpoint, weights_only=True)["epoch"])

    reporter = Asking(stage.run, stage.worker, stage.listener, files_first=True)
    loop.fit(stage.job, stage.distiller(), stage.loader(), stage.worker, reporter)
    assert found == [1, 2]


@pytest.mark.parametrize("files", ["best.pt", "last.pt", "checkpoint.pt"])
def test_what_cannot_be_written_ends_the_run_in_its_own_words(
    files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, write = Stage(small_run(tmp_path, "training.epochs=1")), stage_write(files)
    monkeypatch.setattr("raydistill.storage.atomic.write_atomically", write)
    with pytest.raises(UserError, match=f"{files}: cannot be written .*No space left on device"):
        stage.fit()
    assert not stage.run.result.exists()


def stage_write(name: str) -> Callable[..., None]:
    """Return ``write_atomically`` on a disk that is full when the file ``name`` is to be written."""
    from raydistill.storage.atomic import write_atomically

    def full(_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def write(path: Path, fill: Callable[..., None], *rest: Any) -> None:
        write_atomically(path, full if path.name == name else fill, *rest)

    return write


def test_a_run_that_is_stopped_has_written_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, take_step = Stage(small_run(tmp_path)), loop.take_step

    def stopping(*given: Any) -> Any:
        stage.worker.stop.ask()
        return take_step(*given)

    monkeypatch.setattr(loop, "take_step", stopping)
    with pytest.raises(Stopped):
        stage.fit()
    assert torch.load(stage.run.checkpoint, weights_only=True)["step"] == 1
    assert "stopped in epoch 1 after step 1" in stage.listener.text


def test_a_checkpoint_that_cannot_be_written_is_not_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(small_run(tmp_path))
    stage.worker.stop.ask()
    monkeypatch.setattr(weights_file, "save", _failing)
    with pytest.raises(UserError, match="made up"):
        stage.fit()
    assert "its checkpoint is written" not in stage.listener.text


def test_an_error_of_the_training_waits_for_the_write_and_counts(tmp_path: Path) -> None:
    writing, done = Writing(), []
    with pytest.raises(ProcessEndedError), writing.finished():
        writing.begin(lambda: done.append(threading.Event().wait(0.2)))
        raise ProcessEndedError
    assert done == [False]
    with pytest.raises(ProcessEndedError), writing.finished():
        writing.begin(lambda: _failing(tmp_path))
        raise ProcessEndedError


def test_what_went_wrong_is_heard_once_and_at_the_next_write(tmp_path: Path) -> None:
    writing = Writing()
    writing.begin(lambda: _failing(tmp_path))
    with pytest.raises(UserError, match="made up"):
        writing.begin(lambda: None)
    writing.finish()


def test_who_interrupts_does_not_wait_for_a_write_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_END_SECONDS", 0.3)
    ended = threading.Event()

    def hanging() -> None:
        try:
            while True:
                threading.Event().wait(0.01)
        finally:
            ended.set()

    ours = Writing()
    with pytest.raises(KeyboardInterrupt), ours.finished():
        ours.begin(hanging)
        raise KeyboardInterrupt
    assert ended.wait(_SECONDS)
    ours.finish()


def test_a_copy_is_of_the_same_kind_and_shares_nothing() -> None:
    inner = torch.arange(3.0)
    state: OrderedDict[str, Any] = OrderedDict(a=inner, b=[(inner[:2], "text")], c={"d": None})
    state._metadata = {"version": 2}  # type: ignore[attr-defined]
    made = copied(state)
    inner.zero_()
    assert made["a"].tolist() == [0, 1, 2]
    assert made["b"][0][0].tolist() == [0, 1]
    assert (made["b"][0][1], made["c"], made._metadata) == ("text", {"d": None}, {"version": 2})
    assert type(made) is OrderedDict
    assert state["b"][0][0].tolist() == [0, 0]


def test_the_best_weights_are_written_before_the_checkpoint_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, save = [], weights_file.save

    def noting(path: Path, *rest: Any, **named: Any) -> None:
        written.append(path.name)
        save(path, *rest, **named)

    monkeypatch.setattr(weights_file, "save", noting)
    stage = Stage(small_run(tmp_path, "training.epochs=1"))
    stage.fit()
    assert written == ["best.pt", "last.pt", "checkpoint.pt"]
    assert same_weights(weights_of(stage.run.best), weights_of(stage.run.last))
    assert [line["epoch"] for line in metrics_of(stage.run)] == [1]
