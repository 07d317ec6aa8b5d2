"""Two nodes of Ray that share nothing but an S3 server with each other and with the command: each has its own cache."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from raydistill.storage.output import Output
from raydistill.storage.store import store
from raydistill.sweeps.directory import SweepDirectory
from tests.cluster.nodes import started
from tests.commands import Command
from tests.drawn import as_setting, draw
from tests.object_store import BUCKET, s3_server
from tests.small import metrics_of, small_sweep

pytestmark = pytest.mark.ray

URI = f"s3://{BUCKET}/sweeps/ray"
NODES = ("first", "second")


@dataclass(frozen=True)
class _Sweep:
    """A command that has ended, and the folder with a cache of each node and of the driver."""

    command: Command
    caches: Path

    def files(self, cache: str, pattern: str) -> set[str]:
        """Return the files of the sweep that a cache holds."""
        root = self.caches / cache / "outputs" / "s3" / BUCKET / "sweeps" / "ray"
        return {str(file.relative_to(root)) for file in root.glob(pattern)}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Sweep]:
    """A sweep whose data and output are on the server, and whose students' weights only the command sees."""
    base = tmp_path_factory.mktemp("nodes")
    draw(base / "data")
    (base / "data" / "weights" / "best.pt").rename(base / "hidden.pt")
    caches = {name: {"RAYDISTILL_CACHE": str(base / name)} for name in (*NODES, "driver")}
    with s3_server(), started(base, 1, **caches["first"]) as cluster:
        cluster.add(1, **caches["second"])
        data = store(f"s3://{BUCKET}/data")
        for file in (base / "data").rglob("*.*"):
            data.put(file, str(file.relative_to(base / "data")))
        arguments = [
            *(
                str(base / "hidden.pt"),
                str(base / "weights.pt"),
                small_sweep(base, {"scaling.cpus_per_worker": 1}, output=URI),
            ),
            *(as_setting(data.uri), f"student.weights={base / 'weights.pt'}"),
        ]
        command = cluster.run("sweep", "tests.on_ray.without_file", *arguments, **caches["driver"])
        command.finish()
        yield _Sweep(command, base)


def test_trials_run_on_nodes_that_share_nothing_but_the_store(
    sweep: _Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep.command.code == 0, sweep.command.err
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path))
    output = Output.at(URI)
    output.pull(everything=True)
    there = SweepDirectory(output.folder)
    assert {trial.path.name: trial.read().status for trial in there.trials()} == dict.fromkeys(
        ("baseline-seed0", "constant-seed0", "p0000-seed0"), "finished"
    )
    assert [[line["epoch"] for line in metrics_of(trial.run)] for trial in there.trials()] == [[1, 2]] * 3
    assert all(trial.run.best.is_file() for trial in there.trials())
    trained = [sweep.files(node, "trials/*/*/metrics.jsonl") for node in NODES]
    assert all(trained)
    assert len(trained[0] | trained[1]) == 3


def test_a_worker_fetches_its_data_and_gets_weights_that_only_the_command_sees(sweep: _Sweep) -> None:
    assert "data: 6 training and 6 validation images" in sweep.command.err
    weights = sweep.caches / "weights.pt"
    assert not weights.exists()
    for trial in ("baseline-seed0", "constant-seed0", "p0000-seed0"):
        said = store(URI).read(f"trials/{trial}/log.txt")[0].decode()
        assert re.search(rf"(\d+) of \1 tensors from {weights}", said), said


def test_the_teacher_reaches_the_node_that_has_not_trained_it(sweep: _Sweep) -> None:
    with_distilled = [node for node in NODES if sweep.files(node, "trials/*/distilled/metrics.jsonl")]
    assert with_distilled
    assert all(sweep.files(node, "teacher/best.pt") for node in with_distilled)


def test_the_driver_reads_the_scores_and_fetches_no_weights(sweep: _Sweep) -> None:
    assert f"Report: {URI}/report/report.html" in sweep.command.out
    assert "3 finished" in sweep.command.out
    assert len(sweep.files("driver", "trials/*/*/metrics.jsonl")) == 3
    assert sweep.files("driver", "**/*.pt") == set()


def test_no_node_keeps_the_weights_of_ended_trials_and_the_store_nothing_of_rays(sweep: _Sweep) -> None:
    for node in NODES:
        assert sweep.files(node, "trials/**/*.pt") == set()
    assert not [name for name in store(URI).entries() if name.startswith(".")]
