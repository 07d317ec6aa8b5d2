"""Pictures of annotated images: what somebody should look at before they train on them."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from raydistill.data.dataset import DetectionDataset
from raydistill.data.images import UnreadableImageError
from raydistill.inference.draw import draw_boxes


def examples_of(split: DetectionDataset, number: int) -> Iterator[tuple[str, Image.Image]]:
    """Yield images of a split with their boxes: first some of every class, then some spread over the split.

    Args:
        split: whose images are drawn on.
        number: how many there are at most.
    """
    for place in _chosen(split, number):
        try:
            image, target = split.load(place)
        except UnreadableImageError:  # told elsewhere
            continue
        yield split.records.file(place), draw_boxes(image, target["boxes"], target["labels"], None, split.classes)


def _chosen(split: DetectionDataset, number: int) -> list[int]:
    """Return the places of the images: the one with the most classes that no other shows yet, again and again."""
    records = split.records
    labels = {}
    for place in (records.num_objects > 0).nonzero()[0].tolist():
        start, end = int(records.object_ends[place]), int(records.object_ends[place + 1])
        labels[place] = frozenset(records.labels[start:end][~records.ignored[start:end]].tolist())
    chosen: list[int] = []
    missing = set(range(1, len(split.classes) + 1))
    while missing and len(chosen) < number and labels:
        best = max(labels, key=lambda place: (len(labels[place] & missing), -place))
        if not labels[best] & missing:
            break
        missing -= labels.pop(best)
        chosen.append(best)
    rest = list(labels)
    wanted = number - len(chosen)
    if wanted > 0:
        chosen += rest[:: max(1, len(rest) // wanted)][:wanted]
    return chosen
