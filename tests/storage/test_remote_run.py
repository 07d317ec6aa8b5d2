"""A whole run whose data and weights lie on an object store, beside the same run on a folder."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from raydistill import evaluate, train
from raydistill.on_ray import run as run_module
from raydistill.on_ray import shipping
from raydistill.runs.directory import RunDirectory
from raydistill.storage.parcels import Shipped
from raydistill.storage.store import store
from raydistill.training.state import export
from tests.object_store import BUCKET, s3_server
from tests.small import NOT_REPEATABLE, SMALL_RUN, Stage, metrics_of, run_python, small_run

ALONE = [f"{term}.weight=0" for term in ("feature", "classification", "regression", "rpn")]
SETTINGS = [*SMALL_RUN, *ALONE, "training.epochs=1", "logging.tensorboard=false", "loader.num_workers=1"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn images in COCO's form and a run directory, a net with random weights."""
    folder = tmp_path_factory.mktemp("here")
    stage = Stage(small_run(folder / "made", "data.num_val=6", "student.box_score_thresh=0"))
    export(stage.job, stage.detector(seed=5), folder / "weights" / "best.pt", epoch=1)
    truth = json.loads(json.dumps(stage.job.val.ground_truth))
    (folder / "val").mkdir()
    (folder / "annotations").mkdir()
    for entry in truth["images"]:
        image, _ = stage.job.val.load(entry["id"] - 1)
        entry |= {"file_name": f"{entry['id']}.png", "width": image.shape[2], "height": image.shape[1]}
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / "val" / entry["file_name"])
    (folder / "annotations" / "val.json").write_text(json.dumps(truth))
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


def _data(root: object) -> str:
    paths = {"train_images": "val", "train_annotations": "annotations/val.json"}
    return f"data={json.dumps({'format': 'coco', 'root': str(root), **paths})}"


def _trained(root: object, output: Path) -> RunDirectory:
    weights = f"student.weights={root}/weights"
    assert train.main(["quickstart", *SETTINGS, _data(root), weights, "--local", "--output", str(output)]) == 0
    return RunDirectory(output / "baseline")


def test_data_and_weights_on_a_store_give_the_same_run_to_the_bit(
    here: Path, there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


def train_without_the_file(weights: str, *arguments: str) -> int:
    """Train on Ray; weights are sent as to a cluster that was there before, and the worker does not see their file."""

    def ship_and_hide(names: list[str]) -> Shipped:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_ADDRESS", "a cluster")
            sent = shipping.ship(names)
        assert [*sent] == [weights]
        Path(weights).unlink()
        return sent

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "ship", ship_and_hide)
        patch.delenv("RAY_ADDRESS", raising=False)
        return train.main(["quickstart", *arguments, f"student.weights={weights}"])


@pytest.mark.ray
def test_a_ray_worker_fetches_its_data_and_gets_weights_that_only_the_command_sees(
    here: Path, there: str, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pt"
    shutil.copy(here / "weights" / "best.pt", weights)
    code = (
        "import sys; from tests.storage import test_remote_run as t; sys.exit(t.train_without_the_file(*sys.argv[1:]))"
    )
    arguments = [str(weights), *SETTINGS, _data(there), "--output", str(tmp_path / "run")]
    run = run_python("-c", code, *arguments)  # Ray reads its environment once in a process
    assert run.returncode == 0, run.stderr
    assert not weights.exists()
    assert re.search(rf"baseline: (\d+) of \1 tensors from {weights}", run.stderr)
    assert "data: 6 training and 6 validation images" in run.stderr
    settings = yaml.safe_load(RunDirectory(tmp_path / "run" / "baseline").config.read_text())
    assert settings["student"]["weights"] == str(weights)


@pytest.mark.parametrize("wrong", [("--download-folder", "s3://bucket/x"), ("--download-gb", "-1")])
def test_a_wrong_place_for_downloads_is_a_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], wrong: tuple[str, str]
) -> None:
    assert evaluate.main([str(here / "weights"), str(here), *wrong]) == 2
    assert capsys.readouterr().err.startswith("--download-folder, --download-gb: ")
