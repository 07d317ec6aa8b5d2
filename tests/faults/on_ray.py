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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from raydistill.config.loader import split_overrides
from raydistill.runs.stopping import END_SECONDS
from tests.faults.kinds import Kind
from tests.faults.runs import SETTINGS, Attempt, Run, equal, new_folder
from tests.small import REPOSITORY, small_sweep

PATIENCE = 600
"""Seconds without a step or a word after which a command has hung; where the machine is busy Ray starts in minutes."""
HANG_SECONDS = 20
"""``scaling.hang_seconds`` of these runs."""
STEPS = 18  # of a run: nine of the teacher, nine of the student
_OTHER_SETTINGS = ("scaling.num_workers=", "distillation.baseline=")  # a sweep has a base line, and says its workers


@dataclass
class Command:
    """``python -m raydistill.train`` with two workers, or a sweep of three trials, started as its user starts it."""

    run: Run
    sweep: bool = False
    environment: dict[str, str] = field(default_factory=dict)  # faults of its workers (see ``site``)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start it, or repeat it."""
        folder = self.run.folder
        folder.mkdir(parents=True, exist_ok=True)
        here = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        here |= {"OMP_NUM_THREADS": "1", "FAULTS_FOLDER": str(folder), "RAY_worker_niceness": "0"}
        here["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY / "tests" / "faults" / "site"), str(REPOSITORY)])
        with (folder / "said.txt").open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, *self._arguments(), "--output", str(self.run.output)],
                cwd=REPOSITORY,
                stdout=said,
                stderr=said,
                env=here | self.environment,
            )
        self.processes.append(process)

    def _arguments(self) -> list[str]:
        hang = f"scaling.hang_seconds={HANG_SECONDS}"
        if not self.sweep:
            return ["-m", "raydistill.train", "quickstart", *SETTINGS, "scaling.num_workers=2", hang]
        given = [setting for setting in SETTINGS if not setting.startswith(_OTHER_SETTINGS)]
        settings = dict(split_overrides([*given, hang])[0])
        return ["-m", "raydistill.tune", small_sweep(self.run.folder, settings)]

    @property
    def ended(self) -> bool:
        """Whether the command has come to its end; where Ray did not even start it is repeated."""
        if self.processes[-1].poll() is None:
            return False
        last_words = self.run.said.rstrip().rpartition("\n")[2]
        if last_words.startswith("Ray did not start within its own limit"):
            self.start()
            return False
        return True

    def wait(self) -> int | None:
        """Return the exit code; None, and it is killed, when it hangs."""
        deadline, progress = time.monotonic() + PATIENCE, self.run.progress
        while not self.ended:
            if progress != self.run.progress:
                deadline, progress = time.monotonic() + PATIENCE, self.run.progress
            if time.monotonic() > deadline:
                for pid in self.family():
                    _send(signal.SIGKILL, pid)
                self.processes[-1].wait()
                return None
            time.sleep(0.2)
        return self.processes[-1].returncode

    def wait_for(self, condition: Callable[[], object]) -> float:
        """Return the time when a condition holds, or the command has ended."""
        while not condition() and not self.ended:
            time.sleep(0.2)
        return time.monotonic()

    def family(self, *words: str) -> list[int]:
        """Return the command's processes, children's children too, whose command line holds one of ``words``."""
        listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in listing.splitlines()]
        family = {self.processes[-1].pid}
        for _ in range(5):  # the driver starts the raylet, which starts the workers
            family |= {int(row[0]) for row in rows if int(row[1]) in family}
        wanted = [row for row in rows if int(row[0]) in family]
        return [int(row[0]) for row in wanted if not words or any(word in row[-1] for word in words)]

    def workers(self) -> list[int]:
        """Return the processes that train."""
        return self.family("RayTrainWorker", "flat_trial", "ImplicitFunc")

    def driver(self) -> list[int]:
        """Return the command's own process."""
        return [self.processes[-1].pid]

    def raylet(self) -> list[int]:
        """Return the process that starts the workers."""
        return self.family("raylet/raylet ")


Targets = Callable[[Command], list[int]]


@dataclass(frozen=True)
class _Whole:
    """A command that nothing disturbed, and the seconds before its first step and after it."""

    command: Command
    starting: dict[Targets, float]  # from when these processes are there
    after: float


@functools.cache
def _undisturbed(sweep: bool) -> _Whole:
    command = Command(Run(new_folder("undisturbed-on-ray")), sweep)
    command.start()
    there = {
        targets: command.wait_for(lambda targets=targets: targets(command))
        for targets in (Command.driver, Command.raylet, Command.workers)
    }
    first_step = command.wait_for(command.run.steps)
    if command.wait() != 0:
        raise RuntimeError(f"the undisturbed command did not end well:\n{command.run.said}")
    starting = {targets: first_step - since for targets, since in there.items()}
    return _Whole(command, starting, time.monotonic() - first_step)


def _disturb(command: Command, chance: random.Random, number: signal.Signals, targets: Targets, most: int) -> list[int]:
    """Send a signal at a random moment, one in three while the command starts, and return whom it was sent to."""
    whole = _undisturbed(command.sweep)
    starting = chance.random() < 1 / 3
    command.wait_for(lambda: targets(command) if starting else command.run.steps())
    time.sleep(chance.uniform(0, whole.starting[targets] if starting else whole.after))
    there = targets(command)
    chosen = chance.sample(there, min(most, len(there)))
    for pid in chosen:
        _send(number, pid)
    return chosen


def _send(number: signal.Signals, pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _finish(command: Command, code: int | None, expected: Iterable[int], seconds: float) -> Attempt:
    """Repeat a command that ended with ``code`` until it ends well, twice at most, and look what became of it."""
    as_expected = code in expected and "Traceback" not in command.run.said
    first = f"exit code {code}: {command.run.said[-3000:]}"
    for _ in range(2):
        if code not in (0, None):
            command.start()
            code = command.wait()
    recovered = code == 0 and as_expected
    same = code == 0 and equal(_undisturbed(command.sweep).command.run, command.run)
    return Attempt(recovered, command.run.lost, same, seconds, "" if recovered and same else first)


def _hit(
    folder: Path,
    chance: random.Random,
    number: signal.Signals,
    targets: Targets,
    most: int,
    expected: Iterable[int],
    sweep: bool = False,
) -> Attempt:
    """Send a signal to up to ``most`` processes; the command must end with a code of those ``expected``."""
    command = Command(Run(folder), sweep)
    _undisturbed(sweep)
    command.start()
    _disturb(command, chance, number, targets, most)
    since = time.monotonic()
    code = command.wait()
    return _finish(command, code, expected, time.monotonic() - since)


def _lost_at_once(number: signal.Signals, targets: Targets, most: int, expected: set[int], sweep: bool = False) -> Kind:
    return functools.partial(_hit, number=number, targets=targets, most=most, expected=expected, sweep=sweep)  # type: ignore[return-value]


def _stopped(folder: Path, chance: random.Random, sweep: bool = False) -> Attempt:
    """SIGTERM to the command: its workers write a checkpoint, no step is lost, and all ends in time."""
    before_anything = -signal.SIGTERM
    attempt = _hit(folder, chance, signal.SIGTERM, Command.driver, 1, {0, 130, before_anything}, sweep)
    in_time = attempt.seconds < END_SECONDS + 5 and not attempt.lost
    said = attempt.said if in_time else f"{attempt.seconds:.0f} s, {attempt.lost} steps lost"
    return Attempt(attempt.recovered and in_time, attempt.lost, attempt.equal, attempt.seconds, said)


def _hangs(folder: Path, chance: random.Random) -> Attempt:
    """A worker stands still: it is noticed within ``hang_seconds`` and a few more, and Ray starts the group again."""
    command = Command(Run(folder))
    _undisturbed(False)
    command.start()
    command.wait_for(command.run.steps)
    time.sleep(chance.uniform(0, 3))
    stood = chance.sample(workers, 1) if (workers := command.workers()) else []
    for pid in stood:
        _send(signal.SIGSTOP, pid)
    since = time.monotonic()
    noticed = command.wait_for(lambda: "Ray starts the workers again" in command.run.said) - since
    attempt = _finish(command, command.wait(), {0}, noticed)
    left = [pid for pid in stood if Path(f"/proc/{pid}").exists()]
    for pid in left:
        _send(signal.SIGKILL, pid)
    well = noticed < HANG_SECONDS + 15 and not left
    said = attempt.said if well else f"noticed after {noticed:.0f} s, left {left}: {command.run.said[-3000:]}"
    return Attempt(attempt.recovered and well, attempt.lost, attempt.equal, noticed, said)


def _out_of_memory(folder: Path, chance: random.Random) -> Attempt:
    """A worker finds no memory: a sentence, and the same command goes on."""
    command = Command(
        Run(folder), environment={"FAULTS_OUT_OF_MEMORY": f"{chance.randint(1, STEPS)} {chance.randrange(2)}"}
    )
    command.start()
    code = command.wait()
    command.environment.clear()
    attempt = _finish(command, code, {2}, 0.0)
    told = "training.batch_size: must fit into memory" in command.run.said
    return Attempt(attempt.recovered and told, attempt.lost, attempt.equal, 0.0, attempt.said)


_ALL = 99
RAY_KINDS: dict[str, Kind] = {
    "ray-worker-killed": _lost_at_once(signal.SIGKILL, Command.workers, 1, {0}),
    "ray-worker-stopped": _lost_at_once(signal.SIGTERM, Command.workers, 1, {0}),
    "ray-workers-killed": _lost_at_once(signal.SIGKILL, Command.workers, _ALL, {0}),
    "ray-worker-hangs": _hangs,
    "ray-worker-out-of-memory": _out_of_memory,
    "ray-raylet-killed": _lost_at_once(signal.SIGKILL, Command.raylet, 1, {0, 1, 2}),
    "ray-driver-killed": _lost_at_once(signal.SIGKILL, Command.driver, 1, {0, -signal.SIGKILL}),
    "ray-driver-stopped": _stopped,
    "ray-all-stopped": _lost_at_once(signal.SIGTERM, Command.family, _ALL, {0, 2, 130, -signal.SIGTERM}),
    "sweep-worker-killed": _lost_at_once(signal.SIGKILL, Command.workers, 1, {0}, sweep=True),
    "sweep-worker-stopped": _lost_at_once(signal.SIGTERM, Command.workers, 1, {0}, sweep=True),
    "sweep-driver-killed": _lost_at_once(signal.SIGKILL, Command.driver, 1, {0, -signal.SIGKILL}, sweep=True),
    "sweep-driver-stopped": functools.partial(_stopped, sweep=True),
}
