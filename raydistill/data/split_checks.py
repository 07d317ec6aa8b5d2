"""What about the splits of data, beside each other, makes scores say less than they seem to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence

from raydistill.config.data import FilesData
from raydistill.config.sections import Data
from raydistill.data.checks import listed
from raydistill.data.copies import contents_of, keys_by, picture_of
from raydistill.data.counting import SPLIT_NAMES
from raydistill.data.splits import Splits
from raydistill.errors import counted

_EQUAL = "equal to one of"
_COPIES = "made of the same picture as one of"
_TOGETHER = "of the same data.group_by as one of"
_MOST = 5  # images that are named


def doubts_of_splits(data: Data, splits: Splits) -> list[str]:
    """Say what is doubtful, a sentence each that begins with the split: classes without objects, images in two splits.

    Raises:
        UserError: where an image can no longer be read.
    """
    return [*_same(data), *_without_objects(splits), *_shared(data, splits)]


def _same(data: Data) -> Iterator[str]:
    """Say that the validation split is the training split by name."""
    if isinstance(data, FilesData) and data.named("val") is not None and data.named("val") == data.named("train"):
        setting = f"data.{data.setting('val')}"
        yield (
            f"validation: {setting}={data.named('val')} is the training split: scores on what was trained on say "
            f"little; {setting}=null sets a share of it aside"
        )


def _without_objects(splits: Splits) -> Iterator[str]:
    for name, split in zip(SPLIT_NAMES, splits, strict=True):
        if split is not None and split.classes_without_objects:
            yield f"{name}: no object of {listed(split.classes_without_objects)}"


def _shared(data: Data, splits: Splits) -> Iterator[str]:
    """Say which images of the splits to score on are in another split too, in the same or in another form."""
    if not isinstance(data, FilesData) or data.named("val") == data.named("train"):
        return
    there = [(name, split) for name, split in zip(SPLIT_NAMES, splits, strict=True) if split is not None]
    files = [(name, split.records.file(index)) for name, split in there for index in range(len(split))]
    names = [file for _, file in files]
    contents = contents_of(*(split for _, split in there))
    told: set[int] = set()
    for what, keys in ((_EQUAL, contents), (_COPIES, _pictures(names)), (_TOGETHER, _keys(data, names))):
        yield from _in_two(what, keys, files, told)


def _pictures(names: Sequence[str]) -> dict[int, str]:
    """Return the picture's name of each image that is one of several copies by its own."""
    return {place: picture for place, name in enumerate(names) if (picture := picture_of(name)) != name}


def _keys(data: FilesData, names: Sequence[str]) -> dict[int, str]:
    return keys_by(data.group_by, names)


def _in_two(what: str, keys: Mapping[int, Hashable], files: Sequence[tuple[str, str]], told: set[int]) -> Iterator[str]:
    """Say which images have their key in a split before theirs; those in ``told`` were named already."""
    splits_of: defaultdict[Hashable, set[str]] = defaultdict(set)
    for place, key in keys.items():
        splits_of[key].add(files[place][0])
    for at, name in enumerate(SPLIT_NAMES[1:], 1):
        for other in SPLIT_NAMES[:at]:
            found = [
                place
                for place, key in keys.items()
                if files[place][0] == name and other in splits_of[key] and place not in told
            ]
            told.update(found)
            if found:
                shown = listed([files[place][1] for place in found[:_MOST]])
                more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
                images = f"{counted(len(found), 'image')} {'is' if len(found) == 1 else 'are'}"
                yield f"{name}: {images} {what} {other}, so that scores say too much: {shown}{more}"
