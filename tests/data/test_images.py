"""Tests of raydistill.data.images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, ExifTags, Image

from raydistill.data.image_formats import _formats
from raydistill.data.images import Decoding, image_size, read_image
from raydistill.errors import UserError
from tests.bad_input.images import EPS


def pixel(path: Path, x: int = 0, y: int = 0) -> list[int]:
    return read_image(path)[:, y, x].tolist()


def saved(image: Image.Image, path: Path) -> Path:
    image.save(path)
    return path


def test_a_colour_image_becomes_rgb_channels_first(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (4, 2), (10, 20, 30)), tmp_path / "a.png")
    image = read_image(path)
    assert image.shape == (3, 2, 4)
    assert str(image.dtype) == "torch.uint8"
    assert pixel(path) == [10, 20, 30]


def test_a_grey_image_has_three_equal_channels(tmp_path: Path) -> None:
    assert pixel(saved(Image.new("L", (2, 2), 77), tmp_path / "a.png")) == [77, 77, 77]


def test_a_1_bit_image_is_black_and_white(tmp_path: Path) -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    path = saved(image, tmp_path / "a.png")
    assert pixel(path, 0) == [0, 0, 0]
    assert pixel(path, 1) == [255, 255, 255]


def test_a_palette_image_has_the_colours_of_its_palette(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert pixel(saved(image, tmp_path / "a.png")) == [200, 100, 50]


def test_transparent_palette_entries_lie_over_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1), 1)
    image.putpixel((1, 0), 0)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / "a.png", transparency=0)
    assert pixel(tmp_path / "a.png", 0) == [200, 100, 50]
    assert pixel(tmp_path / "a.png", 1) == [255, 255, 255]


def test_half_transparent_pixels_are_mixed_with_white(tmp_path: Path) -> None:
    path = saved(Image.new("RGBA", (1, 1), (200, 0, 0, 51)), tmp_path / "a.png")
    assert pixel(path) == [244, 204, 204]  # a fifth of the colour and four fifths of white


def test_transparent_grey_lies_over_white(tmp_path: Path) -> None:
    assert pixel(saved(Image.new("LA", (1, 1), (10, 0)), tmp_path / "a.png")) == [255, 255, 255]


def test_a_transparent_colour_of_an_opaque_mode_lies_over_white(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png", transparency=(1, 2, 3))
    assert pixel(tmp_path / "a.png") == [255, 255, 255]


def test_cmyk_is_converted_to_rgb(tmp_path: Path) -> None:
    path = saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), tmp_path / "a.jpg")
    red, green, blue = pixel(path)
    assert red < 20
    assert green > 235
    assert blue > 235


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_by_its_full_range(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    path = saved(Image.fromarray(values), tmp_path / f"a.{suffix}")
    assert read_image(path)[0, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_every_exif_orientation_is_carried_out(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Stored so that the upright image, a white quarter at the top left of 32 x 16, appears after turning."""
    upright = Image.new("L", (32, 16))
    upright.paste(255, (0, 0, 16, 8))
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's number of the transposition that undoes it
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(inverse[orientation]))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"a.{suffix}"
    stored.save(path, exif=exif)

    image = read_image(path)

    assert image_size(path) == (32, 16)
    assert image.shape == (3, 16, 32)
    assert image[0, 2, 4] > 200
    assert image[0, 12, 4] < 50
    assert image[0, 2, 28] < 50
    assert image[0, 12, 28] < 50


def test_a_broken_exif_block_does_not_hinder(tmp_path: Path) -> None:
    Image.new("RGB", (5, 3)).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00nonsense")
    assert image_size(tmp_path / "a.jpg") == (5, 3)
    assert read_image(tmp_path / "a.jpg").shape == (3, 3, 5)


def test_the_size_needs_the_header_only(tmp_path: Path) -> None:
    path = saved(Image.effect_noise((64, 32), 50), tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:700])
    assert image_size(path) == (64, 32)


def test_a_truncated_image_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = saved(Image.effect_noise((64, 64), 50), tmp_path / "cut.jpg")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cut\.jpg: must be a complete image, got: .*truncated.*; replace"):
        read_image(path)


def test_a_file_that_is_no_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>not found</html>")
    with pytest.raises(UserError, match=r"a\.jpg: .*no known image format"):
        image_size(tmp_path / "a.jpg")


def test_a_missing_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.png: the image file must exist"):
        read_image(tmp_path / "gone.png")


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="floating point pixels have no known range"):
        read_image(saved(Image.new("F", (2, 2), 0.5), tmp_path / "a.tif"))


def test_no_file_is_handed_to_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **_: handed.append(arguments))
    (tmp_path / "a.png").write_bytes(EPS)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "EPS"  # as Pillow alone would open it
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=r"a\.png: must be a complete image, got: a PostScript program"):
            read(tmp_path / "a.png")
    assert handed == []


@pytest.mark.parametrize(
    ("form", "suffix"),
    [
        *(("WEBP", ".png"), ("BMP", ".jpg"), ("TIFF", ".tif"), ("PPM", ".jpg"), ("GIF", ""), ("TGA", ".png")),
        *(("JPEG2000", ".jpg"), ("QOI", ".png"), ("SGI", ".x"), ("PCX", ".png"), ("AVIF", ".png")),
    ],
)
def test_formats_are_told_by_the_content(tmp_path: Path, form: str, suffix: str) -> None:
    if form not in _formats():
        pytest.skip(f"this Pillow has no {form}")
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (16, 8), (200, 200, 200)).save(path, form)
    assert image_size(path) == (16, 8)
    assert abs(int(read_image(path)[0, 0, 0]) - 200) <= 2


def test_an_image_of_more_pixels_than_pillow_takes_is_read_where_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (200_000, 1000)).save(path)  # 25 kB
    with pytest.raises(UserError, match=r"must not have too many pixels, got 200 megapixels; raise data\.max_megap"):
        image_size(path)
    assert image_size(path, Decoding(most_pixels=200_000_000)) == (200_000, 1000)


def test_heic_is_read_where_its_reader_is_installed(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.new("RGB", (64, 48), (200, 100, 50))).save(tmp_path / "a.jpg")
    assert image_size(tmp_path / "a.jpg") == (64, 48)
    assert np.abs(read_image(tmp_path / "a.jpg").numpy().astype(int).mean((1, 2)) - (200, 100, 50)).max() < 4


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.99])
def test_an_avif_that_is_cut_off_is_an_error(tmp_path: Path, kept: float) -> None:
    if "AVIF" not in _formats():
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / "a.png"
    Image.effect_noise((64, 48), 50).convert("RGB").save(path, "AVIF")
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError, match=r"a\.png: must be a complete image, got: "):
        read_image(path)
