"""Batches for training and evaluation, the same whatever the number of workers and loader processes.

What an epoch's batches are follows from (seed, epoch) alone, and how an image is augmented from (seed, epoch, index)
alone, or from (file, number of the draw) where draws repeat. Nothing here draws from torch's global random numbers.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from raydistill.config import Loader
from raydistill.data.dataset import DetectionDataset
from raydistill.data.images import UnreadableImageError
from raydistill.data.loading.augmentation import Augment
from raydistill.data.loading.packed import MicroBatch, PackedBatch, pack
from raydistill.errors import UserError
from raydistill.structures import Target

__all__ = ["EvaluationLoader", "Key", "MicroBatch", "TrainingLoader", "evaluation_loader", "plan_epoch"]

_log = logging.getLogger(__name__)

_SAMPLE_STEPS = 50  # how far sample_batch looks for an object
_MOST_IN_A_ROW = 20  # images that cannot be read, before it must be the disk and not they


@dataclass(frozen=True, slots=True)
class Key:
    """What a sampler hands to a loader process: which image, and the seed of its augmentation."""

    index: int
    seed: int


class TrainingLoader:
    """The batches of one rank, epoch by epoch.

    The global batch of a step is the same for every ``world_size`` and ``accumulation``; rank r takes every
    ``world_size``-th image of it from r on, in ``accumulation`` parts, one image more in some of them where it cannot
    be divided evenly. Where the dataset ``replaces_unreadable``, the
    next image that can be read stands for one that cannot, with one warning per image.

    With ``draws`` an image comes in so many ways, one after the other, epoch by epoch: the same for every seed.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        batch_size: int,
        seed: int,
        augmentation: Augment,
        loader_config: Loader,
        rank: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
        draws: int | None = None,
        digests: bool = False,
    ) -> None:
        """Prepare the loader; its processes start with the first epoch.

        Args:
            dataset: the training split.
            batch_size: images per optimizer step, over all ranks and parts.
            seed: seed of the run.
            augmentation: applied to every image.
            loader_config: number of processes, grouping.
            rank: which of the ``world_size`` workers this is.
            world_size: number of workers.
            accumulation: parts of a rank's batch.
            draws: ways in which each image comes; None: another one in every epoch.
            digests: hand out with each image what its pixels are known by.

        Raises:
            UserError: for a dataset without images, or a batch that cannot be divided.
        """
        if len(dataset) == 0:
            raise UserError("data: the training split must hold at least one image to train on, got none; add images")
        if batch_size < world_size * accumulation:
            raise UserError(
                f"training.batch_size: must hold an image for each of {world_size} workers x {accumulation} "
                f"accumulated parts, got {batch_size}; change one of them"
            )
        self._dataset = dataset
        self._batch_size, self._seed = batch_size, seed
        self._rank, self._world_size, self._accumulation = rank, world_size, accumulation
        self._draws = draws
        sizes = dataset.records.sizes
        grouped = loader_config.group_by_aspect_ratio
        self._groups = sizes[:, 0] >= sizes[:, 1] if grouped else np.ones(len(sizes), dtype=np.bool_)
        self._items = _Items(dataset, augmentation, digests)
        self._warned: set[str] = set()
        self._sampler = _Sampler([])
        self._loader = _data_loader(self._items, self._sampler, loader_config)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch: every image comes at least once."""
        return -(-len(self._dataset) // self._batch_size)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[list[MicroBatch]]:
        """Yield, per optimizer step from ``start_step`` on, the micro-batches of this rank.

        Only one epoch at a time: starting another ends the one before.
        """
        plan = self._plan(epoch)[start_step:]
        self._sampler.batches = [part for step in plan for part in self._parts(step, epoch)]
        batches = map(self._unpacked, self._loader)
        for _ in range(len(plan)):
            yield [next(batches) for _ in range(self._accumulation)]

    def sample_batch(self) -> MicroBatch | None:
        """Return this rank's first micro-batch of epoch 0 that has an object, or None where the first steps have none.

        Loaded in this process; what the epochs yield is not affected.
        """
        for step in self._plan(0)[:_SAMPLE_STEPS]:
            for part in self._parts(step, 0):
                if not any(len(self._dataset.records[key.index].labels) for key in part):
                    continue
                images, targets = self._unpacked(_collate([self._items[key] for key in part]))
                if any(len(target["labels"]) for target in targets):
                    return images, targets
        return None

    def _unpacked(self, collated: PackedBatch | UserError) -> MicroBatch:
        """Unpack a batch; the warnings of its images come here, as a loader process has no display to show them."""
        batch = _unpacked(collated)
        for sentence in collated.replaced if isinstance(collated, PackedBatch) else ():
            if sentence not in self._warned:
                self._warned.add(sentence)
                _log.warning("%s; the next image is trained on in its place (data.on_bad_image=skip)", sentence)
        return batch

    def _plan(self, epoch: int) -> NDArray[np.int64]:
        return plan_epoch(self._groups, self._batch_size, self._seed, epoch)

    def _parts(self, step: NDArray[np.int64], epoch: int) -> list[list[Key]]:
        """Keys of this rank's micro-batches of one global batch ``step`` [batch_size]."""
        parts = np.array_split(step[self._rank :: self._world_size], self._accumulation)
        return [[Key(index, self._image_seed(epoch, index)) for index in part.tolist()] for part in parts]

    def _image_seed(self, epoch: int, index: int) -> int:
        if self._draws is None:
            return _hashed(f"{self._seed}/{epoch}/{index}")
        return _hashed(f"draw {epoch % self._draws} of {self._dataset.records.file(index)}")


def evaluation_loader(
    dataset: DetectionDataset, batch_size: int, rank: int, world_size: int, loader_config: Loader
) -> EvaluationLoader:
    """Return the batches of every ``world_size``-th image from ``rank`` on, in order and as they are."""
    keys = [Key(index, 0) for index in range(rank, len(dataset), world_size)]
    batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
    return EvaluationLoader(_data_loader(_Items(dataset, None), _Sampler(batches), loader_config))


@dataclass(frozen=True)
class EvaluationLoader:
    """Batches of images and targets; can be gone through again and again."""

    loader: DataLoader[PackedBatch]

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.loader)

    def __iter__(self) -> Iterator[MicroBatch]:
        """Go through the batches from the first on."""
        return map(_unpacked, self.loader) if len(self.loader) else iter(())


def plan_epoch(groups: NDArray[np.bool_], batch_size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the image indices of each global batch of an epoch, [steps, batch_size].

    Batches are cut from one group (``groups`` [I], wide or tall) as far as that goes; what is left over of the groups
    is put together, and the last batch is filled up with the epoch's first images. The order of batches is random.
    """
    rng = np.random.default_rng([seed, epoch])
    full, rest = [], []
    for group in (True, False):
        members = rng.permutation(np.flatnonzero(groups == group))
        cut = len(members) // batch_size * batch_size
        full.append(members[:cut])
        rest.append(members[cut:])
    order = np.concatenate([*full, rng.permutation(np.concatenate(rest))])
    num_steps = -(-len(order) // batch_size)
    return rng.permutation(np.resize(order, (num_steps, batch_size)))


def _hashed(text: str) -> int:
    """Hash to 63 bits: neighbouring epochs and images must not have related random numbers."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def digest_of(image: Tensor) -> str:
    """Return a text that stands for the pixels and the size of an image, uint8 [3, H, W]."""
    about = hashlib.blake2b(repr(tuple(image.shape)).encode(), digest_size=16)
    about.update(image.contiguous().numpy().data)
    return about.hexdigest()


class _Sampler:
    """Batches of keys, in a place where the loader finds the next epoch's."""

    def __init__(self, batches: Sequence[list[Key]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Item(NamedTuple):
    """An image as it goes into a batch."""

    image: Tensor
    target: Target
    replaced: tuple[str, ...]  # what was wrong with the images whose place it takes
    digest: str = ""


@dataclass(frozen=True)
class _Items:
    """What a loader process runs: read one image and augment it.

    A `UserError` is handed on as a value: raised in a loader process, torch would bury it in a traceback.
    """

    dataset: DetectionDataset
    augmentation: Augment | None
    digests: bool = False

    def __getitem__(self, key: Key) -> _Item | UserError:
        try:
            item = self._read(key.index)
        except UserError as error:
            return UserError(str(error))
        image, target = item.image, item.target
        if self.augmentation is not None:
            image, target = self.augmentation(image, target, torch.Generator().manual_seed(key.seed))
        return _Item(image, target, item.replaced, digest_of(image) if self.digests else "")

    def _read(self, index: int) -> _Item:
        """Read image ``index``, or the first one behind it that can be read where the dataset wants that."""
        replaced: list[str] = []
        length = len(self.dataset)
        for place in range(index, index + min(length, _MOST_IN_A_ROW)):
            try:
                return _Item(*self.dataset.load(place % length), tuple(replaced))
            except UnreadableImageError as error:
                if not self.dataset.replaces_unreadable:
                    raise
                replaced.append(str(error))
        raise UserError(
            f"data.on_bad_image: skip needs images that can be read, got {len(replaced)} in a row that cannot; is the "
            f"disk there? The first: {replaced[0]}"
        )


def _collate(items: Sequence[_Item | UserError]) -> PackedBatch | UserError:
    loaded = []
    for item in items:
        if isinstance(item, UserError):
            return item
        loaded.append(item)
    packed = pack([(item.image, item.target) for item in loaded])
    digests = tuple(item.digest for item in loaded if item.digest)
    replaced = tuple(sentence for item in loaded for sentence in item.replaced)
    return replace(packed, digests=digests, replaced=replaced)


def _unpacked(collated: PackedBatch | UserError) -> MicroBatch:
    if isinstance(collated, UserError):
        raise collated
    return collated.unpack()


def _to_stderr(_: int) -> None:
    """Let a loader process, forked from one with a display, log to its own stderr."""
    logger = logging.getLogger("raydistill")
    for handler in [*logger.handlers]:
        logger.removeHandler(handler)
    logger.propagate = True


def _data_loader(items: _Items, sampler: _Sampler, config: Loader) -> DataLoader[PackedBatch]:
    """Build torch's loader. Its processes have one torch thread each, which is torch's default for them."""
    return DataLoader(
        items,  # type: ignore[arg-type]
        batch_sampler=sampler,
        num_workers=config.num_workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=config.num_workers > 0,
        prefetch_factor=config.prefetch,
        worker_init_fn=_to_stderr,
        generator=torch.Generator(),  # its own: otherwise each epoch would draw from the global random numbers
    )
