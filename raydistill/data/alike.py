"""Names that look alike: written by another system, in another form of Unicode, or for a web address."""

from __future__ import annotations

import difflib
import functools
import os
import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from raydistill.storage.remote_path import Place

_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
_MOST_COMPARED = 2000  # names; comparing letter by letter takes some 50 us each
_LONGEST_COMPARED = 100  # letters


def spelling(name: str) -> str:
    r"""Return what names have in common that a person reads as the same: the case counts, how it is encoded does not.

    >>> spelling("cafe\u0301 ") == spelling("caf\u00e9"), spelling("Cat") == spelling("cat")
    (True, False)
    """
    return " ".join(unicodedata.normalize("NFC", name).translate(_INVISIBLE).split())


@functools.lru_cache(maxsize=10_000)
def likeness(path: str) -> str:
    r"""Return what paths have in common that differ as systems and tools write them.

    >>> likeness("Train\\im%201.JPG") == likeness("./train/im 1.jpg")
    True
    """
    parts = unquote(path, errors="surrogateescape").replace("\\", "/").split("/")
    split = (posixpath.splitext(spelling(part).casefold()) for part in parts)
    return posixpath.normpath("/".join(stem.rstrip() + suffix for stem, suffix in split))


def near(name: str, names: Iterable[str]) -> str:
    """Return the one of ``names`` that is written almost so, of the first thousands; empty where none is."""
    if len(name) > _LONGEST_COMPARED:
        return ""
    few = [other for _, other in zip(range(_MOST_COMPARED), names, strict=False) if len(other) <= _LONGEST_COMPARED]
    return next(iter(difflib.get_close_matches(name, few, n=1, cutoff=0.75)), "")


def same_spelling(names: Iterable[str], known: Sequence[str]) -> dict[str, str]:
    """Return for those of ``names`` that are unknown the known one of the same spelling, where only one is."""
    by_spelling: defaultdict[str, list[str]] = defaultdict(list)
    for name in known:
        by_spelling[spelling(name)].append(name)
    there = set(known)
    found = {name: by_spelling.get(spelling(name), []) for name in names if name not in there}
    return {name: others[0] for name, others in found.items() if len(others) == 1}


@dataclass
class FilesBelow:
    """The files below a folder, by names that look alike; a folder is listed when one of its files is asked for."""

    folder: Place
    _listed: dict[str, Mapping[str, list[str]]] = field(default_factory=dict)

    def alike(self, path: str, suffixes: Sequence[str] = ("",), folders: bool = False) -> list[str]:
        """Return the paths below the folder that look like ``path`` and one of ``suffixes``: of files, or of folders.

        In the order of the suffixes.
        """
        parts = likeness(path).split("/")
        front, found = [""], []
        for place in range(len(parts)):
            # The system that has these files may know no folders behind a backslash.
            rest = "/".join(parts[place:])
            found += [(suffix, path) for suffix in suffixes for path in self._paths(front, f"{rest}{suffix}")]
            front = self._paths(front, parts[place], "/")
        places = sorted(found, key=lambda pair: (suffixes.index(pair[0]), pair[1]))
        paths = ((path, self.folder / path) for _, path in places)
        return [path for path, place in paths if (place.is_dir() if folders else place.is_file())]

    def _paths(self, folders: Iterable[str], likeness: str, end: str = "") -> list[str]:
        return [f"{folder}{name}{end}" for folder in folders for name in self._names(folder).get(likeness, ())]

    def beside(self, path: str) -> list[str]:
        """Return the names of all files and folders in the folder of ``path``."""
        folder = posixpath.dirname(path)
        return [name for names in self._names(f"{folder}/" if folder else "").values() for name in names]

    def _names(self, folder: str) -> Mapping[str, list[str]]:
        """Return the names in a folder (empty, or ending with a slash) by their likeness; none where there is none."""
        if folder not in self._listed:
            names: defaultdict[str, list[str]] = defaultdict(list)
            for name in children(self.folder / folder if folder else self.folder):
                names[likeness(name)].append(name)
            self._listed[folder] = names
        return self._listed[folder]


def file_meant(below: FilesBelow, path: str, known: Collection[str]) -> str:
    """Return the only file that looks like ``path`` and is none of the ``known`` ones; empty where there is none."""
    found = [other for other in below.alike(path) if other not in known]
    return found[0] if len(found) == 1 else ""


def files_near(below: FilesBelow, path: str) -> str:
    """Say which files may be meant by a path that is not there; empty where none is near."""
    folder, name = posixpath.split(path)
    found = below.alike(path) or below.alike(likeness(path).rpartition("/")[2])
    other = "" if found else near(name, below.beside(path))
    found = found or ([posixpath.join(folder, other)] if other else [])
    return f"; did you mean {' or '.join(found[:3])}?" if found else ""


def is_something(path: Place) -> bool:
    """Return whether there is anything of this name: a file, a pipe, a link that leads nowhere."""
    try:
        return os.path.lexists(path) if isinstance(path, Path) else path.exists()
    except ValueError:  # the name of no file
        return False


def children(folder: Place) -> list[str]:
    """Return the names of files and folders in a folder; none where there is no folder."""
    if not isinstance(folder, Path):
        return folder.children()
    try:
        return os.listdir(folder)  # noqa: PTH208  (a hundred thousand names)
    except OSError:
        return []
