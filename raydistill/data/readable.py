"""What can be told of data without a look at every image; without torch, which takes seconds to be imported."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from raydistill.config.sections import CocoData, Downloads, FilesData, VocData
from raydistill.data.alike import FilesBelow, file_meant, files_near, spelling
from raydistill.data.checks import (
    Categories,
    check_images_folder,
    clip_box,
    raise_problems,
    refuse_other_categories,
    system_errors_in_words,
)
from raydistill.data.counting import (
    CROWDS,
    DIFFICULT,
    DROPPED,
    SPLIT_NAMES,
    refuse_nothing,
    sources_of,
)
from raydistill.data.formats.coco_file import CocoFile, read_coco_file
from raydistill.data.formats.coco_repairs import alike_id
from raydistill.data.formats.json_text import shown
from raydistill.data.formats.voc_folders import find_files
from raydistill.data.formats.voc_layout import negatives_in_excess
from raydistill.data.formats.voc_xml import parse_annotation
from raydistill.data.recognise import recognised
from raydistill.storage.cache import ObjectCache
from raydistill.storage.remote_path import Place, file_or_folder
from raydistill.storage.store import is_remote

_LARGEST_READ = 100_000_000  # bytes; a larger file takes longer to be read than an error in it takes to be found later


def check_readable(data: FilesData, downloads: Downloads) -> None:
    """Make sure that the splits are there: annotations, folders of images, categories; no image is opened.

    Of data on an object store only COCO's annotations are looked at: all else would take a list of what lies there.

    Raises:
        UserError: naming what is wrong, as ``build_splits`` does.
    """
    with system_errors_in_words():
        found = recognised(data, downloads)
        if isinstance(found, CocoData):
            _check_coco(found, downloads.cache)
        elif isinstance(found, VocData) and not is_remote(found.root):
            _check_voc(found, Path(found.root))


def _check_coco(data: CocoData, cache: ObjectCache) -> None:
    splits = [
        ("training", data.train_images, data.train_annotations),
        ("validation", data.val_images, data.val_annotations),
        ("test", data.test_images, data.test_annotations),
    ]
    train: CocoFile | None = None
    for (name, folder, file), (setting, _) in zip(splits, sources_of(data), strict=True):
        if folder is None or file is None:
            continue
        if is_remote(data.root):
            split = _read(file_or_folder(f"{data.root.rstrip('/')}/{file}", cache))
        else:
            split = _read(Path(data.root) / file, Path(data.root) / folder, data.on_bad_image == "error")
        if name == "training":
            train = split
        elif train is not None and split is not None:
            here, there = _categories(split), _categories(train)
            if {(alike_id(key), spelling(text)) for key, text in here} != {
                (alike_id(key), spelling(text)) for key, text in there
            }:
                refuse_other_categories(here, split.source, name, there, train.source)
        if split is not None:
            _refuse_nothing(setting, split.source, name, _reasons_in_coco(split))


def _read(source: Place, images: Path | None = None, first_needed: bool = False) -> CocoFile | None:
    """Return the annotations of a split that is sound as far as it was looked at; None where they are too many."""
    large = source.is_file() and source.stat().st_size > _LARGEST_READ
    file = None if large else read_coco_file(source)
    if images is not None:
        check_images_folder(images, source)
        if file is not None and first_needed:
            _look_for_first(file, images)
    if file is not None:
        file.raise_problems()
    return file


def _look_for_first(file: CocoFile, images: Path) -> None:
    """Note where the first image is missing: most often all are, as the folder is another one."""
    first = next((image for image in file.images if isinstance(image.get("file_name"), str)), None)
    with contextlib.suppress(ValueError):  # the name of no file
        if first is not None and not (path := images / first["file_name"]).is_file():
            below = FilesBelow(images)
            names = {image["file_name"] for image in file.images if isinstance(image.get("file_name"), str)}
            if file_meant(below, first["file_name"], names):
                return
            file.problems.append(
                f"image {shown(first['id'])}: {path}: the image file must exist; put it there or correct its name in "
                f"the annotations{files_near(below, first['file_name'])}"
            )


def _categories(file: CocoFile) -> Categories:
    return {(category["id"], category["name"]) for category in file.categories}


def _check_voc(data: VocData, root: Path) -> None:
    splits = (data.train_split, data.val_split, data.test_split)
    for split, name, (setting, _) in zip(splits, SPLIT_NAMES, sources_of(data), strict=True):
        if split is not None:
            files = find_files(root, split, data.on_bad_image)
            without = [image.file for image in files.images if image.annotation is None]
            problems = [*files.problems, *negatives_in_excess(files, without)]
            raise_problems(problems, f"{root}: the split '{split}' must be complete and sound")
            annotations = [image.annotation for image in files.images if image.annotation is not None]
            reasons = _reasons_in_voc(annotations, data.difficult == "ignore")
            _refuse_nothing(setting, files.source, name, reasons)


def _refuse_nothing(setting: str, source: Place, name: str, reasons: Iterator[str]) -> None:
    """Raise where none of the objects counts: ``reasons`` says why for each, empty for one that does."""
    left_out: Counter[str] = Counter()
    for reason in reasons:
        if not reason:
            return
        left_out[reason] += 1
    refuse_nothing(setting, source, "train on" if name == SPLIT_NAMES[0] else "score", left_out)


def _reasons_in_coco(file: CocoFile) -> Iterator[str]:
    """Yield why each object is left out; empty for one that counts, as far as the file alone says."""
    sizes = {image["id"]: (image.get("width"), image.get("height")) for image in file.images}
    for annotation in file.annotations:
        x, y, width, height = annotation["bbox"]
        size = sizes[annotation["image_id"]]
        if size[0] is not None and size[1] is not None and clip_box((x, y, width, height), size[0], size[1]) is None:
            yield DROPPED
        else:
            yield CROWDS if annotation.get("iscrowd") else ""
    yield from [DROPPED] * len(file.dropped)


def _reasons_in_voc(annotations: Sequence[Place], ignores_difficult: bool) -> Iterator[str]:
    """Yield the same for VOC's files, read one after the other as they are asked for."""
    for annotation in annotations:
        content, problems = parse_annotation(annotation)
        if problems:
            yield ""  # told with all others by whoever reads them all
        for found in content.objects if content else ():
            xmin, ymin, xmax, ymax = found.corners
            if xmax <= xmin or ymax <= ymin:
                yield DROPPED
            else:
                yield DIFFICULT if found.difficult and ignores_difficult else ""
