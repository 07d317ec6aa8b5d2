"""Training on Ray workers, each time in a process of its own, as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import sys
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
from tests.cluster.nodes import Cluster
from tests.commands import Command, start, users_environment
from tests.small import SMALL_RUN, metrics_of

pytestmark = pytest.mark.ray

STAGES = ("teacher", "baseline", "distilled")
SETTINGS = [*SMALL_RUN, "distillation.preflight=warn", "scaling.cpus_per_worker=1"]
TWO_WORKERS = ["scaling.num_workers=2", "data.num_val=5", "student.box_score_thresh=0", "student.norm=batch"]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two") / "run"


@pytest.fixture(scope="module")
def two_workers(output: Path) -> Command:
    """A run of two workers, to its end, with Ray and all that it brings; with batch norm, whose statistics differ."""
    arguments = ["-m", "raydistill.train", "quickstart", *SETTINGS, *TWO_WORKERS, "--output", str(output)]
    command = start([sys.executable, *arguments], output, users_environment())
    assert command.finish() == 0, command.err
    return command


def test_two_workers_end_with_the_table_and_no_word_of_ray(two_workers: Command, output: Path) -> None:
    lines = two_workers.out.splitlines()
    assert [line for line in lines if "student distilled" in line]
    assert lines[-2:] == [
        f"Student's weights: {output / 'distilled' / 'best.pt'}",
        f"Report: {output / 'report' / 'report.html'}",
    ]
    ours = ("quickstart: ", "device: ", "data: ", "teacher", "baseline", "distilled", "preflight: ", "warning: ")
    assert [line for line in two_workers.err.splitlines() if not line.startswith(ours)] == []
    for stage in STAGES:
        assert [line["epoch"] for line in metrics_of(RunDirectory(output / stage))] == [1, 2]
        assert two_workers.err.count(f"{stage} epoch ") == 2
    assert not [*output.glob("*ray*")]


def test_two_workers_count_each_validation_image_once(two_workers: Command, output: Path) -> None:
    run = RunDirectory(output / "distilled")
    config = load_config("quickstart", [*SETTINGS, "data.num_val=5"])
    _, val = build_datasets(config.data)
    batches = evaluation_loader(val, 4, 0, 1, config.loader)
    alone = evaluate(restore_detector(run.path), val, batches, Worker())
    result = json.loads(run.result.read_text())
    assert {d["image_id"] for d in alone.detections} == {1, 2, 3, 4, 5}
    assert {name: result[name] for name in alone.scores.summary} == pytest.approx(alone.scores.summary, abs=1e-6)


def test_repeating_the_command_of_a_finished_run_trains_nothing(
    two_workers: Command, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, as no Ray is started."""
    written = {stage: (output / stage / "last.pt").stat().st_mtime_ns for stage in STAGES}
    assert train.main(["quickstart", *SETTINGS, *TWO_WORKERS, "--output", str(output)]) == 0
    assert {stage: (output / stage / "last.pt").stat().st_mtime_ns for stage in STAGES} == written
    again = capsys.readouterr()
    assert "student distilled" in again.out
    assert "epoch 1/2" not in again.err
    assert again.err.count("finished before, not trained again") == 3


def test_a_run_survives_workers_that_are_told_to_end_or_killed_and_has_every_epoch_once(
    head: Cluster, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    settings = ["teacher.epochs=12", "evaluation.every=4", "distillation.baseline=false", "--output", str(output)]
    command = head.run("disturbed", "raydistill.train", "quickstart", *SETTINGS, *settings)
    teacher = RunDirectory(output / "teacher")
    for epochs, number in ((2, signal.SIGTERM), (5, signal.SIGKILL)):
        command.reach(lambda least=epochs: teacher.checkpoint.is_file() and len(teacher.lines()) >= least)
        (worker,) = head.head.workers()
        os.kill(worker, number)
        assert not teacher.finished
    assert command.finish() == 0, command.err
    assert [line["epoch"] for line in metrics_of(teacher)] == [*range(1, 13)]
    assert [line["epoch"] for line in metrics_of(RunDirectory(output / "distilled"))] == [1, 2]
    told = "worker 0 was told to end (SIGTERM); its checkpoint is written; Ray starts the workers again"
    killed = "worker 0 was lost: its process was killed"
    assert command.err.index(told) < command.err.index(killed)
    assert command.err.count("teacher (stage 1 of 2): 12 epochs of 2 steps, going on ") == 2
    assert "student distilled" in command.out


def test_an_error_of_the_users_in_a_worker_is_one_sentence_and_no_retries(head: Cluster, tmp_path: Path) -> None:
    """What the teacher's file holds is found in the worker; more failures would be survived than there are."""
    (tmp_path / "nowhere").write_text("no weights")
    settings = [f"teacher.weights={tmp_path / 'nowhere'}", "scaling.max_failures=50", "--output", str(tmp_path / "run")]
    command = head.run("error", "raydistill.train", "quickstart", *SETTINGS, *settings)
    assert command.finish(240) == 2
    beforehand = ("quickstart: ", "warning: data: ", "device: ", "data: ", "teacher: answers")
    sentences = [line for line in command.err.splitlines() if not line.startswith(beforehand)]
    assert len(sentences) == 1
    assert "nowhere" in sentences[0]
    assert "Traceback" not in command.err
    assert command.out == ""
