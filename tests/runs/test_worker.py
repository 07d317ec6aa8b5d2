"""What a worker writes down: a line per epoch, and event files for TensorBoard."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from raydistill import tune
from raydistill.runs import worker as worker_module
from raydistill.runs.directory import RunDirectory
from raydistill.runs.events import EpochDone, Event, Note
from raydistill.runs.reporter import FileReporter, Reporter
from raydistill.runs.worker import Worker
from raydistill.sweeps.directory import SweepDirectory
from raydistill.training import stages
from raydistill.training.distiller import Distiller
from raydistill.training.job import Job
from raydistill.training.loop import finish
from raydistill.training.state import export
from tests.small import PATIENCE, Listener, metrics_of, plain_report, small_sweep


def _reporter(folder: Path, tensorboard: bool = True, **worker: Any) -> FileReporter:
    return FileReporter(RunDirectory(folder / "run"), Worker(**worker), Listener(), tensorboard)


def _end(reporter: FileReporter) -> None:
    """Say that the stage has come to its end, which closes its event file."""
    reporter.event(EpochDone("distilled", 9, 9, {}, 1.0))


def _line(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "seconds": 0.5, "train/total": 1 / epoch, "val/AP": epoch / 8, "val/class/a b": 0.25}


def test_a_main_worker_that_takes_long_tells_the_others_all_the_while(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def broadcast(worker: Worker, value: Any) -> Any:
        told.append(value)
        return value

    monkeypatch.setattr(Worker, "broadcast", broadcast)
    monkeypatch.setattr(worker_module, "_SIGN_OF_LIFE_SECONDS", 0.01)
    assert Worker(0, 2).made_by_main(lambda: time.sleep(0.2) or "data") == "data"
    *waiting, made, value = told
    assert len(waiting) >= 2
    assert not any(waiting)
    assert (made, value) == (True, "data")


def test_the_other_workers_wait_until_the_main_one_has_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = [False, False, True, "data"]
    monkeypatch.setattr(Worker, "broadcast", lambda worker, value: heard.pop(0))
    assert Worker(1, 2).made_by_main(lambda: pytest.fail("made here")) == "data"


def _event_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("events.out.tfevents.*"))


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard would show of a run."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def _steps(folder: Path) -> dict[str, list[int]]:
    return {name: [step for step, _ in values] for name, values in _scalars(folder).items()}


def test_tensorboard_shows_every_metric_over_epochs(tmp_path: Path) -> None:
    reporter = _reporter(tmp_path)
    for epoch in (1, 2, 4):
        reporter.report(_line(epoch))
    _end(reporter)
    shown = _scalars(tmp_path / "run")
    assert shown["train/total"] == [(1, 1.0), (2, 0.5), (4, 0.25)]
    assert shown["val/AP"] == [(1, 0.125), (2, 0.25), (4, 0.5)]
    assert len(shown) == len(_line(1))  # the class with a blank in its name included


def test_tensorboard_can_be_read_while_a_run_goes_on(tmp_path: Path) -> None:
    """A second behind, and not the two minutes that tensorboardX takes by itself."""
    reporter = _reporter(tmp_path)
    try:
        for epoch in (1, 2):
            reporter.report(_line(epoch))
        wanted = {name.replace(" ", "_"): [1, 2] for name in _line(1)}
        deadline = time.monotonic() + PATIENCE
        while (shown := _steps(tmp_path / "run")) != wanted and time.monotonic() < deadline:
            time.sleep(0.2)
        assert shown == wanted
    finally:
        _end(reporter)


def test_epochs_that_were_lost_and_trained_again_are_shown_once(tmp_path: Path) -> None:
    first = _reporter(tmp_path)
    for epoch in (1, 2, 3):
        first.report(_line(epoch))
    _end(first)
    time.sleep(1.1)  # event files are named by the second
    second = _reporter(tmp_path)  # the process ended, the last checkpoint was that of epoch 1
    for epoch in (2, 3):
        second.report(_line(epoch) | {"val/AP": 0.0625})
    _end(second)
    assert _scalars(tmp_path / "run")["val/AP"] == [(1, 0.125), (2, 0.0625), (3, 0.0625)]


def test_the_event_file_is_closed_after_the_last_epoch(tmp_path: Path) -> None:
    reporter = _reporter(tmp_path)
    reporter.report(_line(1))
    reporter.event(EpochDone("distilled", 1, 2, {}, 1.0))
    (writer,) = reporter._event_file
    reporter.report(_line(2))
    reporter.event(EpochDone("distilled", 2, 2, {}, 1.0))
    assert reporter._event_file == []
    assert writer.file_writer is None  # tensorboardX's way to say closed
    assert len(_event_files(tmp_path)) == 1


def test_without_tensorboard_there_is_no_event_file(tmp_path: Path) -> None:
    reporter = _reporter(tmp_path, tensorboard=False)
    reporter.report(_line(1))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.jsonl"]


def test_only_the_main_worker_writes(tmp_path: Path) -> None:
    reporter = _reporter(tmp_path, rank=1, world_size=2)
    reporter.report(_line(1))
    assert not (tmp_path / "run").exists()


def test_only_the_main_worker_hands_events_on(tmp_path: Path) -> None:
    heard: list[Event] = []
    for rank in (0, 1):
        reporter = FileReporter(RunDirectory(tmp_path), Worker(rank, 2), heard.append)
        reporter.event(Note(f"of {rank}"))
    assert heard == [Note("of 0")]


def test_every_epoch_is_a_line(tmp_path: Path) -> None:
    reporter = _reporter(tmp_path, tensorboard=False)
    for epoch in (1, 2):
        reporter.report(_line(epoch))
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == "".join(json.dumps(_line(n)) + "\n" for n in (1, 2))


@pytest.mark.parametrize("wanted", [True, False])
def test_the_teacher_and_every_trial_have_event_files_where_they_are_wanted(
    wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(job: Job, distiller: Distiller, loader: Any, worker: Worker, reporter: Reporter) -> None:
        reporter.report({"epoch": 1, "train/total": 0.5, "val/AP": 0.25})
        export(job, distiller.student, job.run.best, epoch=1)
        finish(job, distiller.student, {"epoch": 1, "AP": 0.25, "images_per_second": 1.0}, worker, epochs=1)
        reporter.event(EpochDone(job.stage, 1, 1, {}, 1.0))

    monkeypatch.setattr(stages, "fit", report)
    monkeypatch.setattr("raydistill.reports.write_report", plain_report)
    settings = {"logging.tensorboard": wanted, "training.epochs": 1}
    assert tune.main([small_sweep(tmp_path, settings), "--local"]) == 0
    sweep = SweepDirectory(tmp_path / "sweep")
    runs = [sweep.teacher, *(trial.run for trial in sweep.trials())]
    assert len(runs) == 4
    for run in runs:
        assert len(_event_files(run.path)) == wanted
        if wanted:
            assert _scalars(run.path)["train/total"] == [(1, pytest.approx(metrics_of(run)[0]["train/total"]))]
