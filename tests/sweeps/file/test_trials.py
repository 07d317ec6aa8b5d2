from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raydistill.config import dump, load_config
from raydistill.errors import UserError
from raydistill.sweeps.file import controls, draw, is_control, load_sweep, signature, trial_config
from raydistill.sweeps.file.points import Generator
from tests.sweeps.file.written import load, problem

WEIGHTS = (
    "methods.tar.feature.weight",
    "methods.tar.classification.weight",
    "methods.tar.regression.weight",
    "methods.tar.rpn.weight",
)


# --------------------------------------------------------------------------------------------------------- trial config
def test_that_a_trial_is_the_base_at_its_point(tmp_path):
    loaded = load(tmp_path, settings={"training.epochs": 9})
    config = trial_config(loaded, {"methods.tar.feature.weight": 2}, 7, tmp_path / "trial")
    expected = load_config(
        "quickstart",
        [
            *("training.epochs=9", "methods.tar.feature.weight=2", "seed=7", f"output={tmp_path / 'trial'}"),
            *("distillation.baseline=false", "scaling.num_workers=1", "scaling.cpus_per_worker=1"),
        ],
    )
    assert config == expected


@pytest.mark.parametrize(
    ("gpus", "use_gpu", "gpus_per_worker"),
    [("auto", "auto", 1), (0, False, 1), (0.25, True, 1), (1, True, 1), (2, True, 2)],
)
def test_that_resources_become_the_trials_scaling(tmp_path, gpus, use_gpu, gpus_per_worker):
    loaded = load(tmp_path, "scaling.max_failures=1", resources={"gpus_per_worker": gpus, "cpus_per_worker": 3})
    scaling = trial_config(loaded, {}, 0, tmp_path).scaling
    assert (scaling.use_gpu, scaling.gpus_per_worker) == (use_gpu, gpus_per_worker)
    assert (scaling.num_workers, scaling.cpus_per_worker, scaling.max_failures) == (1, 3, 1)
    assert loaded.config.scaling.num_workers == load_config("quickstart").scaling.num_workers


def test_that_the_order_of_a_points_settings_does_not_matter(tmp_path):
    loaded = load(tmp_path)
    points = [{"decay.rate": 3, "decay.shape": "exponential"}, {"decay.shape": "exponential", "decay.rate": 3}]
    first, second = (trial_config(loaded, point, 0, tmp_path) for point in points)
    assert first == second
    assert first.decay.model_dump() == {"shape": "exponential", "rate": 3.0}


def test_that_a_mapping_is_laid_over_the_bases_section(tmp_path):
    loaded = load(tmp_path, settings={"methods.tar.feature.levels": "assigned"})
    config = trial_config(loaded, {"methods.tar.feature": {"mask": "box", "weight": 2}}, 0, tmp_path)
    feature = config.methods.tar.feature
    assert (feature.levels, feature.mask, feature.weight) == ("assigned", "box", 2.0)


def test_that_what_the_base_left_open_follows_the_point(tmp_path):
    loaded = load(
        tmp_path,
        "methods.tar.rpn.weight=0",
        base="coco_r101_r50",
        space={"student.backbone": {"grid": ["mobilenet_v3_large"]}},
    )
    student = trial_config(loaded, {"student.backbone": "mobilenet_v3_large"}, 0, tmp_path).student
    assert student.returned_layers == (4, 5)


def test_that_paths_stay_where_they_were_when_a_trial_is_built_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = load(tmp_path, base="voc_r101_r50", settings={"data.root": "voc"})
    monkeypatch.chdir("/")
    assert trial_config(loaded, {}, 0, Path("/out")).data.root == str(tmp_path / "voc")


def test_that_a_point_that_does_not_fit_is_a_users_error(tmp_path):
    loaded = load(tmp_path)
    with pytest.raises(
        UserError,
        match=r"feature.mask=box, methods.tar.feature.sigma_squared=1: .*\n.*methods.tar.feature.sigma_squared: has no",
    ):
        trial_config(loaded, {"methods.tar.feature.mask": "box", "methods.tar.feature.sigma_squared": 1}, 0, tmp_path)


def test_that_a_trials_settings_survive_being_printed(tmp_path):
    loaded = load(tmp_path, resources={"gpus_per_worker": 0.5})
    config = trial_config(loaded, loaded.points[0], 3, tmp_path)
    (tmp_path / "recipe.yaml").write_text(dump(config))
    assert load_config(str(tmp_path / "recipe.yaml")) == config


# ------------------------------------------------------------------------------------------------------------- controls
def test_that_the_controls_are_the_student_alone_and_no_decay(tmp_path):
    loaded = load(tmp_path, settings={"distillation.initialize_from_teacher": True})
    points = controls(loaded)
    alone, constant = (trial_config(loaded, points[name], 0, tmp_path) for name in ("baseline", "constant"))
    assert list(points) == ["baseline", "constant"]
    assert not alone.distills
    assert constant.decay.shape == "constant"
    assert constant.methods.tar.feature == loaded.config.methods.tar.feature


def test_that_the_controls_name_what_they_change_only(tmp_path):
    assert controls(load(tmp_path)) == {
        "baseline": dict.fromkeys(WEIGHTS, 0.0),
        "constant": {"decay.shape": "constant"},
    }


@pytest.mark.parametrize(
    ("point", "control"),
    [
        (dict.fromkeys(WEIGHTS, 0), True),
        (
            {
                **dict.fromkeys(WEIGHTS, 0),
                "decay.shape": "step",
                "methods.tar.regions.source": "teacher",
                "methods.tar.feature.mask": "box",
            },
            True,
        ),
        ({**dict.fromkeys(WEIGHTS, 0), "training.optimizer.learning_rate": 0.5}, False),
        ({"decay.shape": "constant", "methods.tar.feature.weight": 3}, True),
        ({"decay": {"shape": "constant"}}, True),
        ({"decay.shape": "constant", "methods.tar.feature.weight": 2}, False),
        ({"methods.tar.feature.weight": 3}, False),
        ({}, False),
    ],
)
def test_that_a_point_is_a_control_where_it_trains_the_same(tmp_path, point, control):
    assert is_control(load(tmp_path), point) == control


def test_that_a_base_without_decay_is_its_own_control(tmp_path):
    loaded = load(
        tmp_path, settings={"decay.shape": "constant"}, space={"methods.tar.feature.weight": {"grid": [3, 1]}}
    )
    assert loaded.points == ({"methods.tar.feature.weight": 1},)
    assert loaded.dropped == ("methods.tar.feature.weight=3: left out, as it gives the same as the control constant",)


# ----------------------------------------------------------------------------------------------------------- same twice
@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"decay.shape": "exponential"}, {"decay": {"shape": "exponential", "rate": 5}}, True),
        ({"methods.tar.feature.weight": 0, "methods.tar.feature.mask": "box"}, {"methods.tar.feature.weight": 0}, True),
        (
            {"methods.tar.feature.weight": 1, "methods.tar.feature.mask": "box"},
            {"methods.tar.feature.weight": 1},
            False,
        ),
        ({"methods.tar.rpn.weight": 0, "methods.tar.rpn.gate": "foreground"}, {"methods.tar.rpn.weight": 0}, True),
        (
            {
                "methods.tar.classification.weight": 0,
                "methods.tar.regression.weight": 0,
                "methods.tar.regions.source": "student",
            },
            {"methods.tar.classification.weight": 0, "methods.tar.regression.weight": 0},
            True,
        ),
        (
            {"methods.tar.classification.weight": 0, "methods.tar.regions.source": "student"},
            {"methods.tar.classification.weight": 0},
            False,
        ),
        ({"methods.tar.feature.weight": 1}, {"methods.tar.feature.weight": 2}, False),
        ({"training.optimizer.learning_rate": 0.1}, {}, False),
    ],
)
def test_that_settings_of_a_term_without_weight_make_no_difference(tmp_path, first, second, same):
    loaded = load(tmp_path)
    assert (signature(loaded, first) == signature(loaded, second)) == same


def test_that_a_grid_leaves_out_what_it_has_already(tmp_path):
    space = {"methods.tar.feature.weight": {"grid": [0, 1]}, "methods.tar.feature.mask": {"grid": ["gaussian", "box"]}}
    loaded = load(tmp_path, space=space)
    assert len(loaded.points) == 3
    assert loaded.dropped == (
        "methods.tar.feature.weight=0, methods.tar.feature.mask=box: left out, as it gives the same as "
        "methods.tar.feature.weight=0, methods.tar.feature.mask=gaussian",
    )


def test_that_an_ablation_is_the_base_and_one_change_at_a_time(tmp_path):
    decay = {"choice": [{"shape": "cosine"}]}
    space = {"methods.tar.feature.weight": {"grid": [0, 1]}, "decay": decay, "methods.tar.rpn.weight": {"grid": [5]}}
    loaded = load(tmp_path, search="ablation", space=space)
    assert loaded.points == (
        {},
        {"methods.tar.feature.weight": 0},
        {"methods.tar.feature.weight": 1},
        {"decay": {"shape": "cosine"}},
        {"methods.tar.rpn.weight": 5},
    )
    assert trial_config(loaded, {}, 0, tmp_path).methods.tar.feature == loaded.config.methods.tar.feature


def test_that_an_ablation_leaves_out_what_changes_nothing(tmp_path):
    space = {"methods.tar.feature.weight": {"grid": [3, 1]}, "decay.shape": {"grid": ["constant"]}}
    loaded = load(tmp_path, search="ablation", space=space)
    assert loaded.points == ({}, {"methods.tar.feature.weight": 1})
    assert loaded.dropped == (
        "methods.tar.feature.weight=3: left out, as it gives the same as nothing changed",
        "decay.shape=constant: left out, as it gives the same as the control constant",
    )


def test_that_a_grid_of_controls_is_an_error(tmp_path):
    assert problem(tmp_path, space={"decay.shape": {"grid": ["constant"]}}).startswith("space: no point is left")


@pytest.mark.parametrize("settings", [{}, {"decay.shape": "constant"}])
def test_that_a_sweep_without_a_space_trains_its_base_under_all_seeds(settings):
    loaded = load_sweep({"base": "quickstart", "settings": settings, "seeds": 3})
    assert (loaded.points, loaded.num_trials) == (({},), 9)
    assert load_sweep({"base": "quickstart", "space": {}}).points == ({},)


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_that_a_search_that_draws_needs_a_space(search):
    with pytest.raises(UserError, match=f"space: must hold at least one setting with search {search}, got none"):
        load_sweep({"base": "quickstart", "search": search})


# -------------------------------------------------------------------------------------------------------- random points
def test_that_random_points_all_differ_and_none_is_a_control(tmp_path):
    space = {"decay.shape": {"choice": ["linear", "cosine", "constant"]}, "methods.tar.feature.weight": {"int": [2, 4]}}
    loaded = load(tmp_path, search="random", num_trials=8, space=space)
    assert len({str(point) for point in loaded.points}) == 8
    assert not any(is_control(loaded, point) for point in loaded.points)
    assert loaded.dropped == ()


def test_that_more_points_than_there_are_is_an_error(tmp_path):
    space = {"decay.shape": {"choice": ["linear", "cosine", "constant"]}}
    assert problem(tmp_path, search="random", num_trials=3, space=space) == (
        "num_trials: must be at most 2, as the space has no more different points, got 3"
    )


def test_that_the_searchs_seed_decides_the_points_and_more_trials_begin_with_the_same(tmp_path):
    space = {"methods.tar.feature.weight": {"loguniform": [0.1, 10]}}
    few = load(tmp_path, search="random", num_trials=3, space=space).points
    more = load(tmp_path, search="random", num_trials=5, space=space).points
    other = load(tmp_path, "search.seed=1", search="random", num_trials=3, space=space).points
    assert more[:3] == few
    assert other != few


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**6))
def test_that_every_point_of_a_checked_space_is_a_trial(tmp_path, seed):
    loaded = load(
        tmp_path,
        search="optuna",
        num_trials=2,
        space={
            "decay.shape": {"choice": ["linear", "exponential", "step"]},
            "decay.rate": {"loguniform": [0.5, 10], "when": {"decay.shape": "exponential"}},
            "decay.milestones": {"choice": [[0.5], [0.25, 0.75]], "when": {"decay.shape": "step"}},
            "methods.tar.feature.mask": {"choice": ["gaussian", "box", "full"]},
            "methods.tar.feature.sigma_squared": {"uniform": [1, 4], "when": {"methods.tar.feature.mask": "gaussian"}},
            "methods.tar.feature.background_weight": {
                "uniform": [0, 1],
                "when": {"methods.tar.feature.mask": ["gaussian", "box"]},
            },
            "methods.tar.classification.weight": {"uniform": [0, 2]},
            "student.box_batch_size_per_image": {"int": [16, 64]},
        },
    )
    point = draw(loaded.sweep.space, Generator(seed))
    config = trial_config(loaded, point, seed, tmp_path)
    for name, value in point.items():
        here = config.model_dump(mode="json")
        for key in name.split("."):
            here = here[key]
        assert here == value
