"""Which trials a sweep runs, in which order, and what is recorded of them; nothing is trained."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

from raydistill.config import Config, load_config
from raydistill.errors import UserError
from raydistill.sweeps import plan as plan_module
from raydistill.sweeps.announcement import refuse_missing_score
from raydistill.sweeps.directory import SweepDirectory
from raydistill.sweeps.file import load_sweep, trial_config
from raydistill.sweeps.plan import Plan, Score
from tests.sweeps.acted import evaluated, handed_out, planned, run_all

CONTROLS = ["baseline-seed0", "constant-seed0"]


# The order ------------------------------------------------------------------------------------------------------------
def test_the_controls_come_first_then_every_point_under_every_seed(tmp_path: Path) -> None:
    assert list(handed_out(planned(tmp_path, seeds=[3, 1]))) == [
        *("baseline-seed3", "baseline-seed1", "constant-seed3", "constant-seed1"),
        *("p0000-seed3", "p0000-seed1", "p0001-seed3", "p0001-seed1"),
    ]


def test_a_record_holds_the_points_settings_and_the_seed(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    list(handed_out(plan))
    records = [plan.record(name) for name in (*CONTROLS, "p0000-seed0", "p0001-seed0")]
    assert [record.role for record in records] == ["baseline", "constant", "searched", "searched"]
    assert [record.point for record in records] == [-1, -2, 0, 1]
    assert [record.settings.get("decay.shape") for record in records] == [None, "constant", "linear", "cosine"]
    assert all(record.status == "unfinished" for record in records)


def test_a_trial_that_is_handed_out_has_its_record_and_its_recipe(tmp_path: Path) -> None:
    plan = planned(tmp_path, seeds=[4])
    for name in handed_out(plan):
        trial = plan.directory.trial(name)
        assert trial.read() == plan.record(name)
        config = load_config(str(trial.recipe))
        assert config.seed == 4
        assert config.output == str(trial.path)
        assert config.distills == (name != "baseline-seed4")
    assert load_config(str(plan.directory.trial("p0001-seed4").recipe)).decay.shape == "cosine"


def test_what_is_not_handed_out_yet_leaves_no_files(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    plan.next()
    assert [trial.path.name for trial in plan.directory.trials()] == ["baseline-seed0"]


def test_the_total_counts_controls_and_points_under_every_seed(tmp_path: Path) -> None:
    assert planned(tmp_path / "grid", seeds=3).total == 12
    assert planned(tmp_path / "optuna", **OPTUNA | {"num_trials": 5}, seeds=2).total == 14


def test_a_space_of_fewer_points_than_are_asked_for_is_said_beforehand(tmp_path: Path) -> None:
    plan = planned(tmp_path, search="optuna", num_trials=5, seeds=2)
    assert plan.total == 8
    assert (
        "num_trials: 5 are asked for and the space has 2 different points; the sweep ends with these" in plan.headline
    )
    assert len(run_all(plan)) == 8
    again = planned(tmp_path, search="optuna", num_trials=5, seeds=2)
    assert not again.unfinished


def test_a_grids_trials_are_all_handed_out_before_any_has_ended(tmp_path: Path) -> None:
    assert len(list(handed_out(planned(tmp_path)))) == 4


# Another day ----------------------------------------------------------------------------------------------------------
def test_trials_that_have_ended_are_not_handed_out_again(tmp_path: Path) -> None:
    assert len(run_all(planned(tmp_path))) == 4
    again = planned(tmp_path)
    assert list(handed_out(again)) == []
    assert not again.unfinished


def test_a_stopped_trial_is_not_handed_out_again(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    for name in handed_out(plan):
        evaluated(plan, name, 0.1, finished=name != "p0000-seed0")
        plan.end(name, 1.0)
    assert plan.record("p0000-seed0").status == "stopped"
    assert list(handed_out(planned(tmp_path))) == []


def test_a_trial_that_was_interrupted_or_has_failed_is_handed_out_again(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    for name in handed_out(plan):
        if name == "p0000-seed0":
            plan.end(name, 3.0, lost="its worker was lost")
        elif name == "p0001-seed0":
            plan.interrupted(name, 4.0)
        else:
            evaluated(plan, name, 0.1)
            plan.end(name, 1.0)
    again = planned(tmp_path)
    assert again.unfinished
    assert list(handed_out(again)) == ["p0000-seed0", "p0001-seed0"]


def test_a_second_attempt_clears_the_reason_and_adds_its_seconds(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    plan.next()
    plan.end("baseline-seed0", 3.0, lost="its worker was lost")
    again = planned(tmp_path)
    record = again.next()
    assert record is not None
    assert (record.name, record.status, record.reason, record.seconds) == ("baseline-seed0", "unfinished", "", 3.0)
    assert again.directory.trial(record.name).read() == record
    evaluated(again, record.name, 0.5)
    ended = again.end(record.name, 2.0)
    assert (ended.status, ended.reason, ended.seconds) == ("finished", "", 5.0)


def test_the_seconds_of_an_interrupted_attempt_count(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    plan.next()
    plan.interrupted("baseline-seed0", 4.0)
    assert plan.directory.trial("baseline-seed0").read().status == "unfinished"
    again = planned(tmp_path)
    again.next()
    again.interrupted("baseline-seed0", 2.0)
    last = planned(tmp_path)
    last.next()
    assert last.end("baseline-seed0", 1.0).seconds == 7.0


def test_a_recipe_that_was_written_before_is_kept(tmp_path: Path) -> None:
    """It is what the trial was begun with."""
    plan = planned(tmp_path)
    plan.next()
    recipe = plan.directory.trial("baseline-seed0").recipe
    recipe.write_text("# as it was\n" + recipe.read_text())
    planned(tmp_path).next()
    assert recipe.read_text().startswith("# as it was\n")


def test_who_looks_for_the_lowest_score_is_told_what_that_means(tmp_path: Path) -> None:
    assert "mode" not in planned(tmp_path).headline
    said = planned(tmp_path / "other", mode="min").headline
    assert "mode: min takes the lowest AP for the best, which is the worst; leave it out for max" in said


# Ended beforehand -----------------------------------------------------------------------------------------------------
def test_a_trial_that_is_ended_before_its_turn_is_nothanded_out(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    first = plan.next()
    assert first is not None
    plan.end("p0000-seed0", 0.0)
    assert "p0000-seed0" not in [*handed_out(plan)]
    assert plan.record("p0000-seed0").status == "stopped"


# How a trial ends -----------------------------------------------------------------------------------------------------
def test_a_trial_is_finished_with_its_result_only(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    list(handed_out(plan))
    evaluated(plan, "p0000-seed0", 0.1)
    evaluated(plan, "p0001-seed0", 0.1, finished=False)
    assert plan.end("p0000-seed0", 1.0).status == "finished"
    assert plan.end("p0001-seed0", 1.0).status == "stopped"
    assert plan.directory.trial("p0001-seed0").read() == plan.record("p0001-seed0")


def test_a_failed_trial_says_the_first_line_of_its_failure(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    plan.next()
    plan.directory.trial("baseline-seed0").failure.write_text("KeyError: 'x'\nTraceback ...\n")
    record = plan.end("baseline-seed0", 1.0)
    assert (record.status, record.reason) == ("failed", "KeyError: 'x'")


def test_a_trial_whose_worker_was_lost_has_failed_for_that(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    plan.next()
    evaluated(plan, "baseline-seed0", 0.1, finished=False)
    record = plan.end("baseline-seed0", 1.0, lost="its worker was lost (killed)")
    assert (record.status, record.reason) == ("failed", "its worker was lost (killed)")


def test_a_trial_without_a_word_or_a_result_was_stopped(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    plan.next()
    assert plan.end("baseline-seed0", 1.0).status == "stopped"


def test_an_ended_trial_keeps_its_weights_and_no_checkpoint(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    list(handed_out(plan))
    files = ("best.pt", "last.pt", "checkpoint.pt", "checkpoint.1.pt")
    for name, finished in (("baseline-seed0", True), ("p0000-seed0", False), ("p0001-seed0", False)):
        evaluated(plan, name, 0.1, finished=finished)
        for file in files:
            (plan.directory.trial(name).run.path / file).write_bytes(b"weights")
    assert plan.end("baseline-seed0", 1.0).status == "finished"
    assert plan.end("p0000-seed0", 1.0).status == "stopped"
    assert plan.end("p0001-seed0", 1.0, lost="its worker was lost").status == "failed"  # it is tried again
    kept = {
        name: sorted(file.name for file in plan.directory.trial(name).run.path.glob("*.pt"))
        for name in ("baseline-seed0", "p0000-seed0", "p0001-seed0")
    }
    assert kept == {
        "baseline-seed0": ["best.pt", "last.pt"],
        "p0000-seed0": ["best.pt", "last.pt"],
        "p0001-seed0": sorted(files),
    }


# The score ------------------------------------------------------------------------------------------------------------
def test_the_score_is_that_of_the_best_epoch_and_knows_the_last(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    evaluated(plan, "p0000-seed0", 0.1, 0.4, 0.3)
    assert plan.score("p0000-seed0") == Score(0.4, 3)


def test_the_best_epoch_is_that_of_best_metric_the_first_of_equals(tmp_path: Path) -> None:
    plan = planned(tmp_path, "evaluation.best_metric=AP50", metric="AP75")
    run = plan.directory.trial("p0000-seed0").run
    run.path.mkdir(parents=True)
    values = [(0.1, 0.9), (0.5, 0.2), (0.5, 0.8), (0.3, 0.7)]
    lines = [{"epoch": n, "val/AP50": best, "val/AP75": wanted} for n, (best, wanted) in enumerate(values, start=1)]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert plan.score("p0000-seed0") == Score(0.2, 4)


def test_epochs_without_an_evaluation_are_passed_over(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    run = plan.directory.trial("p0000-seed0").run
    run.path.mkdir(parents=True)
    run.metrics.write_text('{"epoch": 1}\n{"epoch": 2, "val/AP": 0.25}\n{"epoch": 3}\n')
    assert plan.score("p0000-seed0") == Score(0.25, 2)


def test_a_line_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    evaluated(plan, "p0000-seed0", 0.1)
    metrics = plan.directory.trial("p0000-seed0").run.metrics
    metrics.write_text(metrics.read_text() + '{"epoch": 2, "val/AP": 0.')
    assert plan.score("p0000-seed0") == Score(0.1, 1)


def test_without_an_evaluation_there_is_no_score(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert math.isnan(plan.score("p0000-seed0").value)
    assert plan.score("p0000-seed0").epoch == 0
    run = plan.directory.trial("p0000-seed0").run
    run.path.mkdir(parents=True)
    run.metrics.write_text('{"epoch": 1}\n')
    assert math.isnan(plan.score("p0000-seed0").value)


def test_a_metric_without_objects_to_find_is_no_score(tmp_path: Path) -> None:
    """pycocotools says -1 where there are no objects of a size."""
    plan = planned(tmp_path, metric="AP_large")
    evaluated(plan, "p0000-seed0", 0.1, 0.2, **{"val/AP_large": -1.0})
    assert math.isnan(plan.score("p0000-seed0").value)
    assert plan.score("p0000-seed0").epoch == 2


def test_where_the_best_metric_does_not_exist_the_last_epoch_has_the_score(tmp_path: Path) -> None:
    plan = planned(tmp_path, metric="AP50")
    evaluated(plan, "p0000-seed0", -1.0, -1.0, -1.0, **{"val/AP50": 0.5})
    run = plan.directory.trial("p0000-seed0").run
    lines = run.metrics.read_text().replace('"val/AP50": 0.5', '"val/AP50": 0.7', 1)
    run.metrics.write_text(lines)
    assert plan.score("p0000-seed0") == Score(0.5, 3)


@pytest.mark.parametrize(("metric", "missing"), [("AP_small", True), ("AP_large", False)])
def test_a_metric_that_the_teachers_scores_lack_is_refused(tmp_path: Path, metric: str, missing: bool) -> None:
    plan = planned(tmp_path, metric=metric)
    refuse_missing_score(plan.directory, metric)
    plan.directory.teacher.path.mkdir()
    scores = {"AP": 0.5, "AP50": 0.5, "AP75": 0.5, "AP_small": -1.0, "AP_medium": 0.5, "AP_large": 0.0}
    plan.directory.teacher.result.write_text(json.dumps({"parameters": 1, "epochs": 1, **scores}))
    said = "metric: must have an object to score .*, got AP_small, which the teacher has no score of"
    with pytest.raises(UserError, match=said) if missing else contextlib.nullcontext():
        refuse_missing_score(plan.directory, metric)


@pytest.mark.parametrize(("score", "there"), [(-1.0, False), (0.0, True)])
def test_a_sweep_has_a_score_when_a_searched_trial_ended_with_one(tmp_path: Path, score: float, there: bool) -> None:
    plan = planned(tmp_path)
    while (record := plan.next()) is not None:
        assert not plan.has_score
        evaluated(plan, record.name, score if record.role == "searched" else 0.5)
        if record.role == "searched":
            break
        plan.end(record.name, 1.0)
    plan.end(record.name, 1.0) if record else None
    assert plan.has_score == there


# Other settings -------------------------------------------------------------------------------------------------------
def test_another_sweep_in_the_same_place_is_refused_with_the_difference(tmp_path: Path) -> None:
    planned(tmp_path).next()
    before = (tmp_path / "sweep" / "sweep.yaml").read_text()
    with pytest.raises(UserError) as caught:
        planned(tmp_path, "training.epochs=5", "metric=AP50")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'sweep'}: holds another sweep; choose another --output")
    assert "metric: AP then, AP50 now" in message
    assert "training.epochs: 2 then, 5 now" in message
    assert (tmp_path / "sweep" / "sweep.yaml").read_text() == before


def test_another_sweep_is_taken_where_no_trial_was_begun(tmp_path: Path) -> None:
    planned(tmp_path)
    plan = planned(tmp_path, "training.epochs=5")
    record = plan.next()
    assert record is not None
    assert load_config(str(plan.directory.trial(record.name).recipe)).training.epochs == 5
    assert load_sweep(str(plan.directory.settings)).config.training.epochs == 5


def test_a_sweep_goes_on_with_other_resources(tmp_path: Path) -> None:
    assert len(run_all(planned(tmp_path))) == 4
    assert list(handed_out(planned(tmp_path, "resources.cpus_per_worker=2", "max_concurrent=1"))) == []


def test_the_directory_holds_what_the_sweep_was_begun_with(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert load_sweep(str(plan.directory.settings)) == plan.loaded


def test_a_damaged_record_ends_the_plan_with_its_name(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    plan.next()
    plan.directory.trial("baseline-seed0").record_file.write_text("{")
    with pytest.raises(UserError, match=r"baseline-seed0/trial\.json"):
        planned(tmp_path)


# The teacher's precision ----------------------------------------------------------------------------------------------
PRECISION = "distillation.teacher_precision"
AUTO = f"{PRECISION}=auto"


def _precisions(plan: Plan) -> dict[str, str]:
    """Return what the recipes say of every trial that is still to be run."""
    return {
        name: load_config(str(plan.directory.trial(name).recipe)).distillation.teacher_precision
        for name in handed_out(plan)
    }


def _begun_in(plan: Plan, name: str, precision: str | None) -> None:
    """Leave a student that an earlier version began, which decided in each trial what auto means."""
    run = plan.directory.trial(name).path / "distilled"
    run.mkdir()
    (run / "checkpoint.pt").touch()
    (run / "config.yaml").write_text(f"distillation: {{teacher_precision: {precision}}}" if precision else "seed: 0")


def test_what_auto_means_is_decided_for_all_trials_and_kept(tmp_path: Path) -> None:
    plan = planned(tmp_path, AUTO)
    assert plan.precision is None
    assert plan.decide_precision("bf16").startswith("teacher: answers in bf16, ")
    assert set(_precisions(plan).values()) == {"bf16"}
    again = planned(tmp_path, AUTO, "seeds=2")
    assert again.precision == "bf16"
    assert set(_precisions(again).values()) == {"bf16"}


def test_a_precision_that_was_decided_cannot_become_another(tmp_path: Path) -> None:
    plan = planned(tmp_path, AUTO)
    plan.decide_precision("bf16")
    plan.next()
    with pytest.raises(UserError, match=rf"{PRECISION}: bf16 then, fp32 now"):
        planned(tmp_path, f"{PRECISION}=fp32")
    assert planned(tmp_path, f"{PRECISION}=bf16").precision == "bf16"


def test_a_sweep_whose_trials_decided_by_themselves_stays_in_what_they_have_in_common(tmp_path: Path) -> None:
    plan = planned(tmp_path, AUTO)
    assert set(_precisions(plan).values()) == {"auto"}
    for name, precision in (("baseline-seed0", None), ("constant-seed0", "bf16"), ("p0000-seed0", "bf16")):
        _begun_in(plan, name, precision)
    with pytest.raises(UserError, match=rf"{PRECISION}: must stay bf16, as its trials were begun, got fp32; give"):
        planned(tmp_path, f"{PRECISION}=fp32")
    again = planned(tmp_path, AUTO)
    assert again.precision == "bf16"
    assert set(_precisions(again).values()) == {"bf16"}


def test_a_sweep_whose_trials_decided_differently_goes_on_each_as_it_was_begun(tmp_path: Path) -> None:
    plan = planned(tmp_path, AUTO)
    list(handed_out(plan))
    _begun_in(plan, "constant-seed0", "fp32")
    _begun_in(plan, "p0000-seed0", "bf16")
    again = planned(tmp_path, AUTO)
    assert again.precision is None
    again.decide_precision("fp32")
    found = _precisions(again)
    assert [found[name] for name in (*CONTROLS, "p0000-seed0", "p0001-seed0")] == ["fp32", "fp32", "bf16", "fp32"]


def test_a_sweep_begun_before_its_base_named_a_precision_goes_on(tmp_path: Path) -> None:
    plan = planned(tmp_path, AUTO)
    list(handed_out(plan))
    _begun_in(plan, "constant-seed0", "fp32")
    again = planned(tmp_path, f"{PRECISION}=fp32")
    assert set(_precisions(again).values()) == {"fp32"}


# A point that cannot be used ------------------------------------------------------------------------------------------
def _refuse_linear(loaded: Any, point: Any, seed: int, output: Path) -> Config:
    if point.get("decay.shape") == "linear":
        raise UserError("decay.shape=linear: cannot be used")
    return trial_config(loaded, point, seed, output)


def test_a_point_whose_settings_cannot_be_used_fails_and_the_next_ishanded_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "trial_config", _refuse_linear)
    plan = planned(tmp_path)
    assert list(handed_out(plan)) == [*CONTROLS, "p0001-seed0"]
    record = SweepDirectory(tmp_path / "sweep").trial("p0000-seed0").read()
    assert (record.status, record.reason) == ("failed", "decay.shape=linear: cannot be used")
    assert plan.record("p0000-seed0") == record


def test_a_point_that_could_not_be_used_is_tried_again_another_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "trial_config", _refuse_linear)
    list(handed_out(planned(tmp_path)))
    monkeypatch.undo()
    assert "p0000-seed0" in list(handed_out(planned(tmp_path)))


# Points found on the way ----------------------------------------------------------------------------------------------
OPTUNA: dict[str, Any] = {
    "search": {"method": "optuna", "seed": 5, "startup_trials": 2},
    "num_trials": 6,
    "space": {
        "methods.tar.feature.weight": {"loguniform": [0.1, 10]},
        "decay.shape": {"choice": ["linear", "step", "exponential"]},
        "decay.milestones": {"choice": [[0.5], [0.5, 0.75]], "when": {"decay.shape": "step"}},
        "decay.rate": {"uniform": [1, 9], "when": {"decay.shape": "exponential"}},
        "methods.tar.regions.source": {"choice": ["student", "teacher", "both"]},
    },
}


def _score_of(settings: dict[str, Any], seed: int) -> float:
    return round(1 / (1 + settings.get("methods.tar.feature.weight", 0)) - 0.01 * seed, 4)


def _search(plan: Plan, until: int | None = None) -> dict[str, dict[str, Any]]:
    """Run the sweep (or until so many trials were handed out) with made-up scores; return the settings by trial."""
    found: dict[str, dict[str, Any]] = {}
    for name in handed_out(plan):
        record = plan.record(name)
        found[name] = record.settings
        if until is not None and len(found) == until:
            break
        evaluated(plan, name, _score_of(record.settings, record.seed))
        plan.end(name, 1.0)
    return found


def test_a_search_that_is_interrupted_finds_the_points_of_one_that_is_not(tmp_path: Path) -> None:
    undisturbed = _search(planned(tmp_path / "one", **OPTUNA, seeds=2))
    assert len(undisturbed) == 16
    assert any("decay.milestones" in settings for settings in undisturbed.values())
    found: dict[str, dict[str, Any]] = {}
    for until in (3, 3, 4, None):
        found |= _search(planned(tmp_path / "two", **OPTUNA, seeds=2), until)
    assert found == undisturbed


def test_points_begun_before_are_handed_out_with_the_same_settings(tmp_path: Path) -> None:
    plan = planned(tmp_path, **OPTUNA)
    begun = {name: plan.record(name).settings for name in handed_out(plan)}
    again = planned(tmp_path, **OPTUNA)
    assert {name: again.record(name).settings for name in handed_out(again)} == begun
    assert len(begun) == 8


def test_a_search_is_unfinished_while_points_are_to_be_found(tmp_path: Path) -> None:
    plan = planned(tmp_path, **OPTUNA)
    assert plan.unfinished
    _search(plan)
    assert not plan.unfinished
    assert not planned(tmp_path, **OPTUNA).unfinished


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the search is told."""
    heard: list[tuple[Any, ...]] = []
    monkeypatch.setattr(plan_module.Suggestions, "tell", lambda self, *what: heard.append(what))
    monkeypatch.setattr(plan_module.Suggestions, "tell_failed", lambda self, number: heard.append((number, "failed")))
    return heard


def _first_point(folder: Path) -> Plan:
    plan = planned(folder, **OPTUNA, seeds=2)
    while "p0000-seed1" not in {trial.path.name for trial in plan.directory.trials()}:
        plan.next()
    return plan


def test_the_search_hears_the_mean_over_seeds_when_all_have_ended(tmp_path: Path, told: list[tuple[Any, ...]]) -> None:
    plan = _first_point(tmp_path)
    for name, score in (("p0000-seed1", 0.25), ("p0000-seed0", 0.75)):
        assert told == []
        evaluated(plan, name, score)
        plan.end(name, 1.0)
    assert told == [(0, 0.5, 0)]


def test_the_search_hears_where_a_point_was_stopped(tmp_path: Path, told: list[tuple[Any, ...]]) -> None:
    plan = _first_point(tmp_path)
    evaluated(plan, "p0000-seed0", 0.25, 0.5, 0.5)
    evaluated(plan, "p0000-seed1", 0.125, 0.25, finished=False)
    for name in ("p0000-seed0", "p0000-seed1"):
        plan.end(name, 1.0)
    assert told == [(0, 0.375, 2)]


def test_the_search_hears_of_a_failure(tmp_path: Path, told: list[tuple[Any, ...]]) -> None:
    plan = _first_point(tmp_path)
    evaluated(plan, "p0000-seed0", 0.25)
    plan.end("p0000-seed0", 1.0)
    plan.end("p0000-seed1", 1.0, lost="its worker was lost")
    assert told == [(0, "failed")]


def test_the_search_hears_of_a_failure_after_an_evaluation(tmp_path: Path, told: list[tuple[Any, ...]]) -> None:
    plan = _first_point(tmp_path)
    evaluated(plan, "p0000-seed0", 0.25)
    plan.end("p0000-seed0", 1.0)
    evaluated(plan, "p0000-seed1", 0.9, finished=False)
    plan.directory.trial("p0000-seed1").failure.write_text("the loss must be finite\n")
    assert plan.end("p0000-seed1", 1.0).status == "failed"
    assert told == [(0, "failed")]


def test_controls_are_no_part_of_the_search(tmp_path: Path, told: list[tuple[Any, ...]]) -> None:
    plan = planned(tmp_path, **OPTUNA)
    for name in CONTROLS:
        plan.next()
        evaluated(plan, name, 0.5)
        plan.end(name, 1.0)
    assert told == []


def test_a_search_that_finds_no_other_point_ends(tmp_path: Path) -> None:
    plan = planned(tmp_path, search="optuna", num_trials=9)
    assert list(handed_out(plan)) == [*CONTROLS, "p0000-seed0", "p0001-seed0"]


def test_a_suggestion_whose_settings_cannot_be_used_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raydistill.sweeps.file import trials

    plan = planned(tmp_path, search="optuna", num_trials=2)
    for module in (trials, plan_module):
        monkeypatch.setattr(module, "trial_config", _refuse_linear)
    assert list(handed_out(plan)) == [*CONTROLS, "p0000-seed0"]
    assert plan.record("p0000-seed0").settings == {"decay.shape": "cosine"}
