"""Tests of raydistill.data.formats.voc."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from raydistill.data.formats.voc import read_voc
from raydistill.data.images import read_image
from raydistill.errors import UserError

SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


def thing(name: str, corners: tuple[float, ...], difficult: int = 0) -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"


def write_image(root: Path, stem: str, content: str, suffix: str = ".jpg") -> None:
    """Add a 40 x 30 image with its annotation to the data set and to the list 'train'."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for file in (root / "JPEGImages" / stem, root / "Annotations" / stem):
        file.parent.mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(root / "JPEGImages" / f"{stem}{suffix}")
    (root / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{content}</annotation>")
    with (root / "ImageSets" / "Main" / "train.txt").open("a") as names:
        names.write(f"{stem}\n")


def test_the_two_broken_boxes_of_the_blood_cells_are_named_in_one_warning(
    shared_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "voc"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for folder in ("JPEGImages", "Annotations"):
        (root / folder).symlink_to(shared_data / "bccd_voc" / folder)
    lists = shared_data / "bccd_voc" / "ImageSets" / "Main"
    names = [(lists / f"{split}.txt").read_text() for split in ("trainval", "test")]
    (root / "ImageSets" / "Main" / "all.txt").write_text("\n".join(names))
    with caplog.at_level(logging.WARNING):
        dataset = read_voc(root, "all")
    assert len(dataset) == 364
    assert sum(len(record.labels) for record in dataset.records) == 4886
    assert dataset.classes == ("Platelets", "RBC", "WBC")
    assert len(caplog.records) == 1
    assert "dropped 2 boxes" in caplog.messages[0]
    assert "BloodImage_00338.xml" in caplog.messages[0]
    assert "BloodImage_00343.xml" in caplog.messages[0]


def test_voc_2012_has_38_difficult_objects(shared_data: Path) -> None:
    root = shared_data / "voc2012_100_voc"
    train = read_voc(root, "train")
    splits = [train, read_voc(root, "val", train.classes)]
    assert len(train.classes) == 20
    assert [len(split) for split in splits] == [85, 15]
    assert sum(len(split.records.labels) for split in splits) == 273
    assert sum(found["iscrowd"] for split in splits for found in split.ground_truth["annotations"]) == 38
    assert sum(len(record.labels) for split in splits for record in split.records) == 273 - 38


def test_difficult_objects_are_like_any_other_when_included(tmp_path: Path) -> None:
    write_image(tmp_path, "a", SIZE + thing("cat", (1, 1, 9, 9), difficult=1))
    dataset = read_voc(tmp_path, "train", difficult="include")
    assert len(dataset.records[0].labels) == 1
    assert dataset.ground_truth["annotations"][0]["iscrowd"] == 0


def test_one_based_corners_hold_the_last_pixel(tmp_path: Path) -> None:
    write_image(tmp_path, "a", SIZE + thing("cat", (1, 1, 40, 30)))
    assert read_voc(tmp_path, "train").records[0].boxes.tolist() == [[0, 0, 40, 30]]


def test_zero_based_corners_stand_as_they_are(tmp_path: Path) -> None:
    write_image(tmp_path, "a", SIZE + thing("cat", (1, 1, 39.5, 30)))
    dataset = read_voc(tmp_path, "train", coordinates="zero_based")
    assert dataset.records[0].boxes.tolist() == [[1, 1, 39.5, 30]]


def test_image_ids_and_file_names_follow_the_list(tmp_path: Path) -> None:
    for stem, suffix in (("b", ".png"), ("a", ".jpeg")):
        write_image(tmp_path, stem, SIZE + thing("cat", (1, 1, 9, 9)), suffix)
    dataset = read_voc(tmp_path, "train")
    assert [(i["id"], i["file_name"]) for i in dataset.ground_truth["images"]] == [(1, "b.png"), (2, "a.jpeg")]
    assert dataset.load(1)[0].shape == (3, 30, 40)


@pytest.mark.parametrize("listed", ["aug/a", "./aug/a", "aug//a", "b/../aug/a", "aug/a 1"])
def test_a_name_with_folders_has_the_annotation_and_the_pixels_of_the_file_below_them(
    tmp_path: Path, listed: str
) -> None:
    write_image(tmp_path, "a", SIZE + thing("cat", (1, 1, 9, 9)))
    write_image(tmp_path, "aug/a", SIZE + thing("dog", (1, 1, 8, 8)))
    write_image(tmp_path, "c/a", SIZE + thing("dog", (1, 1, 7, 7)))
    (tmp_path / "JPEGImages" / "b").mkdir()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "JPEGImages" / "aug" / "a.jpg")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text(f"{listed}\na\nc/a\n")
    dataset = read_voc(tmp_path, "train")
    assert [record.file for record in dataset.records] == ["aug/a.jpg", "a.jpg", "c/a.jpg"]
    assert [record.boxes.tolist() for record in dataset.records] == [[[0, 0, 8, 8]], [[0, 0, 9, 9]], [[0, 0, 7, 7]]]
    assert torch.equal(dataset.load(0)[0], read_image(tmp_path / "JPEGImages" / "aug" / "a.jpg"))
    assert dataset.load(0)[0].max() > 250
    assert dataset.load(1)[0].max() == 0


def test_a_name_that_is_written_in_two_ways_is_listed_twice(tmp_path: Path) -> None:
    write_image(tmp_path, "aug/a", SIZE + thing("dog", (1, 1, 8, 8)))
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("aug/a\n./aug/a\n")
    with pytest.raises(UserError, match="must list each image once, got aug/a more often"):
        read_voc(tmp_path, "train")


def test_given_classes_set_the_labels(tmp_path: Path) -> None:
    write_image(tmp_path, "a", SIZE + thing("cat", (1, 1, 9, 9)))
    dataset = read_voc(tmp_path, "train", classes=("dog", "cat"))
    assert dataset.classes == ("dog", "cat")
    assert dataset.records[0].labels.tolist() == [2]


def test_a_class_that_is_not_listed_is_named_with_its_file_and_object(tmp_path: Path) -> None:
    write_image(tmp_path, "a", SIZE + thing("dog", (1, 1, 9, 9)) + thing("cow", (1, 1, 9, 9)))
    with pytest.raises(UserError, match=r"a\.xml, object 2: name must be one of dog, got 'cow'"):
        read_voc(tmp_path, "train", classes=("dog",))


def test_lines_with_minus_one_are_left_out(tmp_path: Path) -> None:
    for stem in ("a", "b", "c"):
        write_image(tmp_path, stem, SIZE + thing("cat", (1, 1, 9, 9)))
    (tmp_path / "ImageSets" / "Main" / "cat_train.txt").write_text("a  1\nb -1\nc  0\n\n")
    dataset = read_voc(tmp_path, "cat_train")
    assert [record.file for record in dataset.records] == ["a.jpg", "c.jpg"]


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_an_unknown_size_is_that_of_the_image(tmp_path: Path, size: str) -> None:
    write_image(tmp_path, "a", size + thing("cat", (1, 1, 9, 9)))
    record = read_voc(tmp_path, "train").records[0]
    assert (record.width, record.height) == (40, 30)


def test_a_wrong_size_is_an_error(tmp_path: Path) -> None:
    write_image(tmp_path, "a", SIZE.replace("40", "44") + thing("cat", (1, 1, 9, 9)))
    with pytest.raises(UserError, match=r"a\.xml: size must be that of the image, 40 x 30, got 44 x 30"):
        read_voc(tmp_path, "train")


def test_a_document_type_declaration_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path, "a", SIZE)
    laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><annotation>&b;</annotation>'
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "Annotations" / "a.xml").write_bytes(laughs.encode(encoding))
        with pytest.raises(UserError, match=r"a\.xml: must be plain XML, got a document type declaration"):
            read_voc(tmp_path, "train")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<object>", "must be well-formed XML"),
        ("<object><name>cat</name></object>", "object 1: bndbox must hold the numbers"),
        (thing("cat", (1, 1, float("nan"), 9)), "object 1: bndbox must hold the numbers"),
        (thing("", (1, 1, 9, 9)), "object 1: must have a name"),
        (thing("cat", (1, 1, 9, 9), difficult=7), "object 1: difficult must be 0 or 1, got '7'"),
        ("", "must have objects to take the classes from"),
    ],
)
def test_a_faulty_annotation_is_an_error(tmp_path: Path, content: str, words: str) -> None:
    write_image(tmp_path, "a", content)
    with pytest.raises(UserError) as caught:
        read_voc(tmp_path, "train")
    assert words in str(caught.value)


def test_names_without_annotation_or_image_are_all_told(tmp_path: Path) -> None:
    for stem in ("a", "b"):
        write_image(tmp_path, stem, SIZE + thing("cat", (1, 1, 9, 9)))
    (tmp_path / "Annotations" / "a.xml").unlink()
    (tmp_path / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(UserError) as caught:
        read_voc(tmp_path, "train")
    assert "must have their annotation, an XML file that is not empty, got 0 of 1 with one" in str(caught.value)
    assert "'b' must have its image" in str(caught.value)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(UserError, match="got none of Annotations, ImageSets/Main"):
        read_voc(tmp_path, "train")


def test_a_missing_split_is_an_error_that_lists_those_there(tmp_path: Path) -> None:
    write_image(tmp_path, "a", SIZE)
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("a")
    with pytest.raises(UserError, match=r"dev\.txt: .* must exist; splits there: test, train$"):
        read_voc(tmp_path, "dev")


@pytest.mark.parametrize(("lines", "words"), [("\n", "at least one image"), ("a\na\n", "each image once, got a ")])
def test_an_empty_or_repeating_list_is_an_error(tmp_path: Path, lines: str, words: str) -> None:
    write_image(tmp_path, "a", SIZE)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text(lines)
    with pytest.raises(UserError, match=words):
        read_voc(tmp_path, "train")
