"""Tests of raydistill.data.formats.coco."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from raydistill.data.formats.coco import read_coco
from raydistill.errors import UserError
from tests.data.conftest import CocoFolder


def error_of(folder: CocoFolder) -> str:
    with pytest.raises(UserError) as caught:
        read_coco(*folder.write())
    return str(caught.value)


@pytest.mark.parametrize(("split", "images", "boxes"), [("train", 205, 2804), ("val", 87, 1137)])
def test_blood_cells_have_the_counts_of_their_readme(shared_data: Path, split: str, images: int, boxes: int) -> None:
    root = shared_data / "bccd"
    dataset = read_coco(root / split, root / "annotations" / f"{split}.json")
    assert len(dataset) == images
    assert sum(len(record.labels) for record in dataset.records) == boxes
    assert dataset.classes == ("RBC", "WBC", "Platelets")


def test_an_image_of_the_blood_cells_is_read_with_its_boxes_inside(shared_data: Path) -> None:
    root = shared_data / "bccd"
    image, target = read_coco(root / "val", root / "annotations" / "val.json").load(0)
    assert image.shape == (3, 480, 640)
    assert target["image_id"] == 206
    assert (target["boxes"][:, 2] <= 640).all()
    assert (target["boxes"][:, 3] <= 480).all()


def test_labels_are_contiguous_in_the_order_of_category_ids(coco_folder: CocoFolder) -> None:
    dataset = read_coco(*coco_folder.write())
    assert dataset.classes == ("cat", "dog")
    assert dataset.category_ids == (2, 9)
    assert dataset.records[0].labels.tolist() == [2]


def test_images_without_objects_are_kept(coco_folder: CocoFolder) -> None:
    dataset = read_coco(*coco_folder.write())
    assert [len(record.labels) for record in dataset.records] == [1, 0]
    assert len(dataset.ground_truth["images"]) == 2


def test_the_ignore_flag_has_no_effect_as_in_pycocotools(coco_folder: CocoFolder) -> None:
    coco_folder.content["annotations"].append(coco_folder.box(2, 3, 2, [0, 0, 30, 30]) | {"ignore": 1})
    dataset = read_coco(*coco_folder.write())
    assert len(dataset.records[0].labels) == 2
    assert [found["iscrowd"] for found in dataset.ground_truth["annotations"]] == [0, 0]


def test_crowds_are_left_out_of_training_only(coco_folder: CocoFolder) -> None:
    crowd = coco_folder.box(2, 3, 2, [0, 0, 30, 30]) | {
        "iscrowd": 1,
        "segmentation": {"size": [30, 40], "counts": [1200]},
    }
    coco_folder.content["annotations"].append(crowd)
    dataset = read_coco(*coco_folder.write())
    assert dataset.records[0].labels.tolist() == [2]
    assert [found["iscrowd"] for found in dataset.ground_truth["annotations"]] == [0, 1]


def test_missing_or_null_crowd_and_ignore_count_as_zero(coco_folder: CocoFolder) -> None:
    coco_folder.content["annotations"][0] |= {"ignore": None, "iscrowd": None}
    second = coco_folder.box(2, 7, 9, [1, 1, 4, 4])
    del second["iscrowd"]
    coco_folder.content["annotations"].append(second)
    dataset = read_coco(*coco_folder.write())
    assert [len(record.labels) for record in dataset.records] == [1, 1]
    assert [(a["iscrowd"], a["ignore"]) for a in dataset.ground_truth["annotations"]] == [(0, 0), (0, 0)]


def test_the_area_is_the_annotated_one_and_otherwise_that_of_the_box(coco_folder: CocoFolder) -> None:
    coco_folder.content["annotations"].append(coco_folder.box(2, 3, 2, [0, 0, 5, 5]) | {"area": 17.5})
    truth = read_coco(*coco_folder.write()).ground_truth
    assert [found["area"] for found in truth["annotations"]] == [120, 17.5]


def test_boxes_are_clipped_to_the_image(coco_folder: CocoFolder) -> None:
    coco_folder.content["annotations"][0]["bbox"] = [-5, 20, 100, 100]
    dataset = read_coco(*coco_folder.write())
    assert dataset.records[0].boxes.tolist() == [[0, 20, 40, 30]]
    assert dataset.ground_truth["annotations"][0]["bbox"] == [0, 20, 40, 10]


def test_boxes_without_extent_are_dropped_with_one_warning_that_names_them(
    coco_folder: CocoFolder, caplog: pytest.LogCaptureFixture
) -> None:
    boxes = [[5, 5, 0, 3], [5, 5, 3, -1], [40, 0, 9, 9], [-9, 0, 9, 9]]
    coco_folder.content["annotations"] += [coco_folder.box(i, 3, 2, box) for i, box in enumerate(boxes, 10)]
    with caplog.at_level(logging.WARNING):
        dataset = read_coco(*coco_folder.write())
    assert len(dataset.records[0].labels) == 1
    assert len(dataset.ground_truth["annotations"]) == 1
    assert len(caplog.records) == 1
    message = caplog.messages[0]
    assert "dropped 4 boxes" in message
    assert all(f"annotation {number} of a.png" in message for number in (10, 11, 12, 13))


def test_a_warning_names_ten_boxes_and_counts_the_others(
    coco_folder: CocoFolder, caplog: pytest.LogCaptureFixture
) -> None:
    coco_folder.content["annotations"] += [coco_folder.box(i, 3, 2, [1, 1, 0, 0]) for i in range(100, 113)]
    read_coco(*coco_folder.write())
    assert "dropped 13 boxes" in caplog.messages[0]
    assert caplog.messages[0].endswith("and 3 more")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"category_id": 3}, "annotation 1: category_id must be one of 2 cat, 9 dog, got 3"),
        ({"image_id": 99}, "annotation 1: image_id must be that of an image, got 99"),
        ({"image_id": "03"}, "annotation 1: image_id must be that of an image, got '03'"),
        ({"bbox": [1, 2, float("nan"), 4]}, "annotation 1: bbox must be [x, y, width, height] in finite numbers"),
        ({"bbox": [1, 2, 3]}, "annotation 1: bbox must be [x, y, width, height]"),
        ({"bbox": "1 2 3 4"}, "annotation 1: bbox must be [x, y, width, height]"),
        ({"iscrowd": "no"}, "annotation 1: iscrowd must be 0 or 1, got 'no'"),
        ({"area": [3]}, "annotation 1: area must be a number from 0 on, got [3]"),
        ({"id": True}, "annotation number 1: id must be a whole number or a text that can be printed, got True"),
    ],
)
def test_a_wrong_value_of_an_annotation_is_named(
    coco_folder: CocoFolder, change: dict[str, object], words: str
) -> None:
    coco_folder.content["annotations"][0] |= change
    message = error_of(coco_folder)
    assert words in message
    assert "val.json" in message


@pytest.mark.parametrize(
    ("section", "key", "words"),
    [
        ("images", "file_name", "image 3: file_name must be given"),
        ("annotations", "bbox", "annotation 1: bbox must be given"),
        ("categories", "name", "category 9: name must be given"),
    ],
)
def test_a_missing_key_is_named(coco_folder: CocoFolder, section: str, key: str, words: str) -> None:
    del coco_folder.content[section][0][key]
    assert words in error_of(coco_folder)


@pytest.mark.parametrize("section", ["images", "categories"])
def test_repeated_ids_are_named(coco_folder: CocoFolder, section: str) -> None:
    coco_folder.content[section].append(dict(coco_folder.content[section][0]))
    first = coco_folder.content[section][0]["id"]
    assert f"{first}: id must be unique, got {first} again" in error_of(coco_folder)


def test_texts_as_ids_are_numbered_in_their_order_and_restored_in_what_is_found(coco_folder: CocoFolder) -> None:
    text_of = {3: "right", 7: "left", 9: "D", 2: "C"}
    for section, keys in (("images", ["id"]), ("categories", ["id"]), ("annotations", ["image_id", "category_id"])):
        for entry in coco_folder.content[section]:
            entry.update({key: text_of[entry[key]] for key in keys})
    dataset = read_coco(*coco_folder.write())
    assert dataset.classes == ("cat", "dog")
    assert [(record.file, record.image_id, record.labels.tolist()) for record in dataset.records] == [
        ("a.png", 2, [2]),
        ("b.png", 1, []),
    ]
    found = [{"image_id": 2, "category_id": dataset.category_ids[1], "bbox": [1, 2, 3, 4], "score": 0.5}]
    assert dataset.file_ids.restored(found) == [{**found[0], "image_id": "right", "category_id": "D"}]


def test_a_size_that_is_not_stated_is_the_image_files(
    coco_folder: CocoFolder, caplog: pytest.LogCaptureFixture
) -> None:
    coco_folder.content["images"][0] |= {"width": None}
    del coco_folder.content["images"][1]["height"]
    dataset = read_coco(*coco_folder.write())
    assert dataset.records.sizes.tolist() == [[40, 30], [20, 50]]
    assert "2 of 2 images without width or height, taken from the image files: a.png, b.png" in caplog.messages[0]


def test_repeated_category_names_are_an_error(coco_folder: CocoFolder) -> None:
    coco_folder.content["categories"][1]["name"] = "dog"
    assert "name must be unique, got 'dog' again" in error_of(coco_folder)


@pytest.mark.parametrize("section", ["images", "categories"])
def test_an_empty_list_of_images_or_categories_is_an_error(coco_folder: CocoFolder, section: str) -> None:
    coco_folder.content[section] = []
    assert f"{section}: must" in error_of(coco_folder)


def test_a_file_without_the_coco_lists_is_an_error(coco_folder: CocoFolder) -> None:
    del coco_folder.content["categories"]
    assert "got none of categories" in error_of(coco_folder)


def test_a_missing_image_file_is_named(coco_folder: CocoFolder) -> None:
    (coco_folder.images / "b.png").unlink()
    message = error_of(coco_folder)
    assert "image 7 (b.png)" in message
    assert "must exist" in message


def test_an_unreadable_image_header_is_named(coco_folder: CocoFolder) -> None:
    (coco_folder.images / "b.png").write_text("no picture")
    assert "image 7 (b.png)" in error_of(coco_folder)


def test_a_wrong_size_is_named(coco_folder: CocoFolder) -> None:
    coco_folder.content["images"][0]["width"] = 41
    assert "image 3 (a.png): size must be that of the image, 40 x 30, got 41 x 30" in error_of(coco_folder)


def test_sizes_transposed_by_the_exif_orientation_are_called_so(coco_folder: CocoFolder) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 30)).save(coco_folder.images / "a.png", exif=exif)
    message = error_of(coco_folder)
    assert "size must be that of the image, 30 x 40, got 40 x 30" in message
    assert "EXIF orientation" in message


def test_sizes_as_seen_after_the_exif_orientation_are_right(coco_folder: CocoFolder) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (30, 40)).save(coco_folder.images / "a.png", exif=exif)
    image, _ = read_coco(*coco_folder.write()).load(0)
    assert image.shape == (3, 30, 40)


def test_all_problems_come_in_one_error(coco_folder: CocoFolder) -> None:
    coco_folder.content["images"][0]["width"] = 41
    coco_folder.content["annotations"] += [
        coco_folder.box(2, 99, 2, [0, 0, 1, 1]),
        coco_folder.box(3, 3, 5, [0, 0, 1, 1]),
    ]
    message = error_of(coco_folder)
    assert "(3 problems)" in message
    assert len(message.splitlines()) == 4


def test_many_problems_are_cut_short_and_counted(coco_folder: CocoFolder) -> None:
    coco_folder.content["annotations"] = [coco_folder.box(i, 3, 5, [0, 0, 1, 1]) for i in range(50)]
    lines = error_of(coco_folder).splitlines()
    assert "the first of 50" in lines[0]
    assert len(lines) == 22
    assert lines[-1].strip() == "... and 30 more"


def test_truncated_json_is_an_error_with_its_line(coco_folder: CocoFolder) -> None:
    images, annotations = coco_folder.write()
    annotations.write_text('{"images": [\n{"id": 1,')
    with pytest.raises(UserError, match=r"val\.json, line 2, column \d+: must be complete JSON"):
        read_coco(images, annotations)


def test_a_missing_annotations_file_is_an_error_that_lists_those_near(coco_folder: CocoFolder) -> None:
    images, annotations = coco_folder.write()
    for wrong in (annotations.with_name("vla.json"), annotations.parent.with_name("labels") / "val.json"):
        with pytest.raises(UserError, match=r"must exist; JSON files near it: .*annotations/val\.json"):
            read_coco(images, wrong)


def test_a_missing_image_folder_is_one_problem(coco_folder: CocoFolder) -> None:
    _, annotations = coco_folder.write()
    with pytest.raises(UserError, match=r"photos: the folder of the images of .* must exist"):
        read_coco(coco_folder.images.with_name("photos"), annotations)


def test_an_image_changed_after_the_headers_were_read_is_an_error(coco_folder: CocoFolder) -> None:
    dataset = read_coco(*coco_folder.write())
    Image.new("RGB", (30, 40)).save(coco_folder.images / "a.png")
    with pytest.raises(UserError, match=r"a\.png: size must be that of the image, 30 x 40, got 40 x 30"):
        dataset.load(0)
