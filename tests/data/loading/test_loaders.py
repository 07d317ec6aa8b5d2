"""Tests of raydistill.data.loading.loaders."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.config import Loader
from raydistill.config.sections import Augmentation
from raydistill.data.dataset import AnnotatedImage, AnnotatedObject, DetectionDataset, Record, Records
from raydistill.data.images import UnreadableImageError, read_image
from raydistill.data.loading.augmentation import build_augmentation
from raydistill.data.loading.loaders import MicroBatch, TrainingLoader, digest_of, evaluation_loader, plan_epoch
from raydistill.errors import UserError

IN_PROCESS = Loader(num_workers=0)
AUGMENTATION = build_augmentation(Augmentation(horizontal_flip=0.5, scale_jitter=(0.7, 1.4)))


def noise(record: Record) -> Tensor:
    generator = torch.Generator().manual_seed(record.image_id)
    return torch.randint(0, 256, (3, record.height, record.width), generator=generator, dtype=torch.uint8)


def process_number(record: Record) -> Tensor:
    """Return an image that says which process made it."""
    digits = torch.tensor([*os.getpid().to_bytes(4, "little")], dtype=torch.uint8)
    return digits.repeat(3 * record.height * record.width // 4).view(3, record.height, record.width)


def number_in(image: Tensor) -> int:
    return int.from_bytes(bytes(image.flatten()[:4].tolist()), "little")


def missing(record: Record) -> Tensor:
    return read_image(Path("/nowhere") / record.file)


def make(count: int, tall: int = 0, objects: bool = True) -> DetectionDataset:
    """Return ``count`` images of 24 x 16, of which the first ``tall`` are upright, with one box each."""
    found = [AnnotatedObject(1, (2.0, 2.0, 12.0, 12.0), 144.0, False)] if objects else []
    sizes = [(16, 24) if index < tall else (24, 16) for index in range(count)]
    images = [AnnotatedImage(index, f"{index}.jpg", *size, found) for index, size in enumerate(sizes)]
    return DetectionDataset(("thing",), (1,), Records.build(images), noise)


def training(
    dataset: DetectionDataset,
    batch_size: int = 4,
    config: Loader = IN_PROCESS,
    rank: int = 0,
    world_size: int = 1,
    accumulation: int = 1,
    seed: int = 0,
    draws: int | None = None,
) -> TrainingLoader:
    return TrainingLoader(dataset, batch_size, seed, AUGMENTATION, config, rank, world_size, accumulation, draws)


def ids(steps: list[list[MicroBatch]]) -> list[list[list[int]]]:
    return [[[target["image_id"] for target in targets] for _, targets in step] for step in steps]


def images_by_id(loader: TrainingLoader, epoch: int, start_step: int = 0) -> dict[int, Tensor]:
    steps = loader.epoch(epoch, start_step)
    return {
        target["image_id"]: image
        for step in steps
        for images, targets in step
        for image, target in zip(images, targets, strict=True)
    }


def same(one: dict[int, Tensor], other: dict[int, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 8), (1, 4), (13, 1)])
def test_every_image_comes_in_every_epoch(count: int, batch_size: int) -> None:
    loader = training(make(count), batch_size)
    steps = ids(list(loader.epoch(0)))
    assert len(steps) == loader.steps_per_epoch == -(-count // batch_size)
    assert all(len(step[0]) == batch_size for step in steps)
    assert {image for step in steps for image in step[0]} == set(range(count))


def test_filling_up_repeats_no_more_images_than_needed() -> None:
    counts = np.bincount(plan_epoch(np.arange(10) % 3 == 0, 4, 0, 0).ravel())
    assert sorted(counts.tolist()) == [1] * 8 + [2] * 2


def test_epochs_and_seeds_differ_and_repeat() -> None:
    loader = training(make(12))
    first = ids(list(loader.epoch(0)))
    assert ids(list(loader.epoch(1))) != first
    assert ids(list(loader.epoch(0))) == first
    assert ids(list(training(make(12), seed=1).epoch(0))) != first


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_global_batches_do_not_depend_on_workers_or_accumulation(world_size: int, accumulation: int) -> None:
    dataset = make(21)
    whole = ids(list(training(dataset, 8).epoch(3)))
    ranks = [
        ids(list(training(dataset, 8, rank=rank, world_size=world_size, accumulation=accumulation).epoch(3)))
        for rank in range(world_size)
    ]
    for step, (expected,) in enumerate(whole):
        for rank in range(world_size):
            parts = ranks[rank][step]
            assert len(parts) == accumulation
            assert len({len(part) for part in parts}) == 1
            assert [image for part in parts for image in part] == expected[rank::world_size]


def test_pixels_do_not_depend_on_loader_processes() -> None:
    alone = images_by_id(training(make(9)), epoch=2)
    assert same(alone, images_by_id(training(make(9), config=Loader(num_workers=2)), epoch=2))


def test_draws_repeat_after_as_many_epochs_whatever_the_seed_and_the_order() -> None:
    loader = training(make(9), draws=3)
    drawn = [images_by_id(loader, epoch) for epoch in range(6)]
    assert not any(same(drawn[epoch], drawn[epoch + 1]) for epoch in range(5))
    assert all(same(drawn[epoch], drawn[epoch + 3]) for epoch in range(3))
    assert same(drawn[1], images_by_id(training(make(9), seed=1, draws=3), epoch=1))
    assert ids(list(loader.epoch(0))) != ids(list(loader.epoch(3)))  # other batches of the same pictures


def test_draws_of_an_image_do_not_depend_on_the_images_beside_it() -> None:
    few, many = (images_by_id(training(make(count), draws=2), epoch=0) for count in (5, 9))
    assert all(torch.equal(few[number], many[number]) for number in few)


@pytest.mark.parametrize("processes", [0, 1])
def test_digests_tell_pictures_apart_and_are_the_same_again(processes: int) -> None:
    def digests(epoch: int, seed: int = 0) -> dict[int, str]:
        config = Loader(num_workers=processes)
        loader = TrainingLoader(make(9), 4, seed, AUGMENTATION, config, draws=2, digests=True)
        batches = [part for step in loader.epoch(epoch) for part in step]
        return {target["image_id"]: target["digest"] for _, targets in batches for target in targets}

    first = digests(0)
    assert len(set(first.values())) == 9
    assert digests(2) == digests(0, seed=1) == first
    assert not set(digests(1).values()) & set(first.values())


def test_no_digest_is_computed_unless_it_is_wanted() -> None:
    ((_, targets),) = next(training(make(4)).epoch(0))
    assert "digest" not in targets[0]


def test_pictures_of_one_content_and_other_sides_have_other_digests() -> None:
    flat = torch.zeros(3, 4, 6, dtype=torch.uint8)
    assert digest_of(flat) != digest_of(flat.transpose(1, 2))
    assert digest_of(flat.transpose(1, 2)) == digest_of(flat.transpose(1, 2).contiguous())


def test_loader_processes_serve_several_epochs_even_after_one_was_left_early() -> None:
    loader = training(make(9), config=Loader(num_workers=1))
    next(loader.epoch(0))
    assert ids(list(loader.epoch(1))) == ids(list(training(make(9)).epoch(1)))


def test_pixels_do_not_depend_on_ranks() -> None:
    parts = [images_by_id(training(make(8), rank=rank, world_size=2), epoch=1) for rank in range(2)]
    assert same(images_by_id(training(make(8)), epoch=1), parts[0] | parts[1])


def test_pixels_do_not_depend_on_the_global_random_numbers() -> None:
    torch.manual_seed(1)
    one = images_by_id(training(make(6)), epoch=0)
    torch.manual_seed(2)
    assert same(one, images_by_id(training(make(6)), epoch=0))


def test_pixels_differ_between_epochs() -> None:
    one, other = (images_by_id(training(make(6)), epoch=epoch) for epoch in (0, 1))
    assert not any(torch.equal(one[key], other[key]) for key in one)


def test_resuming_inside_an_epoch_decodes_nothing_of_what_is_skipped() -> None:
    decoded: list[int] = []

    def read(record: Record) -> Tensor:
        decoded.append(record.image_id)
        return noise(record)

    loader = training(replace(make(16), read_image=read))
    rest = ids(list(loader.epoch(5, start_step=3)))
    assert sorted(decoded) == sorted(image for step in rest for image in step[0])


def test_resuming_inside_an_epoch_gives_the_rest_of_it() -> None:
    loader = training(make(16))
    whole = list(loader.epoch(5))
    rest = list(loader.epoch(5, start_step=3))
    assert len(rest) == 1
    assert ids(rest) == ids(whole[3:])
    assert torch.equal(rest[0][0][0][0], whole[3][0][0][0])
    assert list(loader.epoch(5, start_step=4)) == []


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_global_random_numbers_stay_untouched(num_workers: int) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    loader = training(make(6), config=Loader(num_workers=num_workers))
    list(loader.epoch(0))
    loader.sample_batch()
    list(evaluation_loader(make(3), 2, 0, 1, Loader(num_workers=num_workers)))
    assert torch.equal(before, torch.get_rng_state())


def test_batches_hold_wide_or_tall_images_but_for_the_leftovers() -> None:
    groups = np.arange(50) < 20
    plan = plan_epoch(groups, 8, seed=0, epoch=0)
    mixed = sum(len(set(groups[batch].tolist())) > 1 for batch in plan)
    assert len(plan) == 7
    assert mixed <= 2  # 4 tall and 6 wide are left over


def test_without_grouping_wide_and_tall_images_are_mixed() -> None:
    config = Loader(num_workers=0, group_by_aspect_ratio=False)
    steps = list(training(make(40, tall=20), 8, config).epoch(0))
    assert sum(len({target["image_id"] < 20 for target in step[0][1]}) > 1 for step in steps) >= 4


def test_the_loader_groups_by_the_shape_of_the_images() -> None:
    for step in training(make(32, tall=16), 8).epoch(0):
        assert len({tuple(image.shape) for image in step[0][0]}) == 1


def test_the_order_of_groups_is_random() -> None:
    firsts = {bool(plan_epoch(np.arange(32) < 16, 4, 0, epoch)[0, 0] < 16) for epoch in range(10)}
    assert firsts == {True, False}


def test_an_empty_dataset_is_an_error() -> None:
    with pytest.raises(UserError, match="must hold at least one image"):
        training(make(0))


def test_a_batch_without_an_image_for_every_part_is_an_error() -> None:
    with pytest.raises(UserError, match=r"training\.batch_size: must hold an image for each of 2 workers x 3 .* got 4"):
        training(make(4), world_size=2, accumulation=3)


def test_three_workers_share_a_batch_that_they_cannot_divide_evenly() -> None:
    whole = ids(list(training(make(21), 8).epoch(3)))
    ranks = [ids(list(training(make(21), 8, rank=r, world_size=3, accumulation=2).epoch(3))) for r in range(3)]
    for step, (expected,) in enumerate(whole):
        assert [[len(part) for part in rank[step]] for rank in ranks] == [[2, 1], [2, 1], [1, 1]]
        assert [[image for part in rank[step] for image in part] for rank in ranks] == [
            expected[r::3] for r in range(3)
        ]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unreadable_image_is_an_error_without_a_traceback(num_workers: int) -> None:
    good = make(2)
    broken = DetectionDataset(good.classes, good.category_ids, good.records, missing)
    with pytest.raises(UserError) as caught:
        list(training(broken, config=Loader(num_workers=num_workers)).epoch(0))
    assert len(str(caught.value).splitlines()) == 1


def test_the_sample_batch_is_the_first_one_with_an_object() -> None:
    dataset = make(12)
    only_last = [dataset.records.annotated(index) for index in range(12)]
    only_last = [image if image.image_id == 7 else image._replace(objects=[]) for image in only_last]
    sparse = DetectionDataset(dataset.classes, dataset.category_ids, Records.build(only_last), noise)
    plain = build_augmentation(Augmentation(horizontal_flip=0.5))
    loader = TrainingLoader(sparse, 4, 0, plain, IN_PROCESS, accumulation=2)
    sample = loader.sample_batch()
    assert sample is not None
    expected = next(part for step in loader.epoch(0) for part in step if any(t["image_id"] == 7 for t in part[1]))
    assert [target["image_id"] for target in sample[1]] == [target["image_id"] for target in expected[1]]
    assert all(torch.equal(one, other) for one, other in zip(sample[0], expected[0], strict=True))


def test_the_sample_batch_is_none_without_objects() -> None:
    assert training(make(6, objects=False)).sample_batch() is None


def test_a_sample_taken_during_an_epoch_does_not_disturb_it() -> None:
    loader = training(make(12), config=Loader(num_workers=1))
    steps = loader.epoch(0)
    seen = [next(steps)]
    loader.sample_batch()
    assert ids(seen + list(steps)) == ids(list(training(make(12)).epoch(0)))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_evaluation_goes_through_the_images_of_a_rank_in_order(num_workers: int) -> None:
    loader = evaluation_loader(make(7), 2, 1, 3, Loader(num_workers=num_workers))
    for _ in range(2):
        batches = list(loader)
        assert [[target["image_id"] for target in targets] for _, targets in batches] == [[1, 4]]
    assert len(loader) == 1
    assert torch.equal(batches[0][0][0], make(7).load(1)[0])


def test_evaluation_ranks_share_all_images_once() -> None:
    loaders = [evaluation_loader(make(7), 2, rank, 3, IN_PROCESS) for rank in range(3)]
    seen = [target["image_id"] for loader in loaders for _, targets in loader for target in targets]
    assert sorted(seen) == list(range(7))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_rank_without_images_has_no_batches(num_workers: int) -> None:
    assert list(evaluation_loader(make(1), 2, 1, 2, Loader(num_workers=num_workers))) == []


@pytest.mark.parametrize(("prefetch", "factor"), [(None, 2), (5, 5)])
def test_each_loader_process_has_the_set_number_of_batches_ready(prefetch: int | None, factor: int) -> None:
    loader = training(make(8), config=Loader(num_workers=1, prefetch=prefetch))
    assert loader._loader.prefetch_factor == factor


def test_loader_processes_stay_from_epoch_to_epoch() -> None:
    dataset = make(8)
    kept = DetectionDataset(dataset.classes, dataset.category_ids, dataset.records, process_number)
    loader = TrainingLoader(kept, 4, 0, build_augmentation(Augmentation(horizontal_flip=0)), Loader(num_workers=2))
    numbers = [{number_in(image) for image in images_by_id(loader, epoch).values()} for epoch in (0, 1)]
    assert len(numbers[0]) == 2
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_batch_comes_in_one_piece_of_memory(num_workers: int) -> None:
    for ((images, targets),) in training(make(8), config=Loader(num_workers=num_workers)).epoch(0):
        tensors = [*images, *(target["boxes"] for target in targets), *(target["labels"] for target in targets)]
        assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1


@dataclass(frozen=True)
class Broken:
    """Noise, but for the images in ``ids``, which cannot be read."""

    ids: tuple[int, ...]

    def __call__(self, record: Record) -> Tensor:
        if record.image_id in self.ids:
            raise UnreadableImageError(f"image {record.image_id}, {record.file}: must be a complete image")
        return noise(record)


def broken(count: int, *ids: int, replaces: bool = True) -> DetectionDataset:
    return replace(make(count), read_image=Broken(ids), replaces_unreadable=replaces)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_the_same_whether_bad_images_are_skipped_or_not_when_there_is_none(num_workers: int) -> None:
    config = Loader(num_workers=num_workers)
    strict = images_by_id(training(broken(9, replaces=False), config=config), epoch=1)
    assert same(strict, images_by_id(training(broken(9), config=config), epoch=1))


def test_an_unreadable_image_is_replaced_by_the_next_one_with_its_own_objects() -> None:
    loader = training(broken(6, 2, 3, 5))
    seen = [image for step in ids(list(loader.epoch(0))) for image in step[0]]
    intact = [image for step in ids(list(training(make(6)).epoch(0))) for image in step[0]]
    assert seen == [{2: 4, 3: 4, 5: 0}.get(image, image) for image in intact]


def test_a_replacement_is_augmented_like_the_image_it_stands_for() -> None:
    loader, intact = training(broken(2, 0), batch_size=2), training(make(2), batch_size=2)
    (((images, _),),) = loader.epoch(0)
    (((_, targets),),) = intact.epoch(0)
    seeds = {key.index: key for key in loader._parts(loader._plan(0)[0], 0)[0]}
    place = [target["image_id"] for target in targets].index(0)
    expected, _ = AUGMENTATION(*make(2).load(1), torch.Generator().manual_seed(seeds[0].seed))
    assert torch.equal(images[place], expected)


def test_batches_with_replaced_images_do_not_depend_on_loader_processes_or_ranks() -> None:
    dataset = broken(9, 0, 4, 8)
    alone = ids(list(training(dataset, 4).epoch(2)))
    assert ids(list(training(dataset, 4, Loader(num_workers=2)).epoch(2))) == alone
    for rank in range(2):
        part = ids(list(training(dataset, 4, rank=rank, world_size=2).epoch(2)))
        assert [step[0] for step in part] == [step[0][rank::2] for step in alone]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_replaced_image_is_warned_of_once(num_workers: int, caplog: pytest.LogCaptureFixture) -> None:
    loader = training(broken(6, 2, 3), config=Loader(num_workers=num_workers))
    with caplog.at_level(logging.WARNING, "raydistill"):
        loader.sample_batch()
        for epoch in range(2):
            list(loader.epoch(epoch))
    assert sorted(message.partition(",")[0] for message in caplog.messages) == ["image 2", "image 3"]
    assert all("the next image is trained on in its place" in message for message in caplog.messages)


def test_images_that_cannot_be_read_one_after_the_other_are_an_error() -> None:
    with pytest.raises(
        UserError, match=r"data\.on_bad_image: skip needs .* got 20 in a row .* The first: image \d+, \d+\.jpg"
    ):
        list(training(broken(40, *range(40)), config=Loader(num_workers=0)).epoch(0))
    with pytest.raises(UserError, match="got 3 in a row"):
        list(training(broken(3, 0, 1, 2)).epoch(0))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unreadable_image_ends_an_evaluation(num_workers: int) -> None:
    dataset = broken(4, 2, replaces=False)
    with pytest.raises(UserError, match="image 2, "):
        list(evaluation_loader(dataset, 2, 0, 1, Loader(num_workers=num_workers)))


def test_other_errors_of_a_reader_are_not_taken_for_a_bad_image() -> None:
    def full(record: Record) -> Tensor:
        raise UserError("loader.cache: no room")

    dataset = replace(make(4), read_image=full, replaces_unreadable=True)
    with pytest.raises(UserError, match=r"^loader\.cache: no room$"):
        list(training(dataset).epoch(0))
