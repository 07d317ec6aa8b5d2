"""Where COCO's files lie, as the tools lay them out: one file of annotations per split, images near it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raydistill.config.data import CocoData
from raydistill.data.alike import FilesBelow
from raydistill.data.checks import listed
from raydistill.data.formats.base import SPLITS, Finding, Folder, Format, SplitName, as_overrides, split_named
from raydistill.data.formats.json_text import parse_json
from raydistill.errors import UserError, counted
from raydistill.storage.regular import JSON_BYTES, read_bytes
from raydistill.storage.remote_path import Place

if TYPE_CHECKING:
    from raydistill.data.dataset import DetectionDataset

_WHOLE = 64 * 10**6  # bytes; of a larger file only its first part is looked at
_HEAD = 10**6
_MOST_FILES = 200  # JSON files that are opened: where more lie together each is of one image
_DEEPEST = 2  # folders above a file of annotations
_ASIDE = ("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")
"""What COCO itself ships beside ``instances_``."""
_NAME = re.compile(rb'"file_name"\s*:\s*"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class _File:
    """A COCO file of annotations, as far as it was looked at."""

    name: str  # below the folder
    split: SplitName | None
    images: str  # the folder of its images; empty where none was found
    first: str  # an image that it names
    num_images: int | None  # None: too large to be counted
    classes: tuple[str, ...]


def recognise(folder: Folder) -> list[Finding]:
    """Return the COCO data in a folder: Roboflow's, CVAT's, Label Studio's, FiftyOne's or COCO's own form."""
    files = [file for name in _candidates(folder) if (file := _look_at(folder, name)) is not None]
    if not files:
        return []
    names = {posixpath.basename(file.name) for file in files}
    aside: tuple[str, ...] = ()
    if any(name.startswith("instances_") for name in names):
        others = [file for file in files if posixpath.basename(file.name).startswith(_ASIDE)]
        aside = tuple(file.name for file in others)
        files = [file for file in files if file not in others]
    by_split = {split: [file for file in files if file.split == split] for split in (*SPLITS, None)}
    whose = _whose(names)
    question = _question(by_split)
    chosen = {split: by_split[split][0] for split in SPLITS if by_split[split]}
    if not chosen and by_split[None]:
        chosen = {"train": by_split[None][0]}
    question = question or _question_of_images(chosen)
    if question:
        return [Finding("coco", f"COCO{whose}", {}, question=question)]
    return [
        Finding(
            "coco",
            f"COCO{whose}",
            _settings(chosen),
            {split: file.num_images for split, file in chosen.items() if file.num_images is not None},
            chosen["train"].classes,
            notes=(f"{counted(len(aside), 'file')} left aside ({listed(aside)})",) if aside else (),
        )
    ]


def find_images(annotations: Place, names: Sequence[str]) -> Place | None:
    """Return the folder near a file of annotations that holds the first and the last of its images; None: none does."""
    near = [annotations.parent, annotations.parent.parent]
    folders = [*near, *(found for base in near for found in in_order(base, "*/"))]
    folders += [found for base in near for found in in_order(base, "images/*/")]
    # Splits often use the same file names: a folder that is named like the file goes first.
    words = words_of(annotations.stem)
    folders.sort(key=lambda folder: not (folder.name in annotations.stem.split("_") or words & words_of(folder.name)))
    for folder in folders:
        if all((folder / name).is_file() for name in (names[0], names[-1])):
            return folder
    for folder in folders:  # written by another system, perhaps
        below = FilesBelow(folder)
        if all(below.alike(name) for name in (names[0], names[-1])):
            return folder
    return None


def in_order(folder: Place, pattern: str) -> list[Place]:
    """Return what fits ``pattern`` below ``folder``, by name."""
    found: list[Place] = [*folder.glob(pattern)]
    return sorted(found, key=str)


def words_of(name: str) -> set[str]:
    """Words of a file name without digits, so that val, instances_val2017 and val2017 have one in common."""
    return set(re.findall(r"[a-z]+", name.lower())) - {"instances", "annotations", "images", "coco"}


def _candidates(folder: Folder) -> list[str]:
    """Return the JSON files that may hold the annotations of many images."""
    found = [name for name in folder.descriptions if name.lower().endswith(".json") and name.count("/") <= _DEEPEST]
    beside = [name for name in found if posixpath.splitext(posixpath.basename(name))[0] not in folder.by_stem]
    return beside[:_MOST_FILES]


def _look_at(folder: Folder, name: str) -> _File | None:
    """Return what a JSON file says of itself; None where it is no COCO file."""
    place = folder.place / name
    try:
        if place.stat().st_size > _WHOLE:
            return _from_head(folder, name, _head(place))
        content = parse_json(read_bytes(place, JSON_BYTES))
    except (OSError, ValueError, UserError):
        return None
    if not _is_coco(content):
        return None
    entries = [image for image in content["images"] if isinstance(image, Mapping)]
    named = [image["file_name"] for image in entries if isinstance(image.get("file_name"), str)]
    return _File(
        name,
        _split_of(name),
        _folder_of_images(folder, name, named),
        named[0] if named else "",
        len(content["images"]),
        _class_names(content["categories"], content["annotations"]),
    )


def _from_head(folder: Folder, name: str, head: bytes) -> _File | None:
    """Return what the first part of a large file says."""
    named = [match.decode("utf-8", "replace") for match in _NAME.findall(head)]
    if not named or b'"images"' not in head:
        return None
    return _File(name, _split_of(name), _folder_of_images(folder, name, named), named[0], None, ())


def _head(place: Place) -> bytes:
    with place.open("rb") as file:
        return file.read(_HEAD)


def _is_coco(content: Any) -> bool:
    """Return whether JSON has COCO's lists, with objects that have a class: captions have none."""
    lists = [content.get(key) for key in ("images", "annotations", "categories")] if isinstance(content, dict) else []
    return len(lists) == 3 and all(isinstance(found, list) for found in lists)


def _class_names(categories: Sequence[Any], annotations: Sequence[Any]) -> tuple[str, ...]:
    """Return the classes, without a category 0 that nothing is of and that only others are kinds of."""
    named = [found for found in categories if isinstance(found, Mapping) and "name" in found]
    kinds_of = {str(found.get("supercategory")) for found in named if found.get("id") != 0}
    used = any(isinstance(found, Mapping) and found.get("category_id") == 0 for found in annotations)
    return tuple(
        str(found["name"])
        for found in named
        if used or found.get("id") != 0 or str(found["name"]) not in kinds_of or len(named) == 1
    )


def _folder_of_images(folder: Folder, name: str, named: Sequence[str]) -> str:
    """Return the folder of a file's images, below the whole; empty where there is none."""
    place = find_images(folder.place / name, named) if named else None
    if place is None:
        return ""
    root, found = str(folder.place).rstrip("/"), str(place).rstrip("/")
    if found == root:
        return "."
    return found.removeprefix(f"{root}/") if found.startswith(f"{root}/") else posixpath.relpath(found, root)


def _split_of(name: str) -> SplitName | None:
    """Return the split of a file, by its own name or else by its folder's."""
    above, last = posixpath.split(name)
    return split_named(posixpath.splitext(last)[0]) or split_named(posixpath.basename(above))


def _whose(names: set[str]) -> str:
    if "_annotations.coco.json" in names:
        return ", as Roboflow exports it"
    if "instances_default.json" in names:
        return ", as CVAT exports it"
    if "result.json" in names:
        return ", as Label Studio exports it"
    if "labels.json" in names:
        return ", as FiftyOne exports it"
    return ""


def _settings(chosen: Mapping[SplitName, _File]) -> dict[str, Any]:
    settings: dict[str, Any] = {"format": "coco"}
    for split in SPLITS:
        file = chosen.get(split)
        if file is not None or split == "val":
            settings[f"{split}_images"] = None if file is None else file.images
            settings[f"{split}_annotations"] = None if file is None else file.name
    return settings


def _question(by_split: Mapping[SplitName | None, list[_File]]) -> str:
    """Return what has to be decided before the files can be read; empty where all is clear."""
    for split, files in by_split.items():
        if len(files) > 1:
            which = f"of the split '{split}'" if split else "of annotations"
            answers = " or ".join(as_overrides({f"{split or 'train'}_annotations": file.name}) for file in files[:4])
            return (
                f"must have one file {which}, got {listed([file.name for file in files])}; name it (and what belongs "
                f"to the other splits): {answers}"
            )
    named = [split for split in SPLITS if by_split[split]]
    if named and by_split[None]:
        other = by_split[None][0].name
        return (
            f"must have files of splits or one of all images, got both: {other} and "
            f"{listed([by_split[split][0].name for split in named])}; data.train_annotations=... says which to train on"
        )
    if named and "train" not in named:
        files = [by_split[split][0] for split in named]
        return (
            f"must have a file of the training split, got {listed([file.name for file in files])} only; name it: "
            f"{as_overrides(_settings({'train': files[0]}))}"
        )
    return ""


def _question_of_images(chosen: Mapping[SplitName, _File]) -> str:
    for split, file in chosen.items():
        if not file.images:
            return (
                f"must have the images of {file.name}, got no {file.first or 'file_name in it'} near it; put "
                f"them there, or name their folder: data.{split}_images=... data.{split}_annotations={file.name}"
            )
    return ""


def _read(data: CocoData, root: Place, split: SplitName, train: DetectionDataset | None) -> DetectionDataset:
    from raydistill.data.formats.coco_splits import read_split

    return read_split(data, root, split, train)


COCO = Format(recognise, _read)
