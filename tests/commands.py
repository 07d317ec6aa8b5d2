"""Commands in processes of their own, with what they say in files.

Where their start is not what is tested they are forks of a server that has imported everything: a process that imports
torch and Ray by itself is busy for several seconds before it does anything.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import ray

from raydistill import reports
from raydistill.runs.reporter import FileReporter
from raydistill.runs.worker import Worker
from raydistill.sweeps.file import load_sweep
from raydistill.training.stages import run_stages
from tests.outputs import output_of
from tests.ranks import PRELOADED, PROCESSES
from tests.small import REPOSITORY, Listener, plain_report

TIMEOUT = 600
_IMPORTED = (  # raydistill before Ray, which reads its environment as it is imported
    *("raydistill.train", "raydistill.tune", "raydistill.on_ray.run", "raydistill.on_ray.sweep", "raydistill.reports"),
    *("ray.scripts.scripts", "ray.train.torch", "tests.commands"),
)
_PATIENT = {
    "RAY_worker_niceness": "0",  # by default workers are last in the queue
    "RAY_raylet_start_wait_time_s": "60",  # by default 30
}


def let_the_server_import() -> None:
    """Let the server of forks import what commands need; before it has started."""
    PROCESSES.set_forkserver_preload([*PRELOADED, *_IMPORTED])


def until(condition: Callable[[], object], what: str, seconds: float = TIMEOUT) -> None:
    """Return when ``condition`` holds; raise with ``what`` after some time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.1)


class Command:
    """A command, at work or ended, and what it has said."""

    def __init__(self, process: subprocess.Popen[bytes] | BaseProcess, log: Path) -> None:
        self._process, self._files = process, _files(log)

    @property
    def pid(self) -> int:
        """Return the id of its own process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Return its exit code; None while it is at work."""
        return self._process.exitcode if isinstance(self._process, BaseProcess) else self._process.poll()

    @property
    def out(self) -> str:
        """Return what it has written to stdout."""
        return self._files[0].read_text()

    @property
    def err(self) -> str:
        """Return what it has written to stderr."""
        return self._files[1].read_text()

    @property
    def text(self) -> str:
        """Return all that it has said so far."""
        return self.out + self.err

    def running(self) -> bool:
        """Return whether it is still at work."""
        return self.code is None

    def finish(self, seconds: float = TIMEOUT) -> int:
        """Wait for its end and return the exit code."""
        try:
            until(lambda: not self.running(), "still at work", seconds)
        except TimeoutError as error:
            raise TimeoutError(f"still at work:\n{self.text}") from error
        finally:
            self.kill()
        assert self.code is not None
        return self.code

    def reach(self, condition: Callable[[], object], seconds: float = TIMEOUT) -> None:
        """Wait until ``condition`` holds; it must come before the command's end."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.running(), f"ended with exit code {self.code}:\n{self.text}"
            assert time.monotonic() < deadline, f"still at work:\n{self.text}"
            time.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, as a lost machine or the system's memory guard would."""
        self._process.kill()
        if isinstance(self._process, BaseProcess):
            self._process.join()
        else:
            self._process.wait()


def start(command: Sequence[str], log: Path, environment: Mapping[str, str], merged: bool = False) -> Command:
    """Start a command in the repository, as its user does; ``merged`` is all that it says on stdout."""
    out, err = _files(log)
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=dict(environment), stdout=stdout, stderr=stdout if merged else stderr
        )
    return Command(process, log)


def fork(module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> Command:
    """Run a module's ``main`` in the repository, in a process and a session of its own."""
    files = [str(file) for file in _files(log)]
    for file in files:
        Path(file).touch()
    process = PROCESSES.Process(target=_main, args=(module, list(arguments), files, dict(environment)))
    process.start()
    return Command(process, log)


def users_environment(**changes: str) -> dict[str, str]:
    """Return this process's environment with what lets Ray be patient where others want the cores too."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | _PATIENT | changes


@contextlib.contextmanager
def without_pictures() -> Iterator[None]:
    """Let reports have no pictures, which take seconds and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports, "write_report", plain_report)
        yield


def train_teacher(file: str) -> None:
    """Train the teacher of a sweep's file in this process, for a sweep whose test is not about that."""
    config, worker = load_sweep(file).config, Worker()
    run_stages(config, output_of(config), worker, lambda run: FileReporter(run, worker, Listener()), only="teacher")


def _files(log: Path) -> tuple[Path, Path]:
    return Path(f"{log}.out"), Path(f"{log}.err")


def _main(module: str, arguments: list[str], files: list[str], environment: dict[str, str]) -> None:
    """Run in the fork."""
    os.setsid()
    for number, file in enumerate(files, start=1):
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.pop("RAY_ADDRESS", None)
    os.environ.update(environment)  # beside what importing the commands has set
    os.chdir(REPOSITORY)
    sys.argv = [module, *arguments]
    for _ in range(secrets.randbelow(100_000)):  # Ray draws names at random, in each fork from the server's state
        ray.WorkerID.from_random()
    with without_pictures():
        sys.exit(importlib.import_module(module).main())
