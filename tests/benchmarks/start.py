"""From the command to the first training step: ``start [--local] [--rounds N]``.

Trains a few steps of ``quickstart`` in a new process and notes when its sentences appear. In turn with it, Ray Train by
itself (import, ``ray.init``, ``TorchTrainer.fit`` with a function that does nothing) is timed: what no framework on
Ray can be faster than. With ``--local`` there is no Ray, and importing torch and torchvision is the floor.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from tests.benchmarks.commands import count, parser_of, show

_TINY = ["data.num_train=32", "data.num_val=8", "training.epochs=1", "teacher.epochs=1"]
# What is printed -> what begins then.
_MARKS = {
    "device: ": "workers run our code",
    "teacher: 1 epochs": "teacher's first step",
    "teacher epoch 1/1": "teacher trained",
    "baseline: 1 epochs": "baseline's first step",
    "baseline epoch 1/1": "baseline trained",
    "distilled: 1 epochs": "distilled student's first step",
    "Report: ": "report written",
}
_RAY_ALONE = """
import time
import ray, ray.train.torch

def nothing():
    print("user code", time.time(), flush=True)

if __name__ == "__main__":
    import sys
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=200 * 1024**2)
    print("connected", flush=True)
    scaling = ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1})
    ray.train.torch.TorchTrainer(
        nothing, scaling_config=scaling, run_config=ray.train.RunConfig(storage_path=sys.argv[1])
    ).fit()
"""


def main(arguments: Sequence[str]) -> None:
    """Measure, and print the medians."""
    parser = parser_of("start", "Time a run from its command to its first steps.")
    parser.add_argument("--local", action="store_true", help="without Ray")
    parser.add_argument("--rounds", type=count, default=3, metavar="N", help="times each is measured")
    options = parser.parse_args(arguments)
    seconds: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            found = _floor(folder, options.local) | _ours(folder, options.local)
        for name, value in found.items():
            seconds.setdefault(name, []).append(value)
    result = {name: statistics.median(values) for name, values in seconds.items()}
    lines = [
        f"{name:<45}{result[name]:>7.2f} s   {min(values):.2f} to {max(values):.2f}" for name, values in seconds.items()
    ]
    show("\n".join(lines), result, options.json)


def _floor(folder: str, local: bool) -> dict[str, float]:
    """Time what comes before any code of ours."""
    if local:
        command = [sys.executable, "-c", "import torch, torchvision; print('imported', flush=True)"]
        return _moments(command, {"imported": "alone: torch and torchvision imported"})
    marks = {"connected": "alone: ray.init done", "user code": "alone: Ray Train's workers run"}
    return _moments([sys.executable, "-c", _RAY_ALONE, f"{folder}/ray"], marks)


def _ours(folder: str, local: bool) -> dict[str, float]:
    command = [sys.executable, "-m", "raydistill.train", "quickstart", *_TINY, "--output", f"{folder}/run"]
    return _moments([*command, "--local"] if local else command, _MARKS)


def _moments(command: list[str], marks: dict[str, str]) -> dict[str, float]:
    """Return the seconds from the start of ``command`` to the first line with each mark."""
    started = time.perf_counter()
    found: dict[str, float] = {}
    last = ""
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}  # Ray reads it when it is imported
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        for line in process.stdout or ():
            last = line.strip() or last
            for mark, name in marks.items():
                if mark in line:
                    found.setdefault(name, time.perf_counter() - started)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[1:3])[:60]}: failed with {process.returncode}: {last}")
    return found
