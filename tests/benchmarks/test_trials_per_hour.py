"""The phases of a sweep, summed up from what its processes noted."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raydistill.sweeps.file import load_sweep
from tests.benchmarks.trials_per_hour import SWEEP, add, as_text, summed


def _recorder() -> Any:
    """Return the module that Python imports in every process, without the hooks that it sets there."""
    file = Path(__file__).parent / "in_every_process" / "sitecustomize.py"
    spec = importlib.util.spec_from_file_location("recorder", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_that_its_sweep_is_one() -> None:
    assert load_sweep(SWEEP).num_trials == 12


def test_that_the_functions_it_times_are_there() -> None:
    for name, functions in _recorder().PHASES.items():
        module = importlib.import_module(name)
        for path in functions:
            held: Any = module
            for part in path.split("."):
                held = getattr(held, part)
            assert callable(held)


def test_a_phase_is_without_those_inside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, clock = _recorder(), iter([0.0, 1.0, 4.0, 10.0])
    monkeypatch.setenv("PHASES_FILE", str(tmp_path / "noted"))
    told = SimpleNamespace(perf_counter=lambda: next(clock), thread_time=lambda: 0.0, time=lambda: 0.0)
    monkeypatch.setattr(recorder, "time", told)
    inner = recorder.timed(lambda: None, "images")
    recorder.timed(lambda: inner(), "evaluation")()
    (note,) = [json.loads(line) for line in (tmp_path / "noted").read_text().splitlines()]
    assert note["costs"] == {"images": [3.0, 0.0, 1], "evaluation": [7.0, 0.0, 1]}


def test_the_processes_add_up(tmp_path: Path) -> None:
    notes = [
        {"pid": 1, "at": 12.0, "first_step": "teacher"},
        {"pid": 1, "at": 13.0, "thread": "MainThread", "costs": {"students' training": [2.0, 1.0, 1]}},
        {
            "pid": 2,
            "at": 14.0,
            "thread": "MainThread",
            "costs": {"students' training": [1.0, 0.5, 1], "start": [0.1, 0.1, 1]},
        },
        {"pid": 2, "at": 15.0, "thread": "writes checkpoints", "costs": {"checkpoints and exports": [1.0, 0.2, 1]}},
    ]
    found = summed(notes, begun=10.0)
    assert found["seconds"]["students' training"] == {"wall": 3.0, "cpu": 1.5}
    assert found["seconds"]["checkpoints and exports, in a thread"] == {"wall": 1.0, "cpu": 0.2}
    assert (found["first_step"], found["processes"]) == (2.0, 2)
    row = {"code": "this", "round": 0, "where": "local", "trials": 2, "trials_per_hour": 9.0, **found}
    row["seconds"]["whole command"] = {"wall": 5.0, "cpu": 4.0}
    assert "students' training                         3.00     1.50" in as_text([row])
    add(tmp_path / "rows.csv", [row])
    assert "this,local,0,2,students' training,3.000,1.500\n" in (tmp_path / "rows.csv").read_text()
