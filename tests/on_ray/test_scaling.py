"""A trial costs the same whatever came before it: files touched, history read and rows shown are counted, not timed."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from raydistill.config.own import Carried
from raydistill.errors import UserError
from raydistill.runs.stopping import Stop
from raydistill.sweeps.directory import TrialRecord
from raydistill.sweeps.file import load_sweep
from raydistill.sweeps.plan import Plan
from raydistill.sweeps.table import SweepDisplay
from tests.outputs import plan_of
from tests.small import small_sweep

_TOUCHES = ("open", "os.listdir", "os.scandir", "os.rename", "os.remove", "os.mkdir")
_counting: Counter[str] | None = None  # a hook stays for good: it listens while there is something to count into


def _hear(event: str, about: tuple[Any, ...]) -> None:
    if _counting is not None and event in _TOUCHES and not isinstance(about[0], int):  # that file is open already
        _counting[event] += 1


sys.addaudithook(_hear)


@contextlib.contextmanager
def _counted() -> Iterator[Counter[str]]:
    """Count what is opened, listed, renamed and removed meanwhile."""
    global _counting
    _counting = found = Counter()
    try:
        yield found
    finally:
        _counting = None


def _plan(folder: Path, search: str, trials: int) -> Plan:
    space = {
        "methods.tar.feature.weight": {"uniform": [0.5, 2]},
        "methods.tar.classification.weight": {"uniform": [0.5, 2]},
    }
    return plan_of(load_sweep(small_sweep(folder, search=search, num_trials=trials, space=space)))


def _finish(plan: Plan, name: str, score: float) -> None:
    run = plan.directory.trial(name).run
    run.path.mkdir()
    run.metrics.write_text(json.dumps({"epoch": 1, "val/AP": score}) + "\n")
    run.result.write_text('{"epochs": 1, "parameters": 1, "AP": 0.5}')


def _touched(plan: Plan) -> list[Counter[str]]:
    """Run the plan to its end; return what handing out and ending each trial has touched."""
    touched = []
    while True:
        with _counted() as handed_out:
            record = plan.next()
        if record is None:
            return touched
        _finish(plan, record.name, len(touched) * 0.618 % 1)
        with _counted() as ended:
            plan.end(record.name, 1.0)
        touched.append(handed_out + ended)


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_a_trial_touches_as_many_files_after_sixteen_others_as_after_five(tmp_path: Path, search: str) -> None:
    touched = _touched(_plan(tmp_path, search, 18))
    assert touched[16] == touched[5]
    assert 0 < touched[16]["open"] <= 10
    assert touched[16]["os.listdir"] + touched[16]["os.scandir"] <= 1  # of its own folder


def test_a_trial_writes_as_many_bytes_after_sixteen_others_as_after_five(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "random", 18)
    _touched(plan)
    everything = [file for file in plan.directory.path.rglob("*") if file.is_file()]
    assert {file.relative_to(plan.directory.path).parts[0] for file in everything} == {"sweep.yaml", "trials"}
    of_trials = [sum(file.stat().st_size for file in trial.path.glob("*.*")) for trial in plan.directory.trials()]
    assert max(of_trials[2:]) - min(of_trials[2:]) < 100  # digits


def test_going_on_reads_each_record_once(tmp_path: Path) -> None:
    numbers = {}
    for trials in (5, 15):
        folder = tmp_path / str(trials)
        _touched(_plan(folder, "random", trials))
        loaded = load_sweep(str(folder / "small.yaml"))
        with _counted() as found:
            plan_of(loaded)
        numbers[trials] = found
    assert numbers[15]["open"] - numbers[5]["open"] == 10
    # pathlib looks into the folder of each trial once
    assert numbers[15]["os.scandir"] - numbers[5]["os.scandir"] <= 10


def test_optuna_does_not_compare_the_spaces_of_all_earlier_points_for_each_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: Counter[int] = Counter()
    plan = _plan(tmp_path, "optuna", 28)
    equal = optuna.distributions.FloatDistribution.__eq__
    number = 0

    def counting(self: Any, other: object) -> bool:
        compared[number] += 1
        return bool(equal(self, other))

    monkeypatch.setattr(optuna.distributions.FloatDistribution, "__eq__", counting)
    while (record := plan.next()) is not None:
        _finish(plan, record.name, number * 0.618 % 1)
        plan.end(record.name, 1.0)
        number += 1
    assert compared[26] == compared[16] > 0


def test_the_live_table_has_no_more_rows_than_a_terminal_has_lines() -> None:
    display = SweepDisplay("AP", "max", 3000, io.StringIO())
    for number in range(2000):
        record = TrialRecord(f"p{number:04d}-seed0", "searched", number, 0)
        display.begins(record)
        if number < 1000:
            display.ends(record, number / 1000)
    table = display._table()._table(width=160, height=40)
    shown = [str(cell) for cell in table.columns[0].cells]
    assert table.row_count <= 25
    assert table.caption == "not shown: 984 running, 992 ended"
    assert shown[-8:] == [f"p{number:04d}-seed0" for number in range(999, 991, -1)]
    assert str(table.title) == "1000 of 3000 trials ended, 1000 running, 0 min"


def test_ray_hears_of_two_numbers_an_epoch() -> None:
    from raydistill.on_ray.trial import SweepOrder, _for_ray

    order = SweepOrder(
        None, "AP", population=False, brackets=False, shipped={}, group=None, next_round=0, own=Carried(())
    )  # type: ignore[arg-type]
    metrics = {"train/total": 1.5, "val/AP": 0.25, "val/class/cat": 0.5}
    assert _for_ray(metrics, 3, order) == {"epoch": 3, "score": 0.25}


def test_ray_takes_no_snapshots_of_all_trials() -> None:
    from ray.tune.execution.tune_controller import TuneController

    from raydistill.on_ray import sweep

    assert "TUNE_GLOBAL_CHECKPOINT_S" in inspect.getsource(TuneController.__init__)
    assert float(sweep.os.environ["TUNE_GLOBAL_CHECKPOINT_S"]) > 10**8


@pytest.mark.parametrize("trained", [False, True])
def test_the_driver_imports_torch_only_to_have_a_teacher_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: bool
) -> None:
    from raydistill.on_ray import sweep

    wanted: list[str] = []

    def connected(cpus: int, dashboard: bool, meanwhile: str, *_: object) -> contextlib.AbstractContextManager[None]:
        wanted.append(meanwhile)
        raise UserError("no Ray here")

    plan = _plan(tmp_path, "random", 1)
    if trained:
        plan.directory.teacher.path.mkdir()
        plan.directory.teacher.result.write_text('{"epochs": 1, "parameters": 1, "AP": 0.5}')
    monkeypatch.setattr(sweep, "connected", connected)
    with pytest.raises(UserError):
        sweep.run_sweep_on_ray(plan, SweepDisplay("AP", "max", 3, io.StringIO()), Stop())
    assert wanted == ["" if trained else "ray.train.torch"]
