"""A batch asked image by image, so that what the teacher says of an image does not depend on those beside it.

Each image is padded by its own size alone, to multiples of 32 pixels. What was said of it before, in another epoch or
by another process, stands for asking again: to the bit, as ``Answering.kept`` keeps what was computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from raydistill.detectors.base import Detector, ProposesRegions
from raydistill.detectors.kept import objects_only
from raydistill.detectors.kept.tensors import KeptTensors, Tensors
from raydistill.structures import Batch, Features

_DIVISOR = 32  # of padded sides: the coarsest stride of a backbone
_LARGEST_HALF = 65504.0


@dataclass
class Answering:
    """How a teacher is asked image by image, and how often it was."""

    kept: KeptTensors | None = None
    """Where what it says is kept; None: nowhere."""
    half: bool = False
    """Round maps of 32 bits to 16 (fp16), kept or not."""
    objects_only: bool = False
    """Whether nobody reads the maps anywhere but on objects."""
    known: int = 0
    """Images whose maps were there."""
    computed: int = 0
    """Images whose maps were not."""


class ImageByImage:
    """What a teacher says about one batch, each image by itself."""

    def __init__(
        self,
        detector: Detector,
        batch: Batch,
        answering: Answering,
        asked: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Ask nothing yet.

        Args:
            detector: the teacher.
            batch: normalised as it wants it.
            answering: where what it says is kept.
            asked: gives the context in which it computes.
        """
        self._detector, self._batch, self._answering, self._asked = detector, batch, answering, asked
        self._sizes = padded_sizes(batch)
        self._computed: dict[int, Features] = {}

    def features(self) -> Features:
        """Return the maps [N, D, h, w] of all images in the batch's geometry.

        Beyond an image's own padding there is nothing: zeros, but for the cell next to it, which repeats the last.
        """
        return assemble([self._maps(number) for number in range(len(self._sizes))])

    def proposals(self) -> list[Tensor]:
        """Return what the teacher proposes in each image, [Ri, 4]."""
        return [self._proposals(number) for number in range(len(self._sizes))]

    def _maps(self, number: int) -> Features:
        """Return the maps [D, h, w] of one image."""
        if number in self._computed:
            return self._computed[number]
        name = self._name(number, self._kind_of_maps(number))
        kept = self._get(name)
        if kept is not None:
            self._answering.known += 1
            device = self._batch.images.device
            return self._restored({level: values.to(device, non_blocking=True) for level, values in kept.items()})
        self._answering.computed += 1
        with self._asked():
            maps = self._detector.extract_features(self._alone(number))
        found: Tensors = {level: self._rounded(values[0]).contiguous() for level, values in maps.items()}
        if self._answering.objects_only:
            found = objects_only.cut(found, self._batch.targets[number]["boxes"], self._sizes[number])
        self._put(name, found)
        self._computed[number] = self._restored(found)
        return self._computed[number]

    def _proposals(self, number: int) -> Tensor:
        name = self._name(number, "proposals")
        found = self._get(name)
        if found is None:
            detector = self._detector
            assert isinstance(detector, ProposesRegions)
            maps = {level: values[None] for level, values in self._maps(number).items()}
            with self._asked():
                (boxes,) = detector.propose_regions(self._alone(number), maps).boxes
            found = {"boxes": boxes}
            self._put(name, found)
        return found["boxes"].to(self._batch.images.device, non_blocking=True)

    def _alone(self, number: int) -> Batch:
        """Return one image as a batch, padded by its own size."""
        height, width = self._sizes[number]
        image = self._batch.images[number : number + 1, :, :height, :width].contiguous()
        return Batch(image, [self._batch.image_sizes[number]], [self._batch.targets[number]])

    def _rounded(self, values: Tensor) -> Tensor:
        if self._answering.half and values.dtype == torch.float32:
            return values.clamp(-_LARGEST_HALF, _LARGEST_HALF).half()
        return values

    def _kind_of_maps(self, number: int) -> str:
        if not self._answering.objects_only:
            return "maps"
        return f"maps-on-{objects_only.known_by(self._batch.targets[number]['boxes'])}"

    def _restored(self, kept: Tensors) -> Features:
        maps = objects_only.filled(kept) if self._answering.objects_only else kept
        if not self._answering.half:
            return maps
        return {level: values.float() if values.dtype == torch.float16 else values for level, values in maps.items()}

    def _name(self, number: int, what: str) -> str | None:
        """Return what an image's answers are kept under; None where nobody knows what image it is."""
        digest = self._batch.targets[number].get("digest")
        height, width = self._sizes[number]
        return f"{digest}-{height}x{width}-{what}" if digest else None

    def _get(self, name: str | None) -> Tensors | None:
        kept = self._answering.kept
        return kept.get(name) if kept is not None and name is not None else None

    def _put(self, name: str | None, tensors: Tensors) -> None:
        kept = self._answering.kept
        if kept is not None and name is not None:
            kept.put(name, {key: value.detach().cpu() for key, value in tensors.items()})


def padded_sizes(batch: Batch) -> list[tuple[int, int]]:
    """Return the (height, width) of each image with its own padding.

    Where the batch is padded otherwise than to multiples of 32 of its largest sides, that of the batch.
    """
    height, width = batch.images.shape[2:]
    own = [(_padded(size[0], height), _padded(size[1], width)) for size in batch.image_sizes]
    if (max(size[0] for size in own), max(size[1] for size in own)) != (height, width):
        return [(height, width)] * len(own)
    return own


def assemble(images: list[Features]) -> Features:
    """Put the maps [D, h, w] of images into those [N, D, h, w] of their batch."""
    if len(images) == 1:
        return {level: values[None] for level, values in images[0].items()}
    return {level: torch.stack(list(_on_one_size([maps[level] for maps in images]))) for level in images[0]}


def _on_one_size(maps: list[Tensor]) -> Iterator[Tensor]:
    height, width = max(values.shape[1] for values in maps), max(values.shape[2] for values in maps)
    for values in maps:
        rows, columns = values.shape[1:]
        if (rows, columns) == (height, width):
            yield values
            continue
        out = values.new_zeros(values.shape[0], height, width)
        out[:, :rows, :columns] = values
        if rows < height:
            out[:, rows, :columns] = values[:, -1]
        if columns < width:
            out[:, : rows + 1, columns] = out[:, : rows + 1, columns - 1]
        yield out


def _padded(side: int, most: int) -> int:
    return min(-(-side // _DIVISOR) * _DIVISOR, most)
