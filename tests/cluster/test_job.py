"""``ray job submit`` as a user types it, against a head of its own with an autoscaler and a token."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill.checkpoint import RunDirectory
from raydistill.search_space.trials import WEIGHTS
from tests.small import REPOSITORY, SMALL_RUN, metrics_of

pytestmark = pytest.mark.ray

CLOUD = yaml.safe_load((Path(__file__).parent / "fake_cloud.yaml").read_text())
TIMEOUT = 600


@dataclass(frozen=True)
class _Job:
    """A job that was submitted."""

    head: _Head
    name: str
    command: subprocess.Popen[str]
    log: Path

    def facts(self) -> dict[str, Any]:
        """Return what the job server knows of it."""
        jobs: list[dict[str, Any]] = json.loads(self.head.get("/api/jobs/"))
        return next((job for job in jobs if job["submission_id"] == self.name), {})

    def finish(self) -> int:
        """Wait for ``ray job submit`` and return its exit code."""
        try:
            return self.command.wait(TIMEOUT)
        finally:
            self.command.kill()


@dataclass(frozen=True)
class _Head:
    """A head node that runs."""

    session: int  # of processes: all of its nodes and workers are in it
    dashboard: str
    environment: dict[str, str]
    folder: Path

    def get(self, path: str, token: str | None = None, body: dict[str, str] | None = None) -> str:
        """Return what the job server answers to who has the token, or another one; a ``body`` is sent there."""
        bearer = self.environment["RAY_AUTH_TOKEN"] if token is None else token
        headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.dashboard + path, data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text: str = answer.read().decode()
            return text

    def submit(self, name: str, *command: str) -> _Job:
        """Start ``ray job submit`` in the repository."""
        log = self.folder / f"{name}.log"
        with log.open("w") as file:
            arguments = [*_RAY, "job", "submit", "--submission-id", name, "--working-dir", ".", "--", *command]
            process = subprocess.Popen(
                arguments, cwd=REPOSITORY, env=self.environment, stdout=file, stderr=subprocess.STDOUT, text=True
            )
        return _Job(self, name, process, log)

    def processes(self) -> dict[int, str]:
        """Return the command lines of the head and of all that it started."""
        listing = ["ps", "-o", "pid=,args=", "--sid", str(self.session)]
        lines = subprocess.run(listing, capture_output=True, text=True, check=False).stdout.splitlines()
        return {int(pid): args for pid, args in (line.split(None, 1) for line in lines)}

    def training_workers(self) -> list[int]:
        """Return the ids of those that train."""
        return [pid for pid, args in self.processes().items() if "RayTrainWorker" in args]


_RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        port: int = free.getsockname()[1]
        return port


def _until(condition: Callable[[], object], what: str, seconds: float = TIMEOUT) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Head]:
    """A head on ports of its own, ended by its process ids."""
    folder = tmp_path_factory.mktemp("head")
    sessions = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: sockets lie in it
    port, dashboard = _free_port(), _free_port()
    address = f"{socket.gethostbyname(socket.gethostname())}:{port}"
    CLOUD["provider"]["gcs_address"] = address
    (folder / "cloud.yaml").write_text(yaml.safe_dump(CLOUD))
    node = CLOUD["provider"]["head_node_id"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # a job's `python` is the head's
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        # where others want the cores too: Ray's workers are last in the queue, and given up after a minute
        "RAY_worker_niceness": "0",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
        "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}",
    }
    of_the_head = {name: value for name, value in environment.items() if name != "RAY_ADDRESS"} | {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_CLOUD_INSTANCE_ID": node,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": node,
        "RAY_enable_autoscaler_v2": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    command = [
        *(*_RAY, "start", "--head", f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=1"),
        f"--ray-client-server-port={_free_port()}",
        *("--object-store-memory=100000000", f"--temp-dir={sessions}", f"--autoscaling-config={folder / 'cloud.yaml'}"),
    ]
    with (folder / "head.log").open("w") as log:
        starter = subprocess.Popen(
            command, cwd=folder, env=of_the_head, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    it = _Head(starter.pid, environment["RAY_ADDRESS"], environment, folder)

    def takes_jobs() -> bool:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            return bool(it.get("/api/jobs/", body={"entrypoint": "true"}))
        return False

    try:
        assert starter.wait(TIMEOUT) == 0, (folder / "head.log").read_text()
        _until(takes_jobs, "the head takes no jobs")
        yield it
    finally:
        _end(it)
        shutil.rmtree(sessions, ignore_errors=True)


def _end(head: _Head) -> None:
    """End the head and all that it started, and nobody else's Ray."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in head.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with contextlib.suppress(AssertionError):
            _until(lambda: not head.processes(), "still there", seconds=10)
    assert not head.processes()


def test_a_job_is_stopped_with_its_workers_and_the_next_one_goes_on(head: _Head, tmp_path: Path) -> None:
    settings = [*SMALL_RUN, *(f"{term}=0" for term in WEIGHTS), "training.epochs=20", "scaling.cpus_per_worker=2"]
    command = ["python", "-m", "raydistill.train", "quickstart", *settings, "--output", str(tmp_path)]
    run = RunDirectory(tmp_path / "baseline")
    first = head.submit("first", *command)
    _until(
        lambda: first.command.poll() is not None or (run.metrics.is_file() and run.checkpoint.is_file()),
        "no epoch was trained",
    )
    assert head.training_workers(), first.log.read_text()
    stop = subprocess.run([*_RAY, "job", "stop", "first"], env=head.environment, capture_output=True, check=False)
    assert stop.returncode == 0, stop.stdout
    first.finish()
    assert first.facts()["status"] == "STOPPED"
    _until(lambda: not head.training_workers(), "workers outlive their job", seconds=20)
    assert not run.finished
    # the head has one CPU: the second came with a node that the autoscaler started
    assert "1 worker of 2 CPU for nodes of 1 CPU 0 GPU, which hold 0; waiting up to 60 s" in first.log.read_text()
    assert "the cluster's autoscaler is starting nodes: waiting up to 900 s for them" in first.log.read_text()

    second = head.submit("second", *command)
    assert second.finish() == 0, second.log.read_text()
    assert second.facts()["driver_exit_code"] == 0
    assert [line["epoch"] for line in metrics_of(run)] == list(range(1, 21))
    # where the stop came within an epoch its driver had a checkpoint written there
    assert re.search(r"baseline: 20 epochs of 2 steps, going on (after|in) epoch", second.log.read_text())
    assert "student alone" in second.log.read_text()


def test_a_job_that_asks_for_too_much_gives_up_with_the_commands_exit_code(head: _Head, tmp_path: Path) -> None:
    settings = ["scaling.num_workers=16", "training.batch_size=16", "scaling.wait_seconds=2", "--output", str(tmp_path)]
    job = head.submit("too-much", "python", "-m", "raydistill.train", "quickstart", *settings)
    assert job.finish() == 1  # all that `ray job submit` says of a failed command
    assert job.facts()["driver_exit_code"] == 2
    sentence = next(line for line in job.log.read_text().splitlines() if "must fit into the Ray cluster" in line)
    assert "scaling.num_workers: must fit into the Ray cluster, got 16 workers of 1 CPU for nodes of " in sentence
    assert "; waited 2 s for nodes (scaling.wait_seconds); lower it" in sentence


def test_who_lacks_the_token_is_turned_away(head: _Head) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        head.get("/api/jobs/", token="wrong")
    assert caught.value.code in (401, 403)
