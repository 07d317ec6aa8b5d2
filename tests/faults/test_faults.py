"""A try of each kind of fault that takes seconds; ``python -m tests.faults`` tries them all, as often as wanted."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.kinds import KINDS, MOST_LOST

pytestmark = pytest.mark.faults

HERE = ("driver-killed", "driver-stopped", "disk-full", "checkpoint-damaged", "rank-killed", "rank-hangs")


@pytest.mark.parametrize("kind", HERE)
def test_a_disturbed_run_ends_as_one_that_was_not(kind: str, tmp_path: Path) -> None:
    attempt = KINDS[kind](tmp_path / "run", random.Random(kind))
    assert attempt.recovered, attempt.said
    assert attempt.equal
    assert attempt.lost is not None
    assert attempt.lost <= MOST_LOST
