import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from raydistill.config import SWEEPS, load_config
from raydistill.config.loader import setting_names
from raydistill.errors import UserError
from raydistill.sweeps.file import (
    AshaScheduler,
    GridSearch,
    LoadedSweep,
    NoScheduler,
    OptunaSearch,
    RandomSearch,
    dump_sweep,
    load_sweep,
)
from raydistill.sweeps.file.sections import Sweep
from tests.bad_input.anything import tried
from tests.sweeps.file.written import SMALL, load, problem, problems, write


# ------------------------------------------------------------------------------------------------------------- defaults
def test_that_a_base_and_a_space_are_a_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = load(tmp_path)
    assert loaded.points == ({"methods.tar.feature.weight": 1}, {"methods.tar.feature.weight": 2})
    assert loaded.dropped == ()
    assert loaded.sweep.search == GridSearch(method="grid")
    assert loaded.sweep.scheduler == NoScheduler(name="none")
    assert loaded.sweep.seeds == (0,)
    assert loaded.sweep.num_trials is None
    assert (loaded.sweep.metric, loaded.sweep.mode, loaded.sweep.max_concurrent) == ("AP", "max", "auto")
    assert loaded.config.output == loaded.sweep.output == str(tmp_path / "runs" / "tune" / "mine")


def test_that_the_base_is_what_the_recipe_says(tmp_path):
    loaded = load(tmp_path)
    assert loaded.config == load_config("quickstart", [f"output={loaded.sweep.output}"])


def test_that_search_and_scheduler_can_be_given_by_name(tmp_path):
    sweep = load(tmp_path, search="random", num_trials=2, scheduler="asha").sweep
    assert sweep.search == RandomSearch(method="random", seed=0)
    assert sweep.scheduler == AshaScheduler(name="asha", grace_period=1, reduction_factor=3)


# ------------------------------------------------------------------------------------------------------------- settings
@pytest.mark.parametrize(
    "given_as",
    [
        {"training.epochs": 9, "data.num_train": 30},
        {"training": {"epochs": 9}, "data": {"num_train": 30}},
        {"training": {"epochs": 9}, "data.num_train": 30},
    ],
)
def test_that_settings_are_dotted_or_nested(tmp_path, given_as):
    loaded = load(tmp_path, settings=given_as)
    assert (loaded.config.training.epochs, loaded.config.data.num_train) == (9, 30)
    assert loaded.sweep.settings == {"training": {"epochs": 9}, "data": {"num_train": 30}}
    assert loaded.config.training.batch_size == load_config("quickstart").training.batch_size


def test_that_half_dotted_settings_are_settings(tmp_path):
    loaded = load(tmp_path, settings={"training": {"optimizer.learning_rate": 0.5}})
    assert loaded.config.training.optimizer.learning_rate == 0.5


def test_that_a_new_kind_among_the_settings_drops_those_of_the_old_one(tmp_path):
    loaded = load(tmp_path, settings={"training.schedule.shape": "step"})
    assert loaded.config.training.schedule.warmup_steps == 500


def test_that_a_setting_given_twice_is_an_error(tmp_path):
    assert problem(tmp_path, settings={"training.epochs": 9, "training": {"epochs": 4}}) == (
        "settings.training.epochs: is given twice"
    )


def test_that_the_output_is_no_setting(tmp_path):
    assert problem(tmp_path, settings={"output": "here"}).startswith("settings.output: must be left out; use output")


def test_that_paths_among_the_settings_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = load(tmp_path, base="voc_r101_r50", settings={"data.root": "voc", "student.weights": "best.pt"})
    assert loaded.config.data.root == loaded.sweep.settings["data"]["root"] == str(tmp_path / "voc")
    assert loaded.config.student.weights == loaded.raw["student"]["weights"] == str(tmp_path / "best.pt")


# ----------------------------------------------------------------------------------------------------------------- base
def test_that_a_base_is_looked_for_beside_the_sweep_then_in_the_working_directory(tmp_path, monkeypatch):
    beside, here = tmp_path / "sweeps", tmp_path / "here"
    beside.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "own.yaml").write_text("base: quickstart\ntraining: {epochs: 8}\n")
    loaded = load(beside, base="own.yaml")
    assert (loaded.config.training.epochs, loaded.sweep.base) == (8, str(here / "own.yaml"))
    (beside / "own.yaml").write_text("base: quickstart\ntraining: {epochs: 9}\n")
    loaded = load(beside, base="own.yaml")
    assert (loaded.config.training.epochs, loaded.sweep.base) == (9, str(beside / "own.yaml"))


def test_that_a_misspelt_base_names_the_one_that_was_meant(tmp_path):
    assert "did you mean 'quickstart'?" in problem(tmp_path, base="quickstat")


def test_that_what_else_is_wrong_is_named_without_a_base(tmp_path):
    found = problems(tmp_path, base="nowhere", space={"methods.tar.feature.weight": {"grid": []}}, metrik="AP")
    assert len(found) == 3


def test_that_an_empty_base_is_a_users_error(tmp_path):
    (tmp_path / "empty.yaml").write_text("{}")
    assert "base: data: must be given" in problems(tmp_path, base="empty.yaml")


def test_that_a_base_that_does_not_distil_is_an_error(tmp_path):
    weights = {key: {"weight": 0} for key in ("feature", "classification", "regression", "rpn")}
    assert problem(tmp_path, settings=weights).startswith("base: must distil")


# ---------------------------------------------------------------------------------------------------------------- seeds
def test_that_a_number_of_seeds_counts_from_the_bases_seed(tmp_path):
    assert load(tmp_path, seeds=3).sweep.seeds == (0, 1, 2)
    assert load(tmp_path, seeds=2, settings={"seed": 5}).sweep.seeds == (5, 6)
    assert load(tmp_path, seeds=[7, 3]).sweep.seeds == (7, 3)


@pytest.mark.parametrize("seeds", [0, -1, [], [1, 1], [-1], "three", True, 1.5, [0.5]])
def test_that_seeds_that_are_none_are_an_error(tmp_path, seeds):
    assert all(line.startswith("seeds") for line in problems(tmp_path, seeds=seeds))


# ------------------------------------------------------------------------------------------------------------ overrides
def test_that_an_override_changes_a_key_of_the_sweep(tmp_path):
    loaded = load(tmp_path, "seeds=[4]", "metric=AP50", "output=elsewhere", "resources.cpus_per_worker=2")
    assert (loaded.sweep.seeds, loaded.sweep.metric) == ((4,), "AP50")
    assert loaded.config.output == str(Path("elsewhere").resolve())
    assert loaded.sweep.resources.cpus_per_worker == 2


def test_that_any_other_override_is_a_setting_of_the_base(tmp_path):
    loaded = load(tmp_path, "data.num_train=7", "settings.training.epochs=8", settings={"data.num_val": 3})
    assert (loaded.config.data.num_train, loaded.config.training.epochs, loaded.config.data.num_val) == (7, 8, 3)
    assert loaded.sweep.settings == {"data": {"num_val": 3, "num_train": 7}, "training": {"epochs": 8}}


def test_that_another_method_drops_the_settings_of_the_old_one(tmp_path):
    optuna = {"method": "optuna", "startup_trials": 3}
    assert load(tmp_path, "search=random", search=optuna, num_trials=2).sweep.search.method == "random"
    assert load(tmp_path, "search.seed=4", search="random", num_trials=2).sweep.search.seed == 4
    kept = load(tmp_path, "search.seed=4", search=optuna, num_trials=2).sweep.search
    assert kept == OptunaSearch(method="optuna", seed=4, startup_trials=3)


def test_that_null_takes_a_key_back_to_its_default(tmp_path):
    assert load(tmp_path, "num_trials=null", "search=grid", search="random", num_trials=2).sweep.num_trials is None


def test_that_an_override_adds_or_replaces_a_dimension(tmp_path):
    loaded = load(
        tmp_path, "space.methods.tar.feature.weight={grid: [5]}", "space.decay.shape={grid: [linear, cosine]}"
    )
    assert loaded.points == (
        {"methods.tar.feature.weight": 5, "decay.shape": "linear"},
        {"methods.tar.feature.weight": 5, "decay.shape": "cosine"},
    )


def test_that_an_override_of_a_dimensions_values_keeps_its_condition(tmp_path):
    space = {
        "decay.shape": {"grid": ["linear", "step"]},
        "decay.factor": {"grid": [0.5], "when": {"decay.shape": "step"}},
    }
    loaded = load(tmp_path, "space.decay.factor.choice=[0.1, 0.2]", space=space)
    assert loaded.sweep.space["decay.factor"].as_written() == {"choice": [0.1, 0.2], "when": {"decay.shape": ["step"]}}


def test_that_an_override_that_is_neither_is_an_error(tmp_path):
    assert problems(tmp_path, "sedes=2", "trainning.epochs=2", "what") == [
        "'what': must have the form section.key=value",
        "sedes: neither a key of the sweep nor a setting of its base; did you mean seeds?",
        "trainning.epochs: neither a key of the sweep nor a setting of its base; did you mean training.epochs?",
    ]


# ------------------------------------------------------------------------------------------------------------- messages
def test_that_everything_wrong_is_named_at_once(tmp_path):
    found = problems(
        tmp_path,
        "methods.tar.feature.mask=box",
        base="quickstart",
        settings={"trainig": {"epochs": 3}, "data.num_train": 0},
        metric="AP60",
        schedulr="asha",
        scheduler={"name": "median", "grace_period": 0},
        resources={"gpus_per_worker": -1},
        space={
            "methods.tar.feature.wieght": {"grid": [1]},
            "decay.shape": {"grid": ["linear", "wave"]},
            "methods.tar.rpn.weight": {"uniform": [0, 1]},
            "data.size": {"grid": [64, 96]},
            "methods.tar.feature.sigma_squared": {"grid": [1, 2]},
        },
    )
    starts = [line.partition(": ")[0] for line in found]
    assert sorted(starts) == [
        "metric",
        "resources.gpus_per_worker",
        "scheduler.grace_period",
        "schedulr",
        "settings.data.num_train",
        "settings.trainig",
        "space.data.size",
        "space.decay.shape",
        "space.methods.tar.feature.wieght",
        "space.methods.tar.rpn.weight",
    ]
    text = "\n".join(found)
    for meant in ("did you mean scheduler?", "did you mean training?", "did you mean methods.tar.feature.weight?"):
        assert meant in text


def test_that_a_conflict_of_settings_is_named_with_the_points_that_have_it(tmp_path):
    space = {
        "methods.tar.feature.mask": {"grid": ["gaussian", "box"]},
        "methods.tar.feature.sigma_squared": {"grid": [1, 2]},
    }
    assert problem(tmp_path, space=space) == (
        "space: methods.tar.feature.sigma_squared: has no effect with mask 'box'; remove it, at "
        "methods.tar.feature.mask=box, methods.tar.feature.sigma_squared=1"
    )


def test_that_a_conflict_at_many_points_is_named_once(tmp_path):
    space = {
        "methods.tar.feature.mask": {"grid": ["box"]},
        "methods.tar.feature.sigma_squared": {"grid": [1]},
        "methods.tar.rpn.weight": {"grid": list(range(1, 11))},
    }
    assert problem(tmp_path, space=space).endswith(" and 7 more")


def test_that_settings_of_the_base_at_the_top_are_pointed_to_their_place(tmp_path):
    assert problem(tmp_path, augmentation={"horizontal_flip": 0}) == (
        "augmentation: no such setting; settings of the base belong under settings"
    )


def test_that_a_base_must_be_given(tmp_path):
    assert problem(tmp_path, base=None).startswith("base: must ")


@pytest.mark.parametrize("given", ["decai", "decay.yml", "gone/decay.yaml"])
def test_that_a_sweep_that_does_not_exist_names_the_one_that_was_meant_and_all(given):
    with pytest.raises(UserError) as caught:
        load_sweep(given)
    problem, meant, known = re.split(r"(?<=[;?]) ", str(caught.value))
    assert (problem, meant) == (f"{given}: must be a sweep or a YAML file, got neither;", "did you mean 'decay'?")
    assert known == f"the sweeps are {', '.join(SWEEPS)}"


def test_that_a_file_here_counts_where_it_is_given_as_a_path_and_not_by_its_name_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("quickstart").write_text("base: quickstart\nspace: {decay.shape: {grid: [step]}}\n")
    assert [point["decay.shape"] for point in load_sweep("./quickstart").points] == ["step"]
    assert {point["decay.shape"] for point in load_sweep("quickstart").points} == {"linear", "cosine"}


def test_that_the_base_of_a_shipped_sweep_may_be_a_file_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("base: quickstart\nseed: 7\n")
    loaded = load_sweep("sharing", ["base=mine.yaml", "seeds=1"])
    assert (loaded.sweep.base, loaded.sweep.seeds) == (str(tmp_path / "mine.yaml"), (7,))


@pytest.mark.parametrize("text", ["", "5", "[a]", "{", "base: a\nbase: b", "\x00"])
def test_that_a_file_that_is_no_mapping_is_a_users_error(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=r"x\.yaml: must "):
        load_sweep(str(tmp_path / "x.yaml"))


# ----------------------------------------------------------------------------------------------------------- round trip
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seeds": [3, 1], "settings": {"seed": 9, "training.epochs": 3}, "resources": {"gpus_per_worker": 0.25}},
        {
            "search": {"method": "random", "seed": 3},
            "num_trials": 4,
            "space": {
                "decay.shape": {"choice": ["linear", "step"]},
                "decay.milestones": {"choice": [[0.5], [0.5, 0.75]], "when": {"decay.shape": "step"}},
                "decay.factor": {"uniform": [0.1, 0.5], "when": {"decay.milestones": [0.5]}},
            },
        },
        {"space": {"decay": {"grid": [{"shape": "linear"}, {"shape": "step", "milestones": [0.5]}]}}},
        {"search": "optuna", "num_trials": 3, "scheduler": "median", "evaluation": None},
    ],
)
def test_that_what_is_dumped_is_the_same_sweep_again(tmp_path, changes):
    changes = {key: value for key, value in changes.items() if value is not None}
    loaded = load(tmp_path, **changes)
    text = dump_sweep(loaded)
    (tmp_path / "dumped.yaml").write_text(text)
    assert load_sweep(str(tmp_path / "dumped.yaml")) == loaded
    (tmp_path / "part.yaml").write_text(yaml.safe_dump(yaml.safe_load(text)["sweep"]))
    assert load_sweep(str(tmp_path / "part.yaml")) == loaded


def test_that_the_dump_holds_the_bases_complete_settings(tmp_path):
    loaded = load(tmp_path)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(yaml.safe_load(dump_sweep(loaded))["config"]))
    assert load_config(str(tmp_path / "base.yaml")) == loaded.config


# ---------------------------------------------------------------------------------------------------------------- speed
def test_that_a_grid_of_two_hundred_points_is_checked_in_no_time(tmp_path):
    space = {
        "methods.tar.feature.weight": {"grid": list(range(1, 21))},
        "methods.tar.rpn.weight": {"grid": list(range(1, 11))},
    }
    started = time.process_time()
    assert len(load(tmp_path, space=space).points) == 200
    assert time.process_time() - started < 2


def test_that_checking_a_sweep_needs_neither_torch_nor_ray_nor_optuna(tmp_path):
    file = write(tmp_path, {"search": "random", "num_trials": 2})
    code = (
        "import sys; from raydistill.sweeps.file import load_sweep, controls, dump_sweep; "
        f"dump_sweep(load_sweep({file!r})); print({{'torch', 'ray', 'optuna', 'pandas', 'numpy'}} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --------------------------------------------------------------------------------------------------------- weird values
WEIRD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["grid", "asha"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["grid", "when", "uniform", "int"]), inner, max_size=2)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from([*Sweep.model_fields, "sweep"])
NAMES = st.sampled_from(sorted(set(setting_names())))
KINDS = st.sampled_from(["grid", "choice", "uniform", "loguniform", "int", "when"])


def a_sweep_or_a_users_error(folder, changes):
    file = folder / "weird.yaml"
    file.write_text(yaml.safe_dump({**SMALL, **changes}))
    try:
        loaded = load_sweep(str(file))
    except UserError as error:
        assert "(0 problems)" not in str(error)
    else:
        assert isinstance(loaded, LoadedSweep)


fuzzed = tried(20)


@pytest.mark.parametrize(
    "changes", [{"seeds": 10**12}, {"space": {"methods.tar.rpn.weight": {"int": [0, 10**15]}}, "search": "random"}]
)
def test_that_huge_numbers_are_no_huge_lists(tmp_path, changes):
    a_sweep_or_a_users_error(tmp_path, {**changes, "num_trials": 2})


@fuzzed
@given(key=KEYS, value=WEIRD)
def test_that_a_weird_key_is_a_sweep_or_a_users_error(tmp_path, key, value):
    a_sweep_or_a_users_error(tmp_path, {key: value})


@fuzzed
@given(name=NAMES, kind=KINDS, value=WEIRD | st.lists(WEIRD, min_size=1, max_size=3), search=st.booleans())
def test_that_a_weird_dimension_is_a_sweep_or_a_users_error(tmp_path, name, kind, value, search):
    changes = {"search": "random", "num_trials": 3} if search else {}
    a_sweep_or_a_users_error(
        tmp_path, {"space": {name: {kind: value}, "methods.tar.feature.mask": {"grid": ["box"]}}, **changes}
    )


@fuzzed
@given(name=NAMES, value=WEIRD)
def test_that_a_weird_setting_is_a_sweep_or_a_users_error(tmp_path, name, value):
    a_sweep_or_a_users_error(tmp_path, {"settings": {name: value}})


def test_that_more_than_anyone_searches_is_refused_with_the_limit(tmp_path):
    many = list(range(10_001))
    assert "grid must be a list of at most 10000 values, got 10001" in problem(tmp_path, space={"seed": {"grid": many}})
    when = {"data.seed": {"grid": [1, 2]}, "decay.rate": {"uniform": [0, 1], "when": {"data.seed": many[:1500]}}}
    found = problems(tmp_path, space=when)
    assert "space.decay.rate: when must name at most 1000 values of each setting, got more" in found
    dimensions = {f"a{number}.b": {"grid": [1]} for number in range(600)}
    assert problem(tmp_path, space=dimensions).startswith("space: must hold at most 500 settings to search, got 600")


def test_that_very_many_unknown_settings_are_told_without_comparing_each_with_each(tmp_path):
    with pytest.raises(UserError) as caught:
        load(tmp_path, settings={f"training.epochs{number}": 1 for number in range(3000)})
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("(3000 problems):") and lines[-1] == "  ... and 2900 more"
    assert lines[1] == "  - settings.training.epochs0: no such setting; did you mean training.epochs?"
    assert lines[50] == "  - settings.training.epochs49: no such setting"
