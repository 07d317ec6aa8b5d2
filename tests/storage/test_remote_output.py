"""``train`` and ``tune`` without Ray, ``report`` and ``evaluate``, with outputs on an S3 server on this machine."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from obstore.exceptions import PermissionDeniedError
from PIL import Image

import raydistill.reports
from raydistill import evaluate, tune
from raydistill.report import main as report_main
from raydistill.reports import load
from raydistill.runs.directory import RunDirectory
from raydistill.storage.output import Output
from raydistill.storage.store import Store, store
from raydistill.sweeps.directory import SweepDirectory
from raydistill.train import main
from raydistill.training import loop
from tests.object_store import BUCKET, s3_server, unsteady
from tests.small import SMALL_RUN, metrics_of, plain_report, repeatable, same_weights, small_sweep, weights_of

SETTINGS = [
    *(
        *SMALL_RUN,
        *(f"methods.tar.{term}.weight=0" for term in ("feature", "classification", "regression", "rpn")),
        "student.box_score_thresh=0",
    ),
    *("data.num_train=12", "data.num_val=2", "checkpoint.every_steps=1", "--local"),
]
"""The student alone, three steps an epoch."""


@pytest.fixture(scope="module", autouse=True)
def _fast() -> Iterator[None]:
    """Pictures take seconds, and have tests of their own; what failing storage is waited for has too."""
    with s3_server(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(raydistill.reports, "write_report", plain_report)
        yield


def _interrupted(patch: pytest.MonkeyPatch, stage: str, before_step: int) -> None:
    """Let a command end before a step of a stage as by Ctrl-C, without a word to anybody."""
    take_step = loop.take_step

    def step(state: Any, parts: Any, decay: float, global_step: int, sums: Any) -> Any:
        if state.job.stage == stage and global_step >= before_step:
            raise KeyboardInterrupt
        return take_step(state, parts, decay, global_step, sums)

    patch.setattr(loop, "take_step", step)


@dataclass(frozen=True)
class _Run:
    """A run on the store that was interrupted twice, each time going on on another machine, and one beside it here."""

    here: Path
    uri: str
    refused: str  # what was said when the store took no checkpoint any more
    there: Path  # what the store has in the end, whole


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> _Run:
    base, uri = tmp_path_factory.mktemp("run"), f"s3://{BUCKET}/runs/a"
    arguments = ["quickstart", *SETTINGS, "--output", uri]
    with pytest.MonkeyPatch.context() as patch:
        assert main(["quickstart", *SETTINGS, "--output", str(base / "here")]) == 0
        said: list[str] = []
        patch.setattr("sys.stderr.write", said.append)
        patch.setenv("RAYDISTILL_CACHE", str(base / "first"))
        with pytest.MonkeyPatch.context() as bad:
            broken = unsteady(bad, "baseline/checkpoint.pt", failures=99)
            broken.after, broken.error = 3, PermissionDeniedError("403 Forbidden: AccessDenied")
            assert main(arguments) == 2
        refused = "".join(said)
        patch.setenv("RAYDISTILL_CACHE", str(base / "second"))
        with pytest.MonkeyPatch.context() as cut:
            _interrupted(cut, "baseline", before_step=4)
            assert main(arguments) == 130
        patch.setenv("RAYDISTILL_CACHE", str(base / "third"))
        assert main(arguments) == 0
        patch.setenv("RAYDISTILL_CACHE", str(base / "fourth"))
        output = Output.at(uri)
        output.pull(everything=True)
        there = output.folder
    return _Run(base / "here", uri, refused, there)


def test_a_run_that_went_on_on_other_machines_ends_as_one_here_that_was_not_disturbed(run: _Run) -> None:
    here, there = RunDirectory(run.here / "baseline"), RunDirectory(run.there / "baseline")
    assert repeatable(metrics_of(here)) == repeatable(metrics_of(there))
    assert same_weights(weights_of(here.last), weights_of(there.last))
    assert same_weights(weights_of(here.best), weights_of(there.best))


def test_the_store_has_every_file_that_a_folder_would_have(run: _Run) -> None:
    def names(folder: Path) -> set[str]:
        found = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
        return {str(file.relative_to(folder)) for file in found if not re.search("tfevents|^detections_", file.name)}

    assert names(run.there) == names(run.here)
    assert [*(run.there / "baseline").glob("events.out.tfevents.*")]
    assert store(run.uri).entry(".lock") is None


def test_a_store_that_takes_no_checkpoint_ends_the_run_with_a_sentence(run: _Run) -> None:
    wanted = f"{run.uri}/baseline/checkpoint.pt: must be on an object store that can be reached and used, got: 403"
    assert wanted in run.refused
    assert "what was there is intact, and the same command goes on from it" in run.refused
    assert "/outputs/s3/" not in run.refused


def _comparable(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=[name for name in table if name in ("run", "seconds")])


def test_the_report_from_the_store_is_that_of_the_folder(
    run: _Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path))
    of_store, of_folder = load(run.uri), load(run.here)
    pd.testing.assert_frame_equal(_comparable(of_store.trials), _comparable(of_folder.trials))
    assert report_main([run.uri, "--no-pictures"]) == 0
    assert f"Report: {run.uri}/report/report.html" in capsys.readouterr().out
    assert not [*tmp_path.rglob("*.pt")]
    assert store(run.uri).entry("report/report.html") is not None


def test_what_is_not_there_is_named_by_its_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path))
    assert report_main([f"s3://{BUCKET}/none"]) == 2
    assert evaluate.main([f"s3://{BUCKET}/none", str(tmp_path)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [error.partition(": ")[0] for error in errors] == [f"s3://{BUCKET}/none"] * 2


def test_a_run_on_the_store_is_scored_on_other_data(
    run: _Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    _write_data(tmp_path / "val.json")
    of_store = evaluate.main([f"{run.uri}/baseline", str(tmp_path / "val.json"), "--num-workers", "0"])
    captured = capsys.readouterr()
    assert of_store == 0, captured.err
    assert f"detections into {run.uri}/baseline/detections_val.json" in captured.err
    assert evaluate.main([str(run.here / "baseline"), str(tmp_path / "val.json"), "--num-workers", "0"]) == 0
    assert capsys.readouterr().out == captured.out
    assert store(run.uri).entry("baseline/detections_val.json") is not None


def _write_data(annotations: Path) -> None:
    """Write a COCO file of one image with an object of each class that the nets know."""
    names = ("circle", "cross", "ring", "square", "star", "triangle")
    Image.new("RGB", (64, 64), "red").save(annotations.parent / "red.png")
    boxes = [
        {"id": number, "image_id": 1, "category_id": number, "bbox": [8 * number, 8, 8, 8], "area": 64, "iscrowd": 0}
        for number in range(1, 7)
    ]
    content = {
        "images": [{"id": 1, "file_name": "red.png", "width": 64, "height": 64}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
        "annotations": boxes,
    }
    annotations.write_text(json.dumps(content))


# Sweeps ---------------------------------------------------------------------------------------------------------------
BRIEF = {"training.epochs": 1}


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepDirectory, str]:
    """A sweep to its end in a folder, and the same on the store, which was interrupted and went on elsewhere."""
    base, uri = tmp_path_factory.mktemp("sweep"), f"s3://{BUCKET}/sweeps/a"
    assert tune.main([small_sweep(base / "here", BRIEF), "--local"]) == 0
    file = small_sweep(base / "there", BRIEF, output=uri)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYDISTILL_CACHE", str(base / "first"))
        with pytest.MonkeyPatch.context() as cut:
            _interrupted(cut, "distilled", before_step=0)
            assert tune.main([file, "--local"]) == 130
        shutil.rmtree(base / "first")
        assert tune.main([file, "--local"]) == 0
        assert not [*(base / "first").rglob("trials/**/*.pt")]
    return SweepDirectory(base / "here" / "sweep"), uri


def test_a_sweep_on_the_store_ends_as_one_in_a_folder(
    sweeps: tuple[SweepDirectory, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path))
    here, there = sweeps[0], SweepDirectory(Output.at(sweeps[1]).folder)
    Output.at(sweeps[1]).pull(everything=True)
    assert [trial.path.name for trial in there.trials()] == [trial.path.name for trial in here.trials()]
    for one, other in zip(here.trials(), there.trials(), strict=True):
        assert (one.read().status, other.read().status) == ("finished", "finished")
        assert repeatable(metrics_of(one.run)) == repeatable(metrics_of(other.run))
        assert same_weights(weights_of(one.run.best), weights_of(other.run.best))
        assert yaml.safe_load(other.recipe.read_text())["output"] == f"{sweeps[1]}/trials/{other.path.name}"
        assert one.log.read_text().splitlines()[-1] == other.log.read_text().splitlines()[-1]
    assert yaml.safe_load((there.report / "best.yaml").read_text())["teacher"]["weights"] == f"{sweeps[1]}/teacher"


def test_an_ended_sweep_on_the_store_is_shown_anywhere_and_nothing_trained_again(
    sweeps: tuple[SweepDirectory, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    _interrupted(monkeypatch, "distilled", before_step=0)
    assert tune.main([small_sweep(tmp_path, BRIEF, output=sweeps[1]), "--local"]) == 0
    captured = capsys.readouterr()
    assert f"3 trials in {sweeps[1]}; 3 of them ended before and are kept" in captured.err
    assert f"Report: {sweeps[1]}/report/report.html" in captured.out


def test_what_a_trial_costs_does_not_grow_with_the_number_of_trials(
    sweeps: tuple[SweepDirectory, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole sweep is listed as the command begins and ends, and each trial as it ends."""
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    first, uri = store(sweeps[1]), f"{sweeps[1]}-that-grows"
    for name in first.entries():
        store(uri).write(first.read(name)[0], name)
    listed: list[str] = []
    entries = Store.entries
    monkeypatch.setattr(Store, "entries", lambda self: (listed.append(self.uri), entries(self))[1])
    assert tune.main([small_sweep(tmp_path, BRIEF, output=uri, seeds=2), "--local"]) == 0
    assert listed.count(uri) == 2
    of_trials = [place for place in listed if place.startswith(f"{uri}/trials/")]
    new = {f"{uri}/trials/{name}-seed1" for name in ("baseline", "constant", "p0000")}
    assert new <= set(of_trials)
    assert all(place.startswith(tuple(new)) for place in of_trials)
    assert all(listed.count(place) <= 2 for place in of_trials)  # once more as its checkpoints are removed
