"""What the report says of a population: who took over from whom, and the schedule that made the best student."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from raydistill.config import load_config
from raydistill.config.course import at_epoch
from raydistill.reports import load, write_report
from raydistill.sweeps.directory import TrialDirectory
from raydistill.sweeps.lineage import write_lineage
from tests.reports import made_up

WEIGHT, RATE = "methods.tar.feature.weight", "training.optimizer.learning_rate"
FIRST, SECOND, THIRD = ({WEIGHT: weight, RATE: rate} for weight, rate in ((2.0, 0.01), (2.5, 0.012), (2.0, 0.0096)))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A population of two: the second, which is the best, went on from the first after epochs 1 and 3."""
    output = tmp_path / "s"
    made_up.begin(output, space={WEIGHT: {"uniform": [1, 4]}, RATE: {"loguniform": [0.001, 0.1]}}, seeds=[0])
    made_up.trial(output, "baseline_0", "baseline", -1, 0, {}, made_up.epochs_to(0.3))
    first = made_up.trial(output, "p0", "searched", 0, 0, FIRST, made_up.epochs_to(0.38))
    second = made_up.trial(output, "p1", "searched", 1, 0, THIRD, made_up.epochs_to(0.4))
    write_lineage(first, 0, FIRST)
    lines = [_part(0, "p0", FIRST), _part(1, "p1", SECOND), _part(3, "p1", THIRD)]
    second.lineage.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    taken = [{"epoch": 1, "from": "p0", "settings": SECOND}, {"epoch": 3, "from": "p0", "settings": THIRD}]
    second.changes.write_text("".join(f"{json.dumps(line)}\n" for line in taken))
    return output


def _part(epoch: int, trial: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": epoch, "trial": trial, "settings": settings}


def test_the_best_recipe_is_the_schedule_that_made_the_student(sweep: Path) -> None:
    write_report(sweep, pictures=False)
    file = sweep / "report" / "best.yaml"
    config = load_config(str(file))
    assert [(change.epoch, change.settings) for change in config.schedule] == [(0, FIRST), (1, SECOND), (3, THIRD)]
    weights = [at_epoch(config, epoch).weights[WEIGHT] for epoch in range(4)]
    assert weights == [2.0, 2.5, 2.5, 2.0]
    assert config.training.optimizer.learning_rate == 0.01  # of the student alone too
    text = file.read_text()
    assert "# Its settings changed after epochs 1, 3: it was trained in p0, then p1\n" in text


def test_tables_and_page_show_schedules_and_takeovers(sweep: Path) -> None:
    report = write_report(sweep, pictures=False)
    folder = sweep / "report"
    schedules, takeovers = (pd.read_csv(folder / f"{name}.csv") for name in ("schedules", "takeovers"))
    pd.testing.assert_frame_equal(schedules, pd.read_parquet(folder / "schedules.parquet"), check_dtype=False)
    assert [tuple(row) for row in schedules.to_numpy()] == [
        ("p0", 0, 4, "p0", 2.0, 0.01),
        ("p1", 0, 1, "p0", 2.0, 0.01),
        ("p1", 1, 3, "p1", 2.5, 0.012),
        ("p1", 3, 4, "p1", 2.0, 0.0096),
    ]
    assert [*takeovers.columns] == ["trial", "epoch", "from", WEIGHT, RATE]
    assert [*takeovers["from"]] == ["p0", "p0"]
    page = (folder / "report.html").read_text()
    assert "Settings while the students were trained" in page
    assert 'href="takeovers.csv"' in page
    best, other = (
        page.index("<td>p1</td>", page.index("Settings while")),
        page.index("<td>p0</td>", page.index("Settings while")),
    )
    assert best < other
    assert len(report.schedules) == 4


def test_without_a_population_there_is_no_word_of_one(tmp_path: Path) -> None:
    sweep = made_up.sweep(tmp_path / "s")
    (sweep / "report").mkdir()
    (sweep / "report" / "schedules.csv").write_text("of an earlier report")
    write_report(sweep, pictures=False)
    assert not [*(sweep / "report").glob("schedules*"), *(sweep / "report").glob("takeovers*")]
    assert "Takeovers" not in (sweep / "report" / "report.html").read_text()
    assert yaml.safe_load((sweep / "report" / "best.yaml").read_text())["schedule"] == []


def test_a_population_of_an_earlier_version_says_that_nobody_knows_its_schedule(sweep: Path) -> None:
    TrialDirectory(sweep / "trials" / "p1").lineage.unlink()
    write_report(sweep, pictures=False)
    text = (sweep / "report" / "best.yaml").read_text()
    assert (
        "# Its settings changed on the way, and these are the last ones; with which ones it began nobody wrote" in text
    )
    assert load_config(str(sweep / "report" / "best.yaml")).schedule == ()
    assert len(load(sweep).takeovers) == 2
