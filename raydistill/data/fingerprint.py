"""What data are, in few bytes: kept with a run, so that data which change under it are noticed, and how.

Annotations count by what was read of them, images by name, size and a checksum; when and where files were written does
not. Of an image file above 64 KiB the checksum is of four pieces of 16 KiB, spread from its first to its last byte; of
an object on a store its ETag stands for it. Images that a function makes are not looked at.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill.data.build import Splits
from raydistill.data.checksums import checksums_of
from raydistill.data.dataset import DetectionDataset, Records
from raydistill.data.image_folder import ImageFolder
from raydistill.errors import counted
from raydistill.storage.remote_path import RemotePath

_VERSION = 1
_MOST_NAMES = 2**30  # bytes
_OF_IMAGES = "images"
Digests = NDArray[np.uint32]


@dataclass(frozen=True)
class SplitFingerprint:
    """What a split is; images are in the order of their names."""

    classes: tuple[str, ...]
    num_objects: int
    names: tuple[bytes, ...]  # [I]
    annotations: Digests  # [I]
    images: Digests  # [I]
    digests: Mapping[str, str]  # of all annotations, and of all images with how they were looked at
    order: str  # digest of the names as the split lists them

    @property
    def looked_at(self) -> str:
        """How images were compared: ``checksums``, ``etags``, or ``unseen`` where a function makes them."""
        return self.digests[_OF_IMAGES].partition(" ")[0]


Fingerprint = Mapping[str, SplitFingerprint]
"""By the name of the split."""


def fingerprint(splits: Splits) -> Fingerprint:
    """Look at all images once; of 5,000 of 160 KB it takes a second or two where the system has them in memory.

    Raises:
        UserError: where an image can no longer be read.
    """
    return {name: _of_split(split) for name, split in splits._asdict().items() if split is not None}


def differences(then: Fingerprint, now: Fingerprint) -> list[str]:
    """Say what changed in each split; what stands in another order only is no change."""
    changed = {name: _changes(then[name], now[name]) if name in then else ["there was no such split"] for name in now}
    return [f"{name}: {', '.join(changes)}" for name, changes in changed.items() if changes]


def in_another_order(then: Fingerprint, now: Fingerprint) -> list[str]:
    """Return the splits whose images are the same and stand in another order."""
    return [name for name, split in now.items() if name in then and then[name].order != split.order]


def digest(found: Fingerprint) -> str:
    """Return one short text for all of it, whatever the order."""
    about = sorted((name, list(split.classes), sorted(split.digests.items())) for name, split in found.items())
    return hashlib.blake2b(json.dumps(about).encode(), digest_size=16).hexdigest()


def to_text(found: Fingerprint) -> str:
    """Return it as JSON: some ten bytes an image and half of its name."""
    splits = {
        name: {
            "classes": list(split.classes),
            "num_objects": split.num_objects,
            "digests": dict(split.digests),
            "order": split.order,
            "names": _text(zlib.compress(b"\0".join(split.names))),
            "annotations": _text(split.annotations.tobytes()),
            "images": _text(split.images.tobytes()),
        }
        for name, split in found.items()
    }
    return json.dumps({"version": _VERSION, "splits": splits}, indent=1)


def from_text(text: str) -> Fingerprint | None:
    """Return what ``to_text`` wrote; None where another version did.

    Raises:
        ValueError: when it is nothing of the kind.
    """
    try:
        raw = json.loads(text)
        if raw["version"] != _VERSION:
            return None
        return {str(name): _read_split(split) for name, split in raw["splits"].items()}
    except (LookupError, TypeError, AttributeError, RecursionError, zlib.error) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _of_split(split: DetectionDataset) -> SplitFingerprint:
    records = split.records
    names = [records.file(index).encode("utf-8", "surrogateescape") for index in range(len(records))]
    order = sorted(range(len(names)), key=names.__getitem__)
    looked_at, images = _images(split.read_image, records)
    annotations = _annotations(records, split.classes)
    in_order = [names[index] for index in order]
    return SplitFingerprint(
        classes=split.classes,
        num_objects=len(records.labels),
        names=tuple(in_order),
        annotations=_short(annotations[index] for index in order),
        images=_short(images[index] for index in order),
        digests={
            "annotations": _joined(in_order, [annotations[index] for index in order]),
            _OF_IMAGES: f"{looked_at} {_joined(in_order, [images[index] for index in order])}",
        },
        order=_joined(names, []),
    )


def _annotations(records: Records, classes: Sequence[str]) -> list[bytes]:
    """Return a digest of each image's size and objects, whatever the order of these."""
    named = [name.encode("utf-8", "surrogateescape") for name in classes]
    columns = [records.boxes, records.areas[:, None], records.ignored[:, None].astype(np.float64)]
    rows = np.ascontiguousarray(np.concatenate(columns, axis=1))
    ends, sizes, labels = records.object_ends.tolist(), records.sizes, records.labels.tolist()
    found = []
    for index in range(len(records)):
        places = range(ends[index], ends[index + 1])
        objects = sorted(rows[place].tobytes() + named[labels[place] - 1] for place in places)
        about = hashlib.blake2b(sizes[index].tobytes(), digest_size=16)
        for described in objects:
            about.update(len(described).to_bytes(4, "little") + described)
        found.append(about.digest())
    return found


def _images(reader: Any, records: Records) -> tuple[str, list[bytes]]:
    """Return how the images were looked at, and a digest of each."""
    if not isinstance(reader, ImageFolder):  # drawn ones follow from the settings, which are compared
        return "unseen", [b""] * len(records)
    files = [reader.folder / records.file(index) for index in range(len(records))]
    return "etags" if isinstance(reader.folder, RemotePath) else "checksums", checksums_of(files)


def _changes(then: SplitFingerprint, now: SplitFingerprint) -> list[str]:
    """Say what differs between two states of a split; images that were looked at in other ways count by name only."""
    if then.classes == now.classes and then.digests == now.digests:
        return []
    changes = []
    if then.classes != now.classes:
        changes.append(_other_classes(then.classes, now.classes))
    before = {name: place for place, name in enumerate(then.names)}
    added = [name for name in now.names if name not in before]
    there = set(now.names)
    gone = [name for name in then.names if name not in there]
    changes += [f"{_some(names, 'image')} {what}" for names, what in ((added, "added"), (gone, "removed")) if names]
    pairs = [(before[name], place) for place, name in enumerate(now.names) if name in before]
    common, places = [name for name in now.names if name in before], np.array(pairs, dtype=np.int64).reshape(-1, 2)
    other = then.annotations[places[:, 0]] != now.annotations[places[:, 1]]
    if other.any():
        objects = f"{counted(then.num_objects, 'object')} then, {now.num_objects} now"
        changes.append(f"other annotations of {_some([*compress(common, other)], 'image')}, {objects}")
    replaced = then.images[places[:, 0]] != now.images[places[:, 1]]
    if then.looked_at == now.looked_at and replaced.any():
        changes.append(f"other content of {_some([*compress(common, replaced)], 'image')}")
    return changes or (["other content"] if then.looked_at == now.looked_at else [])


def _other_classes(then: Sequence[str], now: Sequence[str]) -> str:
    if sorted(then) == sorted(now):
        return f"the classes were {_listed(then)} and are {_listed(now)}, so that labels have another meaning"
    added, gone = [name for name in now if name not in then], [name for name in then if name not in now]
    parts = [f"{what} {_listed(names)}" for what, names in (("added", added), ("without", gone)) if names]
    return f"other classes ({'; '.join(parts) or 'one twice'})"


def _some(names: Sequence[bytes], thing: str) -> str:
    first = names[0].decode("utf-8", "backslashreplace")
    return f"{counted(len(names), thing)} ({'first ' if len(names) > 1 else ''}{first})"


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _joined(names: Sequence[bytes], digests: Sequence[bytes]) -> str:
    """Return a digest of all names and their digests."""
    about = hashlib.blake2b(digest_size=16)
    for name in names:
        about.update(name + b"\0")
    for found in digests:
        about.update(found + b"\0")
    return about.hexdigest()


def _short(digests: Any) -> Digests:
    """Keep of each digest what tells which image changed; that one did, the digest of all tells."""
    kept = b"".join(hashlib.blake2b(found, digest_size=4).digest() for found in digests)
    return np.frombuffer(kept, dtype="<u4")


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _read_split(raw: Mapping[str, Any]) -> SplitFingerprint:
    names = zlib.decompressobj().decompress(_bytes(raw["names"]), _MOST_NAMES)
    listed = tuple(names.split(b"\0")) if names else ()
    digests = [np.frombuffer(_bytes(raw[key]), dtype="<u4") for key in ("annotations", "images")]
    found = SplitFingerprint(
        classes=tuple(map(str, raw["classes"])),
        num_objects=int(raw["num_objects"]),
        names=listed,
        annotations=digests[0],
        images=digests[1],
        digests={key: str(raw["digests"][key]) for key in ("annotations", _OF_IMAGES)},
        order=str(raw["order"]),
    )
    if {len(listed)} != {len(values) for values in digests}:
        raise ValueError("not as many digests as names")
    return found
