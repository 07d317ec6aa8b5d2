"""Folders as tools export them are recognised, said in a line, and read with the right objects; or a question is."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill import train
from raydistill.config.data import AutoData, FilesData
from raydistill.data.build import AS_USUAL, build_splits
from raydistill.data.dataset import DetectionDataset
from raydistill.data.discover import open_dataset
from raydistill.data.readable import check_readable
from raydistill.data.recognise import Recognised, recognise
from raydistill.errors import UserError

from .exports import SCENES, paint, xywh
from .layouts import LAYOUTS, ROBOFLOW, corners_line, label_studio_yolo, labelme_file, pose_line, ultralytics, xml


def found_in(root: Path, **given: Any) -> Recognised:
    return recognise(AutoData(format="auto", root=str(root), **given), AS_USUAL.cache)


def _objects(*datasets: DetectionDataset) -> Counter[tuple[str, tuple[float, ...]]]:
    """Return the objects of datasets, whatever the order of the images."""
    return Counter(
        (dataset.classes[found.label - 1], tuple(round(value, 4) for value in found.box))
        for dataset in datasets
        for index in range(len(dataset))
        for found in dataset.records.annotated(index).objects
    )


RIGHT = Counter((name, tuple(xywh(corners))) for scene in SCENES for name, corners in scene)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tools_layout_is_recognised_and_said_with_the_settings_it_stands_for(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout].write(tmp_path)
    found = found_in(tmp_path)
    assert found.finding.settings == LAYOUTS[layout].settings
    assert str(found).startswith(f"{tmp_path}: {LAYOUTS[layout].says}")
    assert "\n" not in str(found)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tools_layout_is_read_with_the_right_objects(layout: str, tmp_path: Path) -> None:
    expected = LAYOUTS[layout]
    expected.write(tmp_path)
    data = AutoData(format="auto", root=str(tmp_path))
    check_readable(data, AS_USUAL)
    splits = build_splits(data)
    assert {split.classes for split in splits if split is not None} == {expected.classes}
    if "val" in expected.splits:
        assert [_objects(split) for split in splits if split is not None] == [RIGHT] * len(expected.splits)
    else:
        assert _objects(splits.train, splits.val) == RIGHT
        assert [len(splits.train), len(splits.val)] == [2, 1]
    assert splits.train.load(0)[0].shape == (3, 80, 96)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_settings_that_are_said_read_the_same(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout].write(tmp_path)
    found = found_in(tmp_path)
    again: FilesData = type(found.data).model_validate({**found.finding.settings, "root": str(tmp_path)})
    assert again == found.data
    assert f"data.root={tmp_path}" in found.overrides


def test_a_folder_in_a_folder_is_looked_into(tmp_path: Path) -> None:
    LAYOUTS["Roboflow's YOLO"].write(tmp_path / "pets" / "pets v1")
    (tmp_path / "__MACOSX" / "pets").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "pets" / "._a.jpg").write_bytes(b"")
    found = found_in(tmp_path)
    assert found.data.root == f"{tmp_path}/pets/pets v1"
    assert f"'data.root={tmp_path}/pets/pets v1'" in found.overrides


def _asked(root: Path, **given: Any) -> str:
    with pytest.raises(UserError) as caught:
        found_in(root, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nine_numbers_a_line_are_a_question_that_a_setting_answers(tmp_path: Path) -> None:
    ultralytics(corners_line)(tmp_path)
    question = _asked(tmp_path)
    assert "9 numbers" in question
    assert all(f"data.lines={answer}" in question for answer in ("polygons", "oriented", "poses"))
    for answer in ("polygons", "oriented"):
        assert _objects(build_splits(found_in(tmp_path, lines=answer).data).train) == RIGHT


def test_boxes_with_key_points_and_no_kpt_shape_are_a_question(tmp_path: Path) -> None:
    ultralytics(pose_line)(tmp_path)
    assert "a box and its key points; data.lines=polygons" in _asked(tmp_path)
    assert _objects(build_splits(found_in(tmp_path, lines="poses").data).train) == RIGHT


def test_missing_names_of_classes_are_a_question_with_their_number(tmp_path: Path) -> None:
    label_studio_yolo(tmp_path)
    (tmp_path / "classes.txt").unlink()
    assert "got labels of 0 to 1 and no names" in _asked(tmp_path)
    assert build_splits(found_in(tmp_path, classes=("a", "b")).data).train.classes == ("a", "b")


def test_several_files_that_may_be_the_annotations_are_a_question(tmp_path: Path) -> None:
    LAYOUTS["CVAT's COCO"].write(tmp_path)
    shutil.copy(tmp_path / "annotations" / "instances_default.json", tmp_path / "annotations" / "old.json")
    question = _asked(tmp_path)
    assert "data.train_annotations=annotations/instances_default.json or" in question
    assert "data.train_annotations=annotations/old.json" in question


def test_several_data_sets_in_a_folder_are_a_question(tmp_path: Path) -> None:
    LAYOUTS["Roboflow's YOLO"].write(tmp_path / "pets")
    LAYOUTS["Roboflow's COCO"].write(tmp_path / "cells")
    assert f"name one: data.root={tmp_path}/cells or data.root={tmp_path}/pets" in _asked(tmp_path)


def test_one_data_set_in_two_forms_is_a_question_that_a_setting_answers(tmp_path: Path) -> None:
    label_studio_yolo(tmp_path)
    for number, things in enumerate(SCENES):
        (tmp_path / "images" / f"a_{number}.xml").write_text(xml(f"a_{number}.jpg", things))
    assert "data.only=voc or data.only=yolo" in _asked(tmp_path)
    assert [found_in(tmp_path, only=form).finding.form for form in ("voc", "yolo")] == ["voc", "yolo"]


def test_annotations_of_which_the_images_are_not_there_are_a_question(tmp_path: Path) -> None:
    LAYOUTS["CVAT's COCO"].write(tmp_path)
    shutil.rmtree(tmp_path / "images")
    assert "got no cam 1/Screenshot" in _asked(tmp_path)


def test_a_folder_without_annotations_and_no_folder_are_said(tmp_path: Path) -> None:
    assert "got an empty one" in _asked(tmp_path)
    paint(tmp_path / "a.jpg", SCENES[0])
    assert "got 1 images and no annotations that are known" in _asked(tmp_path)
    assert "got nothing at" in _asked(tmp_path / "gone")


def test_a_setting_of_another_form_than_what_was_found_is_refused(tmp_path: Path) -> None:
    LAYOUTS["CVAT's COCO"].write(tmp_path)
    assert "data.coordinates: has no effect on COCO" in _asked(tmp_path, coordinates="zero_based")


def test_a_path_that_leads_out_of_the_data_and_into_them_is_a_question(tmp_path: Path) -> None:
    LAYOUTS["Roboflow's YOLO"].write(tmp_path / "pets")
    shutil.copytree(tmp_path / "pets" / "train", tmp_path / "train")
    assert "must have one meaning for '../train/images'" in _asked(tmp_path / "pets")


YAMLS = {
    "names that are not numbered from 0": ("names: {1: cat, 2: dog}", "must number the names from 0 on"),
    "more names than nc": ("nc: 1\nnames: [cat, dog]", "got 2 names and nc 1"),
    "no images of validation": ("val: gone\nnames: [cat, dog]", "got no gone"),
}


@pytest.mark.parametrize("kind", YAMLS)
def test_what_is_wrong_in_a_data_yaml_is_said(kind: str, tmp_path: Path) -> None:
    ultralytics()(tmp_path)
    text, said = YAMLS[kind]
    (tmp_path / "pets.yaml").write_text(f"train: images/train\n{text}\n")
    assert said in _asked(tmp_path)


def test_names_that_yaml_would_read_as_something_else_are_names(tmp_path: Path) -> None:
    ultralytics()(tmp_path)
    (tmp_path / "pets.yaml").write_text("train: [images/train]\nval: images/val\nnames: [no, 1.0]\n")
    assert found_in(tmp_path).finding.classes == ("no", "1.0")


LINES = {
    "0 0.5 0.5 0.2": "must hold a class and 4 numbers or the corners of a polygon, got 3",
    "0 0.5 0.5 0.2 0.2 0.9": r"must hold a class and .* got 5 \(a score behind the box\?",
    "0 48 40 20 20": r"must hold shares of the image, 0 to 1, got 48 \(pixels\?\)",
    "7 0.5 0.5 0.2 0.2": "must have a class of 0 to 1",
    "-1 0.5 0.5 0.2 0.2": "must begin with the number of a class",
    "cat 0.5 0.5 0.2 0.2": "must hold numbers",
    "0 0.5 nan 0.2 0.2": "must hold finite numbers",
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_yolo_that_is_wrong_is_named(line: str, tmp_path: Path) -> None:
    label_studio_yolo(tmp_path)
    file = tmp_path / "labels" / "a_0.txt"
    file.write_text(f"{file.read_text()}{line}\n")
    with pytest.raises(UserError, match=rf"a_0\.txt, line 3: {LINES[line]}"):
        build_splits(found_in(tmp_path).data)


def test_labels_that_are_not_there_are_said(tmp_path: Path) -> None:
    label_studio_yolo(tmp_path)
    data = found_in(tmp_path).data
    for file in [*(tmp_path / "labels").iterdir()][:2]:
        file.unlink()
    with pytest.raises(UserError, match="at least half of the images must have a file of annotations"):
        build_splits(data)


SHAPES: dict[str, tuple[dict[str, Any], list[float]]] = {
    "circle": ({"shape_type": "circle", "points": [[40, 40], [40, 50]]}, [30, 30, 20, 20]),
    "four corners": (
        {"shape_type": "rectangle", "points": [[10, 10], [30, 10], [30, 40], [10, 40]]},
        [10, 10, 20, 30],
    ),
    "mask": ({"shape_type": "mask", "points": [[5, 6], [25, 36]], "mask": "iVBORw0KGgo"}, [5, 6, 20, 30]),
    "out of the image": ({"shape_type": "rectangle", "points": [[90, 70], [120, 100]]}, [90, 70, 6, 10]),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_of_labelme_becomes_the_box_around_it(kind: str, tmp_path: Path) -> None:
    shape, box = SHAPES[kind]
    for number in range(2):
        paint(tmp_path / f"{number}.jpg", SCENES[number])
        content = labelme_file(f"{number}.jpg", [])
        content["shapes"] = [{"label": "cat", "group_id": None, **shape}]
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
    train = build_splits(found_in(tmp_path).data).train
    assert [list(found.box) for found in train.records.annotated(0).objects] == [box]


def test_shapes_of_one_group_are_one_object_and_points_are_none(tmp_path: Path) -> None:
    left = {"label": "cat", "group_id": 1, "shape_type": "rectangle", "points": [[0, 0], [10, 10]]}
    right = {"label": "cat", "group_id": 1, "shape_type": "rectangle", "points": [[20, 20], [30, 40]]}
    point = {"label": "cat", "group_id": None, "shape_type": "point", "points": [[50, 50]]}
    for number in range(2):
        paint(tmp_path / f"{number}.jpg", SCENES[number])
        (tmp_path / f"{number}.json").write_text(
            json.dumps(labelme_file(f"{number}.jpg", []) | {"shapes": [left, right, point]})
        )
    train = build_splits(found_in(tmp_path).data).train
    assert [list(found.box) for found in train.records.annotated(0).objects] == [[0, 0, 30, 40]]
    assert train.left_out["as points or lines"] == 2  # of both images


def test_a_category_0_is_dropped_only_where_nothing_is_of_it_and_others_are_kinds_of_it(tmp_path: Path) -> None:
    LAYOUTS["Roboflow's COCO"].write(tmp_path)

    def classes_with(split: str, **change: Any) -> tuple[str, ...]:
        file = tmp_path / split / ROBOFLOW
        text = file.read_text()
        content = json.loads(text)
        for key, (place, values) in change.items():
            content[key][place] |= values
        file.write_text(json.dumps(content))
        try:
            return build_splits(found_in(tmp_path).data).train.classes
        finally:
            file.write_text(text)

    assert classes_with("train") == ("cat", "dog")
    assert classes_with("train", annotations=(0, {"category_id": 0})) == ("pets", "cat", "dog")
    assert classes_with("test", annotations=(0, {"category_id": 0})) == ("pets", "cat", "dog")
    LAYOUTS["Label Studio's COCO"].write(tmp_path / "other")
    assert build_splits(found_in(tmp_path / "other").data).train.classes == ("cat", "dog")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_evaluate_opens_the_same_layouts(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout].write(tmp_path)
    if layout == "CVAT's VOC":
        return  # opened by the name of its list, as ever
    named = "val" in LAYOUTS[layout].splits
    split = open_dataset(str(tmp_path), classes=("cat", "dog"))
    assert split.classes == ("cat", "dog")
    assert _objects(split) == RIGHT if named else len(split) == 1


def test_a_file_that_describes_data_stands_for_them(tmp_path: Path) -> None:
    LAYOUTS["Ultralytics' YOLO"].write(tmp_path / "yolo")
    shutil.copy(tmp_path / "yolo" / "pets.yaml", tmp_path / "yolo" / "other.yaml")
    LAYOUTS["CVAT's COCO"].write(tmp_path / "coco")
    found = found_in(tmp_path / "yolo" / "pets.yaml")
    assert (found.data.root, found.finding.what) == (f"{tmp_path}/yolo", "YOLO (pets.yaml)")
    assert _objects(build_splits(found.data).train) == RIGHT
    of_coco = found_in(tmp_path / "coco" / "annotations" / "instances_default.json")
    assert of_coco.finding.settings["train_images"] == "../images/default"
    splits = build_splits(of_coco.data)
    assert _objects(splits.train, splits.val) == RIGHT
    (tmp_path / "notes.txt").write_text("")
    assert "got another file at" in _asked(tmp_path / "notes.txt")


def test_train_takes_a_folder_and_prints_the_settings_that_it_stands_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label_studio_yolo(tmp_path)
    assert train.main(["scratch", str(tmp_path), "data.val_fraction=0.4", "--print-config"]) == 0
    data = yaml.safe_load(capsys.readouterr().out)["data"]
    assert (data["format"], data["train"], data["val"], data["val_fraction"]) == ("yolo", ".", None, 0.4)
    assert data["classes"] == ["cat", "dog"]
    assert train.main(["scratch", str(tmp_path / "gone"), "--local", "--output", str(tmp_path / "run")]) == 2
    assert "data.root: must be a folder with COCO, YOLO, PASCAL VOC or LabelMe data" in capsys.readouterr().err
