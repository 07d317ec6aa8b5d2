"""Images that belong together: equal ones, copies that a tool made of one picture, frames of one video."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

from raydistill.data.checksums import checksums_of
from raydistill.data.dataset import DetectionDataset
from raydistill.data.image_folder import ImageFolder
from raydistill.errors import UserError

_ROBOFLOW = re.compile(r"(.+)\.rf\.[0-9a-zA-Z]{20,}$")  # the picture's own name, and a hash for each copy


def groups_of(dataset: DetectionDataset, pattern: str | None) -> list[int]:
    """Return for each image of a dataset the place of the first image, in the order of names, that it belongs to.

    Images belong together whose bytes are equal, that Roboflow made of one picture (``NAME.rf.HASH.jpg``), or in whose
    names ``pattern`` finds the same text.

    Raises:
        UserError: where the pattern is found in no name, or an image can no longer be read.
    """
    names = [dataset.records.file(index) for index in range(len(dataset))]
    groups = _Groups(len(names))
    for keys in (contents_of(dataset), dict(enumerate(map(picture_of, names))), keys_by(pattern, names)):
        first: dict[Hashable, int] = {}
        for index in sorted(keys, key=names.__getitem__):
            groups.join(first.setdefault(keys[index], index), index)
    by_root: defaultdict[int, list[int]] = defaultdict(list)
    for index in range(len(names)):
        by_root[groups.root(index)].append(index)
    found = [0] * len(names)
    for members in by_root.values():
        least = min(members, key=names.__getitem__)
        for index in members:
            found[index] = least
    return found


def keys_by(pattern: str | None, names: Sequence[str]) -> dict[int, str]:
    """Return the text that a pattern finds in each name where it finds one: of its first group, if it has any.

    Raises:
        UserError: where it finds none in any.
    """
    if pattern is None:
        return {}
    found = {index: match for index, name in enumerate(names) if (match := re.search(pattern, name)) is not None}
    if names and not found:
        raise UserError(
            f"data.group_by: must be found in names of images, got {pattern!r} and names like {names[0]}; correct it"
        )
    return {index: match[1] or "" if match.re.groups else match[0] for index, match in found.items()}


def contents_of(*datasets: DetectionDataset) -> dict[int, bytes]:
    """Return a digest of each image that may equal another one, by its place in all datasets one after the other.

    Only files of one size are opened: others cannot be equal. Images that a function makes are not looked at.
    """
    files = []
    start = 0
    for dataset in datasets:
        if isinstance(dataset.read_image, ImageFolder):
            folder = dataset.read_image.folder
            files += [(start + index, folder / dataset.records.file(index)) for index in range(len(dataset))]
        start += len(dataset)
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for number, (_, file) in enumerate(files):
        try:
            by_size[file.stat().st_size].append(number)
        except OSError:  # left out, or told elsewhere
            continue
    alike = [number for numbers in by_size.values() if len(numbers) > 1 for number in numbers]
    digests = checksums_of([files[number][1] for number in alike])
    return {files[number][0]: digest for number, digest in zip(alike, digests, strict=True)}


def set_aside(
    names: Sequence[str], groups: Sequence[int], num_objects: Sequence[int], fraction: float, seed: int
) -> list[bool]:
    """Return which images become the validation split: whole groups, as near to ``fraction`` of all images as they fit.

    Of images with objects and of those without the same share is taken, of those with objects at least one group. Which
    these are follows from the names and the seed, not from the order of the images. None is where the images with
    objects are of one group.

    Args:
        names: of the images, [I].
        groups: the place of the first image that each belongs to, [I].
        num_objects: of the images, [I].
        fraction: of all images.
        seed: of what is drawn.
    """
    sizes, objects = Counter(groups), Counter[int]()
    for group, number in zip(groups, num_objects, strict=True):
        objects[group] += number
    order = sorted(sizes, key=lambda group: _drawn(names[group], seed))
    full, empty = [group for group in order if objects[group]], [group for group in order if not objects[group]]
    if len(full) < 2:
        return [False] * len(names)
    chosen = _nearest(full[:-1], sizes, fraction * sum(sizes[group] for group in full))
    chosen = chosen or {min(full, key=sizes.__getitem__)}
    chosen |= _nearest(empty, sizes, fraction * sum(sizes[group] for group in empty))
    return [group in chosen for group in groups]


def _nearest(order: Sequence[int], sizes: Mapping[int, int], wanted: float) -> set[int]:
    """Return the groups, taken in order, with which the number of images comes nearest to what is wanted."""
    chosen, taken = set[int](), 0
    for group in order:
        if abs(taken + sizes[group] - wanted) <= abs(taken - wanted):
            chosen.add(group)
            taken += sizes[group]
    return chosen


def _drawn(name: str, seed: int) -> bytes:
    """Return what stands for a number that is drawn for a name."""
    return hashlib.blake2b(f"{seed} {name}".encode("utf-8", "surrogateescape"), digest_size=16).digest()


def picture_of(name: str) -> str:
    """Return what names of copies of one picture have in common.

    >>> picture_of("train/a_jpg.rf.0123456789abcdef0123456789abcdef.jpg")
    'a_jpg'
    """
    stem = posixpath.splitext(name)[0]
    found = _ROBOFLOW.match(posixpath.basename(stem))
    return found[1] if found else name


class _Groups:
    """Which places belong together (union-find)."""

    def __init__(self, number: int) -> None:
        self._parents = list(range(number))

    def root(self, place: int) -> int:
        while self._parents[place] != place:
            self._parents[place] = self._parents[self._parents[place]]
            place = self._parents[place]
        return place

    def join(self, first: int, second: int) -> None:
        self._parents[self.root(second)] = self.root(first)
