"""The report of a big sweep that nobody trained: ``python -m tests.benchmarks.big_reports TRIALS EPOCHS``."""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path

from raydistill.reports import write_report
from raydistill.sweeps.directory import SweepDirectory, TrialRecord
from tests.benchmarks.processes import own
from tests.reports import made_up

SPACE = {
    "methods.tar.feature.weight": {"loguniform": [0.1, 10]},
    "methods.tar.classification.weight": {"loguniform": [0.1, 10]},
    "decay.shape": {"choice": ["linear", "exponential"]},
}


def big_sweep(folder: Path, trials: int, epochs: int) -> None:
    """Write a sweep of ``trials`` trials, the controls among them; every epoch is evaluated, every trial finished."""
    made_up.begin(folder, space=SPACE, seeds=[0])
    shape = [1 - 0.9**epoch for epoch in range(1, epochs + 1)]
    made_up.trial(folder, "baseline-seed0", "baseline", -1, 0, {}, [0.3 * share for share in shape])
    constant = {"decay.shape": "constant"}
    made_up.trial(folder, "constant-seed0", "constant", -2, 0, constant, [0.32 * share for share in shape])
    chance = random.Random(0)
    for number in range(trials - 2):
        feature_weight = round(10 ** chance.uniform(-1, 1), 4)
        settings = {
            "methods.tar.feature.weight": feature_weight,
            "methods.tar.classification.weight": round(10 ** chance.uniform(-1, 1), 4),
            "decay.shape": chance.choice(["linear", "exponential"]),
        }
        directory = SweepDirectory(folder).trial(f"p{number:04d}-seed0")
        directory.path.mkdir(parents=True)
        record = TrialRecord(directory.path.name, "searched", number, 0, settings, "finished", "", 10.0)
        directory.record_file.write_text(json.dumps(vars(record)))  # without waiting for the disk, as record.write does
        directory.recipe.write_text(made_up.recipe(folder, f"decay.shape={settings['decay.shape']}"))
        top = 0.2 + 0.01 * feature_weight + 0.1 * chance.random()
        made_up.stage_directory(directory.path / "distilled", "distilled", [top * share for share in shape])


def measure(trials: int, epochs: int) -> dict[str, str | float]:
    """Return what a report costs and how big its files are."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(folder) / "sweep"
        big_sweep(sweep, trials, epochs)
        before, cpu = time.monotonic(), time.process_time()
        write_report(sweep)
        seconds, cpu = time.monotonic() - before, time.process_time() - cpu
        sizes = {file.name: file.stat().st_size / 1e6 for file in (sweep / "report").iterdir()}
    return {
        "what": "report",
        "trials": trials,
        "epochs": epochs,
        "seconds": seconds,
        "cpu_s": cpu,
        "peak_mib": own().peak,
        "page_mb": sizes["report.html"],
        "epochs_csv_mb": sizes["epochs.csv"],
        "all_files_mb": sum(sizes.values()),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))) + "\n")
