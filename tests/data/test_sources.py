"""Images as a user names or gives them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from raydistill.data.images import PLAIN, Decoding, UnreadableImageError, read_image
from raydistill.data.sources import are_countable, source_images
from raydistill.errors import UserError

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
IMAGE = torch.from_numpy(COLOURS).permute(2, 0, 1).contiguous()


def pixels(given: Any, how: Decoding = PLAIN) -> torch.Tensor:
    (source,) = source_images(given, how)
    return source.read()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one in a folder of its own, among other files."""
    (tmp_path / "images" / "more").mkdir(parents=True)
    for name in ("b.png", "more/a.PNG", ".hidden.png"):
        Image.fromarray(COLOURS).save(tmp_path / "images" / name)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return tmp_path / "images"


def inner(given: Any) -> list[str]:
    return [source.inner for source in source_images(given)]


# Names ----------------------------------------------------------------------------------------------------------------
def test_a_folder_means_its_images_and_those_of_the_folders_in_it_by_name(folder: Path) -> None:
    assert inner(folder) == ["b.png", "more/a.PNG"]
    assert all(torch.equal(source.read(), IMAGE) for source in source_images(str(folder)))


def test_a_pattern_means_the_images_that_fit(folder: Path) -> None:
    assert inner(f"{folder}/*.png") == ["b.png"]
    assert inner(f"{folder}/**/*") == ["b.png", "more/a.PNG"]
    assert inner(folder / "more" / "[ab].PNG") == ["a.PNG"]


def test_a_pattern_is_looked_up_where_the_command_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert inner("*.png") == ["b.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_meant_itself(folder: Path) -> None:
    (folder / "b.png").rename(folder / "b[1].png")
    assert inner(folder / "b[1].png") == ["b[1].png"]


def test_a_list_may_mix_all_kinds_in_its_order(folder: Path) -> None:
    assert inner([folder / "more", COLOURS, str(folder / "b.png"), IMAGE]) == ["a.PNG", "image_1", "b.png", "image_2"]


def test_what_was_written_before_is_no_image_of_the_folder(folder: Path) -> None:
    assert [source.inner for source in source_images(folder, outside=folder / "more")] == ["b.png"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.png", "nowhere.png: must be an image, a folder, a pattern or a video, got nothing there"),
        ("*.png", r"must fit the names of images, got none of 0 that fit"),
        ("", "must hold images, got none"),
    ],
)
def test_where_there_is_no_image_that_is_said(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        list(source_images(tmp_path / name))


def test_what_is_no_image_is_refused_by_its_type() -> None:
    for given in (3, b"bytes", {"image": IMAGE}):
        with pytest.raises(UserError, match=r"^images: must be paths, folders, patterns, images or a list of these"):
            list(source_images(given))


def test_only_names_of_images_can_be_counted_before(folder: Path) -> None:
    assert are_countable([str(folder), folder / "b.png"])
    assert not are_countable(["film.mp4"])
    assert not are_countable(iter([str(folder)]))
    assert not are_countable([IMAGE])


def test_a_broken_file_is_named_without_advice_about_annotations(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(UnreadableImageError, match=r"a\.png: must be a complete image, got: [^;]*$"):
        pixels(tmp_path / "a.png")


def test_a_generator_is_gone_through_image_by_image() -> None:
    asked = []

    def frames() -> Iterator[torch.Tensor]:
        for number in range(3):
            asked.append(number)
            yield IMAGE

    sources = source_images(frames())
    assert asked == []
    assert next(sources).name == "image 1"
    assert asked == [0]


# Values ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "given",
    [
        Image.fromarray(COLOURS),
        COLOURS,
        COLOURS[:, ::-1][:, ::-1],  # with negative strides
        IMAGE,
        IMAGE / 255,
        (IMAGE / 255).numpy().transpose(1, 2, 0),
        np.dstack([COLOURS, np.full((6, 8), 255, np.uint8)]),
        COLOURS.astype(np.uint16) * 257,
        (COLOURS.astype(np.int32) * 257 - 32768).astype(np.int16),
    ],
)
def test_an_image_is_the_same_in_every_form(given: Any) -> None:
    found = pixels(given)
    assert found.dtype == torch.uint8
    assert found.is_contiguous()
    assert torch.equal(found, IMAGE)


@pytest.mark.parametrize(
    "given", [COLOURS[..., 0], COLOURS[..., :1], IMAGE[0], IMAGE[:1], Image.fromarray(COLOURS[..., 0])]
)
def test_grey_becomes_three_equal_channels(given: Any) -> None:
    assert torch.equal(pixels(given), IMAGE[:1].expand(3, -1, -1))


def test_several_in_one_array_are_images_one_by_one() -> None:
    for several in (torch.stack([IMAGE, IMAGE]), np.stack([COLOURS, COLOURS])):
        assert [torch.equal(source.read(), IMAGE) for source in source_images(several)] == [True, True]


def test_opacity_is_laid_over_white_or_ignored_as_the_weights_have_it() -> None:
    clear = np.dstack([COLOURS, np.zeros((6, 8), np.uint8)])
    assert (pixels(clear) == 255).all()
    assert torch.equal(pixels(clear, Decoding(alpha="ignore")), IMAGE)


def test_numbers_have_the_range_that_the_weights_say() -> None:
    deep = COLOURS.astype(np.uint16) * 16
    assert torch.equal(pixels(deep, Decoding(pixel_range=(0, 4080))), IMAGE)
    assert torch.equal(pixels(deep.astype(np.float32), Decoding(pixel_range=(0, 4080))), IMAGE)


def test_an_orientation_is_carried_out_as_in_files(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(COLOURS).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        turned = pixels(opened)
    assert turned.shape == (3, 8, 6)
    assert torch.equal(turned, read_image(tmp_path / "turned.png"))


@pytest.mark.parametrize(
    "given",
    [IMAGE.permute(1, 2, 0), COLOURS.transpose(2, 0, 1), IMAGE.float(), IMAGE.bool(), np.zeros((0, 3, 3), np.uint8)],
)
def test_what_is_no_image_of_colours_is_refused_by_its_shape(given: Any) -> None:
    with pytest.raises(UserError, match=r"^image 1: must be an image \(Pillow's, an array .*, got (Tensor|ndarray) \["):
        pixels(given)


# Videos ---------------------------------------------------------------------------------------------------------------
def test_a_video_is_its_frames(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in (0, 120, 250):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = list(source_images(tmp_path / "film.mp4"))
    assert [frame.inner for frame in frames] == [f"film.mp4/00000{n}" for n in (1, 2, 3)]
    levels = [frame.read().float().mean().item() for frame in frames]
    assert levels == pytest.approx([0, 120, 250], abs=6)


def test_a_broken_video_is_named(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "film.mp4").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"film\.mp4: must be a complete video, got: "):
        list(source_images(tmp_path / "film.mp4"))
