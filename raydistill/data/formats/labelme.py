"""LabelMe's data: a JSON file beside each image, with its shapes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from raydistill.config.data import LabelMeData
from raydistill.data.checks import listed
from raydistill.data.formats.base import SPLITS, Finding, Folder, Format, SplitName, as_overrides, split_named
from raydistill.errors import UserError
from raydistill.storage.remote_path import Place

if TYPE_CHECKING:
    from raydistill.data.dataset import DetectionDataset

_LOOKED_AT = 5  # files
_HEAD = 4000  # bytes of one, and as many of its end: in between there may be the image
_KEYS = (b'"shapes"', b'"imagePath"')


def recognise(folder: Folder) -> list[Finding]:
    """Return the LabelMe data in a folder: in one, or in a folder per split."""
    files = [name for name in folder.files if name.lower().endswith(".json")]
    step = len(files) // _LOOKED_AT or 1
    if not any(_is_labelme(folder.place / name) for name in files[::step][:_LOOKED_AT]):
        return []
    by_split: defaultdict[SplitName | None, set[str]] = defaultdict(set)
    for name in files:
        top = name.partition("/")[0] if "/" in name else "."
        by_split[split_named(top)].add(top)
    named = {split: sorted(by_split[split]) for split in SPLITS if by_split[split]}
    what = "LabelMe, a JSON file per image"
    if not named:
        settings: dict[str, Any] = {"format": "labelme", "train": ".", "val": None}
        return [Finding("labelme", what, settings, {"train": len(folder.images)})]
    if by_split[None] or "train" not in named or any(len(tops) > 1 for tops in named.values()):
        there = listed(sorted(top for tops in by_split.values() for top in tops))
        return [
            Finding(
                "labelme",
                what,
                {},
                question=f"must have one folder per split or none, got annotations in {there}; name them: "
                "data.format=labelme data.train=... data.val=..., or train on all: "
                f"{as_overrides({'format': 'labelme', 'train': '.'})}",
            )
        ]
    settings = {"format": "labelme", "train": named["train"][0], "val": named["val"][0] if "val" in named else None}
    settings |= {"test": named["test"][0]} if "test" in named else {}
    return [
        Finding(
            "labelme",
            what,
            settings,
            {split: len(folder.below(tops[0], folder.images)) for split, tops in named.items()},
        )
    ]


def _is_labelme(place: Place) -> bool:
    try:
        with place.open("rb") as file:
            head = file.read(_HEAD)
            file.seek(max(0, place.stat().st_size - _HEAD))
            ends = head + file.read(_HEAD)
    except (OSError, UserError):
        return False
    return all(key in ends for key in _KEYS)


def _read(data: LabelMeData, root: Place, split: SplitName, train: DetectionDataset | None) -> DetectionDataset:
    from raydistill.data.formats.labelme_read import read_split

    return read_split(data, root, split, train)


LABELME = Format(recognise, _read)
