"""A whole run whose data and weights lie on an object store, beside the same run on a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from raydistill import evaluate, train
from raydistill.runs.directory import RunDirectory
from raydistill.storage.store import store
from tests.drawn import as_setting, draw
from tests.object_store import BUCKET, s3_server
from tests.small import NOT_REPEATABLE, SMALL_RUN, metrics_of

ALONE = [f"methods.tar.{term}.weight=0" for term in ("feature", "classification", "regression", "rpn")]
SETTINGS = [*SMALL_RUN, *ALONE, "training.epochs=1", "logging.tensorboard=false", "loader.num_workers=1"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn images in COCO's form and a run directory, a net with random weights."""
    folder = tmp_path_factory.mktemp("here")
    draw(folder)
    return folder


@pytest.fixture(scope="module")
def there(here: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the same on a store."""
    with s3_server(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYDISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        place = store(f"s3://{BUCKET}/data")
        for file in here.rglob("*"):
            if file.is_file():
                place.put(file, str(file.relative_to(here)))
        yield place.uri


def _trained(root: object, output: Path) -> RunDirectory:
    weights = f"student.weights={root}/weights"
    assert train.main(["quickstart", *SETTINGS, as_setting(root), weights, "--local", "--output", str(output)]) == 0
    return RunDirectory(output / "baseline")


def test_data_and_weights_on_a_store_give_the_same_run_to_the_bit(
    here: Path, there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    local, remote = _trained(here, tmp_path / "local"), _trained(there, tmp_path / "remote")
    ours, theirs = (torch.load(run.best, weights_only=True)["model"] for run in (local, remote))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    lines = [
        [{k: v for k, v in line.items() if k not in NOT_REPEATABLE} for line in metrics_of(run)]
        for run in (local, remote)
    ]
    assert lines[0] == lines[1]
    settings = yaml.safe_load(remote.config.read_text())
    assert (settings["data"]["root"], settings["student"]["weights"]) == (there, f"{there}/weights")
    said = capsys.readouterr().err
    assert "data: fetching 6 images" in said, said


def test_a_run_is_scored_on_data_that_lies_on_a_store(
    here: Path, there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = []
    for data in (str(here), there):
        found = str(tmp_path / "found.json")
        assert evaluate.main([str(here / "weights"), data, "--num-workers", "0", "--output", found]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]


def test_weights_that_are_not_on_the_store_are_a_sentence(
    there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["quickstart", *SETTINGS, f"student.weights={there}/gone", "--local", "--output", str(tmp_path)]
    assert train.main(arguments) == 2
    assert f"{there}/gone: must be a file or folder on the object store, got nothing there" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [("--download-folder", "s3://bucket/x"), ("--download-gb", "-1")])
def test_a_wrong_place_for_downloads_is_a_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], wrong: tuple[str, str]
) -> None:
    assert evaluate.main([str(here / "weights"), str(here), *wrong]) == 2
    assert capsys.readouterr().err.startswith("--download-folder, --download-gb: ")
