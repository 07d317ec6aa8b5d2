"""Which files belong to YOLO data: images of folders and lists, the labels of an image, paths of another machine."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raydistill.data.formats.base import Folder, is_image
from raydistill.errors import UserError
from raydistill.storage.regular import LIST_BYTES, read_text
from raydistill.storage.remote_path import Place

_IMAGES = ("images", "jpegimages")


def label_names(image: str) -> list[str]:
    """Return where the labels of an image may lie: in ``labels`` in the place of the last ``images``, or beside it.

    >>> label_names("train/images/a.b.jpg")
    ['train/labels/a.b.txt', 'train/images/a.b.txt']
    """
    stem = posixpath.splitext(image)[0]
    parts = stem.split("/")
    places = [at for at, part in enumerate(parts[:-1]) if part.lower() in _IMAGES]
    beside = f"{stem}.txt"
    if not places:
        return [beside]
    word = "labels" if parts[places[-1]][0].islower() else "Labels"
    return ["/".join([*parts[: places[-1]], word, *parts[places[-1] + 1 :]]) + ".txt", beside]


@dataclass(frozen=True)
class Resolver:
    """Finds what a path means that was written on another machine, or relative to another folder."""

    folder: Folder

    def find(self, written: str, base: str = ".") -> str | None:
        """Return the file or folder below the whole that a path means; None where there is none.

        As it stands, relative to ``base`` or to the whole; then without its first parts, one after the other.

        Raises:
            UserError: where the same path leads out of the data set as well as into it.
        """
        path = posixpath.normpath(written.strip().replace("\\", "/"))
        inside = self._inside(path, base)
        if path.startswith("../"):
            outside = self._outside(posixpath.normpath(posixpath.join(base, path)))
            if outside and inside and outside != inside:
                raise UserError(
                    f"{self.folder.place}: must have one meaning for {written!r}, got {self.folder.place / inside} and "
                    f"{self.folder.place / outside}; name the one: data.train=..., data.val=..."
                )
            return inside or outside
        return inside

    def _inside(self, path: str, base: str) -> str | None:
        parts = [part for part in path.lstrip("/").split("/") if part not in ("..", "")]
        for start in range(len(parts)):
            rest = "/".join(parts[start:])
            for found in (posixpath.normpath(posixpath.join(base, rest)), posixpath.normpath(rest)):
                if found in self.folder.known or found in self.folder.folders:
                    return found
        return "." if path == "." else None

    def _outside(self, path: str) -> str | None:
        place = self.folder.place / path
        return path if path.startswith("../") and (place.is_dir() or place.is_file()) else None


def images_of(root: Place, entries: str | Sequence[str]) -> list[str]:
    """Return the images of folders and lists, below ``root``, each once, in the order of their names.

    Raises:
        UserError: where one of them is neither, a list names what is not there, or there is no image.
    """
    found: dict[str, None] = {}
    for entry in [entries] if isinstance(entries, str) else entries:
        place = root / entry
        if place.is_dir():
            below = Folder.of(place).images
            found |= dict.fromkeys(posixpath.normpath(posixpath.join(entry, name)) for name in below)
        elif place.is_file():
            found |= dict.fromkeys(_listed(root, entry))
        else:
            raise UserError(
                f"{place}: must be a folder of images or a list of them (.txt), there is none; correct data.train, "
                "data.val or data.test"
            )
    if not found:
        raise UserError(f"{root}: must have images in {entries}, got none; correct data.train, data.val or data.test")
    return sorted(found)


def _listed(root: Place, entry: str) -> Iterator[str]:
    """Yield the images that a list names."""
    place = root / entry
    try:
        text = read_text(place, LIST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{place}: must be a list of images, cannot be read ({error}); correct it") from error
    names = [line.strip() for line in text.removeprefix("\ufeff").splitlines() if line.strip()]
    if is_image(entry) or not names:
        raise UserError(f"{place}: must list at least one image, got none; add the names of the images")
    resolver = Resolver(Folder.of(root))
    base = posixpath.dirname(entry) or "."
    for name in names:
        image = resolver.find(name, base)
        # One that is missing is told with all others, by its name.
        yield image or posixpath.normpath(posixpath.join(base, name.replace("\\", "/").lstrip("/")))
