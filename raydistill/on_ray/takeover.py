"""What the workers of a population do: hand over where a trial stands, and go on from where another one stood."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ray.tune
from pyarrow.fs import FileSystem

from raydistill.errors import UserError
from raydistill.runs import weights_file
from raydistill.storage.files import versions
from raydistill.storage.store import is_remote
from raydistill.sweeps.directory import LINEAGE, TrialDirectory
from raydistill.sweeps.file import Point
from raydistill.sweeps.lineage import write_lineage

_FILES = ("checkpoint.pt", "last.pt", "best.pt", "metrics.jsonl")
_ORIGIN = "trial.txt"


@contextlib.contextmanager
def state_of(trial: TrialDirectory) -> Iterator[ray.tune.Checkpoint]:
    """Give Ray a copy of where a trial stands, for others to go on from."""
    with tempfile.TemporaryDirectory() as folder:
        for file in (*(trial.run.path / name for name in _FILES), trial.lineage):
            if file.is_file():
                shutil.copy(file, folder)
        (Path(folder) / _ORIGIN).write_text(trial.path.name, encoding="utf-8")
        yield ray.tune.Checkpoint.from_directory(folder)


def take_over(trial: TrialDirectory, settings: Point, left: str = "") -> None:
    """Put the files of a better trial in place of a trial's own, if Ray hands them over; what it trains is noted.

    Args:
        trial: the trial.
        settings: what it goes on with.
        left: where the files lie that it was to take over when the sweep was interrupted.
    """
    checkpoint = ray.tune.get_checkpoint() or _left(left)
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            _copy(Path(folder), trial, settings)
    write_lineage(trial, position(trial)[0], settings)


def position(trial: TrialDirectory) -> tuple[int, int]:
    """Return how many epochs a trial has trained, and how many steps of the next one."""
    try:
        saved = weights_file.load(trial.run.checkpoint)
        return int(saved["epoch"]), int(saved.get("step", 0))
    except (UserError, LookupError, TypeError, ValueError):
        return 0, 0


def _left(place: str) -> ray.tune.Checkpoint | None:
    """Return what Ray kept of another trial, where it is there still."""
    if not place:
        return None
    if is_remote(place):
        filesystem, path = FileSystem.from_uri(place)
        return ray.tune.Checkpoint(path, filesystem)
    return ray.tune.Checkpoint(place) if Path(place).is_dir() else None


def _copy(folder: Path, trial: TrialDirectory, settings: Point) -> None:
    origin = (folder / _ORIGIN).read_text(encoding="utf-8")
    if origin == trial.path.name:
        return
    run = trial.run
    run.path.mkdir(parents=True, exist_ok=True)
    # earlier ones of its own are of another training
    for old in (run.result, *run.checkpoints(), *versions(run.best)):
        trial.output.remove(old)
    for name, place in (*((name, run.path) for name in _FILES), (LINEAGE, trial.path)):
        trial.output.remove(place / name)
        if (folder / name).is_file():
            shutil.copy(folder / name, place / name)
            trial.output.publish(place / name)
    change = {"epoch": run.lines()[-1]["epoch"], "from": origin, "settings": settings}
    trial.output.append_line(trial.changes, json.dumps(change))
