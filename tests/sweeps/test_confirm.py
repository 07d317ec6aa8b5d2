"""The winner run again under fresh seeds: which trials, in which order, and that those of before stay as they are."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from raydistill.config import load_config
from raydistill.errors import UserError
from raydistill.sweeps.confirm import check_confirmation, confirmed
from raydistill.sweeps.file import PbtScheduler, load_sweep
from raydistill.sweeps.file.confirmation import fresh_seeds
from raydistill.sweeps.plan import Plan
from tests.outputs import plan_of
from tests.small import small_sweep

SHAPES = {"decay.shape": {"grid": ["linear", "cosine"]}}
SEARCHED = ["baseline-seed0", "constant-seed0", "p0000-seed0", "p0001-seed0"]


def _plan(folder: Path, confirm: int = 0, **changes: Any) -> Plan:
    loaded = load_sweep(small_sweep(folder, **({"space": SHAPES} | changes)))
    return plan_of(confirmed(loaded, 1, {"decay.shape": "cosine"}, confirm) if confirm else loaded)


def _run(plan: Plan, *failing: str) -> list[str]:
    """Let every trial of the plan end at once, and return their names."""
    names = []
    while (record := plan.next()) is not None:
        run = plan.directory.trial(record.name).run
        run.path.mkdir(parents=True, exist_ok=True)
        run.metrics.write_text(json.dumps({"epoch": 1, "val/AP": 0.1 + record.seed % 7 / 100}) + "\n")
        run.result.write_text(json.dumps({"epochs": 1, "parameters": 1, "AP": 0.1}))
        plan.end(record.name, 1.0, "its worker was lost" if record.name in failing else "")
        names.append(record.name)
    return names


def _files(plan: Plan) -> dict[str, tuple[bytes, int]]:
    """Return content and time of all files of the search."""
    files = [path for path in plan.directory.path.glob("trials/[!c]*/**/*") if path.is_file()]
    files += [path for path in plan.directory.path.glob("trials/constant*/**/*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_the_student_alone_and_the_point_are_trained_under_seeds_that_no_trial_had(tmp_path: Path) -> None:
    assert _run(_plan(tmp_path)) == SEARCHED
    plan = _plan(tmp_path, confirm=2)
    before = _files(plan)
    assert plan.unfinished
    assert plan.total == 4
    assert _run(plan) == [
        *("confirm-baseline-seed1000", "confirm-baseline-seed1001"),
        *("confirm-p0001-seed1000", "confirm-p0001-seed1001"),
    ]
    assert _files(plan) == before and before
    trial = plan.directory.trial("confirm-p0001-seed1001")
    record, config = trial.read(), load_config(str(trial.recipe))
    assert (record.role, record.point, record.seed) == ("confirmed", 1, 1001)
    assert record.settings == {"decay.shape": "cosine"}
    assert (config.seed, config.decay.shape, config.distills) == (1001, "cosine", True)
    alone = plan.directory.trial("confirm-baseline-seed1000")
    assert (alone.read().role, load_config(str(alone.recipe)).distills) == ("confirmed_baseline", False)


def test_repeating_it_does_nothing_and_more_seeds_go_on(tmp_path: Path) -> None:
    _run(_plan(tmp_path))
    _run(_plan(tmp_path, confirm=1))
    again = _plan(tmp_path, confirm=1)
    assert not again.unfinished
    assert _run(again) == []
    assert again.headline.endswith("(1000); 2 of 2 trials ended before and are kept")
    assert _run(_plan(tmp_path, confirm=2)) == ["confirm-baseline-seed1001", "confirm-p0001-seed1001"]
    assert _run(_plan(tmp_path, confirm=1)) == []


def test_an_interrupted_confirmation_goes_on_and_a_failed_trial_is_tried_again(tmp_path: Path) -> None:
    _run(_plan(tmp_path))
    plan = _plan(tmp_path, confirm=2)
    first = plan.next()
    assert first is not None
    plan.interrupted(first.name, 5.0)
    assert _run(_plan(tmp_path, 2), "confirm-p0001-seed1000")[0] == first.name
    last = _plan(tmp_path, confirm=2)
    assert _run(last) == ["confirm-p0001-seed1000"]
    assert last.record(first.name).seconds == 6.0


def test_a_trial_of_the_search_that_failed_is_not_tried_again_by_a_confirmation(tmp_path: Path) -> None:
    _run(_plan(tmp_path), "p0000-seed0")
    assert all(name.startswith("confirm-") for name in _run(_plan(tmp_path, confirm=1)))
    assert _plan(tmp_path).directory.trial("p0000-seed0").read().status == "failed"


def test_the_sweep_itself_neither_runs_nor_counts_what_was_confirmed(tmp_path: Path) -> None:
    _run(_plan(tmp_path))
    plan = _plan(tmp_path, confirm=2)
    plan.next()
    later = _plan(tmp_path)
    assert not later.unfinished
    assert later.total == 4
    assert _run(_plan(tmp_path, seeds=2)) == [name.replace("seed0", "seed1") for name in SEARCHED]


def test_a_search_learns_nothing_from_what_was_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: dict[str, Any] = {"search": "optuna", "num_trials": 2, "space": {"decay.power": {"uniform": [1, 4]}}}
    changes["settings"] = {"decay.shape": "polynomial"}
    told: list[tuple[int, float]] = []
    monkeypatch.setattr(
        "raydistill.sweeps.suggestions.Suggestions.tell", lambda _, number, value, __: told.append((number, value))
    )
    _run(_plan(tmp_path, **changes))
    first = [*told]
    assert [number for number, _ in first] == [0, 1]
    _run(_plan(tmp_path, confirm=2, **changes))
    told.clear()
    assert _run(_plan(tmp_path, **changes)) == []
    assert told == first


def test_fresh_seeds_lie_beyond_any_number_of_seeds_and_pass_over_those_that_were_used() -> None:
    assert fresh_seeds(2, 5, [5, 6]) == (1005, 1006)
    assert fresh_seeds(2, 0, [1000, 0]) == (1001, 1002)
    assert all(0 <= seed < 2**63 for seed in fresh_seeds(3, 2**63 - 1, []))


@pytest.mark.parametrize("number", [-1, 1001, True])
def test_a_number_of_seeds_that_cannot_be_is_refused(tmp_path: Path, number: int) -> None:
    with pytest.raises(UserError, match=rf"^confirm: must be a number of seeds, 1 to 1000, got {number}$"):
        check_confirmation(load_sweep(small_sweep(tmp_path)), number)


def test_a_population_cannot_be_confirmed(tmp_path: Path) -> None:
    loaded = load_sweep(small_sweep(tmp_path))
    changed = loaded.sweep.model_copy(update={"scheduler": PbtScheduler(name="pbt")})
    population = dataclasses.replace(loaded, sweep=changed)
    with pytest.raises(UserError, match="must be left out with scheduler pbt"):
        check_confirmation(population, 3)
    check_confirmation(population, 0)
