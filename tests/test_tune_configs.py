"""Every sweep that is shipped loads without data, and is as big as its comment says."""

import re
from pathlib import Path

import pytest

from raydistill.config import RECIPES, SWEEPS
from raydistill.sweeps.file import LoadedSweep, controls, dump_sweep, load_sweep, trial_config

FOLDER = Path(__file__).resolve().parents[1] / "tune_configs"
SIZE = re.compile(r"^# (\d+) points? and 2 controls, (\d+) seeds? each: (\d+) trials; (.+)\.$", re.MULTILINE)

each_sweep = pytest.mark.parametrize("name", SWEEPS)


def load(name: str, *overrides: str) -> LoadedSweep:
    return load_sweep(name, overrides)


def shapes(loaded: LoadedSweep) -> set[str]:
    return {trial_config(loaded, point, 0, Path("trial")).decay.shape for point in loaded.points or ()}


def test_that_the_sweeps_are_there():
    expected = {"quickstart", "decay", "loss_weights", "levels", "sharing", "gates", "joint", "coco_decay"}
    assert expected <= set(SWEEPS)
    assert [f"{name}.yaml" for name in SWEEPS] == sorted(path.name for path in FOLDER.iterdir())


@each_sweep
def test_that_a_sweep_is_the_same_by_its_name_and_by_its_file(name):
    assert load(name) == load_sweep(str(FOLDER / f"{name}.yaml"))


@each_sweep
def test_that_every_sweep_begins_with_its_question(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    comment = text.partition("\nbase:")[0]
    assert all(line.startswith("# ") for line in comment.splitlines())
    assert "?" in comment or "best" in comment


@each_sweep
def test_that_every_sweep_is_as_big_as_it_says(name):
    loaded = load(name)
    (said,) = SIZE.findall((FOLDER / f"{name}.yaml").read_text())
    points = loaded.sweep.num_trials if loaded.points is None else len(loaded.points)
    trials = (points + len(controls(loaded))) * len(loaded.sweep.seeds)
    assert [int(number) for number in said[:3]] == [points, len(loaded.sweep.seeds), trials]
    assert said[3]


@each_sweep
def test_that_every_sweep_is_based_on_a_recipe_and_writes_below_its_own_name(name):
    loaded = load(name)
    assert loaded.sweep.base in RECIPES
    assert Path(loaded.config.output).parts[-3:] == ("runs", "tune", name)


@each_sweep
def test_that_every_sweep_can_be_dumped_and_read_again(name, tmp_path):
    loaded = load(name)
    (tmp_path / "sweep.yaml").write_text(dump_sweep(loaded))
    assert load_sweep(str(tmp_path / "sweep.yaml")) == loaded


@each_sweep
def test_that_every_trial_of_every_sweep_has_settings(name):
    loaded = load(name)
    for point in [*controls(loaded).values(), *(loaded.points or ())]:
        for seed in loaded.sweep.seeds:
            config = trial_config(loaded, point, seed, Path("trial"))
            assert (config.seed, config.distillation.baseline) == (seed, False)


def test_that_the_decay_sweep_tries_every_shape_but_the_control():
    assert shapes(load("decay")) == {"linear", "cosine", "exponential", "step", "polynomial"}
    rates = [point["decay"].get("rate") for point in load("decay").points]
    assert {2, 5, 10} <= set(rates)


def test_that_the_levels_are_tried_alone_and_in_every_combination_with_and_without_decay():
    loaded = load("levels")
    kinds = ("feature", "classification", "regression", "rpn")
    configs = [trial_config(loaded, point, 0, Path("trial")) for point in loaded.points]
    found = {
        (*(bool(getattr(config.methods.tar, kind).weight) for kind in kinds), config.decay.shape) for config in configs
    }
    assert len(found) == 29
    assert {combination[:4] for combination in found if sum(combination[:4]) == 1} == {
        tuple(index == number for index in range(4)) for number in range(4)
    }
    for config in configs:
        assert all(
            getattr(config.methods.tar, kind).weight in (0, getattr(loaded.config.methods.tar, kind).weight)
            for kind in kinds
        )


def test_that_the_sharing_sweep_tries_every_direction():
    assert [point["methods.tar.regions.source"] for point in load("sharing").points] == ["student", "teacher", "both"]


def test_that_the_gates_are_tried_on_and_off():
    points = load("gates").points
    for name, off in (
        ("methods.tar.classification.gate", "foreground"),
        ("methods.tar.regression.reference", "none"),
        ("methods.tar.rpn.gate", "foreground"),
        ("methods.tar.rpn.reference", "none"),
    ):
        values = {point[name] for point in points}
        assert off in values
        assert len(values) >= 2


def test_that_the_weights_are_searched_on_a_log_scale():
    space = load("loss_weights").sweep.space
    assert set(space) == {
        "methods.tar.feature.weight",
        "methods.tar.classification.weight",
        "methods.tar.regression.weight",
        "methods.tar.rpn.weight",
    }
    assert {dimension.kind for dimension in space.values()} == {"loguniform"}


def test_that_the_joint_sweep_uses_optuna_and_asha():
    sweep = load("joint").sweep
    assert (sweep.search.method, sweep.scheduler.name) == ("optuna", "asha")


def test_that_the_cluster_sweep_takes_the_data_from_the_command_line():
    loaded = load("coco_decay", "data.root=/datasets/coco")
    config = trial_config(loaded, loaded.points[0], 0, Path("trial"))
    assert config.data.root == "/datasets/coco"
    assert (config.scaling.num_workers, config.scaling.use_gpu, config.scaling.gpus_per_worker) == (8, True, 1)
    assert loaded.config.scaling.num_workers == 8
