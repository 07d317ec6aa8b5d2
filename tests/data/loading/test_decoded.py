"""Tests of raydistill.data.loading.decoded."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from raydistill.config import CocoData, Loader, ShapesData, load_config
from raydistill.config.sections import Augmentation, Input
from raydistill.data.build import build_datasets
from raydistill.data.dataset import AnnotatedImage, AnnotatedObject, DetectionDataset, Record, Records
from raydistill.data.formats.coco import read_coco
from raydistill.data.formats.shapes import make_shapes
from raydistill.data.image_folder import ImageFolder
from raydistill.data.loading import decoded
from raydistill.data.loading.augmentation import build_augmentation
from raydistill.data.loading.decoded import cached, for_training, stored_sizes
from raydistill.data.loading.loaders import TrainingLoader
from raydistill.errors import UserError
from raydistill.structures import Target
from tests.data.conftest import CocoFolder

SIZES = [(60, 40), (41, 63), (20, 12), (90, 30)]  # the third is smaller than the training size
SMALL = Input(min_size=24, max_size=36)


@dataclass(frozen=True)
class Noise:
    """Noise whose reading leaves a file behind, so that it can be counted across processes."""

    log: Path | None = None
    version: str = "1"

    def __call__(self, record: Record) -> Tensor:
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{record.image_id}\n")
        generator = torch.Generator().manual_seed(record.image_id)
        return torch.randint(0, 256, (3, record.height, record.width), generator=generator, dtype=torch.uint8)

    def fingerprint(self, _records: Records) -> str:
        return self.version


def noise(source: Noise | None = None) -> DetectionDataset:
    """Return an image of each of SIZES with two boxes; ids are not in order."""
    boxes = [(2.5, 3.0, 10.0, 7.25), (0.0, 0.0, 12.0, 11.0)]
    objects = [AnnotatedObject(label, box, box[2] * box[3], False) for label, box in enumerate(boxes, 1)]
    images = [AnnotatedImage(50 - index, f"{index}.png", *size, objects) for index, size in enumerate(SIZES)]
    return DetectionDataset(("a", "b"), (1, 2), Records.build(images), source or Noise())


class Prepared(NamedTuple):
    pixels: Tensor  # [3, H, W], 0 to 1
    target: Target


def prepared(dataset: DetectionDataset, index: int, size: Input = SMALL) -> Prepared:
    """Return an image and its boxes as torchvision's transform resizes them."""
    transform = GeneralizedRCNNTransform(size.min_size, size.max_size, [0.0] * 3, [1.0] * 3, size_divisible=1)
    image, target = dataset.load(index)
    batch, targets = transform([image.float() / 255], [dict(target)])
    return Prepared(batch.tensors[0], targets[0])


def reads(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


# ------------------------------------------------------------------------------------------------------- what comes out
def test_images_that_are_shrunk_differ_by_half_a_grey_level_at_most(tmp_path: Path) -> None:
    plain, kept = noise(), cached(noise(), tmp_path, SMALL)
    for _ in ("written", "read"):
        for index in range(len(plain)):
            difference = (prepared(kept, index).pixels - prepared(plain, index).pixels).abs().max().item()
            assert difference <= 0.5 / 255 + 1e-5
    assert kept.load(0)[0].shape == (3, 24, 36)


def test_boxes_in_the_resized_frame_are_those_without_a_cache(tmp_path: Path) -> None:
    plain, kept = noise(), cached(noise(), tmp_path, SMALL)
    for index in range(len(plain)):
        assert torch.allclose(prepared(kept, index).target["boxes"], prepared(plain, index).target["boxes"], atol=1e-5)
    assert kept.load(0)[1]["boxes"][1].tolist() == pytest.approx([0, 0, 12 * 36 / 60, 11 * 24 / 40])


def test_a_smaller_image_keeps_its_pixels_and_boxes(tmp_path: Path) -> None:
    image, target = cached(noise(), tmp_path, SMALL).load(2)
    assert torch.equal(image, noise().load(2)[0])
    assert torch.equal(target["boxes"], noise().load(2)[1]["boxes"])


def test_without_a_size_all_images_are_the_same_to_the_bit(tmp_path: Path) -> None:
    kept = cached(noise(), tmp_path, None)
    for _ in ("written", "read"):
        assert all(torch.equal(kept.load(index)[0], noise().load(index)[0]) for index in range(len(SIZES)))


@pytest.mark.parametrize(("smallest", "largest"), [(24, 36), (64, 64), (128, 176), (256, 341), (800, 1333)])
def test_the_transform_leaves_stored_sizes_as_they_are_or_does_what_it_always_did(smallest: int, largest: int) -> None:
    size = Input(min_size=smallest, max_size=largest)
    number = 400 if largest < 1000 else 40
    own = np.random.default_rng(0).integers(2, 3 * largest, (number, 2)).astype(np.int32)
    stored = stored_sizes(own, size)
    transform = GeneralizedRCNNTransform(smallest, largest, [0.0], [1.0], size_divisible=1)
    shrunk = 0
    for (width, height), (small_width, small_height) in zip(own.tolist(), stored.tolist(), strict=True):
        if (width, height) != (small_width, small_height):
            shrunk += 1
            expected = transform.resize(torch.zeros(1, height, width))[0].shape
            assert transform.resize(torch.zeros(1, small_height, small_width))[0].shape == expected
            assert expected == (1, small_height, small_width)
    assert shrunk > number / 4


def test_an_image_that_the_transform_would_resize_twice_keeps_its_size() -> None:
    once = decoded.transformed(65, 98, Input(min_size=64, max_size=64))
    assert max(once) == 63  # the rounding that this is about
    assert stored_sizes(np.array([[65, 98]], dtype=np.int32), Input(min_size=64, max_size=64)).tolist() == [[65, 98]]


def test_the_annotations_stay_as_they_are(tmp_path: Path) -> None:
    kept = cached(noise(), tmp_path, SMALL)
    assert kept.ground_truth == noise().ground_truth


def test_images_are_found_in_a_part_of_the_dataset_too(tmp_path: Path) -> None:
    kept = cached(noise(), tmp_path, None)
    part = replace(kept, records=Records.build([kept.records.annotated(index) for index in (3, 1)]))
    for _ in ("written", "read"):
        assert torch.equal(part.load(0)[0], noise().load(3)[0])


# -------------------------------------------------------------------------------------------------------------- reading
def test_an_image_is_decoded_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(2):
        kept = cached(noise(Noise(log)), tmp_path / "cache", SMALL)
        for index in (1, 3, 1):
            kept.load(index)
    assert sorted(reads(log)) == [47, 49]


def test_loader_processes_and_epochs_share_the_images(tmp_path: Path) -> None:
    log = tmp_path / "log"
    kept = cached(noise(Noise(log)), tmp_path / "cache", SMALL)
    loader = TrainingLoader(kept, 2, 0, build_augmentation(Augmentation()), Loader(num_workers=2))
    for epoch in range(3):
        list(loader.epoch(epoch))
    assert set(reads(log)) == {47, 48, 49, 50}
    list(loader.epoch(3))
    assert len(reads(log)) == 4


def _read_all(dataset: DetectionDataset) -> list[bytes]:
    return [dataset.load(index)[0].numpy().tobytes() for index in range(len(dataset))]


def test_processes_that_write_at_the_same_time_get_the_same_images(tmp_path: Path) -> None:
    kept = cached(noise(), tmp_path, None)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        everything = pool.map(_read_all, [kept] * 12, chunksize=1)
    assert all(images == _read_all(noise()) for images in everything)


@pytest.mark.parametrize("harm", ["pixels", "cut", "removed"])
def test_an_image_that_was_not_written_to_its_end_is_decoded_again(tmp_path: Path, harm: str) -> None:
    kept = cached(noise(), tmp_path, None)
    _read_all(kept)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    if harm == "pixels":
        path.write_bytes(content[:16] + bytes(1000) + content[1016:])
    elif harm == "cut":
        os.truncate(path, len(content) - 1000)
    else:
        path.unlink()
    assert _read_all(kept) == _read_all(noise())
    assert path.read_bytes() == content


def test_a_writer_killed_before_the_checksum_leaves_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = cached(noise(), tmp_path, None)
    pwrite, writes = os.pwrite, []

    def dies_at_the_second(file: int, content: bytes, start: int) -> int:
        writes.append(start)
        if len(writes) == 2:
            raise KeyboardInterrupt
        return pwrite(file, content, start)

    monkeypatch.setattr(os, "pwrite", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        kept.load(0)
    monkeypatch.undo()
    (path,) = tmp_path.iterdir()
    assert writes == [16, 0]
    assert path.read_bytes()[:4] == bytes(4)
    assert torch.equal(kept.load(0)[0], noise().load(0)[0])


def test_a_cached_dataset_can_be_sent_to_another_process(tmp_path: Path) -> None:
    kept = pickle.loads(pickle.dumps(cached(noise(), tmp_path, SMALL)))
    assert kept.load(0)[0].shape == (3, 24, 36)


# --------------------------------------------------------------------------------------------------------- which pixels
@pytest.mark.parametrize("other", ["image", "size", "source", "shrinking"])
def test_what_decides_the_pixels_decides_the_file(tmp_path: Path, other: str) -> None:
    log = tmp_path / "log"
    folder = tmp_path / "cache"
    _read_all(cached(noise(Noise(log)), folder, SMALL))
    dataset, size = noise(Noise(log)), SMALL
    if other == "image":
        dataset = replace(dataset, records=Records.build([dataset.records.annotated(index) for index in range(3)]))
    elif other == "size":
        size = Input(min_size=20, max_size=36)
    elif other == "source":
        dataset = noise(Noise(log, version="2"))
    kept = cached(dataset, folder, None if other == "shrinking" else size)
    before = len(reads(log))
    kept.load(0)
    assert len(reads(log)) == before + 1
    assert len(list(folder.iterdir())) == 2


def test_a_changed_image_file_is_decoded_again(coco_folder: CocoFolder, tmp_path: Path) -> None:
    arguments = coco_folder.write()
    folder = tmp_path / "cache"
    before = cached(read_coco(*arguments), folder, None).load(0)[0]
    Image.new("RGB", (40, 30), "red").save(coco_folder.images / "a.png")
    after = cached(read_coco(*arguments), folder, None).load(0)[0]
    assert before[:, 0, 0].tolist() == [0, 128, 128]
    assert after[:, 0, 0].tolist() == [255, 0, 0]


def test_a_file_of_the_same_length_but_another_time_is_another_file(coco_folder: CocoFolder) -> None:
    dataset = read_coco(*coco_folder.write())
    assert isinstance(dataset.read_image, ImageFolder)
    before = dataset.read_image.fingerprint(dataset.records)
    assert dataset.read_image.fingerprint(dataset.records) == before
    os.utime(coco_folder.images / "b.png", ns=(1, 1))
    assert dataset.read_image.fingerprint(dataset.records) != before


def test_generated_shapes_are_cached_by_their_settings(tmp_path: Path) -> None:
    for seed in (0, 1):
        plain = make_shapes(ShapesData(format="shapes", num_train=2, size=32, seed=seed), "train")
        kept = cached(plain, tmp_path, None)
        for _ in ("written", "read"):
            assert torch.equal(kept.load(1)[0], plain.load(1)[0])
    assert len(list(tmp_path.iterdir())) == 2


# --------------------------------------------------------------------------------------------------------------- errors
def test_a_disk_without_room_is_an_error_that_says_how_much_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(UserError, match=r"loader\.cache: .* must have room .*, 0\.0 GiB more, got 0\.0 GiB free"):
        cached(noise(), tmp_path, None)


def test_a_full_cache_needs_no_more_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _read_all(cached(noise(), tmp_path, None))
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    cached(noise(), tmp_path, None)


def test_a_disk_that_fills_up_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int, _content: bytes, _start: int) -> int:
        raise OSError(28, "No space left on device")

    kept = cached(noise(), tmp_path, None)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UserError, match=r"loader\.cache: .*No space left on device; make room") as caught:
        kept.load(0)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"loader\.cache: must be a folder to write to"):
        cached(noise(), tmp_path / "file", None)


def test_an_image_of_another_size_than_its_record_is_an_error_and_is_not_written(tmp_path: Path) -> None:
    kept = cached(noise(), tmp_path, None)
    assert isinstance(kept.read_image, decoded.CachedImages)
    turned = replace(kept.records[0], width=40, height=60)
    misreading = replace(kept.read_image, source=lambda _record: Noise()(turned))
    with pytest.raises(UserError, match="60 x 40, got 40 x 60"):
        misreading(kept.records[0])
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [0]


def test_a_source_that_cannot_say_what_it_reads_is_refused(tmp_path: Path) -> None:
    dataset = replace(noise(), read_image=lambda record: torch.zeros(3, record.height, record.width))
    with pytest.raises(UserError, match=r"loader\.cache: keeps images of files only"):
        cached(dataset, tmp_path, None)


# ------------------------------------------------------------------------------------------------------------- settings
def test_without_the_setting_the_dataset_stays_as_it_is() -> None:
    config = load_config("quickstart", ["data.num_train=2"])
    train, _ = build_datasets(config.data)
    assert for_training(train, config) is train


@pytest.mark.parametrize(("jitter", "side"), [("[1, 1]", 48), ("[0.8, 1.25]", 64)])
def test_with_scale_jitter_images_keep_their_size(tmp_path: Path, jitter: str, side: int) -> None:
    settings = ["input.min_size=48", "input.max_size=48", "data.num_train=2", f"augmentation.scale_jitter={jitter}"]
    config = load_config("quickstart", [*settings, f"loader.cache={tmp_path}"])
    train, _ = build_datasets(config.data)
    assert for_training(train, config).load(0)[0].shape == (3, side, side)


def test_batches_hold_the_same_images_with_and_without_a_cache(tmp_path: Path) -> None:
    # 41 x 40 is wide, and square when shrunk
    images = [AnnotatedImage(index, f"{index}", *((41, 40), (40, 41))[index % 2], []) for index in range(12)]
    plain = DetectionDataset(("a",), (1,), Records.build(images), Noise())
    square = Input(min_size=20, max_size=30)
    kept = cached(plain, tmp_path, square)
    assert kept.load(1)[0].shape == kept.load(0)[0].shape == (3, 20, 20)

    def ids(dataset: DetectionDataset) -> list[list[int]]:
        loader = TrainingLoader(dataset, 3, 0, build_augmentation(Augmentation()), Loader(num_workers=0))
        return [[target["image_id"] for target in targets] for ((_, targets),) in loader.epoch(0)]

    assert ids(kept) == ids(plain)


def test_a_real_data_set_is_cached(shared_data: Path, tmp_path: Path) -> None:
    train, _ = build_datasets(CocoData(format="coco", root=str(shared_data / "bccd")))
    size = Input(min_size=128, max_size=176)
    kept = cached(train, tmp_path, size)
    for index in (0, 100):
        one, other = prepared(train, index, size), prepared(kept, index, size)
        assert (one.pixels - other.pixels).abs().max() <= 0.5 / 255 + 1e-5
        assert torch.allclose(one.target["boxes"], other.target["boxes"], atol=1e-4)


def with_a_broken_image(folder: CocoFolder) -> DetectionDataset:
    """Return the folder's training split; the pixels of its second image are cut off."""
    path = folder.images / "b.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 20, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    folder.write()
    paths = {"train_images": "val", "train_annotations": "annotations/val.json", "on_bad_image": "skip"}
    return build_datasets(CocoData(format="coco", root=str(folder.images.parent), **paths))[0]


def test_a_broken_image_is_never_cached(coco_folder: CocoFolder, tmp_path: Path) -> None:
    kept = cached(with_a_broken_image(coco_folder), tmp_path / "kept", SMALL)
    (file,) = (tmp_path / "kept").glob("*.images")
    for _ in range(2):
        with pytest.raises(UserError, match=r"image 7, .*b\.png: must be a complete image"):
            kept.load(1)
    assert not any(file.read_bytes())
    kept.load(0)
    assert any(file.read_bytes())


def test_a_broken_image_is_replaced_the_same_with_and_without_a_cache(coco_folder: CocoFolder, tmp_path: Path) -> None:
    plain = with_a_broken_image(coco_folder)
    nothing = build_augmentation(Augmentation(horizontal_flip=0))
    for dataset in (plain, cached(plain, tmp_path / "kept", None)):
        (((images, targets),),) = TrainingLoader(dataset, 2, 0, nothing, Loader(num_workers=0)).epoch(0)
        assert [target["image_id"] for target in targets] == [3, 3]
        assert all(torch.equal(image, plain.load(0)[0]) for image in images)


@pytest.mark.parametrize("largest", [36, 333, 1333])
def test_images_too_narrow_to_be_resized_are_those_that_torchvision_fails_at(largest: int) -> None:
    config = load_config("quickstart", ["input.min_size=24", f"input.max_size={largest}"])
    transform = GeneralizedRCNNTransform(24, largest, [0.0], [1.0])
    failed = 0
    for width, height in [(largest + more, 1) for more in range(-2, 4)] + [
        (2, 2 * largest + more) for more in range(3)
    ]:
        images = [AnnotatedImage(1, "a.png", 60, 40, []), AnnotatedImage(2, "b.png", width, height, [])]
        dataset = DetectionDataset(("a",), (1,), Records.build(images), Noise())
        try:
            transform.resize(torch.zeros(1, height, width))
        except RuntimeError:
            failed += 1
            with pytest.raises(UserError, match=rf"got {largest} and b\.png \({width} x {height}\); crop"):
                for_training(dataset, config)
        else:
            assert for_training(dataset, config) is dataset
    assert failed == 5
