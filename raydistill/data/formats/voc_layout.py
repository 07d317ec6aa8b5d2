"""Where the files of a PASCAL VOC folder are: the annotation and the image of each name that a list holds."""

from __future__ import annotations

import functools
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from raydistill.config.data import OnBadImage
from raydistill.data.alike import FilesBelow, is_something, near
from raydistill.data.checks import listed
from raydistill.data.formats.json_text import shown
from raydistill.data.formats.voc_list import list_of, read_names
from raydistill.errors import UserError
from raydistill.storage.remote_path import Place

_FOLDERS = ("JPEGImages", "Annotations", "ImageSets/Main")
_FIRST = (".jpg", ".jpeg", ".png")  # looked for without listing the folder, which may be large
_SUFFIXES = (*_FIRST, ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2", ".ppm", ".pgm", ".avif", ".heic", ".heif")
_SUFFIX = re.compile(rf"({'|'.join(map(re.escape, _SUFFIXES))}|\.xml)$", re.IGNORECASE)
_MOST_COMPARED = 20  # missing names that are compared with those there, letter by letter
_LEADING = re.compile(r"^(?:.*/)?(?:JPEGImages|Annotations)/")


@dataclass(frozen=True)
class VocImage:
    """One image of a split."""

    file: str  # below the folder of the images, folders included
    annotation: Place | None  # None: it has none, and so no objects


@dataclass
class VocSplit:
    """The images of a split, and what is wrong with it."""

    source: Place  # the list, or the folder
    folder: Place  # of the images
    images: list[VocImage] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)  # files whose names only look like those listed


def find_split(root: Place, split: str, on_bad_image: OnBadImage) -> VocSplit:
    """Find the files of the images that ``ImageSets/Main/<split>.txt`` lists.

    Names of which the image is missing are left out and told in ``problems``; skipped images count as there.

    Raises:
        UserError: where the folder, the list or its names are not as they must be.
    """
    _check_folders(root)
    found = VocSplit(list_of(root, split), root / "JPEGImages")
    files = _Files(FilesBelow(root / "JPEGImages"), FilesBelow(root / "Annotations"))
    meant = functools.cache(files.meant)
    names = []
    for written in read_names(found.source, lambda name: meant(name) is not None):
        name = meant(written) or _forms(written)[0]
        names.append(name)
        if name not in _forms(written):
            found.taken.append(f"{name} for {_short(written)}")
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise UserError(
            f"{found.source}: must list each image once, got {_named(repeated)} more often; remove the repeats"
        )
    known = frozenset(names)
    for name in names:
        image = _image(name, known, files, found, on_bad_image)
        found.images += [] if image is None else [image]
    shared = sorted(file for file, count in Counter(image.file for image in found.images).items() if count > 1)
    if shared:
        found.problems.append(
            f"{found.source}: must list each image once, got {_named(shared)} by several names; remove the repeats"
        )
    return found


def negatives_in_excess(files: VocSplit, negatives: Sequence[str]) -> list[str]:
    """Say that more than half of the images have no annotation or an empty one: then it is no choice; else nothing."""
    if 2 * len(negatives) <= len(files.images):
        return []
    total = len(files.images)
    remedy = "add or unlist them" if files.source.name.endswith(".txt") else "annotate them or move them away"
    return [
        f"{files.source}: at least half of the images must have their annotation, an XML file that is not empty, got "
        f"{total - len(negatives)} of {total} with one; without are {_named(negatives)}; {remedy}"
    ]


def _check_folders(root: Place) -> None:
    missing = [name for name in _FOLDERS if not (root / name).is_dir()]
    if not missing:
        return
    there = FilesBelow(root)
    alike = [name for wanted in missing for name in there.alike(wanted, folders=True)]
    hint = f"; did you mean {listed(alike)}? Rename it" if alike else ""
    raise UserError(
        f"{root}: must be a PASCAL VOC folder with JPEGImages, Annotations and ImageSets/Main, "
        f"got none of {', '.join(missing)}{hint}; correct the path or add the folders"
    )


def _image(
    name: str, known: frozenset[str], files: _Files, found: VocSplit, on_bad_image: OnBadImage
) -> VocImage | None:
    """Return the files of a name that a list holds; None, with a problem noted, where it has no image."""
    file = files.image(name)
    near_files = [] if file else files.images_alike(name, known)
    if file is None and len(near_files) == 1:
        file = near_files[0]
        found.taken.append(f"{file} for {name}")
    if file is None and on_bad_image == "skip":
        file = f"{name}{_FIRST[0]}"
    if file is None:
        found.problems += _without_image(name, near_files, files, found)
        return None
    stem = posixpath.splitext(file)[0]
    annotation = files.annotation(name) or files.annotation(stem) or files.annotation(file)
    near_files = [] if annotation else files.annotations_alike(name, known)
    if len(near_files) == 1:
        annotation = files.annotations.folder / near_files[0]
        if posixpath.splitext(near_files[0])[0] != name:
            found.taken.append(f"{near_files[0]} for {name}")
    elif near_files:
        found.problems.append(
            f"{found.source}: {shown(name)} must have one annotation, got none of this name and {_named(near_files)}; "
            "rename the right one"
        )
    return VocImage(file, annotation)


def _without_image(name: str, near_files: list[str], files: _Files, found: VocSplit) -> list[str]:
    """Say that an image is missing, and which one may be meant."""
    folder, last = posixpath.split(name)
    if not near_files and len(found.problems) < _MOST_COMPARED:
        there = {posixpath.splitext(file)[0]: file for file in files.images.beside(name)}
        other = there.get(near(last, there))
        near_files = [posixpath.join(folder, other)] if other else []
    hint = f" ({_named(near_files)} is there)" if near_files else ""
    path = posixpath.join(folder, _short(last))
    image = files.images.folder / path
    problems = [
        f"{found.source}: {shown(name)} must have its image {image}.jpg (or .png, .bmp, .tif ...), got none{hint}; "
        "add or unlist it"
    ]
    if files.annotation(name) is None:
        where = files.annotations.folder / f"{path}.xml"
        problems.append(f"{found.source}: {shown(name)} must have its annotation {where}, got none; add or unlist it")
    return problems


@dataclass
class _Files:
    """The images and the annotations of a folder, by the names of lists, which have no suffix."""

    images: FilesBelow
    annotations: FilesBelow
    _found: dict[str, str | None] = field(default_factory=dict)  # images that were looked for

    def meant(self, written: str) -> str | None:
        """Return the name that a line means, one of which there is an image or an annotation; None where none is."""
        forms = _forms(written)
        found = next((form for form in forms if self.image(form) or self.annotation(form)), None)
        folder, last = posixpath.split(forms[0])
        if found or not folder or any((below.folder / folder).is_dir() for below in (self.images, self.annotations)):
            return found
        return last if self.image(last) else None  # a path of another machine

    def image(self, name: str) -> str | None:
        """Return the path of an image below its folder, in the first of several formats."""
        if name not in self._found:
            self._found[name] = self._look_for_image(name)
        return self._found[name]

    def _look_for_image(self, name: str) -> str | None:
        for suffix in _FIRST:
            if (self.images.folder / f"{name}{suffix}").is_file():
                return f"{name}{suffix}"
        exact = (path for path in self._in_any_format(name) if posixpath.splitext(path)[0] == name)
        odd = (f"{name}{suffix}" for suffix in _FIRST if is_something(self.images.folder / f"{name}{suffix}"))
        return next(exact, None) or next(odd, None)

    def images_alike(self, name: str, known: frozenset[str]) -> list[str]:
        """Return the paths of images whose names look like ``name`` and are none of the ``known``."""
        return [path for path in self._in_any_format(name) if posixpath.splitext(path)[0] not in known]

    def annotation(self, name: str) -> Place | None:
        """Return the annotation of an image; None where it has none."""
        path = self.annotations.folder / f"{name}.xml"
        return path if path.is_file() or is_something(path) else None

    def annotations_alike(self, name: str, known: frozenset[str]) -> list[str]:
        """Return the paths of annotations as ``images_alike`` those of images; one in capitals is also its own."""
        found = self.annotations.alike(f"{name}.xml")
        return [path for path in found if (stem := posixpath.splitext(path)[0]) == name or stem not in known]

    def _in_any_format(self, name: str) -> list[str]:
        return self.images.alike(name, _SUFFIXES)


def _forms(written: str) -> list[str]:
    """Return the names that a line of a list may mean, without suffix; the most likely one first.

    >>> _forms("data/JPEGImages/aug/a 1.JPG")
    ['aug/a 1', 'data/JPEGImages/aug/a 1.JPG', 'data/JPEGImages/aug/a 1']
    """
    path = posixpath.normpath(written)
    slashed = posixpath.normpath(written.replace("\\", "/"))
    stem = _SUFFIX.sub("", slashed)
    below = _LEADING.sub("", stem)
    first = below if below != stem else path if _SUFFIX.sub("", path) == path else stem
    return list(dict.fromkeys((first, path, stem, below)))


def _named(names: Sequence[str]) -> str:
    return listed([_short(name) for name in names])


def _short(text: str) -> str:
    return shown(text)[1:-1]
