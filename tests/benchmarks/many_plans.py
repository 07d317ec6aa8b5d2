"""The plan of a sweep of many trials, driven without Ray: ``python -m tests.benchmarks.many_plans TRIALS SEARCH``.

All trials but the last hundred have ended before: what going on costs, and what each of the hundred does.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from raydistill.sweeps.directory import SweepDirectory, TrialRecord
from raydistill.sweeps.file import LoadedSweep, load_sweep
from tests.benchmarks.processes import own
from tests.outputs import plan_of
from tests.small import small_sweep

TIMED = 100
SPACE = {
    "methods.tar.feature.weight": {"loguniform": [0.01, 100]},
    "methods.tar.classification.weight": {"loguniform": [0.01, 100]},
    "decay.shape": {"choice": ["linear", "exponential"]},
    "decay.rate": {"loguniform": [1, 10], "when": {"decay.shape": "exponential"}},
}


def finish(sweep: SweepDirectory, name: str, number: int) -> None:
    """Leave what a trial of one epoch leaves; scores differ from trial to trial."""
    run = sweep.trial(name).run
    run.path.mkdir(parents=True)
    run.metrics.write_text(json.dumps({"epoch": 1, "val/AP": number * 0.618034 % 1}) + "\n")
    run.result.write_text("{}")


def end_before(loaded: LoadedSweep, sweep: SweepDirectory, trials: int) -> None:
    """Leave ``trials`` points as an earlier session would, without its waiting for the disk."""
    for number, point in enumerate((loaded.points or ())[:trials]):
        record = TrialRecord(f"p{number:04d}-seed0", "searched", number, 0, point, "finished", "", 1.0)
        finish(sweep, record.name, number)
        sweep.trial(record.name).record_file.write_text(json.dumps(vars(record)))


def measure(trials: int, search: str) -> dict[str, str | float]:
    """Return CPU times: of reading the sweep, of going on with it, and per trial."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        loaded = load_sweep(small_sweep(Path(folder), search="random", num_trials=trials, space=SPACE))
        ready = time.process_time() - started
        sweep = SweepDirectory(Path(loaded.config.output))
        end_before(loaded, sweep, trials - TIMED)
        if search != "random":
            loaded = load_sweep(small_sweep(Path(folder), search=search, num_trials=trials, space=SPACE))
        started = time.process_time()
        plan = plan_of(loaded)
        going_on = time.process_time() - started
        next_seconds, end_seconds, number = 0.0, 0.0, 0
        while True:
            started = time.process_time()
            record = plan.next()
            if record is None:
                break
            next_seconds += time.process_time() - started
            finish(sweep, record.name, number)
            started = time.process_time()
            plan.end(record.name, 1.0)
            plan.score(record.name)
            end_seconds += time.process_time() - started
            number += 1
    return {
        "what": f"plan, {search}",
        "trials": trials,
        "reading_cpu_s": ready,
        "going_on_cpu_s": going_on,
        "handing_out_ms": 1000 * next_seconds / number,
        "ending_ms": 1000 * end_seconds / number,
        "peak_mib": own().peak,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(int(sys.argv[1]), sys.argv[2])) + "\n")
