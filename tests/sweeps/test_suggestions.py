"""Points that Optuna suggests: the same after a restart, none twice, none that is a control."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from raydistill.sweeps.file import LoadedSweep, Point, is_control, load_sweep
from raydistill.sweeps.suggestions import Suggestions
from tests.small import small_sweep

SPACE: dict[str, Any] = {
    "decay.shape": {"choice": ["linear", "step", "exponential"]},
    "decay.milestones": {"choice": [[0.5], [0.5, 0.75], [0.25]], "when": {"decay.shape": "step"}},
    "decay.rate": {"loguniform": [1, 10], "when": {"decay.shape": "exponential"}},
    "methods.tar.feature.weight": {"loguniform": [0.1, 10]},
    "training.batch_size": {"int": [2, 4]},
    "training.clip_grad_norm": {"choice": [None, 1, 2.5]},
    "distillation.initialize_from_teacher": {"choice": [True, False]},
}
STATES = optuna.trial.TrialState


def _loaded(folder: Path, seed: int = 3, startup_trials: int = 3, **changes: Any) -> LoadedSweep:
    search = {"method": "optuna", "seed": seed, "startup_trials": startup_trials}
    changes = {"space": SPACE, "num_trials": 12} | changes
    return load_sweep(small_sweep(folder, search=search, **changes))


def _value(point: Point) -> float:
    return round(1 / (1 + point["methods.tar.feature.weight"]), 4)


def _asked(suggestions: Suggestions, first: int, stop: int) -> list[Point]:
    """Ask for points and tell the value of each."""
    points = []
    for number in range(first, stop):
        point = suggestions.ask(number)
        assert point is not None
        suggestions.tell(number, _value(point), 0)
        points.append(point)
    return points


def _trials(suggestions: Suggestions) -> list[optuna.trial.FrozenTrial]:
    return suggestions._study.get_trials()


def test_equal_seed_and_history_give_equal_points(tmp_path: Path) -> None:
    first, second = (_asked(Suggestions(_loaded(tmp_path)), 0, 12) for _ in range(2))
    assert first == second
    assert {point["decay.shape"] for point in first} == {"linear", "step", "exponential"}


def test_another_seed_gives_other_points(tmp_path: Path) -> None:
    assert _asked(Suggestions(_loaded(tmp_path)), 0, 3) != _asked(Suggestions(_loaded(tmp_path, seed=4)), 0, 3)


def test_other_values_give_other_points_once_the_model_is_trusted(tmp_path: Path) -> None:
    good, bad = Suggestions(_loaded(tmp_path)), Suggestions(_loaded(tmp_path))
    for number in range(8):
        for suggestions, sign in ((good, 1), (bad, -1)):
            point = suggestions.ask(number)
            assert point is not None
            suggestions.tell(number, sign * _value(point), 0)
    assert good.ask(8) != bad.ask(8)


def test_inactive_settings_are_no_part_of_a_point(tmp_path: Path) -> None:
    for point in _asked(Suggestions(_loaded(tmp_path)), 0, 12):
        assert ("decay.milestones" in point) == (point["decay.shape"] == "step")
        assert ("decay.rate" in point) == (point["decay.shape"] == "exponential")


def test_values_are_those_of_the_space_in_type_too(tmp_path: Path) -> None:
    points = _asked(Suggestions(_loaded(tmp_path)), 0, 12)
    milestones = [point["decay.milestones"] for point in points if "decay.milestones" in point]
    assert milestones
    assert all(value in SPACE["decay.milestones"]["choice"] for value in milestones)
    assert all(isinstance(value, list) for value in milestones)
    assert {type(point["training.batch_size"]) for point in points} == {int}
    assert {type(point["distillation.initialize_from_teacher"]) for point in points} == {bool}
    assert all(0.1 <= point["methods.tar.feature.weight"] <= 10 for point in points)


@pytest.mark.parametrize("before", [1, 5, 9])
def test_a_search_goes_on_after_a_restart_as_without_one(before: int, tmp_path: Path) -> None:
    """The points were kept as JSON meanwhile."""
    loaded = _loaded(tmp_path)
    undisturbed = _asked(Suggestions(loaded), 0, 12)
    again = Suggestions(loaded)
    for number, point in enumerate(json.loads(json.dumps(undisturbed[:before]))):
        again.repeat(number, point)
        again.tell(number, _value(point), 0)
    assert _asked(again, before, 12) == undisturbed[before:]


def test_a_repeated_point_is_the_same_to_optuna(tmp_path: Path) -> None:
    """Conditional settings and lists included."""
    loaded = _loaded(tmp_path)
    first, again = Suggestions(loaded), Suggestions(loaded)
    for number in range(12):
        point = first.ask(number)
        assert point is not None
        again.repeat(number, json.loads(json.dumps(point)))
    before, after = (
        [(trial.params, trial.distributions) for trial in _trials(suggestions)] for suggestions in (first, again)
    )
    assert after == before


def test_points_that_still_run_are_not_suggested_again(tmp_path: Path) -> None:
    few = {"decay.shape": {"choice": ["linear", "cosine"]}}
    suggestions = Suggestions(_loaded(tmp_path, space=few))
    first, second = suggestions.ask(0), suggestions.ask(1)
    assert {"linear", "cosine"} == {point["decay.shape"] for point in (first, second) if point}


def test_a_point_of_an_earlier_session_is_not_suggested_again(tmp_path: Path) -> None:
    suggestions = Suggestions(_loaded(tmp_path, space={"decay.shape": {"choice": ["linear", "cosine"]}}))
    suggestions.repeat(0, {"decay.shape": "linear"})
    assert suggestions.ask(1) == {"decay.shape": "cosine"}
    assert suggestions.ask(2) is None


def test_no_point_is_a_control(tmp_path: Path) -> None:
    space = {
        "decay.shape": {"choice": ["constant", "linear"]},
        **{f"methods.tar.{term}.weight": {"choice": [0, 1]} for term in ("classification", "regression", "rpn")},
        "methods.tar.feature.weight": {"choice": [0, 3]},
    }
    loaded = _loaded(tmp_path, space=space, num_trials=31)
    suggestions, points = Suggestions(loaded), []
    while (point := suggestions.ask(len(points))) is not None and len(points) < 20:
        points.append(point)
    assert len(points) == 20
    assert not any(is_control(loaded, point) for point in points)


def test_a_space_of_few_points_is_exhausted(tmp_path: Path) -> None:
    suggestions = Suggestions(_loaded(tmp_path, space={"decay.shape": {"choice": ["constant", "linear", "cosine"]}}))
    found = [suggestions.ask(number) for number in range(4)]
    assert sorted(point["decay.shape"] for point in found if point) == ["cosine", "linear"]
    assert found[2:] == [None, None]


def test_what_is_told_reaches_optuna(tmp_path: Path) -> None:
    suggestions = Suggestions(_loaded(tmp_path))
    for number in range(3):
        assert suggestions.ask(number) is not None
    suggestions.tell(1, 0.5, 0)
    suggestions.tell(0, 0.25, 4)
    suggestions.tell_failed(2)
    stopped, finished, failed = _trials(suggestions)
    assert (finished.state, finished.value) == (STATES.COMPLETE, 0.5)
    assert (stopped.state, stopped.intermediate_values) == (STATES.PRUNED, {4: 0.25})
    assert failed.state == STATES.FAIL


@pytest.mark.parametrize("mode", ["max", "min"])
def test_optuna_searches_in_the_sweeps_direction(mode: str, tmp_path: Path) -> None:
    suggestions = Suggestions(_loaded(tmp_path, mode=mode))
    assert suggestions._study.direction.name == {"max": "MAXIMIZE", "min": "MINIMIZE"}[mode]


def test_another_search_is_no_business_of_optunas(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="search must be optuna's"):
        Suggestions(load_sweep(small_sweep(tmp_path)))
