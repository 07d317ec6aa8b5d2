"""Images as a user names or gives them: files, folders, patterns, videos, values of Python, and mixtures of these."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from torch import Tensor

from raydistill.config.sections import Downloads
from raydistill.data.given import is_image, pixels_of
from raydistill.data.image_formats import has_suffix_of_image
from raydistill.data.images import PLAIN, Decoding, UnreadableImageError, read_image
from raydistill.data.video import frames_of, is_video
from raydistill.errors import UserError
from raydistill.storage.addresses import refuse_secrets
from raydistill.storage.remote_path import Place, RemotePath, file_or_folder
from raydistill.storage.store import is_remote

_MAGIC = "*?["
_NOT_FOR_PEOPLE = ("__MACOSX", "Thumbs.db")


@dataclass(frozen=True)
class SourceImage:
    """An image that somebody wants to know something about."""

    name: str
    """What its user calls it: a path, or its number."""
    inner: str
    """Its path below the folder that was named; else its file name or number."""
    read: Callable[[], Tensor]
    """Returns it: uint8 [3, H, W], RGB. Raises UnreadableImageError where it is broken."""


def source_images(
    given: Any, how: Decoding = PLAIN, downloads: Downloads | None = None, outside: Path | None = None
) -> Iterator[SourceImage]:
    """Yield the images that ``given`` means, in order; those of a folder by name.

    Args:
        given: the path of an image, a folder (with the folders in it), a pattern (``*``, ``**``) or a video, also on an
            object store (but patterns); a value that ``pixels_of`` takes, or an array or tensor of several; a list, a
            generator or any other collection of these.
        how: images are read.
        downloads: where what lies on an object store is kept on this machine.
        outside: a folder whose files are no images that a folder or pattern means: what was written before lies there.

    Raises:
        UserError: where there is no such image; when it comes to it.
    """
    return _Sources(how, downloads or Downloads(), None if outside is None else outside.resolve()).images(given)


def are_countable(given: Any) -> bool:
    """Return whether all images that ``given`` means can be listed before one is read: names, of no video."""
    if isinstance(given, str | os.PathLike):
        return not is_video(Path(given))
    return isinstance(given, list | tuple) and all(map(are_countable, given))


@dataclass
class _Sources:
    how: Decoding
    downloads: Downloads
    outside: Path | None
    num_values: int = 0

    def images(self, given: Any) -> Iterator[SourceImage]:
        if isinstance(given, str | os.PathLike):
            yield from self._named(os.fspath(given))
        elif is_image(given):
            yield from self._values(given)
        elif isinstance(given, Iterable) and not isinstance(given, bytes | Mapping):
            for one in given:
                yield from self.images(one)
        else:
            raise UserError(
                f"images: must be paths, folders, patterns, images or a list of these, got a {type(given).__name__}"
            )

    def _values(self, given: Any) -> Iterator[SourceImage]:
        """Yield one image, or each of several in one array."""
        for value in given if getattr(given, "ndim", 0) == 4 else [given]:
            self.num_values += 1
            name = f"image {self.num_values}"
            yield SourceImage(name, name.replace(" ", "_"), _Value(value, name, self.how))

    def _named(self, name: str) -> Iterator[SourceImage]:
        refuse_secrets(name)
        place = file_or_folder(name, self.downloads.cache) if is_remote(name) else Path(name).expanduser()
        if place.is_dir():
            yield from self._folder(place)
        elif place.exists():
            yield from self._file(place, place.name)
        elif any(letter in name for letter in _MAGIC) and isinstance(place, Path):
            anchor = Path(place.anchor)
            files = sorted(file for file in anchor.glob(str(place.relative_to(anchor))) if file.is_file())
            images = [file for file in files if has_suffix_of_image(file.name) or is_video(file)]
            images = [file for file in images if self._is_meant(file)]
            if not images:
                raise UserError(f"{name}: must fit the names of images, got none of {len(files)} that fit; correct it")
            above = os.path.commonpath([file.parent for file in images])
            for file in images:
                yield from self._file(file, file.relative_to(above).as_posix())
        else:
            raise UserError(f"{name}: must be an image, a folder, a pattern or a video, got nothing there; correct it")

    def _folder(self, folder: Place) -> Iterator[SourceImage]:
        files = [(inner, place) for inner, place in _below(folder) if has_suffix_of_image(inner)]
        files = [(inner, place) for inner, place in files if self._is_meant(place)]
        if not files:
            raise UserError(f"{folder}: must hold images, got none; name another folder (a video is named itself)")
        for inner, place in files:
            yield from self._file(place, inner)

    def _is_meant(self, file: Place) -> bool:
        if isinstance(file, Path) and _is_hidden(PurePath(file.name)):
            return False
        return self.outside is None or not isinstance(file, Path) or self.outside not in file.resolve().parents

    def _file(self, file: Place, inner: str) -> Iterator[SourceImage]:
        if is_video(file):
            for number, frame in enumerate(frames_of(file), start=1):
                own = f"{inner}/{number:06}"
                yield SourceImage(f"{file}, frame {number}", own, _Value(frame, f"{file}, frame {number}", self.how))
        else:
            yield SourceImage(str(file), inner, _File(file, self.how))


@dataclass(frozen=True)
class _File:
    file: Place
    how: Decoding

    def __call__(self) -> Tensor:
        try:
            return read_image(self.file, self.how)
        except UnreadableImageError as error:  # whose advice is about annotations
            raise UnreadableImageError(str(error).rpartition("; ")[0]) from error


@dataclass(frozen=True)
class _Value:
    given: Any
    name: str
    how: Decoding

    def __call__(self) -> Tensor:
        return pixels_of(self.given, self.name, self.how)


def _below(folder: Place) -> Iterator[tuple[str, Place]]:
    """Yield the files of a folder and the folders in it with their paths below it, by name; without hidden ones."""
    if isinstance(folder, RemotePath):
        start = len(folder.inner) + 1 if folder.inner else 0
        inner = sorted(folder.listing.name(place)[start:] for place in folder.listing.below(folder.inner))
    else:
        inner = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in inner:
        if not _is_hidden(PurePosixPath(name)):
            yield name, folder / name


def _is_hidden(path: PurePath) -> bool:
    return any(part.startswith(".") or part in _NOT_FOR_PEOPLE for part in path.parts)
