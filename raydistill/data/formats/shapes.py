"""Generated images: shapes on textured, cluttered ground, so that everything can be tried without data.

An image follows from (seed, split, index) and the settings alone; it is painted anew whenever it is read.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from raydistill.config import ShapesData
from raydistill.data.dataset import AnnotatedImage, AnnotatedObject, DetectionDataset, Record, Records
from raydistill.data.formats import shape_layout
from raydistill.data.formats.shape_layout import CLASSES, Layout, Points, draw_blob, draw_layout, draw_stroke

Split = Literal["train", "val", "test"]
_SPLITS: tuple[Split, ...] = get_args(Split)
Color = tuple[int, int, int]

_SUPERSAMPLING = 4  # per side, for smooth edges
_CONTRAST = (110.0, 48.0)  # grey levels between object and ground at difficulty 0 and 1
_TEXTURE = (4.0, 34.0)  # standard deviation of the ground's clouds
_GRAIN = (2.0, 10.0)  # standard deviation of the noise of single pixels


def make_shapes(data: ShapesData, split: Split) -> DetectionDataset:
    """Make the ``split`` of generated images; fewer images are the first ones of more."""
    count = {"train": data.num_train, "val": data.num_val, "test": data.num_test}[split]
    return DetectionDataset(
        classes=CLASSES,
        category_ids=tuple(range(1, len(CLASSES) + 1)),
        records=Records.build(_annotated(data, split, index) for index in range(count)),
        read_image=Painter(data, split),
    )


@dataclass(frozen=True)
class Painter:
    """Paints the images of a split."""

    data: ShapesData
    split: Split

    def __call__(self, record: Record) -> Tensor:
        """Paint the image of ``record``: uint8 [3, H, W], RGB."""
        index = record.image_id - 1
        layout = draw_layout(self.data, _random_numbers(self.data, self.split, index, "layout"))
        pixels = _paint(layout, self.data, _random_numbers(self.data, self.split, index, "paint"))
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def fingerprint(self, _records: Records) -> str:
        """Return the settings of the drawings, and a digest of the code that draws them."""
        code = b"".join(Path(file).read_bytes() for file in (__file__, shape_layout.__file__))
        return f"{self.split} {self.data.model_dump_json()} {np.__version__} {hashlib.blake2b(code).hexdigest()}"


def _annotated(data: ShapesData, split: Split, index: int) -> AnnotatedImage:
    layout = draw_layout(data, _random_numbers(data, split, index, "layout"))
    objects = [AnnotatedObject(shape.label, shape.box, shape.box[2] * shape.box[3], False) for shape in layout.objects]
    return AnnotatedImage(index + 1, f"{split}_{index:06d}.png", data.size, data.size, objects)


def _random_numbers(
    data: ShapesData, split: Split, index: int, purpose: Literal["layout", "paint"]
) -> np.random.Generator:
    return np.random.default_rng([data.seed, _SPLITS.index(split), index, ("layout", "paint").index(purpose)])


def _paint(layout: Layout, data: ShapesData, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint ground, clutter, objects, the clutter over them, and grain: uint8 [H, W, 3]."""
    ground = rng.uniform(60, 195, 3)
    picture = Image.fromarray(_clouds(ground, data, rng))
    for _ in range(round(data.difficulty * rng.uniform(2, 10))):
        draw = draw_stroke if rng.random() < 0.5 else draw_blob
        _fill(picture, [draw(data.size, rng)], _color(ground, 0.8, data, rng))
    for shape in layout.objects:
        _fill(picture, shape.outlines, _color(ground, 1.0, data, rng))
    for cover in layout.covers:
        _fill(picture, [cover], _color(ground, 0.8, data, rng))
    grain = rng.standard_normal((data.size, data.size, 1), dtype=np.float32) * _between(_GRAIN, data.difficulty)
    pixels: NDArray[np.uint8] = (np.asarray(picture) + grain).clip(0, 255).astype(np.uint8)
    return pixels


def _clouds(ground: NDArray[np.float64], data: ShapesData, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Ground colour with soft light and dark patches, uint8 [H, W, 3]."""
    coarse = rng.standard_normal((10, 10), dtype=np.float32)
    fine = Image.fromarray(coarse).resize((data.size, data.size), Image.Resampling.BICUBIC)
    clouds = np.asarray(fine)[:, :, None] * _between(_TEXTURE, data.difficulty)
    return (clouds + ground.astype(np.float32)).clip(0, 255).astype(np.uint8)


def _color(ground: NDArray[np.float64], strength: float, data: ShapesData, rng: np.random.Generator) -> Color:
    """Draw a colour that stands out from ``ground`` in every channel by about the contrast of the difficulty."""
    step = strength * _between(_CONTRAST, data.difficulty) * rng.uniform(0.7, 1.2, 3)
    signs = np.where(rng.random(3) < 0.5, -1, 1)
    inside = (ground + signs * step > 0) & (ground + signs * step < 255)
    red, green, blue = (ground + np.where(inside, signs, -signs) * step).clip(0, 255).astype(int).tolist()
    return red, green, blue


def _fill(picture: Image.Image, outlines: Sequence[Points], color: Color) -> None:
    """Fill an outline (less its hole) with smooth edges, touching no more of ``picture`` than it covers."""
    patch, corner = smooth_mask(outlines, picture.size)
    if patch is not None:
        picture.paste(color, corner, patch)


def smooth_mask(outlines: Sequence[Points], size: tuple[int, int]) -> tuple[Image.Image | None, tuple[int, int]]:
    """Return how much of each pixel (0 to 255) a shape covers, and where in the image that patch begins.

    Args:
        outlines: the outline, and a hole if there is one.
        size: width and height of the image; None instead of a patch for a shape outside of it.
    """
    points = outlines[0]
    left, top = (max(0, math.floor(value)) for value in points.min(axis=0))
    right, bottom = (min(limit, math.ceil(value)) for value, limit in zip(points.max(axis=0), size, strict=True))
    if right <= left or bottom <= top:
        return None, (0, 0)
    mask = Image.new("L", ((right - left) * _SUPERSAMPLING, (bottom - top) * _SUPERSAMPLING))
    drawing = ImageDraw.Draw(mask)
    for outline, value in zip(outlines, (255, 0), strict=False):
        drawing.polygon(((outline - (left, top)) * _SUPERSAMPLING - 0.5).ravel().tolist(), fill=value)
    return mask.reduce(_SUPERSAMPLING), (left, top)


def _between(ends: tuple[float, float], difficulty: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * difficulty
