"""YOLO's data as the tools lay them out: with ``data.yaml``, with Darknet's ``obj.data``, or folders alone."""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from raydistill.config.data import YoloData
from raydistill.data.checks import listed
from raydistill.data.formats.base import SPLITS, Finding, Folder, Format, SplitName, as_overrides, split_named
from raydistill.data.formats.json_text import shown
from raydistill.data.formats.yolo_files import Resolver, label_names
from raydistill.data.formats.yolo_lines import Line, ambiguity, parse_labels
from raydistill.errors import UserError
from raydistill.storage.regular import LIST_BYTES, YAML_BYTES, read_bytes, read_text
from raydistill.storage.remote_path import Place

if TYPE_CHECKING:
    from raydistill.data.dataset import DetectionDataset

_YAML = (".yaml", ".yml")
_NAMES = ("classes.txt", "obj.names", "predefined_classes.txt", "_darknet.labels")
"""Files that name the classes, a line each."""
_KEYS: Mapping[SplitName, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}
"""What the splits are called in ``data.yaml``."""
_LOOKED_AT = 300  # label files


class _OpenError(Exception):
    """Something has to be decided first; the message is the question."""


def recognise(folder: Folder) -> list[Finding]:
    """Return the YOLO data in a folder; several where it has several files that describe them."""
    described = [(name, content) for name in folder.descriptions if (content := _description(folder, name)) is not None]
    if described:
        return [
            _finding(f"YOLO ({name})", folder, functools.partial(_of_yaml, folder, name, content))
            for name, content in described
        ]
    labelled = _labelled(folder)
    if not labelled:
        return []
    darknet = [name for name in folder.files if name.endswith(".data") and b"=" in _bytes(folder, name)]
    what = f"YOLO ({darknet[0]})" if darknet else "YOLO, text files of labels"
    return [_finding(what, folder, functools.partial(_of_folders, folder, labelled, darknet))]


def _finding(what: str, folder: Folder, settings_of: Callable[[], dict[str, Any]]) -> Finding:
    """Return what was found, or the question that it leaves open."""
    try:
        settings = settings_of() | {key: folder.given[key] for key in ("classes", "lines") if key in folder.given}
        labelled = _images_in(folder, settings)
        lines = _some_lines(folder, [image for images in labelled.values() for image in images])
        _refuse_doubt(settings, lines)
    except (_OpenError, UserError) as question:
        return Finding("yolo", what, {}, question=str(question))
    counts = {split: len(images) for split, images in labelled.items() if images}
    return Finding("yolo", what, settings, counts, settings["classes"])


def _refuse_doubt(settings: dict[str, Any], lines: Sequence[Line]) -> None:
    if "lines" not in settings and (doubt := ambiguity(lines)):
        raise _OpenError(f"must have one meaning for each number, got several: {doubt}")
    most = max((line.label for line in lines), default=-1)
    if not settings["classes"]:
        example = (
            "[" + ", ".join(f"name{number}" for number in range(min(most + 1, 3))) + (", ...]" if most > 2 else "]")
        )
        raise _OpenError(
            f"must name the classes, got labels of 0 to {most} and no names (data.yaml, classes.txt, obj.names); name "
            f"them in the order of their numbers: {as_overrides({'format': 'yolo', 'train': settings['train']})} "
            f"'data.classes={example}'"
        )


def _description(folder: Folder, name: str) -> dict[str, Any] | None:
    """Return what a YAML file says of YOLO data, all scalars as texts; None where it says nothing."""
    if not name.lower().endswith(_YAML) or name.count("/") > 1:
        return None
    try:
        content = yaml.load(read_text(folder.place / name, YAML_BYTES), yaml.BaseLoader)  # noqa: S506  (texts only)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    return (
        content
        if isinstance(content, dict) and ("names" in content or "nc" in content) and "train" in content
        else None
    )


def _of_yaml(folder: Folder, name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a ``data.yaml`` stands for."""
    resolver, base = Resolver(folder), posixpath.dirname(name) or "."
    root = content.get("path")
    if isinstance(root, str) and root:
        base = resolver.find(root, base) or base
    settings: dict[str, Any] = {"format": "yolo"}
    for split, keys in _KEYS.items():
        given = next((content[key] for key in keys if content.get(key)), None)
        entries = [given] if isinstance(given, str) else given
        if not entries:
            continue
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            raise _OpenError(f"must have folders or lists as {split} in {name}, got {shown(given)}; correct it")
        found = [resolver.find(entry, base) for entry in entries]
        if None in found and split == "test":
            continue  # many a file names one that was not exported
        if None in found:
            raise _OpenError(
                f"must have the images of {split} that {name} names, got no {entries[found.index(None)]}; put them "
                f"there, correct it, or name them: data.format=yolo data.{split}=..."
            )
        settings[split] = found[0] if len(found) == 1 else tuple(found)
    if "val" in settings and settings["val"] == settings["train"]:
        del settings["val"]
    settings.setdefault("val", None)
    if shape := content.get("kpt_shape"):
        settings["lines"] = "poses"
        if not isinstance(shape, list) or len(shape) != 2:
            raise _OpenError(
                f"must have [points, numbers of each] as kpt_shape in {name}, got {shown(shape)}; correct it"
            )
    return _ordered(settings, _names_in_yaml(content, name) or _names_in_files(folder))


def _names_in_yaml(content: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return the names of the classes, of a list or a mapping of numbers."""
    raw = content.get("names")
    if isinstance(raw, Mapping):
        try:
            numbered = {int(number): str(text) for number, text in raw.items()}
        except ValueError:
            raise _OpenError(f"must number the names from 0 on in {name}, got {shown(list(raw))}; correct it") from None
        missing = sorted(set(range(len(numbered))) - numbered.keys())
        if missing:
            raise _OpenError(f"must number the names from 0 on in {name}, got none of number {missing[0]}; correct it")
        names = tuple(numbered[number] for number in range(len(numbered)))
    else:
        names = tuple(map(str, raw)) if isinstance(raw, list) else ()
    stated = str(content.get("nc", ""))
    if names and stated.isdecimal() and int(stated) != len(names):
        raise _OpenError(f"must have as many names as nc in {name}, got {len(names)} names and nc {stated}; correct it")
    return names


def _of_folders(folder: Folder, labelled: Sequence[str], darknet: Sequence[str]) -> dict[str, Any]:
    """Return the settings of data that no ``data.yaml`` describes."""
    settings: dict[str, Any] = {"format": "yolo", **_darknet_splits(folder, darknet)}
    if "train" not in settings:
        settings |= _splits_by_folder(labelled)
    settings.setdefault("val", None)
    return _ordered(settings, _names_in_files(folder))


def _darknet_splits(folder: Folder, darknet: Sequence[str]) -> dict[str, Any]:
    """Return the splits that ``obj.data`` names, or the lists that lie at the top."""
    resolver, found = Resolver(folder), {}
    for file in darknet[:1]:
        lines = (line.partition("=") for line in _bytes(folder, file).decode("utf-8", "replace").splitlines())
        named = {key.strip(): value.strip() for key, equals, value in lines if equals}
        for split, keys in _KEYS.items():
            written = next((named[key] for key in keys if key in named), "")
            path = resolver.find(written, posixpath.dirname(file) or ".") if written else None
            if path is not None:
                found[split] = path
    lists = {
        split_named(posixpath.splitext(name)[0]): name
        for name in folder.files
        if "/" not in name and name.endswith(".txt")
    }
    for split in SPLITS:
        name = lists.get(split)
        if not darknet and name is not None and not _is_labels(folder, name):
            found[split] = name
    return {split: path for split, path in found.items() if split != "val" or path != found.get("train")}


def _splits_by_folder(labelled: Sequence[str]) -> dict[str, Any]:
    """Return the splits by the names of the folders of the images: ``train/images`` or ``images/train``."""
    by_split: dict[SplitName | None, set[str]] = {split: set() for split in (*SPLITS, None)}
    for image in labelled:
        parts = posixpath.dirname(image).split("/")
        at = next((place for place, part in enumerate(parts) if split_named(part)), None)
        by_split[None if at is None else split_named(parts[at])].add("." if at is None else "/".join(parts[: at + 1]))
    named = {split: sorted(by_split[split]) for split in SPLITS if by_split[split]}
    if not named:
        return {"train": "."}
    if by_split[None] or "train" not in named or any(len(folders) > 1 for folders in named.values()):
        there = listed(sorted(folder for folders in by_split.values() for folder in folders))
        raise _OpenError(
            f"must have one folder per split or none, got images with labels in {there}; name them: data.format=yolo "
            "data.train=... data.val=..."
        )
    return {split: folders[0] for split, folders in named.items()}


def _ordered(settings: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    order = ("format", *SPLITS, "lines")
    return {**{key: settings[key] for key in order if key in settings}, "classes": tuple(names)}


def _names_in_files(folder: Folder) -> tuple[str, ...]:
    """Return the names of a file of classes; the same ones may lie in several folders."""
    files = [name for name in folder.files if posixpath.basename(name) in _NAMES or name.endswith(".names")]
    found = {name: _lines_of(folder, name) for name in files}
    different = {names for names in found.values() if names}
    if len(different) > 1:
        first, second = [name for name, names in found.items() if names][:2]
        raise _OpenError(
            f"must name the classes once, got other ones in {first} and {second}; remove one, or set data.format=yolo "
            "data.train=... data.classes=[...]"
        )
    return different.pop() if different else ()


def _lines_of(folder: Folder, name: str) -> tuple[str, ...]:
    text = _bytes(folder, name).decode("utf-8-sig", "replace")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _labelled(folder: Folder) -> list[str]:
    """Return the images that have a file of labels, where such files hold labels."""
    found = [image for image in folder.images if any(name in folder.known for name in label_names(image))]
    return found if any(_is_labels(folder, _label_of(folder, image)) for image in found[:_LOOKED_AT]) else []


def _label_of(folder: Folder, image: str) -> str:
    return next((name for name in label_names(image) if name in folder.known), "")


def _is_labels(folder: Folder, name: str) -> bool:
    """Return whether a text file begins with a line of labels."""
    labels = parse_labels(_bytes(folder, name))
    return any(len(line.numbers) >= 4 for line in labels.lines[:1])


def _images_in(folder: Folder, settings: Mapping[str, Any]) -> dict[SplitName, list[str]]:
    """Return the images of each split, as far as they lie below the folder."""
    found: dict[SplitName, list[str]] = {}
    for split in SPLITS:
        entries = settings.get(split) or ()
        paths = [entries] if isinstance(entries, str) else list(entries)
        found[split] = [image for path in paths for image in _images_of(folder, path)]
    return found


def _images_of(folder: Folder, path: str) -> list[str]:
    if path.startswith("../"):
        return []
    if path not in folder.known:
        return folder.below(path, folder.images)
    resolver, base = Resolver(folder), posixpath.dirname(path) or "."
    return [image for line in _lines_of(folder, path) if (image := resolver.find(line, base)) is not None]


def _some_lines(folder: Folder, images: Sequence[str]) -> list[Line]:
    """Return the lines of as many label files as are worth a look, spread evenly."""
    names = [name for image in images[:: len(images) // _LOOKED_AT or 1] if (name := _label_of(folder, image))]
    return [line for name in names for line in parse_labels(_bytes(folder, name)).lines]


def _bytes(folder: Folder, name: str) -> bytes:
    try:
        return read_bytes(folder.place / name, LIST_BYTES) if name else b""
    except (OSError, UserError):
        return b""


def _read(data: YoloData, root: Place, split: SplitName, train: DetectionDataset | None) -> DetectionDataset:
    from raydistill.data.formats.yolo_read import read_split

    return read_split(data, root, split, train)


YOLO = Format(recognise, _read)
