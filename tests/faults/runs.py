"""Small runs to be disturbed: started in processes of their own, their steps counted, their results compared."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from raydistill import reports, train
from raydistill.config import load_config
from raydistill.errors import UserError
from raydistill.runs.directory import RunDirectory
from raydistill.runs.progress import Display
from raydistill.runs.reporter import FileReporter
from raydistill.runs.worker import Worker
from raydistill.training import loop
from raydistill.training.stages import run_stages
from tests.faults.inside import Fault, take_counted_steps
from tests.outputs import output_of
from tests.ranks import PROCESSES, start_ranks
from tests.small import SMALL_RUN, metrics_of, repeatable, same_weights, weights_of

EVERY = 2
SETTINGS = (
    *SMALL_RUN,
    *("data.num_train=12", "data.num_val=3", "training.epochs=3", f"checkpoint.every_steps={EVERY}"),
    *("distillation.preflight=warn", "distillation.baseline=false", "student.box_score_thresh=0"),
    *("logging.tensorboard=false", "scaling.cpus_per_worker=1"),
)
"""A teacher and a distilled student of nine steps each; detections of a new net count, so that scores can differ."""
PATIENCE = 240
"""Seconds without a step or a word after which a run has hung."""


@dataclass(frozen=True)
class Attempt:
    """What became of one disturbed run."""

    recovered: bool
    lost: int | None  # optimizer steps that had to be taken again; None: not counted
    equal: bool
    seconds: float  # from the disturbance until the processes were gone
    said: str = ""


@dataclass
class Run:
    """One run in a folder of its own: by one process through the command line, or by ranks as Ray starts them."""

    folder: Path
    ranks: int = 1
    settings: Sequence[str] = ()
    recipe: str = "quickstart"
    processes: list[BaseProcess] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.folder / "run"

    @property
    def said(self) -> str:
        return self._log.read_text(encoding="utf-8") if self._log.is_file() else ""

    @property
    def _log(self) -> Path:
        return self.folder / "said.txt"

    def steps(self) -> list[str]:
        """Return every step that was taken so far, as ``stage number``."""
        file = self.folder / "steps.txt"
        return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []

    @property
    def progress(self) -> int:
        """Return a number that grows with every step and word."""
        return sum(file.stat().st_size for file in (self._log, self.folder / "steps.txt") if file.is_file())

    @property
    def lost(self) -> int:
        """How many steps were taken again."""
        return sum(count - 1 for count in Counter(self.steps()).values())

    def start(self, fault: Fault | None = None, seconds: float = PATIENCE) -> None:
        """Start the command; ``seconds`` is how long a rank waits for another."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shapes = [setting for setting in SETTINGS if self.recipe == "quickstart" or not setting.startswith("data.")]
        given = (self.recipe, [*shapes, *self.settings], str(self.output), str(self.folder), fault)
        if self.ranks > 1:
            self.processes = start_ranks(_on_rank, self.ranks, *given, seconds=seconds)
        else:
            self.processes = [PROCESSES.Process(target=_command, args=given)]
            self.processes[0].start()

    def wait_for_step(self, number: int = 1) -> None:
        """Return when as many steps were taken, or the run has ended."""
        while len(self.steps()) < number and any(process.is_alive() for process in self.processes):
            time.sleep(0.01)

    def kill(self, number: signal.Signals, ranks: Sequence[int]) -> None:
        for rank in ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.processes[rank].pid or 0, number)

    def end(self) -> list[int | None]:
        """Wait for every process, and return the exit codes; one that hangs is ended and has None.

        Once a process of several is gone with an error, the others may wait for it: they have a little time.
        """
        deadline, progress = time.monotonic() + PATIENCE, self.progress
        while any(process.is_alive() for process in self.processes) and time.monotonic() < deadline:
            if progress != self.progress:
                deadline, progress = time.monotonic() + PATIENCE, self.progress
            if any(process.exitcode for process in self.processes):
                deadline = min(deadline, time.monotonic() + PATIENCE / 4)
            time.sleep(0.02)
        codes = [process.exitcode for process in self.processes]
        for process in self.processes:
            process.kill()
            process.join()
        return codes

    def finish(self) -> bool:
        """Repeat the command undisturbed, and return whether it ends well."""
        self.start()
        return self.end() == [0] * self.ranks


def new_folder(name: str) -> Path:
    """Return a folder that is gone with this process."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def equal(one: Run, other: Run) -> bool:
    """Return whether two runs have the same metrics and the same weights to the bit, apart from times."""
    stages = [
        sorted(path.parent.relative_to(run.output) for path in run.output.rglob("result.json")) for run in (one, other)
    ]
    if not stages[0] or stages[0] != stages[1]:
        return False
    return all(_same(RunDirectory(one.output / stage), RunDirectory(other.output / stage)) for stage in stages[0])


def _same(one: RunDirectory, other: RunDirectory) -> bool:
    weights = [(one.last, other.last), (one.best, other.best)]
    return repeatable(metrics_of(one)) == repeatable(metrics_of(other)) and all(
        same_weights(weights_of(first), weights_of(second)) for first, second in weights
    )


@dataclass(frozen=True)
class Whole:
    """A run that nothing disturbed, and how long it took."""

    run: Run
    to_first_step: float  # seconds
    from_first_step: float


@functools.cache
def undisturbed(ranks: int = 1, settings: tuple[str, ...] = (), recipe: str = "quickstart") -> Whole:
    """Return a run that nothing disturbed."""
    run = Run(new_folder("undisturbed"), ranks, settings, recipe)
    started = time.monotonic()
    run.start()
    run.wait_for_step()
    first_step = time.monotonic()
    codes = run.end()
    if codes != [0] * ranks:
        raise RuntimeError(f"the undisturbed run ended with {codes}:\n{run.said}")
    return Whole(run, first_step - started, time.monotonic() - first_step)


def _command(recipe: str, settings: list[str], output: str, folder: str, fault: Fault | None) -> None:
    """Be ``python -m raydistill.train --local``; a report would take longer than the training."""
    _disturb(Worker(), folder, fault)
    reports.write_report = lambda *_, **__: None
    with Path(folder, "said.txt").open("a", encoding="utf-8", buffering=1) as said:
        sys.stdout = sys.stderr = said
        os.dup2(said.fileno(), 2)
        sys.exit(train.main([recipe, *settings, "--local", "--output", output]))


def _on_rank(worker: Worker, recipe: str, settings: list[str], output: str, folder: str, fault: Fault | None) -> None:
    """Be one of Ray's workers."""
    _disturb(worker, folder, fault)
    config = load_config(recipe, [*settings, f"output={output}", f"scaling.num_workers={worker.world_size}"])
    with Path(folder, "said.txt").open("a", encoding="utf-8", buffering=1) as said:
        display = Display(said)
        try:
            run_stages(config, output_of(config), worker, lambda run: FileReporter(run, worker, display))
        except UserError as error:
            said.write(f"rank {worker.rank}: {error}\n")
            sys.exit(2)
        except Exception:  # noqa: BLE001  (told, and its process ends)
            said.write(f"rank {worker.rank}: {traceback.format_exc()}\n")
            os._exit(1)  # without waiting for the others, as when Ray ends the group


def _disturb(worker: Worker, folder: str, fault: Fault | None) -> None:
    """Count this process's steps, and let the fault come."""
    take_counted_steps(loop, Path(folder), fault)
    if fault is not None:
        fault(worker, 0, None)
