"""The kinds of faults that need Ray: on its workers, on its raylet, and on the command that waits for them."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from raydistill.checkpoint import RunDirectory
from raydistill.stopping import END_SECONDS
from tests.faults.kinds import Attempt, Kind
from tests.faults.runs import SETTINGS, Run, equal, new_folder
from tests.small import REPOSITORY

LONGER = ("scaling.num_workers=2", "training.epochs=5")
PATIENCE = 900
"""Seconds after which a command has hung; Ray alone takes minutes to start where the machine is busy."""


@dataclass
class RayRun(Run):
    """A run of two Ray workers; its steps are not counted."""

    commands: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_command(self) -> None:
        """Start the command."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        arguments = ["quickstart", *SETTINGS, *LONGER, "--output", str(self.output)]
        with self._log.open("ab") as said:
            command = subprocess.Popen(
                [sys.executable, "-m", "raydistill.train", *arguments],
                cwd=REPOSITORY,
                stdout=said,
                stderr=said,
                env={**environment, "OMP_NUM_THREADS": "1"},
            )
        self.commands.append(command)

    def wait_for_epoch(self) -> None:
        """Return when the teacher has a checkpoint of an epoch, or the command has ended."""
        metrics = RunDirectory(self.output / "teacher").metrics
        while not (metrics.is_file() and metrics.stat().st_size) and self.commands[-1].poll() is None:
            time.sleep(0.05)

    def wait(self) -> int | None:
        """Return the command's exit code; None, and it is killed, when it hangs."""
        try:
            return self.commands[-1].wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.commands[-1].kill()
            self.commands[-1].wait()
            return None

    def family(self, *words: str) -> list[int]:
        """Return the command's processes, children's children too, whose command line holds one of ``words``."""
        listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in listing.splitlines()]
        family = {self.commands[-1].pid}
        for _ in range(5):  # the driver starts the raylet, which starts the workers
            family |= {int(row[0]) for row in rows if int(row[1]) in family}
        return [int(row[0]) for row in rows if int(row[0]) in family and any(word in row[-1] for word in words)]


@functools.cache
def _undisturbed() -> tuple[RayRun, float]:
    run = RayRun(new_folder("undisturbed-on-ray"), 2)
    run.start_command()
    run.wait_for_epoch()
    started = time.monotonic()
    if run.wait() != 0:
        raise RuntimeError(f"the undisturbed run on Ray did not end well:\n{run.said}")
    return run, time.monotonic() - started


def _tried(
    folder: Path, chance: random.Random, number: signal.Signals, choose: Callable[[RayRun], list[int]], by_itself: bool
) -> Attempt:
    """Send a signal to what ``choose`` names at a random moment; ``by_itself``: Ray mends it, without a repetition."""
    whole, seconds = _undisturbed()
    run = RayRun(folder, 2)
    run.start_command()
    run.wait_for_epoch()
    time.sleep(chance.uniform(0, seconds))
    for pid in choose(run):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    started = time.monotonic()
    code = run.wait()
    took = time.monotonic() - started
    recovered = code == 0 if by_itself else code is not None
    while recovered and code != 0 and len(run.commands) < 3:
        run.start_command()
        code = run.wait()
    recovered = recovered and code == 0
    return Attempt(recovered, None, recovered and equal(whole, run), took, "" if recovered else run.said[-1500:])


def _workers(run: RayRun) -> list[int]:
    return run.family("RayTrainWorker")


def _ray_kind(
    name: str, number: signal.Signals, choose: Callable[[RayRun], list[int]], by_itself: bool
) -> tuple[str, Kind]:
    return name, lambda folder, chance: _tried(folder, chance, number, choose, by_itself)


def _driver_stopped(folder: Path, chance: random.Random) -> Attempt:
    """SIGTERM to the command: the workers write a checkpoint, and all ends in time."""
    attempt = _tried(folder, chance, signal.SIGTERM, lambda run: [run.commands[-1].pid], by_itself=False)
    return replace(attempt, recovered=attempt.recovered and attempt.seconds < END_SECONDS + 10)


RAY_KINDS: dict[str, Kind] = dict(
    [
        _ray_kind("ray-worker-killed", signal.SIGKILL, lambda run: _workers(run)[:1], by_itself=True),
        _ray_kind("ray-worker-stopped", signal.SIGTERM, lambda run: _workers(run)[-1:], by_itself=True),
        _ray_kind("ray-workers-killed", signal.SIGKILL, _workers, by_itself=True),
        _ray_kind("ray-raylet-killed", signal.SIGKILL, lambda run: run.family("raylet/raylet "), by_itself=False),
        _ray_kind("ray-driver-killed", signal.SIGKILL, lambda run: [run.commands[-1].pid], by_itself=False),
        ("ray-driver-stopped", _driver_stopped),
    ]
)
