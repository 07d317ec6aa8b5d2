"""Where the time of a sweep goes: ``sweep [--on-ray] [--rounds N] [--code NAME=FOLDER ...] [SWEEP] [key=value ...]``.

Runs a small sweep of the quickstart's nets, or another one, from its command to its report, each time in a new
process, and sums up what its phases cost there and in the workers that it starts: ``in_every_process`` times them.
With ``--code`` the same sweep is run by other checkouts of this program in turn (A B B A ...). Seconds of a phase are
without those of the phases inside it; those that several processes or threads spend at the same time add up. Wall
times mean little on a machine that others use: look at the CPU seconds.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.commands import count, parser_of, show
from tests.benchmarks.processes import Family
from tests.benchmarks.timing import turns

SWEEP: dict[str, Any] = {
    "base": "quickstart",
    "settings": {
        "data": {"num_train": 64, "num_val": 40},
        "teacher": {"epochs": 2},
        "training": {"epochs": 2, "batch_size": 4},
        "evaluation": {"every": 1},
        "distillation": {"preflight": "warn"},
    },
    "seeds": 2,
    "search": "grid",
    "space": {"decay.shape": {"grid": ["linear", "cosine"]}, "methods.tar.feature.weight": {"grid": [3, 0.3]}},
}
"""The sweep of ``tune_configs/quickstart.yaml``, 12 trials, of a tenth of its steps."""
ORDER = (
    *("start", "imports", "data", "nets", "preflight", "teacher's training", "students' training", "images"),
    *("evaluation", "speed", "checkpoints and exports", "lines and events", "report"),
)
_HERE = Path(__file__).resolve().parents[2]
_LOOKS = 0.2  # seconds between readings
_WHOLE = "whole command"
_WRITER = "writes checkpoints"  # the thread beside the training
Seconds = dict[str, dict[str, float]]


def main(arguments: Sequence[str]) -> None:
    """Measure, and print the medians."""
    parser = parser_of("sweep", "Time a small sweep from its command to its report, by phase.")
    parser.add_argument("sweep", nargs="?", help="another sweep's file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="keys of the sweep to change")
    parser.add_argument("--on-ray", action="store_true", help="on Ray instead of in one process")
    parser.add_argument("--rounds", type=count, default=3, metavar="N", help="times each is run")
    parser.add_argument(
        "--code", nargs="+", default=[f"this={_HERE}"], metavar="NAME=FOLDER", help="checkouts that are compared"
    )
    parser.add_argument("--csv", metavar="FILE", help="add the rows")
    options = parser.parse_intermixed_args(arguments)
    folders = dict(text.split("=", 1) for text in options.code)
    rows = measure(folders, options.sweep, options.overrides, options.on_ray, options.rounds)
    show(as_text(rows), {"rounds": rows}, options.json)
    if options.csv:
        add(Path(options.csv), rows)


def measure(
    folders: Mapping[str, str], sweep: str | None, overrides: Sequence[str], on_ray: bool, rounds: int
) -> list[dict[str, Any]]:
    """Return a row for each run: the ``code`` that ran it and what it cost."""
    rows = []
    for number, name in turns(folders, rounds):
        with tempfile.TemporaryDirectory() as folder:
            found = _run(Path(folder), folders[name], sweep, overrides, on_ray)
        rows.append({"code": name, "round": number, "where": "ray" if on_ray else "local", **found})
    return rows


def _run(folder: Path, code: str, sweep: str | None, overrides: Sequence[str], on_ray: bool) -> dict[str, Any]:
    """Run the sweep once; return its seconds by phase and the trials of an hour."""
    file = Path(sweep).resolve() if sweep else folder / "small.yaml"
    if sweep is None:
        file.write_text(json.dumps(SWEEP))
    noted = folder / "phases"
    noted.touch()
    paths = os.pathsep.join([str(Path(__file__).parent / "in_every_process"), str(Path(code).resolve())])
    environment = {**os.environ, "PYTHONPATH": paths, "PHASES_FILE": str(noted), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "raydistill.tune", str(file), *overrides, "--output", str(folder / "out")]
    command += [] if on_ray else ["--local"]
    begun, clock = time.time(), time.perf_counter()
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment, cwd=folder)
        family = Family(process.pid)
        looking = threading.Thread(target=_look, args=(family, process))
        looking.start()
        code_of_exit = process.wait()
        looking.join()
        said.seek(0)
        if code_of_exit:
            raise SystemExit(f"{' '.join(command)}: failed with {code_of_exit}: {said.read()[-2000:]}")
    wall = time.perf_counter() - clock
    found = summed([json.loads(line) for line in noted.read_text().splitlines()], begun)
    trials = len([*(folder / "out").glob("trials/*/*/result.json")]) or len([*(folder / "out").rglob("trial.json")])
    found["seconds"][_WHOLE] = {"wall": wall, "cpu": family.between(begun, time.time())}
    return {"trials": trials, "trials_per_hour": 3600 * trials / wall, **found}


def _look(family: Family, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        family.look()
        time.sleep(_LOOKS)


def summed(notes: Sequence[Mapping[str, Any]], begun: float) -> dict[str, Any]:
    """Sum up what all processes have noted: seconds by phase, when the first steps were taken, who trained."""
    seconds: Seconds = {}
    for note in notes:
        for phase, (wall, cpu, _) in note.get("costs", {}).items():
            name = f"{phase}, in a thread" if note["thread"] == _WRITER else phase
            sums = seconds.setdefault(name, {"wall": 0.0, "cpu": 0.0})
            sums["wall"] += wall
            sums["cpu"] += cpu
    steps = [note["at"] - begun for note in notes if "first_step" in note]
    trained = {note["pid"] for note in notes if "students' training" in note.get("costs", {})}
    return {"seconds": seconds, "first_step": min(steps, default=0.0), "processes": len(trained)}


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the medians of each code's rounds as a table: wall and CPU seconds by phase."""
    codes = list(dict.fromkeys(row["code"] for row in rows))
    names = {name for row in rows for name in row["seconds"]}
    known = [name for phase in ORDER for name in (phase, f"{phase}, in a thread") if name in names]
    lines = [f"{'seconds (wall, CPU)':<36}" + "".join(f"{code:>20}" for code in codes)]
    for name in [*known, *sorted(names - {*known, _WHOLE}), _WHOLE]:
        cells = "".join(
            f"{_median(rows, code, name, 'wall'):>11.2f}{_median(rows, code, name, 'cpu'):>9.2f}" for code in codes
        )
        lines.append(f"{name:<36}{cells}")
    for key, text in (
        ("first_step", "seconds to the first step"),
        ("processes", "processes that trained students"),
        ("trials_per_hour", "trials per hour"),
    ):
        values = [statistics.median(row[key] for row in rows if row["code"] == code) for code in codes]
        lines.append(f"{text:<36}" + "".join(f"{value:>20.1f}" for value in values))
    return "\n".join(lines)


def _median(rows: Sequence[Mapping[str, Any]], code: str, name: str, kind: str) -> float:
    found: list[float] = [row["seconds"].get(name, {}).get(kind, 0.0) for row in rows if row["code"] == code]
    return statistics.median(found)


def add(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add a line for each run and phase to a file."""
    new = not path.is_file()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(["code", "where", "round", "trials", "phase", "wall_s", "cpu_s"])
        for row in rows:
            start = [row["code"], row["where"], row["round"], row["trials"]]
            for name, costs in row["seconds"].items():
                writer.writerow([*start, name, f"{costs['wall']:.3f}", f"{costs['cpu']:.3f}"])
            writer.writerow([*start, "until the first step", f"{row['first_step']:.3f}", ""])
