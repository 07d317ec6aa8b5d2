"""Whose weights stay, what failed trials become, and where a sweep ends before its points do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raydistill.errors import UserError
from raydistill.runs.events import Note
from raydistill.runs.stopping import Stop, Stopped
from raydistill.sweeps.announcement import does_not_repeat
from raydistill.sweeps.directory import SweepDirectory, TrialRecord
from raydistill.sweeps.file import load_sweep
from raydistill.sweeps.limits import SpentTime, limited
from raydistill.sweeps.plan import Plan
from raydistill.sweeps.table import SweepEvents
from raydistill.tune import plan_as_text
from tests.small import Listener, small_sweep
from tests.sweeps.acted import evaluated, handed_out, planned, run_all

WEIGHT = "methods.tar.feature.weight"
FIVE: dict[str, Any] = {"space": {WEIGHT: {"grid": [1, 2, 3, 4, 5]}}}
SCORES = {1: 0.3, 2: 0.5, 3: 0.4, 4: 0.2, 5: 0.5}


def _score(record: TrialRecord) -> float:
    return SCORES.get(record.settings.get(WEIGHT, 0), 0.25)


def _with_weights(plan: Plan) -> set[str]:
    trials = plan.directory.path.glob("trials/*")
    return {trial.name for trial in trials if {"best.pt", "last.pt"} <= {file.name for file in trial.glob("*/*.pt")}}


CONTROLS = {"baseline-seed0", "constant-seed0"}


# Weights --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("keep", "mode", "kept"),
    [(1, "max", {"p0001"}), (2, "max", {"p0001", "p0004"}), (2, "min", {"p0003", "p0000"}), (9, "max", None)],
)
def test_the_weights_of_the_best_points_and_the_controls_stay(
    tmp_path: Path, keep: int, mode: str, kept: set[str] | None
) -> None:
    plan = planned(tmp_path, **FIVE, keep=keep, mode=mode)
    run_all(plan, _score)
    names = kept if kept is not None else {f"p{number:04d}" for number in range(5)}
    assert _with_weights(plan) == CONTROLS | {f"{name}-seed0" for name in names}
    for trial in plan.directory.trials():
        assert trial.run.lines()
        assert trial.run.finished
        assert trial.recipe.is_file()


def test_weights_go_as_soon_as_a_point_is_beaten_and_not_before_all_its_seeds_have_ended(tmp_path: Path) -> None:
    plan = planned(tmp_path, "seeds=2", **FIVE, keep=1)
    there = []
    for name in handed_out(plan):
        run = plan.directory.trial(name).run
        evaluated(plan, name, 0.1, _score(plan.record(name)))
        (run.path / "best.pt").write_bytes(b"weights")
        (run.path / "last.pt").write_bytes(b"weights")
        plan.end(name, 1.0)
        there.append(sorted(trial for trial in _with_weights(plan) if trial.startswith("p")))
    assert there[4:9] == [
        ["p0000-seed0"],
        ["p0000-seed0", "p0000-seed1"],
        ["p0000-seed0", "p0000-seed1", "p0001-seed0"],
        ["p0001-seed0", "p0001-seed1"],
        ["p0001-seed0", "p0001-seed1", "p0002-seed0"],
    ]


def test_a_point_that_was_stopped_early_does_not_take_the_place_of_one_that_is_finished(tmp_path: Path) -> None:
    plan = planned(tmp_path, **FIVE, keep=1)
    for name in handed_out(plan):
        evaluated(plan, name, _score(plan.record(name)), finished=name != "p0001-seed0")
        for file in ("best.pt", "last.pt"):
            (plan.directory.trial(name).run.path / file).write_bytes(b"weights")
        plan.end(name, 1.0)
    assert plan.record("p0001-seed0").status == "stopped"
    assert _with_weights(plan) == CONTROLS | {"p0004-seed0"}  # which the report names, too


def test_what_the_program_did_not_make_and_what_may_go_on_stays(tmp_path: Path) -> None:
    plan = planned(tmp_path, **FIVE, keep=1)
    mine = ("best_copy.pt", "best.pt.bak", "teacher.pt", "notes.txt")
    for name in handed_out(plan):
        run = plan.directory.trial(name).run
        evaluated(plan, name, _score(plan.record(name)), finished=name != "p0000-seed0")
        for file in ("best.pt", "best.1.pt", "last.pt", "checkpoint.pt", *mine):
            (run.path / file).write_bytes(b"weights")
        plan.end(name, 1.0, lost="its worker was lost" if name == "p0000-seed0" else "")
    left = {trial.path.name: {file.name for file in trial.run.path.iterdir()} for trial in plan.directory.trials()}
    assert {"best.pt", "checkpoint.pt", *mine} <= left["p0000-seed0"]  # it is tried again
    assert left["p0002-seed0"] == {"metrics.jsonl", "result.json", *mine}


def test_a_sweep_that_has_ended_is_cleared_when_it_is_repeated_with_keep(tmp_path: Path) -> None:
    run_all(planned(tmp_path, **FIVE), _score)
    plan = planned(tmp_path, **FIVE, keep=1)
    assert len(_with_weights(plan)) == 7
    plan.trim_weights()
    assert _with_weights(plan) == CONTROLS | {"p0001-seed0"}
    assert "keep: the weights of the best point and of the controls stay" in plan.headline


def test_what_a_sweep_takes_on_disk_is_said_where_it_is_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(tmp_path, **FIVE)
    run_all(plan, _score)
    assert plan.disk_needed == ""
    monkeypatch.setattr("raydistill.sweeps.keep._WORTH_SAYING", 90)
    text = (
        "weights: 0.0 kB a trial, 0.1 kB for all 7; keep=3 would leave those of the 3 best points and of the controls"
    )
    assert text in plan.headline
    assert ", of which keep=2 leaves 0.1 kB" in planned(tmp_path, **FIVE, keep=2).headline


# Failed trials --------------------------------------------------------------------------------------------------------
def _with_failures(folder: Path) -> None:
    """Leave a sweep with two trials that failed and one that was interrupted."""
    plan = planned(folder, **FIVE)
    for name in handed_out(plan):
        if name in ("p0001-seed0", "p0003-seed0"):
            plan.end(name, 1.0, lost="its worker was lost")
        elif name != "p0004-seed0":
            evaluated(plan, name, 0.3)
            plan.end(name, 1.0)


@pytest.mark.parametrize(
    ("failed", "run", "said"),
    [
        ("retry", ["p0001-seed0", "p0003-seed0", "p0004-seed0"], "2 failed before: tried again"),
        ("only", ["p0001-seed0", "p0003-seed0"], "2 failed before: tried again, and nothing else"),
        ("leave", ["p0004-seed0"], "2 failed before: not tried again"),
    ],
)
def test_failed_trials_are_tried_again_alone_or_left(tmp_path: Path, failed: str, run: list[str], said: str) -> None:
    _with_failures(tmp_path)
    plan = planned(tmp_path, **FIVE, failed=failed)
    assert said in plan.headline
    assert plan.unfinished
    assert run_all(plan, _score) == run
    assert not planned(tmp_path, **FIVE, failed=failed).unfinished


def test_a_failed_trial_that_is_left_keeps_its_record(tmp_path: Path) -> None:
    _with_failures(tmp_path)
    record = SweepDirectory(tmp_path / "sweep").trial("p0001-seed0").record_file
    before = record.read_bytes()
    plan = planned(tmp_path, **FIVE, failed="leave")
    run_all(plan, _score)
    assert record.read_bytes() == before
    assert plan.record("p0001-seed0").status == "failed"


def test_a_search_suggests_nothing_where_failed_trials_alone_are_tried_again(tmp_path: Path) -> None:
    optuna: dict[str, Any] = {"search": "optuna", "space": {WEIGHT: {"uniform": [1, 5]}}, "num_trials": 3}
    plan = planned(tmp_path, **optuna)
    for _, name in zip(range(3), handed_out(plan), strict=False):
        evaluated(plan, name, 0.3)
        plan.end(name, 1.0, lost="lost" if name == "p0000-seed0" else "")
    assert run_all(planned(tmp_path, **optuna, failed="only"), _score) == ["p0000-seed0"]
    assert not planned(tmp_path, **optuna, failed="only").unfinished
    assert planned(tmp_path, **optuna).unfinished


# A budget of time, and a target ---------------------------------------------------------------------------------------
def _limited(plan: Plan, stop: Stop) -> tuple[list[str], Listener]:
    """Run what is left until the sweep is over, as a command does; return what was run, and what was said."""
    heard, names = Listener(), []
    with limited(plan, SweepEvents(lambda event: heard(event) if isinstance(event, Note) else None), stop) as listener:
        for name in handed_out(plan):
            names.append(name)
            listener.begins(plan.record(name))
            if stop.wanted:
                raise Stopped
            evaluated(plan, name, _score(plan.record(name)))
            listener.ends(plan.end(name, 1.0), plan.score(name).value)
    return names, heard


def test_a_sweep_ends_at_its_target_and_goes_on_with_a_higher_one(tmp_path: Path) -> None:
    stop = Stop()
    names, heard = _limited(planned(tmp_path, **FIVE, target=50), stop)
    assert names[2:] == ["p0000-seed0", "p0001-seed0"]
    assert "target: point 1 has AP 50.0, 50 was asked for; no other trial is begun: give a higher one" in heard.text
    assert not stop.wanted
    again, heard = _limited(planned(tmp_path, **FIVE, target=50), stop)
    assert again == []
    assert "target: point 1 has AP 50.0" in heard.text
    assert _limited(planned(tmp_path, **FIVE, target=60), stop)[0] == ["p0002-seed0", "p0003-seed0", "p0004-seed0"]


def test_a_target_respects_the_mode_and_all_seeds(tmp_path: Path) -> None:
    names, _ = _limited(planned(tmp_path, "seeds=2", **FIVE, target=30, mode="min"), Stop())
    assert names[4:] == ["p0000-seed0", "p0000-seed1"]


def test_a_sweep_ends_when_its_time_is_spent_and_counts_what_was_spent_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"now": 0.0}
    monkeypatch.setattr("raydistill.sweeps.limits.time.monotonic", lambda: clock["now"])
    ends: list[Any] = []

    class Timer:
        daemon = True

        def __init__(self, seconds: float, act: Any, args: list[Any]) -> None:
            ends.append((seconds, lambda: act(*args)))

        def start(self) -> None:
            pass

        cancel = start

    monkeypatch.setattr("raydistill.sweeps.limits.threading.Timer", Timer)
    for hours, left in ((2, 7200.0), (2, 5400.0)):
        plan, heard, stop = planned(tmp_path, **FIVE, time_budget=f"{hours}h"), Listener(), Stop()
        with limited(plan, SweepEvents(heard), stop):  # type: ignore[arg-type]
            clock["now"] += 1800
        assert ends.pop()[0] == left
    assert "time_budget: 30 min of 2 h spent before; at the end trials at work leave a checkpoint" in heard.text
    plan, stop = planned(tmp_path, **FIVE, time_budget="2h"), Stop()
    with limited(plan, SweepEvents(heard), stop):  # type: ignore[arg-type]
        assert plan.next() is not None
        clock["now"] += 3600
        ends.pop()[1]()
        assert stop.wanted
        assert plan.next() is None
        raise Stopped
    assert not stop.wanted
    assert json.loads((tmp_path / "sweep" / "spent.json").read_text()) == {"seconds": 7200.0}
    names, heard = _limited(planned(tmp_path, **FIVE, time_budget="2h"), Stop())
    assert names == []
    assert "time_budget: 2 h of 2 h were spent before; give a higher one to go on" in heard.text
    assert len(_limited(planned(tmp_path, **FIVE, time_budget="3h"), Stop())[0]) == 7


def test_an_interruption_is_none_of_a_limit(tmp_path: Path) -> None:
    plan, stop = planned(tmp_path, **FIVE, time_budget=5), Stop()
    with pytest.raises(Stopped), limited(plan, SweepEvents(lambda _: None), stop):
        stop.signalled = True
        stop.ask()
        raise Stopped
    assert stop.wanted


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seconds": null}', '{"seconds": -5}'])
def test_a_record_of_time_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "spent.json").write_text(text)
    assert SpentTime(SweepDirectory(tmp_path)).before == 0


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("time_budget", "soon", "time_budget: must be hours, or a text such as 8h, 1h30m or 45m, got 'soon'"),
        ("time_budget", 0, "time_budget: must be greater than 0, got 0"),
        ("target", 0.4, "target: must be greater than 1, got 0.4"),
        ("keep", 0, "keep: must be greater than or equal to 1, got 0"),
        ("failed", "no", "failed: must be 'retry', 'only' or 'leave', got 'no'"),
    ],
)
def test_what_cannot_be_a_limit_is_a_sentence(tmp_path: Path, key: str, value: Any, wanted: str) -> None:
    with pytest.raises(UserError) as caught:
        load_sweep(small_sweep(tmp_path, **FIVE, **{key: value}))
    assert wanted in str(caught.value)


@pytest.mark.parametrize(("written", "hours"), [("8h", 8), ("1h30m", 1.5), ("90 min", 1.5), ("1d", 24), (0.5, 0.5)])
def test_a_budget_is_hours_or_says_what_it_is(tmp_path: Path, written: Any, hours: float) -> None:
    assert load_sweep(small_sweep(tmp_path, **FIVE, time_budget=written)).sweep.time_budget == hours


def test_that_optunas_seed_repeats_no_sweep_of_several_trials_at_once_is_said_beforehand(tmp_path: Path) -> None:
    optuna: dict[str, Any] = {"search": "optuna", "space": {WEIGHT: {"uniform": [1, 5]}}, "num_trials": 3}

    def said(folder: str, local: bool = False, **changes: Any) -> bool:
        loaded = load_sweep(small_sweep(tmp_path / folder, **optuna | changes))
        sentence = does_not_repeat(loaded, local)
        assert (sentence in plan_as_text(loaded, local=local).splitlines()) == bool(sentence)
        return "does not repeat its points under the same seed" in sentence

    assert said("several")
    assert not said("here", local=True)
    assert not said("one", max_concurrent=1)
    assert not said("random", search="random")
