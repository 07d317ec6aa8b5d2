"""Data on an object store, on a real S3 server on this machine."""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from raydistill.config import CocoData, Downloads, Loader, load_config
from raydistill.data.build import Splits, build_splits
from raydistill.data.dataset import DetectionDataset
from raydistill.data.discover import open_dataset
from raydistill.data.image_folder import ImageFolder
from raydistill.data.images import UnreadableImageError
from raydistill.data.loading.augmentation import build_augmentation
from raydistill.data.loading.loaders import TrainingLoader
from raydistill.data.readable import check_readable
from raydistill.errors import UserError
from raydistill.storage import retry
from raydistill.storage.remote_path import RemotePath, file_or_folder, place_at
from raydistill.storage.store import Store, store
from tests.data.conftest import CocoFolder
from tests.data.exports import EXPORTS
from tests.data.formats.test_voc import SIZE, thing, write_image
from tests.object_store import BUCKET, S3Server, s3_server
from tests.store_proxy import Proxy, proxy_of

SPLITS = ("train", "val")


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture
def place(server: S3Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A place of the test's own, written to without the proxy."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    return store(f"s3://{BUCKET}/{re.sub('[^a-z0-9]', '-', request.node.name)}")


@pytest.fixture
def proxy(server: S3Server, place: Store) -> Iterator[Proxy]:
    with proxy_of(server.url) as proxy:  # after ``place``
        yield proxy


@pytest.fixture
def downloads(tmp_path: Path) -> Downloads:
    return Downloads(folder=str(tmp_path / "downloads"))


def upload(folder: Path, place: Store) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            place.put(file, str(file.relative_to(folder)))


@pytest.fixture
def coco(tmp_path: Path, place: Store) -> Path:
    """A COCO folder of two images that was uploaded; its one split serves for training and validation."""
    CocoFolder(tmp_path / "coco").write()
    upload(tmp_path / "coco", place)
    return tmp_path / "coco"


def coco_splits(root: object, downloads: Downloads, **changes: Any) -> Splits:
    paths = {"train_images": "val", "train_annotations": "annotations/val.json"}
    data = {"format": "coco", "root": str(root), **paths, **changes}
    return build_splits(load_config("quickstart", [f"data={json.dumps(data)}"]).data, downloads)


def pixels(dataset: DetectionDataset) -> list[torch.Tensor]:
    return [dataset.load(index)[0] for index in range(len(dataset))]


def same(dataset: DetectionDataset, other: DetectionDataset) -> bool:
    images = zip(pixels(dataset), pixels(other), strict=True)
    return dataset.ground_truth == other.ground_truth and all(torch.equal(ours, theirs) for ours, theirs in images)


def test_coco_from_a_store_is_what_the_folder_gives(place: Store, coco: Path, downloads: Downloads) -> None:
    for theirs, ours in zip(coco_splits(place.uri, downloads), coco_splits(coco, downloads), strict=True):
        assert (theirs is None) == (ours is None)
        assert ours is None or theirs is None or same(theirs, ours)


def test_voc_from_a_store_is_what_the_folder_gives(tmp_path: Path, place: Store, downloads: Downloads) -> None:
    root = tmp_path / "voc"
    write_image(root, "one", SIZE + thing("dog", (5, 6, 15, 16)))
    write_image(root, "two", SIZE + thing("cat", (5, 6, 15, 16)), suffix=".png")
    write_image(root, "more/one", SIZE + thing("cat", (5, 6, 15, 17)))
    Image.new("RGB", (40, 30), "red").save(root / "JPEGImages" / "more" / "one.jpg")
    upload(root, place)
    data = {"format": "voc", "train_split": "train", "val_split": "train"}
    there, here = (
        build_splits(load_config("quickstart", [f"data={json.dumps({**data, 'root': str(folder)})}"]).data, downloads)
        for folder in (place.uri, root)
    )
    assert there.train.classes == ("cat", "dog")
    assert same(there.train, here.train)
    assert same(there.val, here.val)


@pytest.mark.parametrize("address", ["", "/", "/annotations/val.json"])
def test_evaluation_opens_a_folder_or_an_annotations_file_on_a_store(
    place: Store, coco: Path, downloads: Downloads, address: str
) -> None:
    assert same(open_dataset(f"{place.uri}{address}", downloads=downloads), open_dataset(str(coco)))


def test_the_second_start_costs_two_listings_and_no_image(
    proxy: Proxy, place: Store, coco: Path, downloads: Downloads
) -> None:
    coco_splits(place.uri, downloads)
    assert len(proxy.requests) == 5  # is it a file, what is there, the annotations, two images
    proxy.requests.clear()
    pixels(coco_splits(place.uri, downloads).train)
    assert [request for request in proxy.requests if ".png" in request or ".json" in request] == []
    assert len(proxy.requests) <= 4


def test_of_what_changed_only_that_is_fetched_again(
    proxy: Proxy, place: Store, coco: Path, downloads: Downloads
) -> None:
    before = coco_splits(place.uri, downloads).train
    Image.new("RGB", (40, 30), "red").save(coco / "val" / "a.png", compress_level=0)
    place.put(coco / "val" / "a.png", "val/a.png")
    proxy.requests.clear()
    after = coco_splits(place.uri, downloads).train
    fetched = [request for request in proxy.requests if request.startswith("GET") and ".png" in request]
    assert len(fetched) == 1
    assert pixels(after)[0][:, 0, 0].tolist() == [255, 0, 0]
    assert isinstance(before.read_image, ImageFolder)
    assert isinstance(after.read_image, ImageFolder)
    assert before.read_image.fingerprint(before.records) != after.read_image.fingerprint(after.records)


def test_an_object_of_the_same_size_that_came_within_the_same_second_is_another_one(
    place: Store, downloads: Downloads
) -> None:
    for content in (b"one", b"two"):
        place.write(content, "file")
        for listed in (file_or_folder(f"{place.uri}/file", downloads.cache), place_at(place.uri, downloads.cache)):
            assert (listed if listed.is_file() else listed / "file").read_bytes() == content


def test_the_size_of_what_is_fetched_is_told(
    place: Store, coco: Path, downloads: Downloads, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        coco_splits(place.uri, downloads)
    assert caplog.messages[0] == "data: fetching 2 images (1 kB)"


def test_a_missing_object_is_told_like_a_missing_file(place: Store, coco: Path, downloads: Downloads) -> None:
    place.delete("val/a.png")
    name = f"{place.uri}/val/a.png"
    with pytest.raises(UserError, match=rf"image 3 \(a\.png\): {name}: the image file must exist; put it there"):
        coco_splits(place.uri, downloads)


def test_a_missing_object_can_be_skipped(
    place: Store, coco: Path, downloads: Downloads, caplog: pytest.LogCaptureFixture
) -> None:
    place.delete("val/b.png")
    assert len(coco_splits(place.uri, downloads, on_bad_image="skip").train) == 1
    assert "left out 1 of 2 images that cannot be read (data.on_bad_image=skip): b.png" in caplog.text


def test_an_object_that_vanishes_after_the_start_is_an_unreadable_image(
    place: Store, coco: Path, downloads: Downloads
) -> None:
    train = coco_splits(place.uri, downloads).train
    place.delete("val/a.png")
    pixels(train)  # this machine has it
    shutil.rmtree(str(downloads.folder))
    with pytest.raises(UnreadableImageError, match=rf"image 3, {place.uri}/val/a\.png: the image file must exist"):
        train.load(0)


def test_annotations_that_are_not_there_are_told_with_those_that_are(
    place: Store, coco: Path, downloads: Downloads
) -> None:
    with pytest.raises(UserError) as caught:
        coco_splits(place.uri, downloads, val_annotations="annotations/test.json")
    there = f"{place.uri}/annotations/val.json"
    assert str(caught.value).endswith(f"annotations file must exist; JSON files near it: {there}")


def test_a_place_without_objects_and_a_missing_bucket_are_sentences(place: Store, downloads: Downloads) -> None:
    with pytest.raises(UserError, match=rf"^{place.uri}: must be a file or folder on the object store, got nothing"):
        coco_splits(place.uri, downloads)
    with pytest.raises(UserError, match=r"^s3://nobodys/coco: must be on an object store .* NoSuchBucket: "):
        coco_splits("s3://nobodys/coco", downloads)


def test_data_larger_than_the_limit_is_fetched_again_with_a_warning(
    place: Store, coco: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = Downloads(folder=str(tmp_path / "small"), max_gb=100e-9)
    train = coco_splits(place.uri, small).train
    assert "downloads.max_gb=1e-07 keeps less: they are fetched again and again; raise it" in caplog.text
    for _ in range(2):
        assert all(map(torch.equal, pixels(train), pixels(coco_splits(coco, small).train)))
    assert sum(file.stat().st_size for file in (tmp_path / "small").glob("*/*")) < 200


def test_a_loader_process_waits_for_a_store_that_fails_for_a_while(
    proxy: Proxy, place: Store, coco: Path, downloads: Downloads
) -> None:
    train = coco_splits(place.uri, downloads).train
    shutil.rmtree(str(downloads.folder))
    loader = TrainingLoader(
        train, 2, 0, build_augmentation(load_config("quickstart").augmentation), Loader(num_workers=1)
    )
    proxy.failures = 1
    started = time.monotonic()
    ((images, _),) = next(loader.epoch(0))
    assert time.monotonic() - started >= retry.WAITS[0]
    assert proxy.failures == 0
    assert sorted(image.shape[1] for image in images) == [30, 50]


@pytest.mark.parametrize("skip", [False, True])
def test_a_store_that_does_not_come_back_is_a_sentence_and_no_broken_image(
    proxy: Proxy, place: Store, coco: Path, downloads: Downloads, monkeypatch: pytest.MonkeyPatch, skip: bool
) -> None:
    train = coco_splits(place.uri, downloads, on_bad_image="skip" if skip else "error").train
    shutil.rmtree(str(downloads.folder))
    monkeypatch.setattr(retry, "time", SimpleNamespace(sleep=lambda _: None))
    proxy.failures = 10**6
    with pytest.raises(UserError, match=r"a\.png: must be on an object store that can be reached") as caught:
        train.load(0)
    assert not isinstance(caught.value, UnreadableImageError)


def test_a_folder_on_a_store_globs_like_one_here(place: Store, coco: Path, downloads: Downloads) -> None:
    read_image = coco_splits(place.uri, downloads).train.read_image
    assert isinstance(read_image, ImageFolder)
    assert isinstance(read_image.folder, RemotePath)
    root = read_image.folder.parent
    for pattern in ("*", "*.json", "*/*.json", "*/", "*/*", "v*/", "annotations/*.json"):
        here = {str(found.relative_to(coco)) for found in coco.glob(pattern) if pattern[-1] == "/" or found.is_file()}
        assert {str(found).removeprefix(f"{place.uri}/") for found in root.glob(pattern)} == here, pattern


def test_what_is_said_of_a_folder_is_said_of_a_store(
    tmp_path: Path, place: Store, downloads: Downloads, caplog: pytest.LogCaptureFixture
) -> None:
    coco = CocoFolder(tmp_path / "coco")
    corners = [[x, y, x + 9, y + 9] for x in (20, 25, 28) for y in (12, 16, 19)]
    coco.content["annotations"] = [coco.box(number, 3, 9, box) for number, box in enumerate(corners, start=1)]
    coco.write()
    upload(tmp_path / "coco", place)
    coco_splits(place.uri, downloads)
    assert "9 of 9 boxes do not lie in their images as [x, y, width, height] in pixels, and 0 as [x1, y1" in caplog.text
    for annotation in coco.content["annotations"]:
        annotation["iscrowd"] = 1
    coco.write()
    upload(tmp_path / "coco", place)
    data = CocoData(format="coco", root=place.uri, **{f"{name}_annotations": "annotations/val.json" for name in SPLITS})
    with pytest.raises(
        UserError, match=r"data\.train_annotations: must have an object .* 9 as crowds .*s3://.*val\.json"
    ):
        check_readable(data, downloads)
    with pytest.raises(
        UserError, match=r"data\.train_annotations: must have an object .* 9 as crowds .*s3://.*val\.json"
    ):
        coco_splits(place.uri, downloads)


def test_values_far_below_their_range_are_an_error_on_a_store(
    tmp_path: Path, place: Store, downloads: Downloads
) -> None:
    coco = CocoFolder(tmp_path / "coco")
    for name, shape in (("a.png", (30, 40)), ("b.png", (50, 20))):
        Image.fromarray(np.linspace(0, 4095, shape[0] * shape[1]).astype(np.uint16).reshape(shape)).save(
            coco.images / name
        )
    coco.write()
    upload(tmp_path / "coco", place)
    with pytest.raises(UserError, match=r"data\.pixel_range: must be given, got 0 to 4095 .* set it to \[0, 4095\]"):
        coco_splits(place.uri, downloads)
    theirs, ours = (
        coco_splits(root, downloads, pixel_range=[0, 4095]).train for root in (place.uri, tmp_path / "coco")
    )
    assert same(theirs, ours)
    assert int(theirs.load(0)[0].max()) == 255


@pytest.mark.parametrize("export", EXPORTS)
def test_an_export_on_a_store_is_what_the_folder_gives(
    export: str, tmp_path: Path, place: Store, downloads: Downloads
) -> None:
    write, settings = EXPORTS[export]
    write(tmp_path / "export")
    upload(tmp_path / "export", place)
    roots = (str(tmp_path / "export"), place.uri)
    ours, theirs = (
        build_splits(load_config("quickstart", {"data": {**settings, "root": root}}).data, downloads) for root in roots
    )
    assert same(theirs.train, ours.train) and same(theirs.val, ours.val)


def test_names_that_look_alike_are_found_on_a_store(
    tmp_path: Path, place: Store, downloads: Downloads, caplog: pytest.LogCaptureFixture
) -> None:
    coco = CocoFolder(tmp_path / "coco")
    (coco.images / "a.png").rename(coco.images / "A 1.png")
    coco.content["images"][0]["file_name"] = "a%201.PNG"
    coco.write()
    write_image(tmp_path / "voc", "IMG 1", SIZE + thing("cat", (5, 5, 9, 9)))
    (tmp_path / "voc" / "ImageSets" / "Main" / "train.txt").write_bytes("img 1.jpg\r\n".encode("utf-16"))
    upload(tmp_path, place)
    train = coco_splits(f"{place.uri}/coco", downloads).train
    assert [record.file for record in train.records] == ["A 1.png", "b.png"]
    assert train.load(0)[0].shape == (3, 30, 40)
    voc = open_dataset(f"{place.uri}/voc", "train", classes=["cat"], downloads=downloads)
    assert [record.file for record in voc.records] == ["IMG 1.jpg"]
    assert voc.records[0].boxes.tolist() == [[4, 4, 9, 9]]
    assert len([message for message in set(caplog.messages) if "read as another that looks alike" in message]) == 2
