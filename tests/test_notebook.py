"""A run from a notebook with a Ray of its own, with a method, a detector and data that are written there.

It is interrupted and gone on with, and everything else stays as it was.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from raydistill.config.loader import split_overrides
from tests.small import SMALL_RUN

pytestmark = pytest.mark.ray

OWN_RAY = """
import os, ray
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 1024**2, log_to_driver=False)

@ray.remote
class Counter:
    def __init__(self): self.count = 0
    def add(self): self.count += 1; return self.count

counter = Counter.remote()
assert ray.get(counter.add.remote()) == 1
at_work = dict(os.environ)
"""
OWN = """
import numpy as np, torch
from torch import nn
import raydistill as rd
from raydistill.config.detector import detector_settings
from raydistill.detectors.build import build_detector
from raydistill.methods.base import Compared

class Mean(rd.Method):
    def compare(self, batch, student, outcome, teacher):
        level = student.feature_levels[0]
        own, theirs = (maps[level].mean() for maps in (outcome.features, teacher.features))
        return Compared.one((own - theirs).abs())

def read(split, settings):
    known = {"width": 64, "height": 64, "boxes": [[8, 8, 40, 40]], "labels": ["square"]}
    return rd.Dataset(["square"], [{"file": str(number), **known} for number in range(settings[split])], paint)

def paint(image):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[8:40, 8:40] = 20 * int(image["file"]) + 50
    return pixels

def small(settings, image, classes) -> rd.Detector:
    return build_detector(detector_settings(settings), image, classes)
"""
DISTILL = """
import pathlib

heard = []
def listen(event):
    heard.append(event)
    if type(event).__name__ == "EpochDone":
        pathlib.Path("an_epoch_is_done").touch()

own = {
    "data": {"format": "own", "dataset": read, "settings": {"train": 8, "val": 2}},
    "student": {"detector": small, "settings": STUDENT},
    "methods": {"mine": {"method": Mean}},
}
run = rd.distill("quickstart", {**SETTINGS, **own}, output="run", on_event=listen)
"""
AFTERWARDS = """
import time
[teacher] = [event for event in heard if type(event).__name__ == "StageStarted" and event.stage == "teacher"]
print("goes on:", teacher.first_epoch > 0)
print("table:", type(run.table).__name__, run.table["model"].tolist())
print("own:", run.student.classes, all("/mine" in line for line in open("run/distilled/metrics.jsonl")))
while ray.available_resources()["CPU"] < 2:
    time.sleep(0.1)  # until Ray has noticed that the run's job is over
print("Ray:", ray.is_initialized(), "actor:", ray.get(counter.add.remote()))
print("environment:", dict(os.environ) == at_work)
"""
LEFT_ALONE = """\
goes on: True
table: DataFrame ['teacher', 'student distilled']
own: ('square',) True
Ray: True actor: 2
environment: True
"""
_SMALL = dict(split_overrides(SMALL_RUN)[0])
STUDENT = {
    "weights": "random",
    **{name.removeprefix("student."): value for name, value in _SMALL.items() if name.startswith("student.")},
}
SETTINGS: dict[str, Any] = {
    **{name: value for name, value in _SMALL.items() if not name.startswith(("data.", "student."))},
    "training.epochs": 8,
    "evaluation.every": 8,
    "scaling.cpus_per_worker": 1,
    "distillation.baseline": False,
    "distillation.preflight": "warn",
    "logging.tensorboard": False,
}


async def _interrupted(client: NotebookClient, cell: Any, index: int, file: Path) -> None:
    """Run a cell, and interrupt the kernel as Jupyter does once the file is there."""
    running = asyncio.ensure_future(client.async_execute_cell(cell, index))
    while not file.exists() and not running.done():
        await asyncio.sleep(0.05)
    await client.km.interrupt_kernel()
    await running


async def _executed(client: NotebookClient, folder: Path) -> list[str]:
    """Run the notebook and return what its cells wrote."""
    own_ray, own, distill, again, afterwards = client.nb.cells
    async with client.async_setup_kernel():
        await client.async_execute_cell(own_ray, 0)
        await client.async_execute_cell(own, 1)
        await _interrupted(client, distill, 2, folder / "an_epoch_is_done")
        await client.async_execute_cell(again, 3)
        await client.async_execute_cell(afterwards, 4)
    return [_written(cell) for cell in client.nb.cells]


def _written(cell: Any) -> str:
    """Return what a cell wrote to stdout, and the name of the error that it ended with."""
    written = [output.text for output in cell.outputs if output.get("name") == "stdout"]
    return "".join([*written, *(output.ename for output in cell.outputs if output.output_type == "error")])


def test_a_run_is_interrupted_goes_on_and_leaves_the_ray_and_the_actors_of_its_notebook_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = f"SETTINGS, STUDENT = {SETTINGS!r}, {STUDENT!r}\n"
    cells = [OWN_RAY, OWN, settings + DISTILL, DISTILL, AFTERWARDS]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=600, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else workers are last in the queue
    assert asyncio.run(_executed(client, tmp_path)) == ["", "", "Stopped", "", LEFT_ALONE]
