"""What is known of every trial, read from and written to plain files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raydistill.errors import UserError
from raydistill.sweeps.directory import SweepDirectory, TrialRecord

RECORD = TrialRecord(
    "p0003-seed1", "searched", 3, 1, {"decay.shape": "step", "decay.milestones": [0.5]}, "failed", "no memory", 2.5
)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    trial = SweepDirectory(tmp_path).trial(RECORD.name)
    trial.write(RECORD)
    assert trial.read() == RECORD


def test_a_record_can_be_read_without_this_package(tmp_path: Path) -> None:
    trial = SweepDirectory(tmp_path).trial(RECORD.name)
    trial.write(RECORD)
    written = json.loads((tmp_path / "trials" / RECORD.name / "trial.json").read_text())
    assert written["settings"] == {"decay.shape": "step", "decay.milestones": [0.5]}
    assert (written["status"], written["reason"], written["seconds"]) == ("failed", "no memory", 2.5)


@pytest.mark.parametrize(
    ("status", "ended"), [("unfinished", False), ("failed", False), ("finished", True), ("stopped", True)]
)
def test_a_trial_has_ended_when_repeating_the_command_would_not_run_it(status: str, ended: bool) -> None:
    assert TrialRecord("p0000-seed0", "searched", 0, 0, status=status).ended == ended  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "p0000-seed0"}', '{"colour": "red"}', "\xff"])
def test_a_damaged_record_is_named(text: str, tmp_path: Path) -> None:
    trial = SweepDirectory(tmp_path).trial("p0000-seed0")
    trial.path.mkdir(parents=True)
    trial.record_file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"trials/p0000-seed0/trial\.json: must be the record of a trial"):
        trial.read()


def test_a_record_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"trials/p0007-seed0/trial\.json: must be the record of a trial"):
        SweepDirectory(tmp_path).trial("p0007-seed0").read()


def test_trials_are_listed_controls_first_then_by_point_and_seed(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path)
    names = [
        *("baseline-seed2", "baseline-seed10", "constant-seed2", "constant-seed10"),
        *("p0000-seed2", "p0000-seed10", "p0001-seed2", "p0010-seed2"),
    ]
    for name in reversed(names):
        role, _, seed = name.partition("-seed")
        number = {"baseline": -1, "constant": -2}.get(role)
        searched = number is None
        point = int(role[1:]) if number is None else number
        sweep.trial(name).write(TrialRecord(name, "searched" if searched else role, point, int(seed)))  # type: ignore[arg-type]
    assert [trial.path.name for trial in sweep.trials()] == names


def test_a_directory_without_a_record_is_no_trial(tmp_path: Path) -> None:
    (tmp_path / "trials" / "p0000-seed0").mkdir(parents=True)
    assert SweepDirectory(tmp_path).trials() == []


def test_a_sweep_that_was_not_begun_has_no_trials(tmp_path: Path) -> None:
    assert SweepDirectory(tmp_path / "nowhere").trials() == []


def test_the_run_of_a_trial_is_that_of_its_one_student(tmp_path: Path) -> None:
    trial = SweepDirectory(tmp_path).trial("baseline-seed0")
    assert trial.run.path == trial.path / "distilled"
    (trial.path / "baseline").mkdir(parents=True)
    assert trial.run.path == trial.path / "baseline"
