"""``python -m raydistill.predict``: images in, pictures and COCO's files out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

import raydistill as rd
from raydistill.predict import LEFT_OUT, main
from raydistill.runs.weights_file import load, save
from tests.drawn import draw


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in a folder ``val``, two of one name but for its ending, and ``weights`` that find something in each."""
    folder = tmp_path_factory.mktemp("drawn")
    draw(folder)
    Image.open(folder / "val/2.png").convert("RGB").save(folder / "val/1.jpg")
    file = folder / "weights/best.pt"
    save(file, {**load(file), "threshold": 0.2, "pixels": {"pixel_range": [0, 4095]}})
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_pictures_and_two_files_hold_what_was_found(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(drawn / "weights"), str(drawn / "val")]) == 0
    written = tmp_path / "predictions"
    pictures = sorted(path.name for path in (written / "pictures").iterdir())
    assert pictures == ["1.jpg", "1_2.jpg", *(f"{number}.jpg" for number in range(2, 7))]
    expected = rd.load(drawn / "weights").predict(drawn / "val")
    coco = COCO(str(written / "annotations.json"))
    assert len(coco.anns) == sum(map(len, expected)) > 7
    for number, found in enumerate(expected, start=1):
        assert coco.loadImgs(number)[0]["file_name"] == Path(found.image).name
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        assert [coco.cats[one["category_id"]]["name"] for one in annotations] == found.names
        assert [one["score"] for one in annotations] == pytest.approx(found.scores.tolist())
        corners = torch.tensor([one["bbox"] for one in annotations]).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        torch.testing.assert_close(corners, found.boxes)
    results = json.loads((written / "detections.json").read_text())
    assert len(coco.loadRes(results).anns) == len(results) == len(coco.anns)
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].startswith(f"1/7 {drawn}/val/1.jpg: ")
    assert captured.err.startswith(f"{len(results)} objects in 7 images; into predictions/ in ")


def test_broken_images_are_named_and_left_out_and_the_exit_code_says_so(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"broken")
    assert main([str(drawn / "weights"), "broken.png", str(drawn / "val/1.png"), "--out", "found"]) == LEFT_OUT
    assert "left out: broken.png: must be a complete image, got: " in capsys.readouterr().err
    content = json.loads((tmp_path / "found/annotations.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["1.png"]


def test_the_same_command_again_takes_its_own_pictures_for_no_images(drawn: Path, tmp_path: Path) -> None:
    Image.open(drawn / "val/1.png").save(tmp_path / "1.png")
    for _ in range(2):
        assert main([str(drawn / "weights"), "."]) == 0
    assert len(json.loads((tmp_path / "predictions/annotations.json").read_text())["images"]) == 1


def test_a_threshold_of_the_command_line_is_taken_and_pictures_can_be_left_out(drawn: Path, tmp_path: Path) -> None:
    arguments = [str(drawn / "weights"), str(drawn / "val/1.png"), "--no-pictures", "--threshold"]
    counts = []
    for threshold in ("0", "1"):
        assert main([*arguments, threshold]) == 0
        counts.append(len(json.loads((tmp_path / "predictions/detections.json").read_text())))
    assert counts[0] > counts[1] == 0
    assert not (tmp_path / "predictions/pictures").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "{val}"], "nowhere: must be a weights file or a run directory"),
        (["{weights}", "nowhere.jpg"], "nowhere.jpg: must be an image, a folder, a pattern or a video"),
        (["{weights}", "{val}", "nowhere.jpg"], "nowhere.jpg: must be an image, a folder, a pattern or a video"),
        (["{weights}", "{val}", "--threshold", "2"], "threshold: must be a score from 0 to 1, got 2"),
        (["{weights}", "{val}", "--batch", "0"], "batch_size: must be 1 to 10000, got 0"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    arguments: list[str], said: str, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(weights=drawn / "weights", val=drawn / "val") for word in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(said)
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "predictions").exists()


def test_weights_whose_threshold_or_pixels_are_none_are_refused(drawn: Path, tmp_path: Path) -> None:
    content = load(drawn / "weights/best.pt")
    for key, value in (("threshold", "high"), ("threshold", 7), ("pixels", {"pixel_range": [3, 1]}), ("pixels", [1])):
        save(tmp_path / "best.pt", {**content, key: value})
        with pytest.raises(rd.UserError, match=rf"best\.pt: {key}"):
            rd.load(tmp_path / "best.pt")


def test_pixels_are_made_as_in_training(drawn: Path) -> None:
    detector = rd.load(drawn / "weights")
    assert (detector.threshold, detector.decoding.pixel_range) == (0.2, (0, 4095))


def test_a_picture_of_what_was_found_can_be_drawn_from_python(drawn: Path) -> None:
    (found,) = rd.load(drawn / "weights").predict(drawn / "val/1.png")
    assert isinstance(rd.draw(drawn / "val/1.png", found), Image.Image)
