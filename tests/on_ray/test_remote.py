"""A sweep on two nodes of Ray that share nothing but an S3 server: each, and the driver, has a cache of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from raydistill.storage.mirror import folder, pull
from raydistill.storage.store import store
from raydistill.sweeps.directory import SweepDirectory
from tests.object_store import BUCKET, s3_server
from tests.small import REPOSITORY, metrics_of, small_sweep

pytestmark = pytest.mark.ray

URI = f"s3://{BUCKET}/sweeps/ray"
TIMEOUT = 600
NODES = ("first", "second")


@dataclass(frozen=True)
class _Sweep:
    """What was said, and the folder with a cache of each node and of the driver."""

    code: int
    out: str
    err: str
    caches: Path

    def files(self, cache: str, pattern: str) -> set[str]:
        """Return the files of the sweep that a cache holds."""
        root = self.caches / cache / "outputs" / "s3" / BUCKET / "sweeps" / "ray"
        return {str(file.relative_to(root)) for file in root.glob(pattern)}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Sweep]:
    base = tmp_path_factory.mktemp("nodes")
    with s3_server() as server, _cluster(base, server.environment) as environment:
        file = small_sweep(base, {"scaling.cpus_per_worker": 1}, output=URI)
        ended = subprocess.run(
            [sys.executable, "-m", "raydistill.tune", file],
            cwd=REPOSITORY,
            env=environment | {"RAYDISTILL_CACHE": str(base / "driver")},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        yield _Sweep(ended.returncode, ended.stdout, ended.stderr, base)


@contextlib.contextmanager
def _cluster(base: Path, variables: dict[str, str]) -> Iterator[dict[str, str]]:
    """Run a head without a CPU and two nodes with one each; give the environment of who uses it."""
    sessions = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: sockets lie in it
    address = f"{socket.gethostbyname(socket.gethostname())}:{_free_port()}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY") or "_TEST_" in name}
    environment = (kept | variables) | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(TIMEOUT),
        "OMP_NUM_THREADS": "1",
    }
    head = ["--head", f"--port={address.split(':')[1]}", "--num-cpus=0", f"--temp-dir={sessions}"]
    starters = []
    try:
        starters.append(_start(base, "head", [*head, "--include-dashboard=false"], environment))
        for name in NODES:
            starters.append(_start(base, name, [f"--address={address}", "--num-cpus=1"], environment))
        yield environment | {"RAY_ADDRESS": address}
    finally:
        for starter in reversed(starters):
            _end(starter)
        shutil.rmtree(sessions, ignore_errors=True)


def _start(base: Path, name: str, arguments: list[str], environment: dict[str, str]) -> int:
    """Start a node with a cache of its own, and return the session of its processes."""
    ports = ["--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={_free_port()}"]
    path = os.pathsep.join(filter(None, (str(REPOSITORY), environment.get("PYTHONPATH"))))
    with (base / f"{name}.log").open("w") as log:
        starter = subprocess.Popen(
            [
                *(sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start"),
                *(*arguments, *ports, "--object-store-memory=100000000"),
            ],
            cwd=base,
            env=environment | {"RAYDISTILL_CACHE": str(base / name), "PYTHONPATH": path},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if starter.wait(TIMEOUT) != 0:
        _end(starter.pid)
        raise AssertionError((base / f"{name}.log").read_text())
    return starter.pid


def _end(session: int) -> None:
    """End the processes of a session, and nobody else's Ray."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 20
        while pids := _processes(session):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)


def _processes(session: int) -> list[int]:
    listing = subprocess.run(["ps", "-o", "pid=", "--sid", str(session)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listing.stdout.split()]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        port: int = free.getsockname()[1]
        return port


def test_trials_run_on_nodes_that_share_nothing_but_the_store(
    sweep: _Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep.code == 0, sweep.err
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path))
    there = SweepDirectory(folder(URI))
    pull(there.path, everything=True)
    assert {trial.path.name: trial.read().status for trial in there.trials()} == dict.fromkeys(
        ("baseline-seed0", "constant-seed0", "p0000-seed0"), "finished"
    )
    assert [[line["epoch"] for line in metrics_of(trial.run)] for trial in there.trials()] == [[1, 2]] * 3
    assert all(trial.run.best.is_file() for trial in there.trials())
    trained = [sweep.files(node, "trials/*/*/metrics.jsonl") for node in NODES]
    assert all(trained)
    assert len(trained[0] | trained[1]) == 3


def test_the_teacher_reaches_the_node_that_has_not_trained_it(sweep: _Sweep) -> None:
    with_distilled = [node for node in NODES if sweep.files(node, "trials/*/distilled/metrics.jsonl")]
    assert with_distilled
    assert all(sweep.files(node, "teacher/best.pt") for node in with_distilled)


def test_the_driver_reads_the_scores_and_fetches_no_weights(sweep: _Sweep) -> None:
    assert f"Report: {URI}/report/report.html" in sweep.out
    assert "3 finished" in sweep.out
    assert len(sweep.files("driver", "trials/*/*/metrics.jsonl")) == 3
    assert sweep.files("driver", "**/*.pt") == set()


def test_no_node_keeps_the_weights_of_ended_trials_and_the_store_nothing_of_rays(sweep: _Sweep) -> None:
    for node in NODES:
        assert sweep.files(node, "trials/**/*.pt") == set()
    assert not [name for name in store(URI).entries() if name.startswith(".")]
