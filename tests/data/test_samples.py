"""Pixels that are no unsigned bytes become grey levels of the range that is meant, or an error says so at the start."""

# ruff: noqa: E501  (a row of a table is a line)
from __future__ import annotations

import logging
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from raydistill.api import score
from raydistill.config.sections import CocoData
from raydistill.data.build import build_splits
from raydistill.data.images import Decoding, read_image
from raydistill.data.loading.decoded import cached
from raydistill.detectors.two_stage.build import build_faster_rcnn
from raydistill.errors import UserError
from tests.data.conftest import CocoFolder
from tests.small import small_run

Array = NDArray[Any]
TWELVE = np.array([[0, 16, 2048, 4095]], np.uint16)
GREY = [0, 1, 128, 255]  # of these, of 12 bits
WIDE = np.array([[0, 257, 257 * 128, 65535]], np.uint16)


def tiff(
    values: Array,
    photometric: int = 1,
    kind: int = 1,
    bits: int = 0,
    byte_order: str = "<",
    compressed: bool = False,
    **tags: Any,
) -> bytes:
    """A TIFF of ``values`` [H, W] or [H, W, C], written by hand; ``tags`` as ``t338=(0,)``."""
    height, width = values.shape[:2]
    bands = values.shape[2] if values.ndim == 3 else 1
    pixels = values.astype(values.dtype.newbyteorder(byte_order)).tobytes()
    bits = bits or values.dtype.itemsize * 8
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(np.uint32)
        packed = pairs[:, 0] << 12 | pairs[:, 1]
        pixels = b"".join(int(pair).to_bytes(3, "big") for pair in packed)
    entries: dict[int, tuple[int, ...]] = {
        256: (width,), 257: (height,), 258: (bits,) * bands, 259: (1,), 262: (photometric,), 273: (8,), 277: (bands,),
        278: (height,), 279: (len(pixels),), 339: (kind,) * bands,
    }  # fmt: skip
    if compressed:
        pixels = zlib.compress(pixels)
        entries |= {259: (8,), 279: (len(pixels),)}
    entries |= {int(name[1:]): value for name, value in tags.items()}
    at = 8 + len(pixels) + len(pixels) % 2
    after = at + 2 + 12 * len(entries) + 4
    directory, beyond = struct.pack(f"{byte_order}H", len(entries)), b""
    for tag, numbers in sorted(entries.items()):
        raw = struct.pack(f"{byte_order}{len(numbers)}H", *numbers)
        if len(raw) > 4:
            raw, beyond = struct.pack(f"{byte_order}I", after + len(beyond)), beyond + raw
        directory += struct.pack(f"{byte_order}HHI", tag, 3, len(numbers)) + raw.ljust(4, b"\0")
    header = (b"II" if byte_order == "<" else b"MM") + struct.pack(f"{byte_order}HI", 42, at)
    return header + pixels + b"\0" * (len(pixels) % 2) + directory + b"\0\0\0\0" + beyond


def in_planes(planes: Array) -> dict[str, Any]:
    """The tags of a TIFF that holds ``planes`` [3, H, W] one after the other, up to 65535 bytes in all."""
    size = planes[0].nbytes
    bits = planes.dtype.itemsize * 8
    places = tuple(8 + size * number for number in range(3))
    height = {"t257": (planes.shape[1],), "t278": (planes.shape[1],)}
    return {
        **height,
        "t258": (bits,) * 3,
        "t273": places,
        "t277": (3,),
        "t279": (size,) * 3,
        "t284": (2,),
        "t339": (1,) * 3,
    }


def png(values: Array, colour: int) -> bytes:
    """A PNG of 16 bits a sample, written by hand."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape[:2]
    raw = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def pgm(values: Array, most: int) -> bytes:
    return f"P5 {values.shape[1]} {values.shape[0]} {most}\n".encode() + values.astype(">u2").tobytes()


def read(folder: Path, content: bytes, how: Decoding = Decoding()) -> Array:  # noqa: B008  (frozen)
    path = folder / "image"
    path.write_bytes(content)
    return read_image(path, how).numpy()


SIGNED = np.array([[-32768, -1, 0, 32767]], np.int16)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (tiff(WIDE), [0, 1, 128, 255]),
        (tiff(WIDE, byte_order=">"), [0, 1, 128, 255]),
        (tiff(TWELVE, bits=12), GREY),
        (tiff(TWELVE, t281=(4095,)), GREY),
        (tiff(WIDE // 16, t281=(3000,)), [0, 0, 8, 16]),  # what is largest in it is no number of bits
        (pgm(TWELVE, 4095), GREY),
        (pgm(WIDE, 65535), [0, 1, 128, 255]),
        (png(WIDE, 0), [0, 1, 128, 255]),
        (tiff(WIDE, photometric=0), [255, 254, 127, 0]),
        (tiff(TWELVE, photometric=0, t281=(4095,)), [255, 254, 127, 0]),
        (tiff(np.array([[0, 1, 128, 255]], np.uint8), photometric=0), [255, 254, 127, 0]),
        (tiff(SIGNED, kind=2), [0, 127, 128, 255]),
        (tiff(SIGNED, kind=2, byte_order=">"), [0, 127, 128, 255]),
        (tiff(np.array([[-128, -1, 0, 127]], np.int8), kind=2), [0, 127, 128, 255]),
        (tiff(np.array([[0, 2**31, 2**32 - 1]], np.uint32)), [0, 128, 255]),
        (tiff(np.array([[-(2**31), 0, 2**31 - 1]], np.int32), kind=2), [0, 128, 255]),
    ],
    ids=lambda value: "" if isinstance(value, list) else None,
)
def test_grey_values_are_read_by_the_full_range_or_by_the_one_that_the_file_declares(
    tmp_path: Path, content: bytes, expected: list[int]
) -> None:
    assert read(tmp_path, content).tolist() == [[expected]] * 3


COMPRESSED: list[Array] = [
    np.array([[0, 9000, 65535]], np.uint16),
    np.array([[-32768, -2000, -1, 0, 5, 32767]], np.int16),
    np.array([[-(2**31), -2000, 0, 2**31 - 1]], np.int32),
    np.array([[-1.5, 0.0, 2000.0, 1e9]], np.float32),
]


@pytest.mark.parametrize("values", COMPRESSED, ids=lambda values: str(values.dtype))
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_compressed_values_are_those_of_the_file_in_either_order_of_bytes(
    tmp_path: Path, values: Array, byte_order: str
) -> None:
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    how = Decoding(pixel_range=(-2000, 2000))
    plain, packed = (
        read(tmp_path, tiff(values, kind=kind, byte_order=byte_order, compressed=compressed), how)
        for compressed in (False, True)
    )
    exact = (values.astype(float).clip(-2000, 2000) + 2000) * 255 / 4000
    assert plain.tolist() == packed.tolist()
    assert packed[0].tolist() == np.floor(exact + 0.5).astype(int).tolist()


TWELVE_BITS = Decoding(pixel_range=(0, 4095))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (tiff(TWELVE), GREY),
        (tiff(TWELVE, byte_order=">"), GREY),
        (png(TWELVE, 0), GREY),
        (tiff(TWELVE, photometric=0), [255, 254, 127, 0]),
        (tiff(TWELVE.astype(np.int16), kind=2), GREY),
        (tiff(TWELVE.astype(np.uint32)), GREY),
        (tiff(TWELVE.astype(np.float32), kind=3), GREY),
        (tiff(np.array([[-5.0, np.nan, 2048.0, 1e9]], np.float32), kind=3), [0, 0, 128, 255]),
        (tiff(np.array([[0, 1, 128, 255]], np.uint8)), [0, 1, 128, 255]),  # of bytes nothing changes
    ],
    ids=lambda value: "" if isinstance(value, list) else None,
)
def test_grey_values_are_read_by_the_range_that_is_set(tmp_path: Path, content: bytes, expected: list[int]) -> None:
    assert read(tmp_path, content, TWELVE_BITS).tolist() == [[expected]] * 3


@pytest.mark.parametrize("form", ["png", "tiff little", "tiff big", "tiff little packed", "tiff big packed"])
def test_all_bits_of_a_colour_are_read_by_the_range_that_is_set(tmp_path: Path, form: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4096, (5, 7, 3)).astype(np.uint16)
    content = {
        "png": lambda: png(values, 2),
        "tiff little": lambda: tiff(values, photometric=2),
        "tiff big": lambda: tiff(values, photometric=2, byte_order=">"),
        "tiff little packed": lambda: tiff(values, photometric=2, compressed=True),
        "tiff big packed": lambda: tiff(values, photometric=2, byte_order=">", compressed=True),
    }[form]()
    expected = ((values.astype(int) * 255 + 2047) // 4095).transpose(2, 0, 1)
    assert (read(tmp_path, content, TWELVE_BITS) == expected).all()
    assert (read(tmp_path, content) == (values >> 8).transpose(2, 0, 1)).all()


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_colours_of_which_the_file_says_how_many_bits_it_uses_need_no_setting(tmp_path: Path, byte_order: str) -> None:
    values = _filled(0, 4095, np.uint16, 3)
    content = tiff(values, photometric=2, byte_order=byte_order, t281=(4095,) * 3)
    train = build_splits(_data(_folder(tmp_path, content))).train
    assert (train.load(0)[0].numpy() == ((values.astype(int) * 255 + 2047) // 4095).transpose(2, 0, 1)).all()


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_colours_in_planes_of_their_own_are_refused_where_they_would_be_garbled(
    tmp_path: Path, byte_order: str
) -> None:
    planes = _filled(0, 65535, np.uint16, 3).transpose(2, 0, 1)
    content = tiff(planes.reshape(90, 40), 2, byte_order=byte_order, **in_planes(planes))
    with pytest.raises(
        UserError, match=r"a\.png: must be a complete image, got: colours of more than 8 bits in planes"
    ):
        build_splits(_data(_folder(tmp_path, content)))
    with pytest.raises(UserError, match="colours of more than 8 bits in planes of their own"):
        read(tmp_path, content)
    bytes_ = (planes >> 8).astype(np.uint8)
    found = read(tmp_path, tiff(bytes_.reshape(90, 40), 2, byte_order=byte_order, **in_planes(bytes_)))
    assert (found == bytes_).all()


def test_16_bit_colours_with_alpha_lie_over_white_in_the_range_that_is_set(tmp_path: Path) -> None:
    opaque, clear = [4095, 0, 2048, 65535], [0, 0, 0, 0]
    found = read(tmp_path, png(np.array([[opaque, clear]], np.uint16), 6), TWELVE_BITS)
    assert found[:, 0].T.tolist() == [[255, 0, 128], [255, 255, 255]]
    with pytest.raises(UserError, match="16-bit grey with alpha keeps 8 bits only"):
        read(tmp_path, png(np.array([[[5, 65535]]], np.uint16), 4), TWELVE_BITS)


def test_a_fourth_band_that_a_tiff_does_not_call_opacity_is_none(tmp_path: Path) -> None:
    bands = np.array([[[10, 20, 30, 0], [40, 50, 60, 128]]], np.uint8)
    for tags in ({}, {"t338": (0,)}):
        assert read(tmp_path, tiff(bands, photometric=2, **tags))[:, 0].T.tolist() == [[10, 20, 30], [40, 50, 60]]
    over_white = read(tmp_path, tiff(bands, photometric=2, t338=(2,)))[:, 0].T.tolist()
    assert over_white[0] == [255, 255, 255]
    ignored = read(tmp_path, tiff(bands, photometric=2, t338=(2,)), Decoding(alpha="ignore"))
    assert ignored[:, 0].T.tolist() == [[10, 20, 30], [40, 50, 60]]


# A look at the start --------------------------------------------------------------------------------------------------
def _folder(folder: Path, first: bytes, second: bytes | None = None) -> Path:
    """Two images of 40 x 30 and 20 x 50 whose files hold ``first`` and ``second``, or the same content."""
    coco = CocoFolder(folder)
    for entry, content in zip(coco.content["images"], (first, second or first), strict=True):
        (coco.images / entry["file_name"]).write_bytes(content)
        entry.update(width=40, height=30)
    coco.write()
    return folder


def _data(root: Path, **settings: Any) -> CocoData:
    paths = {"train_images": "val", "train_annotations": "annotations/val.json"}
    return CocoData(format="coco", root=str(root), **paths, **settings)


def _filled(low: float, high: float, dtype: Any, bands: int = 1) -> Array:
    ramp = np.linspace(low, high, 30 * 40 * bands).astype(dtype)
    return ramp.reshape((30, 40) if bands == 1 else (30, 40, bands))


def _rgba(alpha: int | Array) -> bytes:
    pixels = np.full((30, 40, 4), 77, np.uint8)
    pixels[..., 3] = alpha
    return tiff(pixels, photometric=2, t338=(2,))


REFUSED: dict[str, tuple[bytes, str]] = {
    "12 bits in 16, grey PNG": (png(_filled(3, 4000, np.uint16), 0), r"got 3 to 4000 in the 2 16-bit unsigned images of"),
    "12 bits in 16, colour PNG": (png(_filled(0, 4095, np.uint16, 3), 2), r"set it to \[0, 4095\], or to \[0, 65535\]"),
    "12 bits in 16, colour TIFF": (tiff(_filled(0, 4095, np.uint16, 3), 2), r"set it to \[0, 4095\], or to \[0, 65535\]"),
    "14 bits in 16": (tiff(_filled(0, 16383, np.uint16)), r"set it to \[0, 16383\]"),
    "10 bits in 16": (tiff(_filled(0, 1000, np.uint16)), r"set it to \[0, 1023\]"),
    "8 bits in 16": (tiff(_filled(0, 255, np.uint16)), r"set it to \[0, 255\]"),
    "16 bits in 32": (tiff(_filled(0, 65535, np.uint32)), r"set it to \[0, 65535\], or to \[0, 4294967295\]"),
    "12 bits, signed": (tiff(_filled(-1000, 3000, np.int16), kind=2), r"set it to \[-1000, 3000\], or to \[-32768, 32767\]"),
    "12 bits, white is zero": (tiff(_filled(0, 4095, np.uint16), 0), r"set it to \[0, 4095\]"),
    "floats": (tiff(_filled(0, 1, np.float32), kind=3), r"must be given for floating point pixels, got 0 to 1 .*\[0, 1\]"),
    "black": (tiff(np.zeros((30, 40), np.uint16)), r"got 0 to 0 in"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_values_far_below_the_range_are_an_error_that_names_the_setting(tmp_path: Path, kind: str) -> None:
    content, words = REFUSED[kind]
    with pytest.raises(UserError, match=r"^data\.pixel_range: must be given") as caught:
        build_splits(_data(_folder(tmp_path, content)))
    assert re.search(words, str(caught.value))


SET: dict[str, tuple[bytes, tuple[float, float]]] = {
    "12 bits in 16": (png(_filled(0, 4095, np.uint16), 0), (0, 4095)),
    "dark on purpose": (png(_filled(0, 4095, np.uint16), 0), (0, 65535)),
    "colours": (png(_filled(0, 4095, np.uint16, 3), 2), (0, 4095)),
    "signed": (tiff(_filled(-1000, 3000, np.int16), kind=2), (-1000, 3000)),
    "floats": (tiff(_filled(0, 1, np.float32), kind=3), (0, 1)),
}


@pytest.mark.parametrize("kind", SET)
def test_with_the_setting_they_are_read_without_a_word(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    content, pixel_range = SET[kind]
    root = _folder(tmp_path, content)
    with caplog.at_level(logging.WARNING):
        splits = build_splits(_data(root, pixel_range=pixel_range))
    assert caplog.messages == []
    expected = read_image(root / "val" / "a.png", Decoding(pixel_range=pixel_range))
    assert splits.train.load(0)[0].equal(expected)
    assert int(expected.max()) == (16 if kind == "dark on purpose" else 255)


def test_values_outside_of_the_range_that_is_set_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _folder(tmp_path, tiff(_filled(0, 65535, np.uint16)))
    build_splits(_data(root, pixel_range=(0, 32767)))
    assert len(caplog.messages) == 2
    assert re.search(r"data\.pixel_range: .* got 0 to 65535 in the 2 16-bit .* of training .*: 50 % lie", caplog.text)


def test_a_range_for_images_of_8_bits_has_no_effect(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    CocoFolder(tmp_path).write()
    build_splits(_data(tmp_path, pixel_range=(0, 4095)))
    assert caplog.messages[0] == "data.pixel_range: has no effect on training: its images have 8 bits"


@pytest.mark.parametrize("alpha", [0, 1, 15])
def test_images_that_are_wholly_transparent_are_an_error_that_names_the_setting(tmp_path: Path, alpha: int) -> None:
    root = _folder(tmp_path, _rgba(alpha))
    with pytest.raises(
        UserError, match=r"^data\.alpha: must be ignore .* got 2 of 2 images of training .*a\.png, b\.png"
    ):
        build_splits(_data(root))
    assert set(build_splits(_data(root, alpha="ignore")).train.load(0)[0].unique().tolist()) == {77}


def test_one_of_several_images_that_is_transparent_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _folder(tmp_path, _rgba(255), _rgba(0))
    coco = CocoFolder(tmp_path / "more")
    coco.content["images"].append(coco.image(8, "c.png", 9, 9))
    (coco.images / "a.png").write_bytes((root / "val" / "b.png").read_bytes())
    coco.write()
    build_splits(_data(tmp_path / "more"))
    assert (
        "data: training: 1 of 3 images that were looked at are wholly transparent, and so white" in caplog.messages[0]
    )


def test_a_band_that_is_half_opaque_everywhere_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _folder(tmp_path, _rgba(_filled(20, 230, np.uint8)))
    build_splits(_data(root))
    assert re.search(r"training: the last band of 2 of 2 .* set data\.alpha=ignore: a\.png, b\.png", caplog.messages[0])


@pytest.mark.parametrize("alpha", [255, np.r_[np.zeros(20), np.full(20, 255)][None].astype(np.uint8)])
def test_a_real_opacity_is_nothing_to_speak_of(tmp_path: Path, alpha: Any, caplog: pytest.LogCaptureFixture) -> None:
    build_splits(_data(_folder(tmp_path, _rgba(alpha))))
    assert caplog.messages == []


def test_scoring_looks_too_and_names_its_own_options(tmp_path: Path) -> None:
    root = _folder(tmp_path, png(_filled(0, 4095, np.uint16), 0))
    config = small_run(tmp_path / "run")
    detector = build_faster_rcnn(config.student, config.input, ("cat", "dog")).eval()
    with pytest.raises(UserError, match=r"^--pixel-range: must be given, got 0 to 4095"):
        score(detector, root / "annotations" / "val.json", num_workers=0)
    assert "AP" in score(detector, root / "annotations" / "val.json", num_workers=0, pixel_range=(0, 4095))


def test_a_cache_of_decoded_images_knows_the_range(tmp_path: Path) -> None:
    root = _folder(tmp_path, png(_filled(0, 4095, np.uint16), 0))
    for pixel_range, most in (((0, 65535), 16), ((0, 4095), 255)):
        train = build_splits(_data(root, pixel_range=pixel_range)).train
        assert [int(cached(train, tmp_path / "cache", None).load(0)[0].max()) for _ in range(2)] == [most, most]


@pytest.mark.parametrize("pixel_range", [(5, 5), (9, 1), (0, float("inf")), (0,), ("0", "1"), (True, 2)])
def test_a_range_that_is_none_is_refused(pixel_range: Any) -> None:
    with pytest.raises(ValueError, match="pixel_range"):
        _data(Path("x"), pixel_range=pixel_range)
