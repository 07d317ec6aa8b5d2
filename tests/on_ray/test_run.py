"""Training on Ray workers, each time in processes of its own, as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raydistill import train
from raydistill.config import load_config
from raydistill.data.build import build_datasets
from raydistill.data.loading.loaders import evaluation_loader
from raydistill.detectors.restore import restore_detector
from raydistill.inference.evaluation import evaluate
from raydistill.runs.directory import RunDirectory
from raydistill.runs.worker import Worker
from tests.small import REPOSITORY, SMALL_RUN, metrics_of

pytestmark = pytest.mark.ray

STAGES = ("teacher", "baseline", "distilled")
SETTINGS = [*SMALL_RUN, "distillation.preflight=warn", "scaling.cpus_per_worker=1"]
TIMEOUT = 240


class _Command:
    """``python -m raydistill.train quickstart`` in a process of its own."""

    def __init__(self, output: Path, *settings: str) -> None:
        self.output = output
        self._files = (output.with_suffix(".out"), output.with_suffix(".err"))
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        arguments = ["-m", "raydistill.train", "quickstart", *SETTINGS, *settings, "--output", str(output)]
        with self._files[0].open("w") as out, self._files[1].open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, *arguments], cwd=REPOSITORY, stdout=out, stderr=err, env=environment
            )

    def finish(self) -> int:
        try:
            return self.process.wait(TIMEOUT)
        finally:
            self.process.kill()

    @property
    def out(self) -> str:
        return self._files[0].read_text()

    @property
    def err(self) -> str:
        return self._files[1].read_text()

    def training_workers(self) -> list[int]:
        """Return the ids of this command's own Ray workers that train."""
        listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in listing.splitlines()]
        family = {self.process.pid}
        for _ in range(5):  # the driver starts the raylet, which starts the workers
            family |= {int(row[0]) for row in rows if int(row[1]) in family}
        return [int(row[0]) for row in rows if int(row[0]) in family and len(row) > 2 and "RayTrainWorker" in row[2]]


TWO_WORKERS = ["scaling.num_workers=2", "data.num_val=5", "student.box_score_thresh=0", "student.norm=batch"]


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Command]:
    """A run of two workers, to its end; with batch norm, whose statistics differ from worker to worker."""
    output = tmp_path_factory.mktemp("two") / "run"
    command = _Command(output, *TWO_WORKERS)
    assert command.finish() == 0, command.err
    yield command


def test_two_workers_end_with_the_table_and_no_word_of_ray(two_workers: _Command) -> None:
    lines = two_workers.out.splitlines()
    assert [line for line in lines if "student distilled" in line]
    assert lines[-2:] == [
        f"Student's weights: {two_workers.output / 'distilled' / 'best.pt'}",
        f"Report: {two_workers.output / 'report' / 'report.html'}",
    ]
    ours = ("device: ", "data: ", "teacher", "baseline", "distilled", "preflight: ", "warning: ")
    assert [line for line in two_workers.err.splitlines() if not line.startswith(ours)] == []
    for stage in STAGES:
        assert [line["epoch"] for line in metrics_of(RunDirectory(two_workers.output / stage))] == [1, 2]
        assert two_workers.err.count(f"{stage} epoch ") == 2
    assert not (two_workers.output / "ray").exists()


def test_two_workers_count_each_validation_image_once(two_workers: _Command) -> None:
    run = RunDirectory(two_workers.output / "distilled")
    config = load_config("quickstart", [*SETTINGS, "data.num_val=5"])
    _, val = build_datasets(config.data)
    batches = evaluation_loader(val, 4, 0, 1, config.loader)
    alone = evaluate(restore_detector(run.path), val, batches, Worker())
    result = json.loads(run.result.read_text())
    assert {d["image_id"] for d in alone.detections} == {1, 2, 3, 4, 5}
    assert {name: result[name] for name in alone.scores.summary} == pytest.approx(alone.scores.summary, abs=1e-6)


def test_repeating_the_command_of_a_finished_run_trains_nothing(
    two_workers: _Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, as no Ray is started."""
    written = {stage: (two_workers.output / stage / "last.pt").stat().st_mtime_ns for stage in STAGES}
    assert train.main(["quickstart", *SETTINGS, *TWO_WORKERS, "--output", str(two_workers.output)]) == 0
    assert {stage: (two_workers.output / stage / "last.pt").stat().st_mtime_ns for stage in STAGES} == written
    again = capsys.readouterr()
    assert "student distilled" in again.out
    assert "epoch 1/2" not in again.err
    assert again.err.count("finished before, not trained again") == 3


def _disturb_after(command: _Command, epochs: int, number: signal.Signals) -> None:
    """Send a signal to the worker once the teacher has so many epochs."""
    teacher = RunDirectory(command.output / "teacher")
    deadline = time.monotonic() + TIMEOUT
    while not (teacher.checkpoint.is_file() and len(teacher.lines()) >= epochs):
        assert command.process.poll() is None, command.err
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (worker,) = command.training_workers()
    os.kill(worker, number)
    assert not teacher.finished


def test_a_run_survives_workers_that_are_told_to_end_or_killed_and_has_every_epoch_once(tmp_path: Path) -> None:
    command = _Command(tmp_path / "run", "training.epochs=20", "distillation.baseline=false")
    _disturb_after(command, 2, signal.SIGTERM)
    _disturb_after(command, 10, signal.SIGKILL)
    assert command.finish() == 0, command.err
    for stage in ("teacher", "distilled"):
        assert [line["epoch"] for line in metrics_of(RunDirectory(command.output / stage))] == [*range(1, 21)]
    told = "worker 0 was told to end (SIGTERM); its checkpoint is written; Ray starts the workers again"
    killed = "worker 0 was lost: its process was killed"
    assert command.err.index(told) < command.err.index(killed)
    assert command.err.count("teacher: 20 epochs of 2 steps, going on ") == 2
    assert "student distilled" in command.out


def test_an_error_of_the_users_in_a_worker_is_one_sentence_and_no_retries(tmp_path: Path) -> None:
    """What the teacher's file holds is found in the worker; more failures would be survived than there are."""
    (tmp_path / "nowhere").write_text("no weights")
    command = _Command(tmp_path / "run", f"teacher.weights={tmp_path / 'nowhere'}", "scaling.max_failures=50")
    started = time.monotonic()
    assert command.finish() == 2
    assert time.monotonic() - started < TIMEOUT / 2
    beforehand = ("device: ", "data: ", "teacher: answers")
    sentences = [line for line in command.err.splitlines() if not line.startswith(beforehand)]
    assert len(sentences) == 1
    assert "nowhere" in sentences[0]
    assert "Traceback" not in command.err
    assert command.out == ""
