"""``rd.trainable``: a student as a function for somebody's own ``ray.tune.Tuner``."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.tune

import raydistill as rd
from raydistill.config.loader import split_overrides
from raydistill.runs.directory import RunDirectory
from tests.cluster.nodes import Cluster
from tests.small import SMALL_RUN, metrics_of, repeatable, same_weights, weights_of

RECIPE: dict[str, Any] = {
    "base": "quickstart",
    **dict(split_overrides(SMALL_RUN)[0]),
    "data.num_train": 8,
    "data.num_val": 2,
    "training.epochs": 3,
    "student.box_score_thresh": 0,
    "distillation.preflight": "warn",
    "decay.shape": "exponential",
}
TRIAL = {"decay.rate": 2.0, "methods.tar.feature.weight": 0.5}
Reported = list[tuple[dict[str, Any], Path]]


class _Stopped(BaseException):
    """Ray ends the function."""


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], None]:
    """The function, its teacher trained."""
    space = {"decay.rate": ray.tune.loguniform(1, 10), "methods.tar.feature.weight": ray.tune.grid_search([0.5, 1.0])}
    return rd.trainable(RECIPE, space=space, output=tmp_path_factory.mktemp("trainable") / "run", local=True)


def _run(
    train: Callable[[dict[str, Any]], None],
    settings: dict[str, Any],
    folder: Path,
    begin: Path | None = None,
    most: int = 9,
) -> Reported:
    """Let a trial run as Ray would, from a checkpoint where there is one, until it has reported so often."""
    reported: Reported = []

    def report(metrics: dict[str, Any], checkpoint: Any) -> None:
        kept = folder / f"checkpoint_{len(reported)}"
        shutil.copytree(checkpoint.path, kept)
        reported.append((metrics, kept))
        if len(reported) == most:
            raise _Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray.tune, "report", report)
        patch.setattr(ray.tune, "get_checkpoint", lambda: None if begin is None else ray.tune.Checkpoint(str(begin)))
        patch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_assigned_resources=lambda: {"CPU": 1.0}))
        try:
            train(settings)
        except _Stopped:
            assert len(reported) == most
    return reported


def _student(checkpoint: Path) -> RunDirectory:
    return RunDirectory(checkpoint / "distilled")


@pytest.fixture(scope="module")
def whole(train: Callable[[dict[str, Any]], None], tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """A trial that nothing interrupted."""
    return _run(train, TRIAL, tmp_path_factory.mktemp("whole"))


def test_every_epoch_is_reported_once_with_its_scores_and_a_checkpoint(whole: Reported) -> None:
    assert [metrics["epoch"] for metrics, _ in whole] == [1, 2, 3]
    for metrics, checkpoint in whole:
        assert {"AP", "AP50", "train/total", "val/class/circle"} <= metrics.keys()
        assert all(type(value) in (int, float) for value in metrics.values())
        assert len(_student(checkpoint).lines()) == metrics["epoch"]
    last = whole[-1][0]
    assert last["best_AP"] == max(metrics["AP"] for metrics, _ in whole)
    assert math.isnan(last["AP_large"]) or last["AP_large"] >= 0
    assert rd.load(whole[-1][1]).classes == rd.load(whole[0][1]).classes


def test_a_trial_goes_on_from_its_checkpoint_to_the_same_student(
    train: Callable[[dict[str, Any]], None], whole: Reported, tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    _, checkpoint = _run(train, TRIAL, tmp_path / "first", most=1)[-1]
    later = _run(train, TRIAL, tmp_path, checkpoint)
    assert [metrics["epoch"] for metrics, _ in later] == [2, 3]
    one, other = _student(later[-1][1]), _student(whole[-1][1])
    assert repeatable(metrics_of(one)) == repeatable(metrics_of(other))
    assert same_weights(weights_of(one.best), weights_of(other.best))


def test_a_finished_trial_that_is_started_again_says_how_it_ended(
    train: Callable[[dict[str, Any]], None], whole: Reported, tmp_path: Path
) -> None:
    (again,) = _run(train, TRIAL, tmp_path, whole[-1][1])
    assert again[0] == whole[-1][0]


def test_a_population_may_change_what_can_change_and_nothing_else(
    train: Callable[[dict[str, Any]], None], whole: Reported, tmp_path: Path
) -> None:
    begin = whole[0][1]
    later = _run(train, {**TRIAL, "methods.tar.feature.weight": 2.0}, tmp_path, begin)
    assert [metrics["epoch"] for metrics, _ in later] == [2, 3]
    with pytest.raises(rd.UserError, match=r"training.batch_size=4 then, 2 now"):
        _run(train, {**TRIAL, "training.batch_size": 2}, tmp_path, begin)


@pytest.mark.parametrize(
    ("space", "problems"),
    [
        ({"decay.rat": 2}, ["decay.rat: no such setting; did you mean decay.rate?"]),
        ({"decay": {"rate": -1}}, ["decay.rate: must be greater than 0, got -1"]),
        ({"decay.rate": ray.tune.uniform(-2, -1)}, ["decay.rate: must be greater than 0"]),
        ({"decay.shape": ray.tune.choice(["linear", "round"])}, ["decay.shape: must be one of"]),
        (
            {"methods.tar.rpn.weight": ray.tune.grid_search([1, "x"])},
            ["methods.tar.rpn.weight: must be a valid number"],
        ),
        ({"teacher.epochs": 3}, ["teacher.epochs: cannot be set by a trial: one teacher is shared"]),
        ({"scaling.num_workers": 2, "output": "x"}, ["ray.tune.with_resources", "output: cannot be set by a trial"]),
    ],
)
def test_a_space_that_cannot_be_is_refused_before_the_teacher_is_trained(
    space: dict[str, Any], problems: list[str], tmp_path: Path
) -> None:
    with pytest.raises(rd.UserError) as refused:
        rd.trainable(RECIPE, space=space, output=tmp_path / "none", local=True)
    assert all(problem in str(refused.value) for problem in problems)
    assert not (tmp_path / "none").exists()


def test_a_trial_with_a_wrong_name_says_so(train: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    with pytest.raises(rd.UserError, match=r"decay.rat: no such setting; did you mean decay.rate"):
        _run(train, {"decay.rat": 1}, tmp_path)


def test_weights_that_are_there_are_the_teacher(whole: Reported, tmp_path: Path) -> None:
    given = {**RECIPE, "teacher.fpn_channels": 16}
    train = rd.trainable(given, teacher=whole[-1][1] / "distilled", output=tmp_path / "run", local=True)
    assert RunDirectory(tmp_path / "run" / "teacher").lines() == []  # it is scored, and not trained
    assert [metrics["epoch"] for metrics, _ in _run(train, TRIAL, tmp_path, most=1)] == [1]


TUNER = """
import sys
from ray import tune
import raydistill as rd
from tests.on_ray.test_trainable import RECIPE

space = {"decay.rate": tune.loguniform(1, 10), "methods.tar.feature.weight": tune.grid_search([0.5, 1.0])}
train = rd.trainable(RECIPE, space=space, output=sys.argv[1], local=True)
config = tune.TuneConfig(metric="AP", mode="max")
run = tune.RunConfig(storage_path=sys.argv[2], name="tuned", verbose=0)
found = tune.Tuner(tune.with_resources(train, {"CPU": 1}), param_space=space, tune_config=config, run_config=run).fit()
for result in found:
    student, metrics = rd.load(result.checkpoint.path), result.metrics
    print("result", result.error, metrics["epoch"], metrics["best_AP"] >= metrics["AP"], len(student.classes))
print("best", found.get_best_result().metrics["epoch"])
"""


@pytest.mark.ray
def test_a_tuner_of_ones_own_gets_metrics_and_checkpoints(head: Cluster, tmp_path: Path) -> None:
    script = tmp_path / "tuner.py"
    script.write_text(TUNER)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run"), str(tmp_path / "ray")],
        env={**head.users, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith(("result", "best"))] == [
        "result None 3 True 6",
        "result None 3 True 6",
        "best 3",
    ]
