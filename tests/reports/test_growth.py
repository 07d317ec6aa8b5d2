"""Sweeps that grew: which points were drawn from which space."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from raydistill.reports import load, write_report
from raydistill.reports.screen import as_text
from tests.reports import made_up


def _grown(output: Path, *before: dict[str, Any]) -> Path:
    made_up.sweep(output)
    settings = yaml.safe_load((output / "sweep.yaml").read_text())
    (output / "sweep.yaml").write_text(yaml.safe_dump(settings | {"grown": list(before)}, sort_keys=False))
    return output


NARROW = made_up.SPACE | {"decay.power": {"uniform": [2.0, 4.0], "when": {"decay.shape": "polynomial"}}}


def test_points_are_marked_with_the_space_they_were_drawn_from(tmp_path: Path) -> None:
    first = {"num_points": 1, "num_trials": 1, "seeds": [0], "space": NARROW}
    second = {"num_points": 1, "num_trials": 1, "seeds": [0, 1], "space": NARROW}
    third = {"num_points": 2, "num_trials": 2, "seeds": [0, 1], "space": made_up.SPACE}
    report = write_report(_grown(tmp_path / "s", first, second, third), pictures=False)
    spaces = report.trials.set_index("trial")["space"]
    assert [spaces[f"p00{n}_s0"] for n in range(3)] == [1, 2, 2]
    assert math.isnan(spaces["baseline_0"])
    assert report.summary.set_index("point")["space"][[0, 1, 2]].tolist() == [1, 2, 2]
    power = "decay.power: {uniform: [{}, 4.0], when: {decay.shape: polynomial}}"
    assert report.growth == (
        f"s grew: points 0 to 0, drawn from space 1: {{{power.replace('{}', '2.0')}}}; seeds [0]",
        f"s grew: no other points, drawn from space 1: {{{power.replace('{}', '2.0')}}}; seeds [0, 1]",
        f"s grew: points 1 to 1, drawn from space 2: {{{power.replace('{}', '1.0')}}}; seeds [0, 1]",
        f"s grew: from point 2 on, drawn from space 2: {{{power.replace('{}', '1.0')}}}; seeds [0, 1]",
    )
    assert all(sentence in as_text(report) for sentence in report.growth)
    page = (tmp_path / "s" / "report" / "report.html").read_text()
    assert "s grew: points 0 to 0, drawn from space 1" in page
    assert "\nspace" in page or ">space<" in page


def test_a_sweep_that_grew_in_its_one_space_has_no_such_column(tmp_path: Path) -> None:
    extent = {"num_points": 2, "num_trials": 2, "seeds": [0, 1], "space": made_up.SPACE}
    report = load(_grown(tmp_path / "s", extent))
    assert "space" not in report.trials
    assert report.growth == (
        "s grew: points 0 to 1; seeds [0, 1]",
        "s grew: from point 2 on; seeds [0, 1]",
    )


def test_a_sweep_that_did_not_grow_says_nothing_of_it(tmp_path: Path) -> None:
    report = load(made_up.sweep(tmp_path / "s"))
    assert report.growth == ()
    assert "grew" not in as_text(report)


def test_what_cannot_be_read_of_the_growth_is_left_out(tmp_path: Path) -> None:
    assert load(_grown(tmp_path / "s", {"num_points": "x"}, {})).growth == ()
