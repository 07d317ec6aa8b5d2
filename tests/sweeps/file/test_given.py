from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.sweeps.file.written import load, problems

WEIGHT, RPN = "methods.tar.feature.weight", "methods.tar.rpn.weight"
SPACE: dict[str, Any] = {
    "decay.shape": {"choice": ["linear", "exponential", "step"]},
    "decay.rate": {"uniform": [1, 10], "when": {"decay.shape": "exponential"}},
    "decay.milestones": {"choice": [[0.5], [0.5, 0.75]], "when": {"decay.shape": "step"}},
    WEIGHT: {"loguniform": [0.1, 10]},
    "training.batch_size": {"int": [4, 64]},
}
RANDOM: dict[str, Any] = {"search": "random", "num_trials": 4, "space": SPACE}


@pytest.mark.parametrize(
    ("written", "point"),
    [
        ({}, {"decay.shape": "linear", WEIGHT: 3.0, "training.batch_size": 8}),
        ({WEIGHT: 2}, {"decay.shape": "linear", WEIGHT: 2.0, "training.batch_size": 8}),
        ({"decay": {"shape": "linear"}, "methods": {"tar": {"feature": {"weight": 2}}}}, {WEIGHT: 2.0}),
        ({"feature.weight": 2}, {WEIGHT: 2.0}),  # as an earlier version called it
        ({"decay.shape": "exponential", "decay.rate": 2}, {"decay.shape": "exponential", "decay.rate": 2.0}),
        ({"decay.shape": "exponential"}, {"decay.rate": 5.0}),  # that of the shape where nothing is said
        ({"decay.milestones": [0.5, 0.75], "decay.shape": "step"}, {"decay.milestones": [0.5, 0.75]}),
        ({"training.batch_size": 32.0}, {"training.batch_size": 32}),
    ],
)
def test_that_a_point_is_completed_from_the_base(tmp_path, written, point):
    loaded = load(tmp_path, **RANDOM, points=[written])
    assert loaded.points is not None
    assert loaded.points[0].items() >= point.items()
    assert list(loaded.points[0]) == [name for name in SPACE if name in loaded.points[0]]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({WEIGHT: 20}, f"points[0].{WEIGHT}: must be 0.1 to 10, as in space, got 20"),
        ({WEIGHT: True}, f"points[0].{WEIGHT}: must be 0.1 to 10, as in space, got True"),
        ({"training.batch_size": 4.5}, "points[0].training.batch_size: must be a whole number, 4 to 64, as in space"),
        ({"decay.shape": "cosine"}, "points[0].decay.shape: must be one of linear, exponential, step, as in space"),
        (
            {"decay.rate": 3},
            "points[0].decay.rate: has no effect there: it is searched where decay.shape is exponential",
        ),
        ({"decay.rat": 3}, "points[0].decay.rat: must be searched too (space); did you mean decay.rate?"),
        (
            {"data.num_train": 3},
            "points[0].data.num_train: must be searched too (space); what all trials share belongs",
        ),
        (7, "points[0]: must be settings such as {decay.shape: linear}, or a recipe, got 7"),
        ("nowhere.yaml", "points[0]: nowhere.yaml: "),
    ],
)
def test_that_what_is_wrong_with_a_point_is_a_sentence(tmp_path, written, said):
    (found,) = problems(tmp_path, **RANDOM, points=[written])
    assert found.startswith(said)


def test_that_every_wrong_point_is_named(tmp_path):
    found = problems(tmp_path, **RANDOM, points=[{WEIGHT: 20}, {}, {"decay.shape": "round", WEIGHT: 0}])
    assert [line.partition(":")[0] for line in found] == [
        f"points[0].{WEIGHT}",
        "points[2].decay.shape",
        f"points[2].{WEIGHT}",
    ]


def test_that_a_base_outside_of_the_space_leaves_a_value_to_be_given(tmp_path):
    (found,) = problems(tmp_path, "methods.tar.feature.weight=50", **RANDOM, points=[{"decay.shape": "linear"}])
    assert found == f"points[0].{WEIGHT}: must be given: 0.1 to 10, as in space; the base has 50.0"


@pytest.mark.parametrize("points", ["linear", {"decay.shape": "linear"}, 3])
def test_that_points_are_a_list(tmp_path, points):
    (found,) = problems(tmp_path, **RANDOM, points=points)
    assert found.startswith("points: must be a list of at most 10000 settings, such as [{decay.shape: linear}], or of")


def test_that_more_points_than_trials_are_too_many(tmp_path):
    found = problems(tmp_path, **RANDOM | {"num_trials": 1}, points=[{WEIGHT: 1}, {WEIGHT: 2}])
    assert found[0] == "num_trials: must be at least 2, the number of points given, got 1"


def test_that_a_point_is_given_once_however_often_it_is_written(tmp_path):
    loaded = load(tmp_path, **RANDOM, points=[{WEIGHT: 2}, {WEIGHT: 2.0, "decay.shape": "linear"}])
    assert loaded.sweep.points == ({"decay.shape": "linear", WEIGHT: 2.0, "training.batch_size": 8},)


def test_that_a_point_that_gives_the_same_as_a_control_is_left_out_with_a_word(tmp_path):
    space = {"decay.shape": {"choice": ["constant", "linear", "cosine"]}}
    for search in ("random", "optuna"):
        loaded = load(tmp_path, search=search, num_trials=1, space=space, points=[{"decay.shape": "constant"}])
        assert loaded.dropped == ("decay.shape=constant: left out, as it gives the same as the control constant",)


def test_that_an_ablation_takes_points_that_change_several_settings_and_only_these(tmp_path):
    space = {"decay.shape": {"grid": ["cosine"]}, WEIGHT: {"grid": [1]}, RPN: {"grid": [2]}}
    loaded = load(tmp_path, search="ablation", space=space, points=[{RPN: 2, WEIGHT: 1}])
    assert loaded.points == ({WEIGHT: 1, RPN: 2}, {}, {"decay.shape": "cosine"}, {WEIGHT: 1}, {RPN: 2})


def test_that_a_recipe_gives_what_is_searched_of_it(tmp_path: Path):
    recipe = {"base": "quickstart", "decay": {"shape": "exponential", "rate": 2}, "training": {"epochs": 77}}
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(recipe))
    loaded = load(tmp_path, **RANDOM, points=["good.yaml", str(tmp_path / "good.yaml"), {WEIGHT: 1}])
    assert loaded.points is not None
    first = {"decay.shape": "exponential", "decay.rate": 2.0, WEIGHT: 3.0, "training.batch_size": 8}
    assert loaded.points[0] == first
    assert loaded.points[1][WEIGHT] == 1.0


def test_that_points_are_given_on_the_command_line_too(tmp_path):
    loaded = load(tmp_path, "points=[{decay.shape: step, methods.tar.feature.weight: 1}]", **RANDOM)
    assert loaded.points is not None
    assert loaded.points[0]["decay.shape"] == "step"


def test_that_sections_are_values_too(tmp_path):
    space = {"decay": {"grid": [{"shape": "exponential", "rate": 2}, {"shape": "cosine"}, {"shape": "linear"}]}}
    loaded = load(tmp_path, space=space, points=[{"decay": {"shape": "cosine"}}, {}])
    assert loaded.points is not None
    assert [point["decay"]["shape"] for point in loaded.points] == ["cosine", "linear", "exponential"]
