"""Data that change under a run or a sweep: refused with what changed, for all that goes on and all that is finished."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from raydistill.config import Config
from raydistill.data.build import build_splits
from raydistill.errors import UserError
from raydistill.runner import run_sweep
from raydistill.runs import weights_file
from raydistill.runs.directory import DATA_RECORD, RunDirectory
from raydistill.runs.reporter import FileReporter
from raydistill.runs.stopping import Stop
from raydistill.runs.worker import Worker
from raydistill.sweeps import local
from raydistill.sweeps.file import LoadedSweep, load_sweep
from raydistill.sweeps.plan import Plan
from raydistill.sweeps.table import SweepEvents
from raydistill.sweeps.trial import datasets
from raydistill.training.same_data import claim_data
from raydistill.training.stages import run_stages
from tests.drawn import as_setting, draw
from tests.outputs import output_of, plan_of, write_settings
from tests.small import SMALL_SWEEP, Listener, small_run

ALONE = [f"methods.tar.{term}.weight=0" for term in ("feature", "classification", "regression", "rpn")]
CHANGED = (
    r"the data must be those that it was begun with, got train: other annotations of 1 image \(1\.png\), (\d+) objects "
    r"then, \d+ now; val: other annotations of 1 image \(1\.png\), .*; put them back as they were, or choose another "
    r"--output; to train all of it anew on these, remove the directory"
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a run that was trained on them, to its end."""
    folder = tmp_path_factory.mktemp("finished")
    draw(folder)
    _run(_config(folder))
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def _config(folder: Path, *more: str) -> Config:
    return small_run(
        folder / "run", *ALONE, "training.epochs=1", "logging.tensorboard=false", as_setting(folder), *more
    )


def _run(config: Config) -> Listener:
    listener, worker = Listener(), Worker()
    run_stages(config, output_of(config), worker, lambda run: FileReporter(run, worker, listener))
    return listener


def _begin(folder: Path) -> Config:
    """Let the finished run be one of the data of this folder: where they lie does not count."""
    return _config(folder)


def _annotate(folder: Path) -> None:
    file = folder / "annotations" / "val.json"
    content = json.loads(file.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 999, "image_id": 1})
    file.write_text(json.dumps(content))


def test_a_finished_run_says_nothing_of_the_same_data(folder: Path) -> None:
    listener = _run(_begin(folder))
    assert listener.text.startswith("baseline: finished before, not trained again")
    assert not listener.warnings
    assert "begun" not in listener.text


@pytest.mark.parametrize("interrupted", [False, True])
def test_data_that_changed_are_refused_and_nothing_is_touched(interrupted: bool, folder: Path) -> None:
    config = _begin(folder)
    if interrupted:
        RunDirectory(folder / "run" / "baseline").result.unlink()
    _annotate(folder)
    before = {file: file.read_bytes() for file in (folder / "run").rglob("*") if file.is_file()}
    for _ in range(2):
        with pytest.raises(UserError, match=CHANGED):
            _run(config)
    assert {file: file.read_bytes() for file in (folder / "run").rglob("*") if file.is_file()} == before


def test_a_run_without_a_record_goes_on_with_a_note_and_has_one_from_then_on(folder: Path) -> None:
    config = _begin(folder)
    write_settings(config, "baseline")
    RunDirectory(folder / "run" / "baseline").result.unlink()
    (folder / "run" / DATA_RECORD).unlink()
    _annotate(folder)
    with pytest.raises(UserError, match=r"must be a checkpoint of this training, was trained with other data"):
        _run(config)
    (folder / "run" / DATA_RECORD).unlink()
    for checkpoint in RunDirectory(folder / "run" / "baseline").checkpoints():
        saved = weights_file.load(checkpoint)
        weights_file.save(checkpoint, {name: value for name, value in saved.items() if name != "run"})
    listener = _run(config)
    assert "data: nobody wrote down what they were when" in listener.text
    assert RunDirectory(folder / "run" / "baseline").finished
    (folder / "val" / "2.png").write_bytes((folder / "val" / "1.png").read_bytes())
    with pytest.raises(
        UserError, match=r"got train: other content of 1 image \(2\.png\); val: other content of 1 image"
    ):
        _run(config)


def test_a_finished_run_prints_its_table_where_the_data_are_gone_or_broken(folder: Path) -> None:
    config = _begin(folder)
    (folder / "annotations" / "val.json").write_text("[")
    assert "data: cannot be compared with what they were when" in _run(config).warnings
    shutil.rmtree(folder / "annotations")
    assert "data: cannot be compared with what they were when" in _run(config).warnings


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1, "splits": {"train": {}}}'])
def test_a_record_that_is_damaged_is_a_sentence(content: str, folder: Path) -> None:
    config = _begin(folder)
    (folder / "run" / DATA_RECORD).write_text(content)
    with pytest.raises(UserError, match=r"data\.json: must say what the data were .*; remove it if they are the same"):
        _run(config)


def test_an_attempt_that_never_began_binds_nobody(folder: Path) -> None:
    config = _begin(folder)
    shutil.rmtree(folder / "run" / "baseline")
    _annotate(folder)
    assert "nobody wrote down" not in _run(config).text
    assert "other annotations" not in (folder / "run" / DATA_RECORD).read_text()
    assert _run(config).text.startswith("baseline: finished before, not trained again")


# Sweeps ---------------------------------------------------------------------------------------------------------------
def _sweep(folder: Path) -> LoadedSweep:
    """A sweep on the folder's data whose teacher is finished; one trial is begun."""
    datasets.cache_clear()
    fixed = {name: value for name, value in SMALL_SWEEP["settings"].items() if not name.startswith("data.")}
    data = small_run(folder / "x", as_setting(folder)).data.model_dump(mode="json", exclude_none=True)
    loaded = load_sweep(SMALL_SWEEP | {"output": str(folder / "sweep"), "settings": fixed | {"data": data}})
    plan = plan_of(loaded)
    plan.directory.teacher.path.mkdir(parents=True)
    write_settings(loaded.config, "teacher")
    plan.directory.teacher.result.write_text(json.dumps({"epoch": 1, "epochs": 1, "parameters": 9, "AP": 0.5}))
    assert plan.next() is not None
    claim_data(plan.directory.output, build_splits(loaded.config.data), begun=False)
    return loaded


def _tune(loaded: LoadedSweep, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Run the sweep up to its trials."""

    def begin(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "run_trial", begin)
    heard: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        run_sweep(loaded, True, SweepEvents(heard.append), Stop())
    return heard


def test_a_sweep_goes_on_with_the_same_data_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = _sweep(folder)
    _tune(loaded, monkeypatch)
    _annotate(folder)
    datasets.cache_clear()
    with pytest.raises(UserError, match=CHANGED):
        _tune(loaded, monkeypatch)
    (folder / "sweep" / DATA_RECORD).unlink()
    assert any("nobody wrote down" in str(event) for event in _tune(loaded, monkeypatch))
    assert (folder / "sweep" / DATA_RECORD).is_file()


def test_a_finished_sweep_on_data_that_changed_is_no_result_of_these(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = _sweep(folder)
    monkeypatch.setattr(Plan, "unfinished", False)
    monkeypatch.setattr(Plan, "next", lambda _: None)
    assert run_sweep(loaded, True, SweepEvents(lambda _: None), Stop()) is False
    _annotate(folder)
    with pytest.raises(UserError, match=CHANGED):
        run_sweep(loaded, True, SweepEvents(lambda _: None), Stop())


def test_a_sweep_that_never_began_binds_nobody(folder: Path) -> None:
    loaded = _sweep(folder)
    shutil.rmtree(folder / "sweep" / "trials")
    plan_of(loaded)
    assert (folder / "sweep" / DATA_RECORD).is_file()  # its teacher was trained
    shutil.rmtree(folder / "sweep" / "teacher")
    plan_of(loaded)
    assert not (folder / "sweep" / DATA_RECORD).is_file()
