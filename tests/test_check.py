"""``raydistill check``: what it says of a folder, its exit codes, its pictures and its JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from raydistill.check import main
from tests.data.layouts import LAYOUTS, label_studio_yolo, ultralytics
from tests.data.layouts import corners_line as turned
from tests.small import SMALL_RUN

NETS = [setting for setting in SMALL_RUN if not setting.startswith("data.")]


def _check(folder: Path, *more: str) -> int:
    return main([str(folder), *NETS, "--recipe", "quickstart", *more])


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Roboflow's COCO; its three splits show the same pictures, as copies with other pixels of one name do."""
    monkeypatch.chdir(tmp_path)
    LAYOUTS["Roboflow's COCO"].write(tmp_path / "pets")
    return tmp_path / "pets"


def test_what_is_found_counted_and_doubtful_is_said_with_the_settings_to_copy(
    pets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _check(pets, "--no-time") == 1
    out = capsys.readouterr().out
    assert "COCO, as Roboflow exports it: 3 training, 3 validation, 3 test images" in out
    assert "stands for: data.format=coco data.train_images=train data.train_annotations=train/_annotations" in out
    rows = {line[:17].strip(): line[17:].split() for line in out.splitlines()}
    assert rows["images"] == ["3", "3", "3"]
    assert rows["without objects"] == ["1", "1", "1"]
    assert (rows["cat"], rows["dog"]) == (["2", "2", "2"], ["1", "1", "1"])
    assert "category 0, pets, is no class" in out
    assert "validation: 3 images are equal to one of training, so that scores say too much" in out
    assert "boxes in training, as quickstart resizes images: sides of" in out
    assert f"train on them: python -m raydistill.train quickstart {pets}" in out


def test_ten_images_at_most_are_drawn_with_their_boxes(pets: Path) -> None:
    _check(pets, "--no-time")
    files = sorted((pets.parent / "runs" / "check" / "pets").iterdir())
    assert [file.name[:3] for file in files] == ["01_", "02_"]  # those with objects
    with Image.open(files[0]) as picture:
        assert picture.size == (480, 400)
    _check(pets, "--no-time", "--out", "elsewhere")
    assert len([*(pets.parent / "elsewhere").iterdir()]) == 2


def test_a_folder_with_nothing_to_look_at_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label_studio_yolo(tmp_path)
    file = tmp_path / "labels" / "a_1.txt"
    file.write_text(file.read_text() + "1 0.6 0.5 0.3 0.5\n")  # a dog in each image with objects
    assert _check(tmp_path, "--no-time", "--no-pictures") == 0
    out = capsys.readouterr().out
    assert "no validation split" in out
    assert "1 of 3 images are set aside" in out
    assert "nothing looks wrong" in out


def test_a_question_ends_with_2_and_is_in_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ultralytics(turned)(tmp_path)
    assert _check(tmp_path, "--no-time", "--json") == 2
    captured = capsys.readouterr()
    assert "data.lines=polygons" in json.loads(captured.out)["error"]
    assert "data.lines=polygons" in captured.err
    assert _check(tmp_path, "data.lines=oriented", "--no-time", "--json", "--no-pictures") == 1
    assert json.loads(capsys.readouterr().out)["splits"]["training"]["classes"] == {"cat": 2, "dog": 1}


def test_the_json_holds_everything_and_the_time_with_what_it_rests_on(
    pets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _check(pets, "--json", "--no-pictures") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["splits"]["test"] == {
        "images": 3,
        "without_objects": 1,
        "objects": 3,
        "left_out": {},
        "classes": {"cat": 2, "dog": 1},
    }
    assert set(report["time"]["stages"]) == {"teacher", "baseline", "distilled"}
    assert report["time"]["seconds"] == pytest.approx(sum(report["time"]["stages"].values()))
    assert report["time"]["seconds"] > 0
    assert report["boxes"]["without_anchor"].keys() == {"teacher", "student"}
