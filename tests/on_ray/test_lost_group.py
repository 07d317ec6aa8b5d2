"""A group of workers that Ray loses; what it imports, its worker imports too."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray

from raydistill.errors import UserError
from raydistill.on_ray.board import Board
from raydistill.on_ray.group import Group, run_group
from raydistill.on_ray.session import connected, started_here
from raydistill.runs.stopping import Stop

pytestmark = pytest.mark.ray


@dataclass(frozen=True)
class _Lethal:
    """Ends the process of the worker that carries it out."""

    def carry_out(self, worker: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_lost_worker_of_a_trials_group_is_told_and_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with connected(1, meanwhile="ray.train.torch"):
        board = started_here(Board)
        group = Group("p0000-seed0", 1, {"CPU": 1}, 0, hang_seconds=60, storage=str(tmp_path), board=board)
        with pytest.raises(UserError, match=r"^scaling.max_failures: 0 losses of workers survived, then worker 0 was"):
            run_group(group, _Lethal(), Stop())
        (note,) = ray.get(board.take.remote())
    assert note.text.startswith("p0000-seed0: worker 0 was lost: its process was killed")
