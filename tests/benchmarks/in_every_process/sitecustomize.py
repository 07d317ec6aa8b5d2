"""Python imports this file in every process that has its folder on PYTHONPATH: it notes what the phases there cost.

Nothing of the package is changed but that the functions of ``PHASES`` are timed, those of any version of it that has
them. A phase's seconds are without those of the phases inside it: wall time, and CPU time of the thread that it runs
in. Lines of JSON go to the file that ``PHASES_FILE`` names.
"""

from __future__ import annotations

import atexit
import functools
import importlib.machinery
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PHASES = {
    "raydistill.data.build": {"build_splits": "data"},
    "raydistill.training.same_data": {"claim_data": "data"},
    "raydistill.data.dataset": {"DetectionDataset.load": "images"},
    "raydistill.training.nets": {"load_teacher": "nets", "Stages.detector": "nets"},
    "raydistill.detectors.frozen": {"make_fast": "nets"},
    "raydistill.training.resume": {"start": "nets"},
    "raydistill.training.preflight": {"preflight": "preflight", "rehearse": "preflight"},
    "raydistill.training.loop": {"train_one_epoch": "training", "_diagnosis": "preflight"},
    "raydistill.inference.evaluation": {"evaluate": "evaluation"},
    "raydistill.inference.threshold": {"best_threshold": "evaluation"},
    "raydistill.training.speed": {"speed_of": "speed"},
    "raydistill.training.state": {"export": "checkpoints and exports", "save": "checkpoints and exports"},
    "raydistill.runs.weights_file": {
        **dict.fromkeys(["save", "save_weights", "digest"], "checkpoints and exports"),
    },
    "raydistill.storage.atomic": {
        "write_atomically": "checkpoints and exports",
        "append_line": "lines and events",
    },
    "raydistill.runs.reporter": {"FileReporter._to_tensorboard": "lines and events"},
    "raydistill.results": {"_write_report": "report", "_load_report": "report"},
}
"""Module, function of it, and what the time in it is called."""
_STEP = ("raydistill.training.loop", "take_step")


class _Sums(threading.local):
    """What a thread is in, outermost first, and what it has cost since it was last written down."""

    def __init__(self) -> None:
        self.inside: list[list[Any]] = []  # phase, wall and CPU seconds of the phases in it
        self.costs: dict[str, list[float]] = {}


_sums, _stepped = _Sums(), threading.Event()


def _note(**about: Any) -> None:
    line = f"{json.dumps({'pid': os.getpid(), 'at': time.time(), **about})}\n"
    with Path(os.environ["PHASES_FILE"]).open("a", encoding="utf-8") as file:
        file.write(line)


def _flush() -> None:
    costs, _sums.costs = _sums.costs, {}
    if costs:
        _note(costs=costs, thread=threading.current_thread().name)


def timed(function: Callable[..., Any], phase: str) -> Callable[..., Any]:
    """Return ``function``, timed as a part of ``phase``."""

    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        inside = _sums.inside
        if inside and inside[-1][0] == phase:
            return function(*arguments, **named)
        inside.append([phase, 0.0, 0.0])
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            return function(*arguments, **named)
        finally:
            wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
            _, wall_inside, cpu_inside = inside.pop()
            sums = _sums.costs.setdefault(_called(phase, arguments), [0.0, 0.0, 0])
            sums[0] += wall - wall_inside
            sums[1] += cpu - cpu_inside
            sums[2] += 1
            if inside:
                inside[-1][1] += wall
                inside[-1][2] += cpu
            elif phase != "imports" or wall > 0.1:
                _flush()

    return run


def _called(phase: str, arguments: tuple[Any, ...]) -> str:
    """Tell the teacher's training from that of students."""
    if phase != "training":
        return phase
    return "teacher's training" if arguments[0].job.stage == "teacher" else "students' training"


def _first_step(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        if not _stepped.is_set():
            _stepped.set()
            _note(first_step=arguments[0].job.stage)
        return function(*arguments, **named)

    return run


def _wrap(module: Any) -> None:
    for name, phase in PHASES.get(module.__name__, {}).items():
        *path, last = name.split(".")
        holder = functools.reduce(getattr, path, module)
        if hasattr(holder, last):
            setattr(holder, last, timed(getattr(holder, last), phase))
    if module.__name__ == _STEP[0]:
        setattr(module, _STEP[1], _first_step(getattr(module, _STEP[1])))


def _timing_imports() -> None:
    """Let the loaders of modules time what they do, and wrap the functions of what they have loaded."""
    source, extension = importlib.machinery.SourceFileLoader, importlib.machinery.ExtensionFileLoader
    load = timed(source.exec_module, "imports")

    def exec_module(self: Any, module: Any) -> None:
        load(self, module)
        if module.__name__ in PHASES:
            _wrap(module)

    source.exec_module = exec_module  # type: ignore[method-assign]
    for name in ("create_module", "exec_module"):
        setattr(extension, name, timed(getattr(extension, name), "imports"))


def _since_birth() -> float:
    """Return the seconds since this process was started."""
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


if "PHASES_FILE" in os.environ and sys.platform == "linux":
    _sums.costs["start"] = [_since_birth(), time.process_time(), 1]
    _timing_imports()
    atexit.register(_flush)
