"""PASCAL VOC's files as tools lay them out: in VOC's own folders, or images and XML files in folders of any name."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raydistill.config.data import VocData
from raydistill.data.checks import listed
from raydistill.data.formats.base import SPLITS, Finding, Folder, Format, SplitName, as_overrides, split_named
from raydistill.data.formats.voc_layout import find_split
from raydistill.errors import UserError, counted
from raydistill.storage.remote_path import Place

if TYPE_CHECKING:
    from raydistill.data.dataset import DetectionDataset

_LISTS = "ImageSets/Main/"
_HEAD = 2000  # bytes of an XML file, which say what it is
_LOOKED_AT = 5  # XML files


def recognise(folder: Folder) -> list[Finding]:
    """Return the PASCAL VOC data in a folder: with lists, with a folder per split, or without splits."""
    annotations = [name for name in folder.files if name.lower().endswith(".xml")]
    step = len(annotations) // _LOOKED_AT or 1
    if not any(_is_annotation(folder, name) for name in annotations[::step][:_LOOKED_AT]):
        return []
    lists = [posixpath.splitext(name[len(_LISTS) :])[0] for name in folder.below("ImageSets/Main")]
    if lists and {"JPEGImages", "Annotations"} <= folder.folders:
        return [_with_lists(folder, [name for name in lists if name and "/" not in name])]
    return [_without_lists(folder, annotations)]


def _is_annotation(folder: Folder, name: str) -> bool:
    try:
        with (folder.place / name).open("rb") as file:
            head = file.read(_HEAD)
    except (OSError, UserError):
        return False
    return b"<annotation>" in head or b"<annotation " in head


def _with_lists(folder: Folder, lists: Sequence[str]) -> Finding:
    plain = [name for name in lists if not any(name.endswith(f"_{other}") for other in lists if other != name)]
    by_split: dict[SplitName | None, list[str]] = {split: [] for split in (*SPLITS, None)}
    for name in plain:
        by_split[split_named(name)].append(name)
    train = by_split["train"] or (["trainval"] if "trainval" in plain else by_split[None])
    what = "PASCAL VOC with lists"
    if len(train) != 1 or any(len(by_split[split]) > 1 for split in ("val", "test")):
        answer = as_overrides({"format": "voc", "train_split": plain[0], "val_split": None})
        return Finding(
            "voc",
            what,
            {},
            question="must have one list of the training split and at most one of each other in ImageSets/Main, got "
            f"{listed(plain)}; name them: {answer} (data.val_split=... where there is one)",
        )
    val = by_split["val"] if train != ["trainval"] else []
    settings = {"format": "voc", "train_split": train[0], "val_split": val[0] if val else None}
    if by_split["test"] and _has_images(folder, by_split["test"][0]):
        settings["test_split"] = by_split["test"][0]
    others = [name for name in plain if name not in settings.values()]
    notes = (f"{counted(len(others), 'list')} left aside ({listed(others)})",) if others else ()
    return Finding("voc", what, settings, notes=notes)


def _has_images(folder: Folder, name: str) -> bool:
    """Return whether the images of a list are there: VOC ships lists of test splits without them."""
    found = find_split(folder.place, name, "error")
    return bool(found.images) and not found.problems


def _without_lists(folder: Folder, annotations: Sequence[str]) -> Finding:
    tops = {name.partition("/")[0] for name in annotations if "/" in name}
    by_split: defaultdict[SplitName | None, list[str]] = defaultdict(list)
    for top in sorted(tops):
        by_split[split_named(top)].append(top)
    flat = any("/" not in name for name in annotations)
    named: dict[SplitName, str] = {split: by_split[split][0] for split in SPLITS if by_split[split]}
    what = "PASCAL VOC, XML files beside their images" if flat or named else "PASCAL VOC without lists"
    if not named:
        return Finding(
            "voc", what, {"format": "voc", "train_split": ".", "val_split": None}, {"train": len(folder.images)}
        )
    several = [tops for split, tops in by_split.items() if split and len(tops) > 1]
    if several or flat or by_split[None] or "train" not in named:
        answer = as_overrides({"format": "voc", "train_split": ".", "val_split": None})
        return Finding(
            "voc",
            what,
            {},
            question=f"must have one folder per split or none, got XML files in {listed(sorted(tops))}"
            f"{' and beside them' if flat else ''}; name them (data.train_split=... data.val_split=...), or train on "
            f"all: {answer}",
        )
    settings: dict[str, Any] = {"format": "voc", "train_split": named["train"], "val_split": named.get("val")}
    if "test" in named:
        settings["test_split"] = named["test"]
    return Finding(
        "voc", what, settings, {split: len(folder.below(name, folder.images)) for split, name in named.items()}
    )


def _read(data: VocData, root: Place, split: SplitName, train: DetectionDataset | None) -> DetectionDataset:
    from raydistill.data.formats.voc import read_voc
    from raydistill.data.images import decoding

    classes = data.classes if train is None else train.classes
    name = str(data.named(split))
    return read_voc(root, name, classes, data.difficult, data.coordinates, data.on_bad_image, decoding(data))


VOC = Format(recognise, _read)
