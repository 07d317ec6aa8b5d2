"""Sweeps on Ray, each time in processes of their own, as a user starts them."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from raydistill import tune
from raydistill.sweeps.directory import SweepDirectory, TrialDirectory, TrialRecord
from tests.cluster.nodes import SPARING, Cluster
from tests.commands import Command, fork, start, train_teacher, users_environment, without_pictures
from tests.small import metrics_of, repeatable, small_sweep

pytestmark = pytest.mark.ray

LONGER = {"training.epochs": 8, "scaling.cpus_per_worker": 1}


class _Family:
    """The processes that a command has started, and those that they have."""

    def __init__(self, command: Command) -> None:
        self._born = {command.pid: _born(command.pid)}

    def look(self) -> bool:
        """Remember those that there are now; they are many."""
        listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        rows = [tuple(map(int, line.split())) for line in listing.splitlines()]
        for _ in range(5):  # the driver starts the raylet, which starts the workers
            self._born |= {pid: _born(pid) for pid, parent in rows if parent in self._born}
        return len(self._born) > 3

    def left(self, patience: float = 60) -> list[str]:
        """Return the command lines of the processes that are still there after some time.

        Two agents of Ray's take minutes to see that their raylet was lost; they touch nothing of ours.
        """
        deadline = time.monotonic() + patience
        while alive := [pid for pid, born in self._born.items() if born and _born(pid) == born]:
            lines = [f"{pid} {_arguments(pid).strip()}" for pid in alive]
            lines = [line for line in lines if not line.endswith(("ray::DashboardAgent", "ray::RuntimeEnvAgent"))]
            if not lines or time.monotonic() > deadline:
                return lines
            time.sleep(0.5)
        return []


def _born(pid: int) -> str:
    """Return when a process was started; empty when it is no more, or dead and not yet collected."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _arguments(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> SweepDirectory:
    """A sweep of one point and the controls, run to its end in this process."""
    folder = tmp_path_factory.mktemp("here")
    with without_pictures():
        assert tune.main([small_sweep(folder, LONGER), "--local"]) == 0
    return SweepDirectory(folder / "sweep")


def _table(sweep: SweepDirectory) -> pd.DataFrame:
    table = pd.read_csv(sweep.report / "trials.csv")
    return table.drop(columns=[name for name in table if "seconds" in name])


def _with_a_ray_of_its_own(file: str, log: Path) -> Command:
    return fork("raydistill.tune", [file], log, users_environment(**SPARING))


def test_a_killed_sweep_goes_on_and_ends_as_one_that_was_never_killed(
    here: SweepDirectory, head: Cluster, tmp_path: Path
) -> None:
    file, sweep = small_sweep(tmp_path, LONGER, max_concurrent=1), SweepDirectory(tmp_path / "sweep")
    shutil.copytree(here.teacher.path, sweep.teacher.path)
    killed = _with_a_ray_of_its_own(file, tmp_path / "killed")
    family = _Family(killed)
    at_work: list[TrialDirectory] = []

    def one_has_ended_and_another_has_a_checkpoint() -> bool:
        open_ones = [trial for trial in sweep.trials() if not trial.read().ended]
        at_work[:] = [trial for trial in open_ones if trial.run.checkpoint.is_file()]
        return bool(at_work) and len(open_ones) < len(sweep.trials())

    killed.reach(one_has_ended_and_another_has_a_checkpoint)
    assert family.look()
    killed.kill()
    assert family.left() == []
    (interrupted,) = at_work
    records = {trial.record_file: trial.record_file.read_bytes() for trial in sweep.trials()}
    kept = {path: text for path, text in records.items() if json.loads(text)["status"] == "finished"}
    assert 0 < len(kept) < len(records)
    assert interrupted.record_file not in kept
    first_epoch = interrupted.run.lines()[0]

    again = head.run("again", "raydistill.tune", file)
    assert again.finish() == 0, again.err
    assert {path: path.read_bytes() for path in kept} == kept
    assert f"{len(kept)} of them ended before and are kept" in again.err
    assert interrupted.run.lines()[0] == first_epoch  # to the hundredth of a second: it was not trained again
    pd.testing.assert_frame_equal(_table(sweep), _table(here))
    for trial in here.trials():
        on_ray = sweep.trial(trial.path.name)
        assert repeatable(metrics_of(on_ray.run)) == repeatable(metrics_of(trial.run))
    assert not [*sweep.path.glob("*ray*")]


LEARNING = {
    "training.epochs": 3,
    "data.num_train": 16,
    "data.num_val": 4,
    "data.max_objects": 1,
    "data.object_sizes": [0.5, 0.7],
    "scaling.cpus_per_worker": 1,
}


@dataclass(frozen=True)
class _Ended:
    """A command that has ended, the sweep it ran, and which of its processes are left."""

    command: Command
    sweep: SweepDirectory
    left: list[str]

    @property
    def records(self) -> dict[str, TrialRecord]:
        return {directory.path.name: directory.read() for directory in self.sweep.trials()}


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> _Ended:
    """A sweep under ASHA: a point that learns, one that learns nothing, and one that cannot be trained."""
    folder = tmp_path_factory.mktemp("asha")
    file = small_sweep(
        folder,
        LEARNING,
        metric="AP50",
        scheduler={"name": "asha", "grace_period": 2, "reduction_factor": 2},
        max_concurrent=1,  # in this order: the first has nothing to be compared with
        space={"training.optimizer.learning_rate": {"grid": [0.02, 1e-9, 1e9]}},
    )
    train_teacher(file)
    command = start([sys.executable, "-m", "raydistill.tune", file], folder / "tune", users_environment())
    family, sweep = _Family(command), SweepDirectory(folder / "sweep")
    command.reach(sweep.trial("p0001-seed0").run.metrics.is_file)
    assert family.look()
    assert command.finish() == 0, command.err
    return _Ended(command, sweep, family.left())


def test_asha_stops_the_hopeless_point_and_no_control(halved: _Ended) -> None:
    statuses = {name: record.status for name, record in halved.records.items() if name != "p0002-seed0"}
    assert statuses == {
        "baseline-seed0": "finished",
        "constant-seed0": "finished",
        "p0000-seed0": "finished",
        "p0001-seed0": "stopped",
    }
    epochs = {name: len(metrics_of(halved.sweep.trial(name).run)) for name in statuses}
    assert epochs == {"baseline-seed0": 3, "constant-seed0": 3, "p0000-seed0": 3, "p0001-seed0": 2}


def test_a_failing_trial_keeps_its_reason_and_the_others_go_on(halved: _Ended) -> None:
    record = halved.records["p0002-seed0"]
    assert record.status == "failed"
    assert "the loss must be finite" in record.reason
    assert "learning_rate" in record.reason
    assert "Failed:\n  p0002-seed0: distilled, step " in halved.command.out
    assert "Traceback" not in halved.command.err


def test_a_sweep_on_ray_says_no_word_of_ray(halved: _Ended) -> None:
    ours = ("device: ", "data: ", "teacher", "preflight: ", "warning: preflight: the teacher ", "[", "5 trials in ")
    _, *told = halved.command.err.splitlines()  # the first line says what is about to be done
    assert [line for line in told if not line.startswith(ours)] == []
    assert [line.split()[0] for line in halved.command.err.splitlines() if line.startswith("[")] == [
        f"[{number}/5]" for number in range(1, 6)
    ]
    assert halved.left == []


def test_a_sweep_on_ray_prints_its_report_and_nothing_else(halved: _Ended) -> None:
    assert halved.command.out.startswith("\nsweep: 5 trials, ")


def test_trials_of_two_workers_are_not_refused_because_of_another_ray_on_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from raydistill.on_ray import sweep as sweep_module

    def list_actors(address: str | None = None, **_: object) -> list[object]:
        if address is None:
            raise ConnectionError("Found multiple active Ray instances. Please specify the one to connect to")
        return []

    monkeypatch.setattr(sweep_module.ray.util.state, "list_actors", list_actors)
    monkeypatch.setattr(sweep_module.ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="10.0.0.9:6379"))
    sweep_module._refuse_without_dashboard()


def test_resources_that_cannot_be_had_are_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself would wait for ever. Without starting it: that takes half a minute."""
    from raydistill.on_ray import sweep as sweep_module

    node = {"Alive": True, "Resources": {"CPU": 2.0}}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(sweep_module, "check_devices", lambda *_: None)  # a cluster's: this machine need not have them
    monkeypatch.setattr(sweep_module, "connected", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(sweep_module.ray, "nodes", lambda: [node])
    monkeypatch.setattr(sweep_module.ray, "cluster_resources", lambda: node["Resources"])
    assert tune.main([small_sweep(tmp_path, resources={"gpus_per_worker": 99})]) == 2
    captured = capsys.readouterr()
    _, headline, precision, sentence = captured.err.splitlines()
    assert headline.startswith("3 trials in ")
    assert precision == "teacher: answers in fp32"
    assert sentence == (
        "resources: must fit into the Ray cluster, got 1 worker of 1 CPU and 99 GPU for nodes of 2 CPU 0 GPU, which "
        "hold 0; lower resources.num_workers or cpus_per_worker, or add nodes"
    )
    assert captured.out == ""


def test_ctrl_c_ends_a_sweep_on_ray_with_how_to_go_on(here: SweepDirectory, tmp_path: Path) -> None:
    file, sweep = small_sweep(tmp_path, LONGER | {"training.epochs": 200}), SweepDirectory(tmp_path / "sweep")
    shutil.copytree(here.teacher.path, sweep.teacher.path)
    command = _with_a_ray_of_its_own(file, tmp_path / "tune")
    family = _Family(command)
    command.reach(lambda: any(trial.run.checkpoint.is_file() for trial in sweep.trials()))
    assert family.look()
    command.send(signal.SIGINT)
    assert command.finish() == 130
    assert "interrupted; the same command goes on" in command.err
    assert "Traceback" not in command.err
    records = [trial.read() for trial in sweep.trials()]
    assert any(record.seconds for record in records)
    assert all(record.status == "unfinished" for record in records)
    assert family.left() == []
