"""What a trial costs as sweeps grow, and what a report does: ``scaling trials|plan|report``.

``trials 1 4 16 64 256`` runs sweeps of so many tiny trials on Ray and, in turn with them, Ray Tune by itself with as
many functions that do nothing, all on one Ray (``many_trials``). ``plan 100 1000 10000 --search optuna`` hands out and
ends so many trials without Ray. ``report 1000x100 10000x10`` reports on so many trials of so many epochs, made up. Wall
times mean little on a machine that others use: look at the CPU seconds. ``--csv FILE`` adds the rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.processes import Family

Row = dict[str, str | float]
_LOOKS = 0.5  # seconds between readings


def main(arguments: Sequence[str]) -> None:
    """Measure, and print a row at a time."""
    options = _parser().parse_args(arguments)
    for row in _rows(options):
        sys.stdout.write("  ".join(f"{name} {_shown(value)}" for name, value in row.items()) + "\n")
        sys.stdout.flush()
        if options.csv:
            _add(Path(options.csv), row)


def _rows(options: argparse.Namespace) -> Iterator[Row]:
    if options.what == "trials":
        yield from trials(options.numbers, options.which, options.epochs)
    elif options.what == "plan":
        for number in options.numbers:
            yield from _in_a_process("many_plans", str(number), options.search)
    else:
        for size in options.sizes:
            yield from _in_a_process("big_reports", *size.split("x"))


def trials(numbers: Sequence[int], which: Sequence[str], epochs: int) -> Iterator[Row]:
    """Yield what each number of trials costs, ``ours``, ``trained`` or ``bare``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = [(what, number) for number in numbers for what in which]
        for what, number in runs:
            if what != "bare":
                _prepare(folder / f"{what}_{number}", number, epochs, what == "trained")
        command = [sys.executable, "-m", "tests.benchmarks.many_trials", "--epochs", str(epochs)]
        command += [name, str(time.time()), *(str(part) for run in runs for part in run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            family = Family(process.pid)
            looking = threading.Thread(target=_look, args=(family, process))
            looking.start()
            for line in process.stdout or ():
                found = json.loads(line)
                time.sleep(2 * _LOOKS)
                begun, done = found.pop("begun"), found.pop("done")
                yield {**found, "all_cpu_s": family.between(begun, done), "load": os.getloadavg()[0]}
            looking.join()
    if process.returncode:
        raise SystemExit(process.returncode)


def _look(family: Family, process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        family.look()
        time.sleep(_LOOKS)


def _prepare(folder: Path, number: int, epochs: int, train: bool) -> None:
    """Write the sweep's file and its teacher; here, since that takes torch, which a sweep's driver does without."""
    from tests.small import small_sweep

    settings = {"training.epochs": epochs, "scaling.cpus_per_worker": 1, "decay.shape": "exponential"}
    teacher = folder / "sweep" / "teacher"
    if train:
        alone = small_sweep(folder / "alone", settings, space={"decay.rate": {"grid": [2]}})
        subprocess.run([sys.executable, "-m", "raydistill.tune", alone, "--local"], check=True, capture_output=True)
        shutil.copytree(folder / "alone" / "sweep" / "teacher", teacher)
    else:
        teacher.mkdir(parents=True)
        (teacher / "result.json").write_text("{}")
    space = {"methods.tar.feature.weight": {"loguniform": [0.01, 100]}, "decay.rate": {"loguniform": [1, 10]}}
    small_sweep(folder, settings, search="random", num_trials=max(1, number - 2), space=space)


def _in_a_process(module: str, *arguments: str) -> Iterator[Row]:
    """Run a measurement in a process of its own, since it reads the peak of its memory."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    for line in done.stdout.splitlines():
        yield json.loads(line)


def _shown(value: str | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _add(path: Path, row: Row) -> None:
    new = not path.is_file()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow({name: _shown(value) for name, value in row.items()})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks scaling",
        description="Count what sweeps and reports cost beyond their training, as they grow.",
    )
    parser.add_argument("--csv", metavar="FILE")
    what = parser.add_subparsers(dest="what", required=True)
    on_ray = what.add_parser("trials")
    on_ray.add_argument("numbers", nargs="+", type=int)
    on_ray.add_argument("--epochs", type=int, default=1)
    on_ray.add_argument("--which", nargs="+", default=["bare", "ours"], choices=["bare", "ours", "trained"])
    plan = what.add_parser("plan")
    plan.add_argument("numbers", nargs="+", type=int)
    plan.add_argument("--search", default="random", choices=["random", "optuna"])
    report = what.add_parser("report")
    report.add_argument("sizes", nargs="+", metavar="TRIALSxEPOCHS")
    return parser
