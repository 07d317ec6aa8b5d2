import pytest

from tests.sweeps.file.written import load, problem, problems

RANGE = {"methods.tar.feature.weight": {"loguniform": [0.1, 10]}}
SHORT = {"training.epochs": 4, "evaluation.every": 1}


# --------------------------------------------------------------------------------------------------------------- search
@pytest.mark.parametrize("kind", [{"uniform": [1, 2]}, {"loguniform": [1, 2]}, {"int": [1, 2]}])
def test_that_a_grid_search_has_no_ranges(tmp_path, kind):
    assert "must be grid or choice with search grid" in problem(tmp_path, space={"methods.tar.feature.weight": kind})


def test_that_a_grid_search_has_as_many_points_as_it_has(tmp_path):
    assert problem(tmp_path, num_trials=3).startswith("num_trials: must be left out with search grid")


def test_that_an_ablation_has_neither_ranges_nor_conditions_nor_a_number(tmp_path):
    assert "must be grid or choice with search ablation" in problem(tmp_path, search="ablation", space=RANGE)
    assert problem(tmp_path, search="ablation", num_trials=3).startswith("num_trials: must be left out")
    space = {"decay.shape": {"grid": ["step"]}, "decay.factor": {"grid": [0.5], "when": {"decay.shape": "step"}}}
    assert "must have no conditions" in "".join(problems(tmp_path, search="ablation", space=space))


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_that_other_searches_are_told_how_many_points(tmp_path, search):
    assert problem(tmp_path, search=search, space=RANGE) == f"num_trials: must be given with search {search}"


def test_that_an_unknown_search_has_no_rules(tmp_path):
    said = problem(tmp_path, search="gird", space=RANGE)
    assert said.startswith("search.method: must be one of 'grid', 'ablation', 'random'")


# ------------------------------------------------------------------------------------------------- what is not searched
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("output", "x", "a directory of its own"),
        ("seed", 1, "use seeds"),
        ("scaling.num_workers", 2, "use resources"),
        ("scaling", {"num_workers": 2}, "use resources"),
        ("evaluation.every", 1, "scored in the same way"),
        ("loader.num_workers", 1, "no influence"),
        ("checkpoint.every_steps", 5, "no influence"),
        ("data.num_train", 10, "could not be compared"),
        ("input.min_size", 60, "could not be compared"),
        ("teacher.epochs", 1, "one teacher is shared"),
        ("distillation.baseline", False, "as a control"),
        ("distillation", {"preflight": "warn"}, "no influence"),
        ("distillation.teacher_engine", "openvino", "beyond rounding"),
    ],
)
def test_that_some_settings_are_not_searched(tmp_path, name, value, reason):
    found = problem(tmp_path, space={name: {"grid": [value]}})
    assert found.startswith(f"space.{name}: cannot be searched")
    assert reason in found


@pytest.mark.parametrize(
    ("name", "values"),
    [("distillation.teacher_precision", ["fp32", "auto"]), ("distillation", [{"teacher_precision": "auto"}])],
)
def test_that_a_precision_that_no_trial_may_decide_is_not_searched(tmp_path, name, values):
    found = problem(tmp_path, space={name: {"grid": values}})
    assert found == f"space.{name}: cannot be auto in a search, as that is one of the others; name those"


def test_that_precisions_with_a_name_can_be_searched(tmp_path):
    space = {"distillation.teacher_precision": {"grid": ["fp32", "bf16"]}}
    assert len(load(tmp_path, space=space).points) == 2


def test_that_the_start_from_the_teacher_can_be_searched(tmp_path):
    space = {"distillation.initialize_from_teacher": {"grid": [True, False]}}
    assert len(load(tmp_path, space=space).points) == 2


# --------------------------------------------------------------------------------------------------------------- values
@pytest.mark.parametrize(
    ("dimension", "got"),
    [({"uniform": [-1, 1]}, -1.0), ({"grid": [1, -1]}, -1), ({"int": [-2, 0]}, -2)],
)
def test_that_both_ends_of_a_range_are_checked(tmp_path, dimension, got):
    found = problems(tmp_path, search="random", num_trials=2, space={"methods.tar.feature.weight": dimension})
    assert found[0] == f"space.methods.tar.feature.weight: must be greater than or equal to 0, got {got}"


def test_that_a_range_over_whole_numbers_must_be_int(tmp_path):
    found = problem(
        tmp_path, search="random", num_trials=2, space={"student.rpn_batch_size_per_image": {"uniform": [8, 16]}}
    )
    assert "must be a valid integer" in found


def test_that_every_whole_number_of_a_range_is_checked_with_the_others(tmp_path):
    changes = {"search": "optuna", "num_trials": 2, "resources": {"num_workers": 2}}
    assert len(load(tmp_path, **changes, space={"training.batch_size": {"grid": [2, 4]}}).sweep.space) == 1
    found = problem(tmp_path, **changes, space={"training.batch_size": {"int": [2, 5]}})
    assert "training.batch_size: must be a multiple of scaling.num_workers" in found


def test_that_a_misspelt_setting_names_the_one_that_was_meant(tmp_path):
    space = {"decay.shape": {"grid": ["step"]}, "decay.factr": {"grid": [0.5], "when": {"decay.shape": "step"}}}
    assert problem(tmp_path, space=space) == "space.decay.factr: no such setting; did you mean decay.factor?"


def test_that_a_conditional_setting_is_checked_where_it_exists(tmp_path):
    space = {
        "decay.shape": {"grid": ["linear", "exponential"]},
        "decay.rate": {"grid": [2, 0], "when": {"decay.shape": "exponential"}},
    }
    assert problem(tmp_path, space=space) == "space.decay.rate: must be greater than 0, got 0"
    space["decay.rate"]["grid"] = [2, 3]
    assert load(tmp_path, space=space).points == (
        {"decay.shape": "linear"},
        {"decay.shape": "exponential", "decay.rate": 2},
        {"decay.shape": "exponential", "decay.rate": 3},
    )


def test_that_a_setting_that_is_not_always_there_needs_a_condition(tmp_path):
    space = {"decay.shape": {"grid": ["linear", "exponential"]}, "decay.rate": {"grid": [2]}}
    assert problem(tmp_path, space=space) == (
        "space: decay.rate: no such setting, at decay.shape=linear, decay.rate=2; it needs a condition (when)"
    )
    space["decay.shape"] = {"grid": ["exponential"]}
    assert len(load(tmp_path, space=space).points) == 1


def test_that_a_condition_on_too_many_values_is_found(tmp_path):
    space = {
        "decay.shape": {"grid": ["linear", "exponential", "step"]},
        "decay.rate": {"uniform": [1, 2], "when": {"decay.shape": ["exponential", "step"]}},
    }
    for search in ("random", "optuna"):
        found = problems(tmp_path, search=search, num_trials=20, space=space)
        assert [line.startswith("space: decay.rate: no such setting, at decay.shape=step") for line in found] == [True]


def test_that_mappings_are_checked_too(tmp_path):
    space = {"decay": {"grid": [{"shape": "step", "milestones": [2]}, {"shape": "linear", "rate": 1}, {"rate": 1}]}}
    starts = sorted(line.partition(", got")[0] for line in problems(tmp_path, space=space))
    assert starts == [
        "space.decay.milestones.0: must be less than or equal to 1",
        "space.decay.rate: no such setting",
        "space.decay.shape: must be given",
    ]


def test_that_optunas_combinations_are_checked_before_it_starts(tmp_path):
    space = {
        "methods.tar.feature.mask": {"choice": ["gaussian", "box"]},
        "methods.tar.feature.sigma_squared": {"uniform": [1, 4]},
    }
    found = problems(tmp_path, search="optuna", num_trials=2, space=space)
    assert [
        line.startswith("space: methods.tar.feature.sigma_squared: has no effect with mask 'box'") for line in found
    ] == [True]


def test_that_a_space_too_big_to_be_tried_is_sampled(tmp_path):
    names = (
        "methods.tar.feature.weight",
        "methods.tar.classification.weight",
        "methods.tar.regression.weight",
        "methods.tar.rpn.weight",
    )
    space = {name: {"choice": list(range(1, 21))} for name in names}
    assert load(tmp_path, search="optuna", num_trials=2, space=space).points is None
    assert problem(tmp_path, space=space).startswith("space: must have at most 10000 combinations")


# ------------------------------------------------------------------------------------------------------------ resources
def test_that_trials_can_share_a_gpu_when_they_have_one_worker(tmp_path):
    assert load(tmp_path, resources={"gpus_per_worker": 0.5}).sweep.resources.gpus_per_worker == 0.5
    assert problem(tmp_path, resources={"gpus_per_worker": 0.5, "num_workers": 2}).startswith(
        "resources.gpus_per_worker: must be a whole number with 2 workers per trial, got 0.5"
    )
    assert problem(tmp_path, resources={"gpus_per_worker": 1.5}).startswith(
        "resources.gpus_per_worker: must be a whole"
    )


def test_that_the_batch_must_divide_over_a_trials_workers(tmp_path):
    assert problem(tmp_path, resources={"num_workers": 3}).startswith(
        "resources: do not fit the base: training.batch_size: must be a multiple"
    )


# ------------------------------------------------------------------------------------------------------------ scheduler
@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_that_a_scheduler_has_something_to_compare(tmp_path, scheduler):
    load(tmp_path, scheduler=scheduler, settings=SHORT)
    assert problem(tmp_path, "evaluation.every=4", scheduler=scheduler, settings=SHORT).startswith(
        f"scheduler: {scheduler} needs more than one evaluation per trial"
    )
    assert problem(tmp_path, scheduler={"name": scheduler, "grace_period": 4}, settings=SHORT) == (
        "scheduler.grace_period: must be below training.epochs = 4, got 4"
    )


def test_that_epochs_are_not_searched_under_a_scheduler(tmp_path):
    load(tmp_path, space={"training": {"grid": [{"epochs": 4}, {"epochs": 5}]}})
    found = problem(tmp_path, scheduler="asha", space={"training": {"grid": [{"epochs": 4}, {"epochs": 5}]}})
    assert found.startswith("space.training: training.epochs cannot be searched with scheduler asha")


PBT = {"scheduler": "pbt", "search": "random", "num_trials": 4, "settings": SHORT, "space": RANGE}


def test_that_a_population_changes_weights_and_the_learning_rate(tmp_path):
    space = {
        "methods.tar.feature.weight": {"choice": [1, 2]},
        "training.optimizer.learning_rate": {"loguniform": [1e-4, 1e-2]},
    }
    assert len(load(tmp_path, **{**PBT, "space": space}).points) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"search": "grid", "num_trials": None, "space": {"methods.tar.rpn.weight": {"grid": [1, 2]}}},
            "search: must be random",
        ),
        ({"search": "optuna"}, "search: must be random with scheduler pbt, got optuna; or use asha or median"),
        ({"seeds": 2}, "seeds: must be one with scheduler pbt, got 2"),
        ({"resources": {"num_workers": 2}}, "resources.num_workers: must be 1 with scheduler pbt, got 2"),
        ({"num_trials": 1}, "num_trials: must be at least 2 with scheduler pbt"),
        ({"scheduler": {"name": "pbt", "interval": 4}}, "scheduler.interval: must be below training.epochs = 4, got 4"),
        (
            {"space": {"methods.tar.feature.sigma_squared": {"uniform": [1, 2]}}},
            "space.methods.tar.feature.sigma_squared: cannot change during",
        ),
        (
            {"space": {"decay.shape": {"choice": ["linear", "step"]}}, "num_trials": 2},
            "space.decay.shape: cannot change",
        ),
        (
            {"space": {**RANGE, "methods.tar.rpn.weight": {"choice": [True]}}},
            "space.methods.tar.rpn.weight: must hold numbers only with scheduler pbt, got [True]",
        ),
        (
            {
                "space": {
                    "methods.tar.feature.weight": {"choice": [1, 2]},
                    "methods.tar.rpn.weight": {"uniform": [1, 2], "when": {"methods.tar.feature.weight": 1}},
                }
            },
            "space.methods.tar.rpn.weight: must have no conditions with scheduler pbt",
        ),
    ],
)
def test_that_a_population_has_rules_of_its_own(tmp_path, changes, said):
    assert any(line.startswith(said) for line in problems(tmp_path, **{**PBT, **changes}))
