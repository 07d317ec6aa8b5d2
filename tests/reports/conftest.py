"""One made-up sweep and its report, read once for the tests that only look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from raydistill.reports import load, write_report
from raydistill.reports.build import Report
from tests.reports import made_up


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up.sweep(tmp_path_factory.mktemp("sweeps") / "made_up")


@pytest.fixture(scope="session")
def report(sweep: Path) -> Report:
    return load(sweep)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a sweep whose texts are as nasty as can be."""
    sweep = made_up.sweep(tmp_path_factory.mktemp("nasty") / "<b>s&s", reason=made_up.NASTY + "\x1b[31m\nmore")
    for seed in (0, 1):
        name = f"p003_s{seed}"
        directory = made_up.trial(sweep, name, "searched", 3, seed, {}, [0.2])
        directory.write(
            made_up.TrialRecord(
                name,
                "searched",
                3,
                seed,
                {"methods.tar.feature.weight": 1.0, "student.weights": made_up.NASTY},
                "finished",
            )
        )
    write_report(sweep)
    return sweep / "report"
