"""Image files that are broken, through ``build_datasets`` and the reading of one image."""

# ruff: noqa: E501  (a row of a table is a line)
from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raydistill.config import CocoData
from raydistill.data.build import build_datasets
from tests.data.conftest import CocoFolder

from .cases import Case, right, warned

Run = Callable[[Path], Any]
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))


def encoded(form: str, image: Image.Image = NOISE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def put(content: bytes | None, size: tuple[int, int] = (40, 30), name: str = "a.png", **settings: Any) -> Run:
    """Read the shape of the first image after ``content`` was written into its file; None takes the file away."""

    def run(folder: Path) -> Any:
        coco = CocoFolder(folder)
        coco.content["images"][0].update(width=size[0], height=size[1], file_name=name)
        coco.content["annotations"][0]["bbox"] = [0, 0, 1, 1]
        (coco.images / "a.png").unlink()
        if content is not None:
            (coco.images / name).write_bytes(content)
        coco.write()
        paths = {"train_images": "val", "train_annotations": "annotations/val.json"}
        train, _ = build_datasets(CocoData(format="coco", root=str(folder), **paths, **settings))
        return [tuple(train.load(index)[0].shape) for index in range(len(train))]

    return run


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises any number of pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _spoilt(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def placed(make: Callable[[Path], Any], **settings: Any) -> Run:
    """Read the shape of the first image after ``make`` put something else in the place of its file."""

    def run(folder: Path) -> Any:
        (folder / "val").mkdir()
        make(folder / "val" / "odd.png")
        (folder / "val").rename(folder / "odd")
        return put(None, name="../odd/odd.png", **settings)(folder)

    return run


def bound(path: Path) -> None:
    """Make a socket; its name may not be long."""
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def touched(path: Path) -> Path:
    path.touch()
    return path


def box(*brands: bytes) -> bytes:
    """Return how a file of the family of MP4 begins."""
    return struct.pack(">I", 12 + 4 * len(brands)) + b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:]) + bytes(99)


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 40 30
%%EndComments
(the-code-ran) (w) file closefile
{} loop
"""
SECOND = (3, 50, 20)
INTACT = [(3, 30, 40), SECOND]
FRAMES = [NOISE.convert("P"), NOISE.rotate(90).convert("P")]
PNG, JPEG = encoded("PNG"), encoded("JPEG")
NO_PIXELS = r"must be a complete image, got: "
CUT = r"^image 3, .*a\.png: must be a complete image, got: "

CASES = [
    Case("no file", put(None), r"image 3 \(a\.png\): .*the image file must exist; put it there or correct its name"),
    Case("zero bytes", put(b""), "must be a complete image, got: its header is that of no known image format; replace"),
    Case("a web page", put(b"<html>404</html>"), "its header is that of no known image format"),
    Case("JSON", put(b"{}"), "its header is that of no known image format"),
    Case("only a signature", put(PNG[:8]), "must be a complete image, got: "),
    Case("half a header", put(PNG[:20]), "must be a complete image, got: "),
    Case("a header spoilt", put(_spoilt(PNG, 14)), "must be a complete image, got: "),
    Case("a JPEG cut off", put(JPEG[:700]), CUT + r"image file is truncated .*; replace the file or remove it"),
    Case("a PNG cut off", put(PNG[: len(PNG) // 2]), CUT),
    Case("a PNG with wrong bytes", put(_spoilt(PNG, len(PNG) // 2)), CUT),
    Case("a GIF cut off", put(encoded("GIF", FRAMES[0])[:900]), CUT),
    Case("a BMP cut off", put(encoded("BMP")[:2000]), CUT),
    Case("a TIFF cut off", put(encoded("TIFF")[:2000]), "must be a complete image, got: "),
    Case("a TIFF of floating point", put(encoded("TIFF", NOISE.convert("F"))), CUT + "floating point pixels have no known"),
    Case("a PNG bomb", put(png_that_claims(60_000, 60_000)), "must not have too many pixels, got 3600 megapixels; raise data.max_megapixels"),
    Case("a PNG without its pixels", put(png_that_claims(40, 30)), CUT),
    Case("a size that is not the annotations'", put(encoded("PNG", NOISE.resize((8, 8)))), "40 x 30; correct the size"),
    right("a JPEG called png", put(JPEG), INTACT),
    right("a PNG called jpg", put(PNG, name="a.jpg"), INTACT),
    right("no extension", put(PNG, name="a"), INTACT),
    right("one pixel", put(encoded("PNG", NOISE.resize((1, 1))), (1, 1)), [(3, 1, 1), SECOND]),
    right("16 bit grey", put(encoded("PNG", Image.fromarray(np.full((30, 40), 9999, np.uint16)))), INTACT),
    right("CMYK", put(encoded("JPEG", NOISE.convert("CMYK"))), INTACT),
    right("an animated GIF", put(encoded("GIF", FRAMES[0], save_all=True, append_images=FRAMES[1:])), INTACT),
    Case("an EPS program", put(EPS), NO_PIXELS + r"a PostScript program \(EPS\); replace"),
    Case("an EPS program behind a header of DOS", put(b"\xc5\xd0\xd3\xc6" + struct.pack("<6I", 30, 300, 0, 0, 0, 0) + EPS), NO_PIXELS + "a PostScript program"),
    Case("PostScript", put(b"%!PS\n{} loop"), NO_PIXELS + "a PostScript program"),
    Case("a PDF", put(b"%PDF-1.7\n1 0 obj"), NO_PIXELS + "a PDF document"),
    Case("an SVG", put(b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'), NO_PIXELS + "an SVG drawing"),
    Case("a WMF", put(b"\xd7\xcd\xc6\x9a" + bytes(200)), NO_PIXELS + r"a drawing of Windows \(WMF\)"),
    Case("an EMF", put(b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(200)), NO_PIXELS + r"a drawing of Windows \(EMF\)"),
    Case("a HEIC", put(box(b"heic")), NO_PIXELS + r"a HEIC image, which needs pip install 'raydistill\[heic\]'"),
    Case("a HEIC by its other name", put(box(b"mif1", b"miaf", b"heic")), NO_PIXELS + "a HEIC image"),
    Case("a video", put(box(b"isom", b"mp42")), NO_PIXELS + "a video"),
    Case("a pointer of Git LFS", put(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), NO_PIXELS + "a pointer of Git LFS"),
    Case("a FIFO", placed(lambda path: os.mkfifo(path)), "must be a complete image, got: a named pipe .FIFO. where a regular file"),
    Case("a device", placed(lambda path: path.symlink_to("/dev/zero")), "got: a device where a regular file must be"),
    Case("a terminal", placed(lambda path: path.symlink_to("/dev/tty")), "got: a device where a regular file must be"),
    Case("a socket", placed(bound), "got: a socket where a regular file must be"),
    Case("a folder", placed(lambda path: path.mkdir()), "must be a complete image, got: Is a directory"),
    Case("9 GB", placed(lambda path: os.truncate(touched(path), 9 * 10**9)), r"got: 9\.0 GB, more than the 8\.0 GB that such a file may"),
    Case("one pixel too many", put(PNG, max_megapixels=0.0011), r"must not have too many pixels, got 0\.0012 megapixels; raise data.max_mega"),
    right("as many pixels as allowed", put(PNG, max_megapixels=0.0012), INTACT),
    warned("an EPS program, skipped", put(EPS, on_bad_image="skip"), "left out 1 of 2 images", [SECOND]),
    warned("a FIFO, skipped", placed(lambda path: os.mkfifo(path), on_bad_image="skip"), "left out 1 of 2 images", [SECOND]),
    warned("no file, skipped", put(None, on_bad_image="skip"), r"left out 1 of 2 images .*: a\.png$", [SECOND]),
    warned("zero bytes, skipped", put(b"", on_bad_image="skip"), r"left out 1 of 2 images .*: a\.png$", [SECOND]),
    warned("a PNG bomb, skipped", put(png_that_claims(60_000, 60_000), on_bad_image="skip"), "left out 1 of 2", [SECOND]),
    Case("cut off, skipped, read as it is", put(JPEG[:700], on_bad_image="skip"), CUT),
    Case("another size, skipped", put(encoded("PNG", NOISE.resize((8, 8))), on_bad_image="skip"), "correct the size"),
]  # fmt: skip
