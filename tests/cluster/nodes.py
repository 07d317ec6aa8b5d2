"""A Ray cluster of several nodes on this machine, each ended by its process ids; what tests and the transcript share.

Nobody else's Ray is touched: each node is a session of processes of its own, with ports of its own and a token.
"""

from __future__ import annotations

import contextlib
import json
import os
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.small import REPOSITORY

TIMEOUT = 600
_ATTEMPTS = 5
_PORTS = ("dashboard-agent-listen", "dashboard-agent-grpc", "metrics-export", "runtime-env-agent")
RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]


def until(condition: Callable[[], object], what: str, seconds: float = TIMEOUT) -> None:
    """Return when ``condition`` holds; raise with ``what`` after some time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.1)


@dataclass(frozen=True)
class Node:
    """A node: a session of processes."""

    session: int

    def processes(self) -> dict[int, str]:
        """Return the command lines of all its processes."""
        listing = ["ps", "-o", "pid=,args=", "--sid", str(self.session)]
        lines = subprocess.run(listing, capture_output=True, text=True, check=False).stdout.splitlines()
        return {int(pid): args for pid, args in (line.split(None, 1) for line in lines)}

    def workers(self) -> list[int]:
        """Return the ids of those that train: workers of a run or group, or trials of a sweep."""
        kinds = ("RayTrainWorker", "ImplicitFunc")
        return [pid for pid, args in self.processes().items() if any(kind in args for kind in kinds)]

    def kill(self) -> None:
        """End it as a machine that is lost: all at once, without a word."""

        def gone() -> bool:
            alive = self.processes()
            for pid in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not alive

        until(gone, f"node {self.session} is still there", seconds=30)


@dataclass(frozen=True)
class Command:
    """A command of ours, at work on the cluster."""

    process: subprocess.Popen[str]
    log: Path

    @property
    def text(self) -> str:
        """Return what it has said so far."""
        return self.log.read_text()

    def running(self) -> bool:
        """Return whether it is still at work."""
        return self.process.poll() is None

    def finish(self) -> int:
        """Wait for its end and return the exit code."""
        try:
            return self.process.wait(TIMEOUT)
        finally:
            self.process.kill()


@dataclass(frozen=True)
class Cluster:
    """A head, and the nodes that were added to it."""

    head: Node
    nodes: list[Node]
    address: str
    dashboard: str
    environment: dict[str, str]
    folder: Path
    sessions: str

    def add(self, cpus: int) -> Node:
        """Start one more node.

        Its folder is its own, as on a machine of its own: a second node unpacks a job's working directory anew, and
        would take it away from under the job.
        """
        options = [f"--address={self.address}", f"--num-cpus={cpus}", "--object-store-memory=80000000"]
        options.append(f"--temp-dir={self.sessions}/{len(self.nodes)}")
        return _start(options, self.environment, self.folder / f"node-{len(self.nodes)}.log", self.nodes)

    def run(self, name: str, *arguments: str, **environment: str) -> Command:
        """Start ``python -m`` with these arguments, as a user does on the head."""
        command = [sys.executable, "-m", *arguments]
        return self._start(name, command, {"RAY_ADDRESS": self.address, **environment})

    def submit(self, name: str, *command: str) -> Command:
        """Start ``ray job submit`` in the repository."""
        arguments = [*RAY, "job", "submit", "--submission-id", name, "--working-dir", ".", "--", *command]
        return self._start(name, arguments, {"RAY_ADDRESS": self.dashboard})

    def stop_job(self, name: str) -> None:
        """Run ``ray job stop``."""
        environment = {**self.environment, "RAY_ADDRESS": self.dashboard}
        subprocess.run([*RAY, "job", "stop", name], env=environment, capture_output=True, check=True)

    def job(self, name: str) -> dict[str, Any]:
        """Return what the job server knows of a job."""
        jobs: list[dict[str, Any]] = json.loads(self.ask("/api/jobs/"))
        return next((job for job in jobs if job["submission_id"] == name), {})

    def ask(self, path: str, token: str | None = None, body: Mapping[str, Any] | None = None) -> str:
        """Return what the job server answers to who has the token, or another one; a ``body`` is sent there."""
        bearer = self.environment["RAY_AUTH_TOKEN"] if token is None else token
        headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.dashboard + path, data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text: str = answer.read().decode()
            return text

    def _start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Command:
        log = self.folder / f"{name}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**self.environment, **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
            )
        return Command(process, log)


@contextlib.contextmanager
def started(
    folder: Path, cpus: int, options: Callable[[str], Sequence[str]] | None = None, **environment: str
) -> Iterator[Cluster]:
    """Start a head on ports of its own, and end it with all of its nodes afterwards.

    Args:
        folder: for logs.
        cpus: of the head.
        options: gives more options of ``ray start`` from the address that the head will have.
        environment: of the head only.
    """
    sessions = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: sockets lie in it
    port, dashboard = _free_port(), _free_port()
    address = f"{socket.gethostbyname(socket.gethostname())}:{port}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ours = kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # a job's `python` is the head's
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # where others want the cores too, Ray's workers are last in the queue
        "RAY_raylet_start_wait_time_s": "60",  # 30 by default
    }
    head_options = [
        *("--head", f"--port={port}", f"--dashboard-port={dashboard}", f"--num-cpus={cpus}"),
        *(f"--ray-client-server-port={_free_port()}", "--object-store-memory=100000000", f"--temp-dir={sessions}/0"),
        *(options(address) if options else ()),
    ]
    nodes: list[Node] = []
    try:
        head = _start(head_options, ours | environment, folder / "head.log", nodes)
        cluster = Cluster(head, nodes, address, f"http://127.0.0.1:{dashboard}", ours, folder, sessions)
        until(lambda: _takes_jobs(cluster), f"the head takes no jobs: {(folder / 'head.log').read_text()}")
        yield cluster
    finally:
        for node in reversed(nodes):
            node.kill()
        shutil.rmtree(sessions, ignore_errors=True)


def _start(options: Sequence[str], environment: Mapping[str, str], log: Path, nodes: list[Node]) -> Node:
    """Run ``ray start`` in a session of its own; the node is listed before it is there, so that it is always ended.

    On a machine too busy a raylet gives up its own agents, without a setting for how long it waits: it is tried again.
    """
    for _ in range(_ATTEMPTS):
        # not the ports of another Ray on this machine, which takes Ray's defaults
        ports = [f"--{name}-port={_free_port()}" for name in _PORTS]
        with log.open("w") as file:
            starter = subprocess.Popen(
                [*RAY, "start", *ports, *options], env=environment, stdout=file, stderr=file, start_new_session=True
            )
        nodes.append(Node(starter.pid))
        if starter.wait(TIMEOUT) == 0:
            return nodes[-1]
        nodes.pop().kill()
    raise RuntimeError(log.read_text())


def _takes_jobs(cluster: Cluster) -> bool:
    with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
        return bool(cluster.ask("/api/jobs/", body={"entrypoint": "true"}))
    return False


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        port: int = free.getsockname()[1]
        return port
