"""What every format of annotations offers: it is recognised in a folder, and read from there."""

from __future__ import annotations

import importlib
import os
import posixpath
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from raydistill.config.data import FilesData
from raydistill.config.yaml_text import in_one_line
from raydistill.storage.remote_path import Place

if TYPE_CHECKING:
    from raydistill.data.dataset import DetectionDataset

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2", ".ppm", ".pgm", ".avif"),
    *(".heic", ".heif", ".jfif"),
)
"""Of the files that are taken for images, in small letters."""
DESCRIBING = (".json", ".yaml", ".yml")
"""Of files that say what a folder is, in small letters."""
_WORDS: Mapping[str, SplitName] = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}
_NO_DATA = ("__MACOSX", "node_modules", "venv", "runs")  # folders that lie beside data and are none


@dataclass(frozen=True)
class Folder:
    """All files below a folder, hidden ones left out, by their paths with ``/`` between folders; listed once."""

    place: Place
    files: tuple[str, ...]  # sorted
    given: Mapping[str, Any] = field(default_factory=dict)  # settings of ``data`` that say what a recogniser may ask
    described: str = ""  # the one file in it that says what it is; empty: any may

    @staticmethod
    def of(place: Place, given: Mapping[str, Any] | None = None, described: str = "") -> Folder:
        """List a folder; what cannot be listed in it counts as empty."""
        return Folder(place, tuple(sorted(_files_below(place))), given or {}, described)

    @property
    def descriptions(self) -> tuple[str, ...]:
        """The files that may say what it is."""
        return (self.described,) if self.described else self.files

    @cached_property
    def known(self) -> frozenset[str]:
        """All files, to be asked for one."""
        return frozenset(self.files)

    @cached_property
    def folders(self) -> frozenset[str]:
        """All folders that hold something; the folder itself is ``.``."""
        found = {"."}
        for file in self.files:
            parent = posixpath.dirname(file)
            while parent and parent not in found:
                found.add(parent)
                parent = posixpath.dirname(parent)
        return frozenset(found)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """The images."""
        return tuple(file for file in self.files if is_image(file))

    @cached_property
    def by_stem(self) -> Mapping[str, list[str]]:
        """The images by the last part of their names without suffix."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for image in self.images:
            found[posixpath.splitext(posixpath.basename(image))[0]].append(image)
        return found

    def below(self, folder: str, names: Iterable[str] | None = None) -> list[str]:
        """Return the files, or those of ``names``, that lie in a folder or its folders."""
        start = "" if folder in ("", ".") else f"{folder}/"
        return [name for name in (self.files if names is None else names) if name.startswith(start)]

    def inside(self, folder: str) -> Folder:
        """Return a folder of this one."""
        start = len(folder) + 1
        return Folder(self.place / folder, tuple(file[start:] for file in self.below(folder)), self.given)


@dataclass(frozen=True)
class Finding:
    """A data set that was recognised, or all that is known of one before a question is answered."""

    form: str
    """What ``data.format`` calls it."""
    what: str
    """The same for people, and whose form it is."""
    settings: Mapping[str, Any]
    """What of ``data`` it stands for, without ``root``; empty where that is a question."""
    images: Mapping[SplitName, int] = field(default_factory=dict)
    """How many there are of each split, as far as that is known without reading all."""
    classes: Sequence[str] = ()
    """Where they are known without reading all."""
    question: str = ""
    """What has to be decided, with the settings that do so, as ``what must hold, got what; what to do``."""
    notes: tuple[str, ...] = ()
    """What lies there too, and is left aside."""


@dataclass(frozen=True)
class Format:
    """A format of annotations."""

    recognise: Callable[[Folder], list[Finding]]
    """Returns what of this form lies in a folder: nothing, one data set, or several that it might be."""
    read: Callable[[Any, Place, SplitName, DetectionDataset | None], DetectionDataset]
    """Reads a split that is named in settings of this format, from the place of the root; its classes are those of the
    training split, where that is given."""


def format_of(data: type[FilesData] | FilesData) -> Format:
    """Return the format that settings are of."""
    module, _, attribute = data.implementation.partition(":")
    found: Format = getattr(importlib.import_module(module), attribute)
    return found


def is_image(name: str) -> bool:
    """Return whether a file is called like an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def split_named(name: str) -> SplitName | None:
    """Return the split that a file or a folder is called after.

    >>> split_named("instances_val2017"), split_named("Validation"), split_named("_annotations.coco")
    ('val', 'val', None)
    """
    letters = "".join(letter if letter.isalpha() else " " for letter in name.lower())
    found = {_WORDS[word] for word in letters.split() if word in _WORDS}
    return found.pop() if len(found) == 1 else None


def as_overrides(settings: Mapping[str, Any]) -> str:
    """Return settings of ``data`` as they are written on the command line.

    >>> as_overrides({"format": "voc", "train_split": ".", "classes": ("a cat", "dog"), "val_split": None})
    "data.format=voc data.train_split=. 'data.classes=[a cat, dog]' data.val_split=null"
    """
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    return " ".join(shlex.quote(f"data.{key}={in_one_line(value)}") for key, value in plain.items())


def _files_below(place: Place) -> Iterator[str]:
    if not isinstance(place, Path):
        cut = len(place.inner) + 1 if place.inner else 0
        names = (place.listing.name(at)[cut:] for at in place.listing.below(place.inner))
        yield from (name for name in names if not any(map(_is_no_data, name.split("/"))))
        return
    root, seen = str(place), set[tuple[int, int]]()
    for folder, folders, files in os.walk(root, followlinks=True):
        state = os.stat(folder)  # noqa: PTH116
        folders[:] = [name for name in folders if not _is_no_data(name)]
        if (state.st_dev, state.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        inner = os.path.relpath(folder, root).replace(os.sep, "/")
        start = "" if inner == "." else f"{inner}/"
        yield from (f"{start}{name}" for name in files if not name.startswith("."))


def _is_no_data(name: str) -> bool:
    return name.startswith(".") or name in _NO_DATA
