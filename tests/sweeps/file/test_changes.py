from typing import get_args

import pytest

from raydistill.errors import UserError
from raydistill.sweeps.file import differences, dump_sweep, growth, precision_then
from raydistill.sweeps.file.sections import Scheduler
from tests.sweeps.file.written import load

RANDOM = {
    "search": "random",
    "num_trials": 3,
    "space": {"methods.tar.feature.weight": {"uniform": [1, 2]}, "methods.tar.rpn.weight": {"int": [1, 9]}},
}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["methods.tar.feature.levels=assigned"], ["methods.tar.feature.levels: all then, assigned now"]),
        (["seeds=[1, 2]"], ["seeds: [0] then, [1, 2] now; they can be added, not left out"]),
        (["search.seed=4"], ["search.seed: 0 then, 4 now"]),
        (["metric=AP50", "mode=min"], ["metric: AP then, AP50 now", "mode: max then, min now"]),
        (["scheduler=asha"], [
            "scheduler.name: none then, asha now",
            "scheduler.grace_period: unset then, 1 now",
            "scheduler.reduction_factor: unset then, 3 now",
        ]),
        (
            ["space.methods.tar.rpn.weight.int=[1, 8]"],
            [
                    "space.methods.tar.rpn.weight: {int: [1, 9]} then, {int: [1, 8]} now; bounds can be widened, not "
                    "narrowed"
                ],
        ),
        (["space.methods.tar.rpn.weight={choice: [a b]}"], None),
        (["resources.num_workers=2"], ["resources.num_workers: 1 then, 2 now"]),
        (["data.num_train=77"], ["data.num_train: 500 then, 77 now"]),
    ],
)  # fmt: skip
def test_that_what_changed_is_named(tmp_path, overrides, said):
    before = dump_sweep(load(tmp_path, "data.num_train=500", **RANDOM))
    if said is None:
        with pytest.raises(UserError):
            load(tmp_path, *overrides, **RANDOM)
    else:
        assert differences(before, load(tmp_path, "data.num_train=500", *overrides, **RANDOM)) == said


@pytest.mark.parametrize(
    "override",
    [
        *("max_concurrent=3", "output=elsewhere", "resources.cpus_per_worker=2", "resources.gpus_per_worker=0.5"),
        *(
            "evaluation.batch_size=1",
            "evaluation.backend=faster_coco_eval",
            "loader.cache=kept",
            "loader.num_workers=3",
            "scaling.num_workers=1",
            "checkpoint.every_steps=3",
        ),
        *("settings.methods.tar.feature.levels=all", "distillation.preflight=warn", "logging.tensorboard=false"),
    ],
)
def test_that_what_has_no_influence_on_a_result_may_change(tmp_path, override):
    assert differences(dump_sweep(load(tmp_path, **RANDOM)), load(tmp_path, override, **RANDOM)) == []


def test_that_seeds_can_be_added_to_a_sweep_but_not_taken_away(tmp_path):
    one, two = load(tmp_path, **RANDOM), load(tmp_path, "seeds=2", **RANDOM)
    assert differences(dump_sweep(one), two) == []
    assert differences(dump_sweep(two), one) == ["seeds: [0, 1] then, [0] now; they can be added, not left out"]


GROWN = {
    "num_trials": ["num_trials=5"],
    "seeds": ["seeds=2"],
    "space.methods.tar.feature.weight": ["space.methods.tar.feature.weight.uniform=[0.5, 2]"],
    "points": ["points=[{methods.tar.feature.weight: 1.5, methods.tar.rpn.weight: 2}]"],
}


@pytest.mark.parametrize("key", GROWN)
@pytest.mark.parametrize("search", ["random", "optuna"])
def test_that_growth_is_no_difference_but_the_way_back_is(tmp_path, search, key):
    small, large = (load(tmp_path, f"search={search}", *more, **RANDOM) for more in ([], GROWN[key]))
    assert differences(dump_sweep(small), large) == []
    (said,) = differences(dump_sweep(large), small)
    assert said.startswith(f"{key}: ")
    assert " then, " in said
    assert " not " in said


@pytest.mark.parametrize("key", GROWN)
@pytest.mark.parametrize(
    ("scheduler", "reason"),
    [
        ("asha", "which trials it stopped was decided among those that were there"),
        ("median", "which trials it stopped was decided among those that were there"),
        ("pbt", "a population changes together, and the one of then has ended"),
    ],
)
def test_that_a_sweep_under_a_scheduler_does_not_grow(tmp_path, scheduler, reason, key):
    if (scheduler, key) == ("pbt", "seeds"):
        return  # refused beforehand: one seed only
    small, large = (load(tmp_path, f"scheduler={scheduler}", *more, **RANDOM) for more in ([], GROWN[key]))
    (said,) = differences(dump_sweep(small), large)
    assert said.startswith(f"{key}: ")
    assert said.endswith(f"; with scheduler {scheduler} a sweep cannot grow: {reason}; choose another --output")
    assert differences(dump_sweep(small), small) == []


SHAPES = {"decay.shape": {"grid": ["linear", "exponential"]}}
RATE = {"grid": [1, 2], "when": {"decay.shape": "exponential"}}


@pytest.mark.parametrize(
    ("then", "now", "problem"),
    [
        (SHAPES, {"decay.shape": {"grid": ["cosine", "exponential", "linear"]}}, ""),
        (SHAPES, {"decay.shape": {"choice": ["linear", "exponential", "cosine"]}}, ""),
        (SHAPES, {"decay.shape": {"grid": ["linear", "cosine"]}}, "values can be added, not left out"),
        (SHAPES, SHAPES | {"methods.tar.rpn.weight": {"grid": [2]}}, "every point of then lacks it"),
        (SHAPES, SHAPES | {"decay.rate": RATE}, "every point of then lacks it"),
        (
            {"decay.shape": {"grid": ["linear", "cosine"]}},
            {"decay.shape": {"grid": ["linear", "cosine", "exponential"]}, "decay.rate": RATE},
            "",
        ),
        (SHAPES | {"decay.rate": RATE}, SHAPES, "a setting can be added, not left out"),
        (SHAPES | {"decay.rate": RATE}, SHAPES | {"decay.rate": RATE | {"grid": [1, 3, 2]}}, ""),
        (
            SHAPES | {"decay.rate": {"grid": [1, 2], "when": {"decay.shape": ["exponential"]}}},
            {
                "decay.shape": {"grid": ["linear", "exponential", "polynomial"]},
                "decay.rate": {"grid": [1, 2], "when": {"decay.shape": ["exponential"]}},
            },
            "",
        ),
    ],
)
def test_that_a_grid_grows_where_every_point_of_then_is_one_still(tmp_path, then, now, problem):
    found = differences(dump_sweep(load(tmp_path, space=then)), load(tmp_path, space=now))
    assert len(found) == bool(problem)
    assert all(problem in line for line in found)


def test_that_an_ablation_may_take_more_settings(tmp_path):
    now = SHAPES | {"methods.tar.rpn.weight": {"grid": [2, 3]}}
    small, large = (load(tmp_path, search="ablation", space=space) for space in (SHAPES, now))
    assert differences(dump_sweep(small), large) == []


def test_that_a_sweep_begun_before_a_setting_existed_goes_on_with_its_default(tmp_path):
    older = dump_sweep(load(tmp_path, **RANDOM)).replace("levels: all, ", "")
    assert older != dump_sweep(load(tmp_path, **RANDOM))
    assert differences(older, load(tmp_path, **RANDOM)) == []


def test_that_another_order_of_the_space_is_another_sweep(tmp_path):
    before = dump_sweep(load(tmp_path, **RANDOM))
    turned = {**RANDOM, "space": dict(reversed(RANDOM["space"].items()))}
    (said,) = differences(before, load(tmp_path, **turned))
    assert said.startswith("space: its settings stood in another order")


def test_that_a_moved_base_with_the_same_settings_is_the_same_sweep(tmp_path):
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text("base: quickstart\nfeature: {weight: 2}\n")
    before = dump_sweep(load(tmp_path, base="one.yaml"))
    assert differences(before, load(tmp_path, base="two.yaml")) == []
    assert differences(before, load(tmp_path, base="quickstart")) == ["methods.tar.feature.weight: 2.0 then, 3.0 now"]


@pytest.mark.parametrize("text", ["", "[1]", "sweep: 3\nconfig: {}", "{}"])
def test_that_a_text_that_is_no_sweep_is_a_users_error(tmp_path, text):
    with pytest.raises(UserError, match="the sweep begun before"):
        differences(text, load(tmp_path))


def test_that_a_precision_that_was_left_open_is_no_change(tmp_path):
    left_open = dump_sweep(load(tmp_path, "distillation.teacher_precision=auto", **RANDOM))
    now = load(tmp_path, "distillation.teacher_precision=fp32", **RANDOM)
    assert precision_then(left_open) is None
    assert differences(left_open, now) == []
    assert precision_then(dump_sweep(now)) == "fp32"
    other = load(tmp_path, "distillation.teacher_precision=bf16", **RANDOM)
    assert differences(dump_sweep(now), other) == ["distillation.teacher_precision: fp32 then, bf16 now"]


def test_that_no_scheduler_lacks_a_reason_against_growth():
    (kinds, *_) = get_args(Scheduler)
    names = {get_args(kind.model_fields["name"].annotation)[0] for kind in get_args(kinds)}
    assert names - {"none"} == set(growth._DECIDED_THEN)
