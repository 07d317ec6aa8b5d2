"""A batch as loader processes send it: one buffer.

Each tensor that goes from a loader process to the training process costs a file descriptor handed over a socket, some
0.4 ms, and each one that is pinned a call of its own. A batch of eight images has 24 tensors; packed it is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raydistill.structures import Target

MicroBatch = tuple[list[Tensor], list[Target]]
"""Images, each uint8 [3, H, W], and their targets."""

_LABEL_BYTES = 8  # int64
_BOX_BYTES = 16  # four float32


@dataclass(frozen=True)
class PackedBatch:
    """A micro-batch in one buffer: labels of all images, then boxes, then pixels image after image."""

    buffer: Tensor  # uint8
    sizes: list[tuple[int, int]]  # (height, width) of each image
    counts: list[int]  # objects of each image
    image_ids: list[int]
    digests: tuple[str, ...] = ()  # of the images, where they are wanted
    replaced: tuple[str, ...] = ()  # a sentence for each image that could not be read and has another in its place

    def pin_memory(self) -> PackedBatch:
        """Return the same in page-locked memory; torch's loader calls this."""
        return replace(self, buffer=self.buffer.pin_memory())

    def unpack(self) -> MicroBatch:
        """Return the images and their targets as views of the buffer."""
        num_objects = sum(self.counts)
        lengths = [height * width * 3 for height, width in self.sizes]
        objects = [num_objects * _LABEL_BYTES, num_objects * _BOX_BYTES]
        labels, boxes, *pixels = torch.split(self.buffer, [*objects, *lengths])
        images = [flat.view(3, *size) for flat, size in zip(pixels, self.sizes, strict=True)]
        rows = zip(
            torch.split(boxes.view(torch.float32).view(-1, 4), self.counts),
            torch.split(labels.view(torch.int64), self.counts),
            self.image_ids,
            strict=True,
        )
        targets = [Target(boxes=own, labels=names, image_id=image_id) for own, names, image_id in rows]
        for target, digest in zip(targets, self.digests, strict=False):
            target["digest"] = digest
        return images, targets


def pack(items: Sequence[tuple[Tensor, Target]]) -> PackedBatch:
    """Copy images (uint8 [3, H, W]) and targets (boxes float32 [M, 4], labels int64 [M], image_id) into one buffer."""
    sizes = [(int(image.shape[1]), int(image.shape[2])) for image, _ in items]
    counts = [len(target["labels"]) for _, target in items]
    num_pixels = sum(height * width for height, width in sizes)
    buffer = torch.empty(sum(counts) * (_LABEL_BYTES + _BOX_BYTES) + 3 * num_pixels, dtype=torch.uint8)
    packed = PackedBatch(buffer, sizes, counts, [target["image_id"] for _, target in items])
    for image, target, (own_image, own_target) in zip(*packed.unpack(), items, strict=True):
        image.copy_(own_image)
        target["boxes"].copy_(own_target["boxes"])
        target["labels"].copy_(own_target["labels"])
    return packed
