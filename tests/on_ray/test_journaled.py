"""A scheduler that goes on where it was, with Ray's own ASHA and median rule, our search and records; without Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raydistill.on_ray import sweep as sweep_module
from raydistill.sweeps.journal import Journal, TrialReport
from tests.on_ray.simulated import ASHA, MEDIAN, Tune, run, sweep_of
from tests.outputs import plan_of


@pytest.mark.parametrize(("scheduler", "at_once"), [(ASHA, 1), (ASHA, 2), (ASHA, 8), (ASHA, 16), (MEDIAN, 8)])
def test_an_interrupted_sweep_stops_the_trials_that_it_would_have_stopped(
    scheduler: dict[str, Any], at_once: int, tmp_path: Path
) -> None:
    whole, reports = run(sweep_of(tmp_path / "whole", scheduler, 16), at_once, [])
    assert {status for status, _ in whole.values()} == {"finished", "stopped"}
    for kills in ([1], [reports // 3], [reports // 2, 7, 1], [reports - 2]):
        folder = tmp_path / "-".join(map(str, kills))
        interrupted, _ = run(sweep_of(folder, scheduler, 16), at_once, kills)
        assert interrupted == whole


def test_a_sweep_from_before_there_were_journals_tells_what_its_ended_trials_reported(tmp_path: Path) -> None:
    loaded = sweep_of(tmp_path, ASHA, 6)
    plan = plan_of(loaded)
    for _ in zip(range(40), Tune(plan, 1, {}).steps(), strict=False):
        pass
    written = (plan.directory.path / "reports.jsonl").read_text()
    (plan.directory.path / "reports.jsonl").unlink()
    sweep_module._scheduler(plan_of(loaded))
    rebuilt = Journal(plan.directory).read()
    assert rebuilt is not None
    ended = {record.name for record in plan.records if record.ended}
    assert {report.trial for report in rebuilt} == ended
    before = [json.loads(line) for line in written.splitlines()]
    assert [(r.trial, r.epoch, r.score) for r in rebuilt if not r.ended and r.trial == "p0000-seed0"][:2] == [
        (line["trial"], line["epoch"], line["score"]) for line in before if line["trial"] == "p0000-seed0"
    ][:2]


def test_a_line_that_was_cut_off_is_left_out_for_good(tmp_path: Path) -> None:
    plan = plan_of(sweep_of(tmp_path, ASHA, 2))
    journal = Journal(plan.directory)
    assert journal.read() is None
    for report in (TrialReport("a", 1, 0.5), TrialReport("b", 1, 0.25, stopped=True)):
        journal.append(report)
    with (plan.directory.path / "reports.jsonl").open("a") as file:
        file.write('{"trial": "c", "epo')
    assert journal.read() == [TrialReport("a", 1, 0.5), TrialReport("b", 1, 0.25, stopped=True)]
    journal.append(TrialReport("c", 2, 0.75, ended=True))
    assert journal.read() == [
        TrialReport("a", 1, 0.5),
        TrialReport("b", 1, 0.25, stopped=True),
        TrialReport("c", 2, 0.75, ended=True),
    ]
