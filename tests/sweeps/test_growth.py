"""Sweeps that grow: points keep their numbers, new ones are appended, old trials stay as they are to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill.errors import UserError
from raydistill.sweeps.directory import SweepDirectory, TrialRecord
from raydistill.sweeps.file import load_sweep
from raydistill.sweeps.plan import Plan
from tests.outputs import plan_of
from tests.sweeps.acted import SHAPES, evaluated, files_of, handed_out, planned, run_all, settings_of

WEIGHT = "methods.tar.feature.weight"
RANDOM: dict[str, Any] = {
    "search": {"method": "random", "seed": 4},
    "num_trials": 6,
    "space": {WEIGHT: {"loguniform": [0.1, 10]}, "decay.shape": {"choice": ["linear", "cosine"]}},
}
OPTUNA = RANDOM | {"search": {"method": "optuna", "seed": 4, "startup_trials": 5}, "num_trials": 20}
WIDER = {WEIGHT: {"loguniform": [0.01, 100]}, "decay.shape": {"choice": ["linear", "exponential", "cosine"]}}


def _score(record: TrialRecord) -> float:
    return round(0.2 + 0.7 / (1 + record.settings.get(WEIGHT, 1)) + 0.001 * record.seed, 6)


def _grown(folder: Path, *overrides: str, **changes: Any) -> tuple[list[str], Plan]:
    """Let a sweep that is there grow and run what that adds, while what was there stays; return what was run."""
    plan = planned(folder, *overrides, **changes)
    before = files_of(plan)
    assert before
    names = run_all(plan, _score)
    after = files_of(plan)
    assert {file: after[file] for file in before} == before
    assert {file.relative_to(plan.directory.path).parts[1] for file in after.keys() - before.keys()} == set(names)
    return names, plan


def _points(plan: Plan) -> list[dict[str, Any]]:
    return [settings for name, settings in settings_of(plan).items() if name.endswith("-seed0")]


# More points ----------------------------------------------------------------------------------------------------------
def test_a_random_sweep_of_six_points_becomes_that_of_nine(tmp_path: Path) -> None:
    run_all(planned(tmp_path / "six", **RANDOM), _score)
    names, plan = _grown(tmp_path / "six", **RANDOM | {"num_trials": 9})
    assert names == ["p0006-seed0", "p0007-seed0", "p0008-seed0"]
    whole = planned(tmp_path / "nine", **RANDOM | {"num_trials": 9})
    assert settings_of(plan) == settings_of(whole)
    assert plan.total == 11
    assert "has grown from 6 points under 1 seed to 9 under 1; points keep their numbers" in plan.headline


def test_an_optuna_sweep_of_twenty_points_becomes_that_of_thirty(tmp_path: Path) -> None:
    run_all(planned(tmp_path / "grown", **OPTUNA), _score)
    names, plan = _grown(tmp_path / "grown", **OPTUNA | {"num_trials": 30})
    assert names == [f"p{number:04d}-seed0" for number in range(20, 30)]
    whole = planned(tmp_path / "whole", **OPTUNA | {"num_trials": 30})
    run_all(whole, _score)
    assert settings_of(plan) == settings_of(whole)
    late, early = ([point[WEIGHT] for point in _points(plan)[part]] for part in (slice(20, 30), slice(0, 5)))
    assert sum(late) / 10 < sum(early) / 5  # the score is higher for small weights: it has learnt from the first twenty


def test_a_grid_takes_another_value(tmp_path: Path) -> None:
    space = SHAPES | {WEIGHT: {"grid": [1, 2]}}
    run_all(planned(tmp_path, space=space), _score)
    names, plan = _grown(tmp_path, space=space | {WEIGHT: {"grid": [0.5, 1, 2]}})
    assert names == ["p0004-seed0", "p0005-seed0"]
    assert _points(plan)[:4] == [{"decay.shape": s, WEIGHT: w} for s in ("linear", "cosine") for w in (1, 2)]
    assert _points(plan)[4:] == [{"decay.shape": s, WEIGHT: 0.5} for s in ("linear", "cosine")]
    assert not planned(tmp_path, space=space | {WEIGHT: {"grid": [0.5, 1, 2]}}).unfinished


def test_a_value_with_settings_of_its_own_is_added(tmp_path: Path) -> None:
    run_all(planned(tmp_path), _score)
    rate = {"grid": [2, 3], "when": {"decay.shape": "exponential"}}
    space = {"decay.shape": {"grid": ["linear", "exponential", "cosine"]}, "decay.rate": rate}
    names, plan = _grown(tmp_path, space=space)
    assert names == ["p0002-seed0", "p0003-seed0"]
    assert [point.get("decay.rate") for point in _points(plan)] == [None, None, 2, 3]


def test_an_ablation_takes_another_value_and_another_setting(tmp_path: Path) -> None:
    ablation: dict[str, Any] = {"search": "ablation", "space": {"decay.shape": {"grid": ["cosine"]}}}
    run_all(planned(tmp_path, **ablation), _score)
    more = {"decay.shape": {"grid": ["exponential", "cosine"]}, WEIGHT: {"grid": [1]}}
    names, plan = _grown(tmp_path, **ablation | {"space": more})
    assert names == ["p0002-seed0", "p0003-seed0"]
    assert _points(plan) == [{}, {"decay.shape": "cosine"}, {"decay.shape": "exponential"}, {WEIGHT: 1}]


# A wider space --------------------------------------------------------------------------------------------------------
def test_a_random_sweep_draws_what_is_added_from_the_wider_space(tmp_path: Path) -> None:
    run_all(planned(tmp_path, **RANDOM), _score)
    first = settings_of(planned(tmp_path, **RANDOM))
    names, plan = _grown(tmp_path, **RANDOM | {"num_trials": 30, "space": WIDER})
    assert len(names) == 24
    assert settings_of(plan).items() >= first.items()
    assert any(not 0.1 <= point[WEIGHT] <= 10 for point in _points(plan)[6:])
    assert "exponential" in {point["decay.shape"] for point in _points(plan)[6:]}
    again, last = _grown(tmp_path, **RANDOM | {"num_trials": 33, "space": WIDER})
    assert again == ["p0030-seed0", "p0031-seed0", "p0032-seed0"]
    assert settings_of(last).items() >= settings_of(plan).items()


def test_what_optuna_was_told_before_its_space_grew_counts(tmp_path: Path) -> None:
    run_all(planned(tmp_path, **OPTUNA), _score)
    plan = planned(tmp_path, **OPTUNA | {"num_trials": 30, "space": WIDER})
    assert plan._suggestions is not None
    told = plan._suggestions._study.get_trials()
    assert [trial.value for trial in told if trial.value is not None] == [
        pytest.approx(_score(plan.record(f"p{number:04d}-seed0"))) for number in range(20)
    ]
    run_all(plan, _score)
    assert min(point[WEIGHT] for point in _points(plan)[20:]) < 0.1  # where the good ones are
    assert not planned(tmp_path, **OPTUNA | {"num_trials": 30, "space": WIDER}).unfinished


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_a_sweep_that_was_interrupted_grows_too(tmp_path: Path, search: str) -> None:
    sweep = RANDOM | {"search": {"method": search, "seed": 4}}
    plan = planned(tmp_path, **sweep)
    assert len([name for _, name in zip(range(4), handed_out(plan), strict=False)]) == 4  # controls, and two points
    grown = planned(tmp_path, **sweep | {"num_trials": 8, "space": WIDER})
    points = {name: settings for name, settings in settings_of(plan).items() if name in ("p0000-seed0", "p0001-seed0")}
    assert settings_of(grown).items() >= points.items()
    assert len(run_all(grown, _score)) == 10
    (covered,) = grown.loaded.grown
    assert covered.num_points == (6 if search == "random" else 2)


# More seeds -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "sweep", [RANDOM, OPTUNA | {"num_trials": 6}, {}, {"space": {}}], ids=["random", "optuna", "grid", "base"]
)
def test_a_sweep_takes_more_seeds(tmp_path: Path, sweep: dict[str, Any]) -> None:
    run_all(planned(tmp_path, **sweep), _score)
    before = settings_of(planned(tmp_path, **sweep))
    names, plan = _grown(tmp_path, "seeds=3", **sweep)
    assert len(names) == 2 * (2 + len(before))
    assert {name[:5]: settings for name, settings in settings_of(plan).items()} == {
        name[:5]: settings for name, settings in before.items()
    }


def test_seeds_and_points_are_added_at_once_to_what_optuna_has_found(tmp_path: Path) -> None:
    run_all(planned(tmp_path, **OPTUNA | {"num_trials": 6}), _score)
    names, _ = _grown(tmp_path, **OPTUNA | {"num_trials": 8, "seeds": 2})
    assert names[:2] == ["baseline-seed1", "constant-seed1"]
    assert names[2:8] == [f"p{number:04d}-seed1" for number in range(6)]
    assert names[8:] == [f"p000{number}-seed{seed}" for number in (6, 7) for seed in (0, 1)]


# What is remembered ---------------------------------------------------------------------------------------------------
def test_the_directory_says_what_the_sweep_covered_before(tmp_path: Path) -> None:
    run_all(planned(tmp_path, **RANDOM), _score)
    run_all(planned(tmp_path, "num_trials=7", "seeds=2", **RANDOM), _score)
    plan = planned(tmp_path, **RANDOM | {"num_trials": 9, "seeds": 2, "space": WIDER})
    written = yaml.safe_load(plan.directory.settings.read_text())
    assert [(one["num_points"], one["num_trials"], one["seeds"]) for one in written["grown"]] == [
        (6, 6, [0]),
        (7, 7, [0, 1]),
    ]
    assert written["grown"][1]["space"][WEIGHT] == {"loguniform": [0.1, 10.0]}
    assert load_sweep(str(plan.directory.settings)).sweep == plan.loaded.sweep


def test_a_sweep_that_only_goes_on_has_not_grown(tmp_path: Path) -> None:
    planned(tmp_path, **RANDOM).next()
    planned(tmp_path, **RANDOM)
    assert planned(tmp_path, **RANDOM).loaded.grown == ()


def test_a_sweep_of_which_no_trial_was_begun_is_replaced_and_has_not_grown(tmp_path: Path) -> None:
    planned(tmp_path, **RANDOM)
    assert planned(tmp_path, "num_trials=9", **RANDOM).loaded.grown == ()


def test_a_sweep_that_shrinks_is_refused_in_a_sentence(tmp_path: Path) -> None:
    run_all(planned(tmp_path, **RANDOM), _score)
    written = SweepDirectory(tmp_path / "sweep").settings.read_bytes()
    with pytest.raises(UserError, match="num_trials: 6 then, 5 now; it can be raised, not lowered: give num_trials=6"):
        planned(tmp_path, "num_trials=5", **RANDOM)
    assert SweepDirectory(tmp_path / "sweep").settings.read_bytes() == written


def test_a_sweep_under_a_scheduler_is_refused_with_the_reason(tmp_path: Path) -> None:
    run_all(planned(tmp_path, scheduler="asha", **RANDOM), _score)
    with pytest.raises(UserError, match="with scheduler asha a sweep cannot grow: which trials it stopped was decided"):
        planned(tmp_path, "num_trials=9", scheduler="asha", **RANDOM)


# Points that are given ------------------------------------------------------------------------------------------------
GIVEN = [{"decay.shape": "cosine", WEIGHT: 2.0}, {WEIGHT: 5.0}]
COMPLETED = [{WEIGHT: 2.0, "decay.shape": "cosine"}, {WEIGHT: 5.0, "decay.shape": "linear"}]


@pytest.mark.parametrize("sweep", [RANDOM, OPTUNA | {"num_trials": 6}], ids=["random", "optuna"])
def test_given_points_come_first_and_count(tmp_path: Path, sweep: dict[str, Any]) -> None:
    plan = planned(tmp_path, **sweep, points=GIVEN)
    assert len(run_all(plan, _score)) == 8
    assert _points(plan)[:2] == COMPLETED
    assert len(_points(plan)) == 6
    assert not planned(tmp_path, **sweep, points=GIVEN).unfinished


def test_a_grid_begins_with_the_given_points_and_runs_none_twice(tmp_path: Path) -> None:
    space = SHAPES | {WEIGHT: {"grid": [1, 2]}}
    plan = planned(tmp_path, space=space, points=[{"decay.shape": "cosine", WEIGHT: 2}])
    assert _points(plan) == [
        {"decay.shape": shape, WEIGHT: weight}
        for shape, weight in (("cosine", 2), ("linear", 1), ("linear", 2), ("cosine", 1))
    ]
    assert plan.loaded.dropped == ()


def test_a_point_that_is_given_later_comes_after_what_was_there(tmp_path: Path) -> None:
    for search in ("random", "optuna"):
        sweep = RANDOM | {"search": {"method": search, "seed": 4}}
        run_all(planned(tmp_path / search, **sweep), _score)
        names, plan = _grown(tmp_path / search, **sweep | {"num_trials": 8, "points": GIVEN[:1]})
        assert names == ["p0006-seed0", "p0007-seed0"]
        assert _points(plan)[6] == COMPLETED[0]


# Several at once -----------------------------------------------------------------------------------------------------
def _run_at_once(plan: Plan, number: int) -> None:
    """Run what is left with so many trials at work; the one that began last ends first."""
    at_work: list[str] = []
    while True:
        while len(at_work) < number and (record := plan.next()) is not None:
            at_work.append(record.name)
        if not at_work:
            return
        name = at_work.pop()
        evaluated(plan, name, _score(plan.record(name)))
        plan.end(name, 1.0)


def test_a_sweep_with_several_trials_at_once_grows_by_points_seeds_and_values(tmp_path: Path) -> None:
    _run_at_once(planned(tmp_path, **OPTUNA | {"num_trials": 7}), 3)
    before = files_of(planned(tmp_path, **OPTUNA | {"num_trials": 7}))
    plan = planned(tmp_path, **OPTUNA | {"num_trials": 12, "seeds": 2, "space": WIDER})
    _run_at_once(plan, 4)
    assert files_of(plan).items() >= before.items()
    assert sorted(settings_of(plan)) == [f"p{number:04d}-seed{seed}" for number in range(12) for seed in (0, 1)]
    assert len({str(point) for point in _points(plan)}) == 12
    assert not planned(tmp_path, **OPTUNA | {"num_trials": 12, "seeds": 2, "space": WIDER}).unfinished


def test_a_wider_space_without_another_point_is_said(tmp_path: Path) -> None:
    run_all(planned(tmp_path, **RANDOM), _score)
    plan = planned(tmp_path, **RANDOM | {"space": WIDER})
    assert not plan.unfinished
    assert "points keep their numbers; num_trials must be raised to draw from the wider space" in plan.headline


def test_a_sweep_grows_from_python_and_from_the_command_line_alike(tmp_path: Path) -> None:
    run_all(planned(tmp_path, **RANDOM), _score)
    file = str(tmp_path / "small.yaml")
    overrides = {"num_trials": 8, "seeds": 2, "points": ({WEIGHT: 1.0},), "space": {WEIGHT: {"loguniform": (0.1, 20)}}}
    words = ["num_trials=8", "seeds=2", f"points=[{{{WEIGHT}: 1.0}}]", f"space.{WEIGHT}.loguniform=[0.1, 20]"]
    space = overrides["space"] | {"decay.shape": {"choice": ["linear", "cosine"]}}  # type: ignore[operator]
    from_python = load_sweep(file, overrides | {"space": space})
    assert from_python.sweep == load_sweep(file, words).sweep
    assert plan_of(from_python).loaded.grown[0].num_points == 6
