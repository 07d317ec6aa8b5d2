"""Sweeps acted out: trials leave the files of a run with made-up scores, and nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from raydistill.sweeps.directory import TrialRecord
from raydistill.sweeps.file import load_sweep
from raydistill.sweeps.plan import Plan
from tests.outputs import plan_of
from tests.small import small_sweep

SHAPES = {"decay.shape": {"grid": ["linear", "cosine"]}}


def planned(folder: Path, *overrides: str, **changes: Any) -> Plan:
    """Return the plan of a small sweep with other keys."""
    return plan_of(load_sweep(small_sweep(folder, **({"space": SHAPES} | changes)), overrides))


def handed_out(plan: Plan) -> Iterator[str]:
    """Yield the names of the trials that are to be run."""
    while (record := plan.next()) is not None:
        yield record.name


def evaluated(plan: Plan, name: str, *scores: float, finished: bool = True, **more: float) -> None:
    """Leave the files of a run that scored ``scores`` in its epochs."""
    run = plan.directory.trial(name).run
    run.path.mkdir(parents=True, exist_ok=True)
    lines = [{"epoch": epoch, "val/AP": score} | more for epoch, score in enumerate(scores, start=1)]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        run.result.write_text(json.dumps({"epochs": 1, "parameters": 1, "AP": 0.5}))


def run_all(plan: Plan, score: Callable[[TrialRecord], float] = lambda _: 0.2) -> list[str]:
    """Run what is left, and return the trials in their order; one whose score is negative fails."""
    names = []
    for name in handed_out(plan):
        names.append(name)
        value = score(plan.record(name))
        evaluated(plan, name, 0.1, max(value, 0), finished=value >= 0)
        for file in ("best.pt", "last.pt", "checkpoint.pt"):
            (plan.directory.trial(name).run.path / file).write_bytes(b"weights")
        plan.end(name, 1.0, lost="" if value >= 0 else "its worker was lost")
    return names


def files_of(plan: Plan) -> dict[Path, bytes]:
    """Return every file of the trials that are there."""
    return {file: file.read_bytes() for file in plan.directory.path.glob("trials/**/*") if file.is_file()}


def settings_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the settings of every searched trial by its name."""
    return {record.name: record.settings for record in plan.records if record.role == "searched"}
