"""Boxes on a picture, each with the name of its class, as a person looks at them."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from raydistill.errors import printable

_LEAST_SIDE = 480  # of the longer side; smaller images are enlarged, else letters would cover what they name
_MOST_TIMES = 8  # as large
_LETTERS = 45  # lines of text would fit below each other
_LEAST_LETTER, _MOST_LETTER = 12, 48  # pixels
_LONGEST_NAME = 28  # letters
_GOLDEN_ANGLE = 0.618034  # of the circle of hues: any number of classes lie apart
_Corners = tuple[float, float, float, float]


def draw_boxes(
    image: Image.Image | Tensor,
    boxes: Tensor | Sequence[Sequence[float]],
    labels: Tensor | Sequence[int],
    scores: Tensor | Sequence[float] | None = None,
    classes: Sequence[str] = (),
) -> Image.Image:
    """Return a copy of a picture with boxes on it.

    Each class has its colour, the same in every picture. The surest box lies on top. Small pictures come back enlarged
    by a whole number, so that names can be read.

    Args:
        image: a Pillow image, or a tensor [3, H, W] of uint8 or of floats in [0, 1], RGB.
        boxes: [N, 4], x1, y1, x2, y2 in pixels of the image.
        labels: [N], 1 to K.
        scores: [N]; shown in percent. None: objects that somebody annotated.
        classes: names of the K classes; a label beyond them is shown as its number.
    """
    picture = _picture(image)
    times = max(1, min(_MOST_TIMES, -(-_LEAST_SIDE // max(picture.size))))
    if times > 1:
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    corners = torch.as_tensor(boxes, dtype=torch.float64).reshape(-1, 4) * times
    found = [int(label) for label in labels]
    sure = None if scores is None else [float(score) for score in scores]
    texts = [_text(label, None if sure is None else sure[place], classes) for place, label in enumerate(found)]
    order = sorted(range(len(found)), key=lambda place: 0.0 if sure is None else sure[place])
    canvas = _Canvas(picture)
    for place in order:
        canvas.outline(corners[place].tolist(), color_of(found[place]))
    for place in reversed(order):  # the surest has its name where it belongs; others make room
        canvas.write(texts[place], corners[place].tolist(), color_of(found[place]))
    return picture


def color_of(label: int) -> tuple[int, int, int]:
    """Return the colour of a class, RGB.

    >>> color_of(1) == color_of(1), color_of(1) == color_of(2)
    (True, False)
    """
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN_ANGLE % 1, 0.85, 0.75 + 0.25 * (label % 2))
    return round(255 * red), round(255 * green), round(255 * blue)


@dataclass
class _Canvas:
    """A picture that is drawn on, with names that do not cover each other as long as there is room."""

    picture: Image.Image
    _written: list[_Corners] = field(default_factory=list)

    def __post_init__(self) -> None:
        short = min(self.picture.size)
        size = max(_LEAST_LETTER, min(_MOST_LETTER, round(max(self.picture.size) / _LETTERS)))
        self.line = max(2, round(short / 300))
        self.pen = ImageDraw.Draw(self.picture)
        self.font: Any = ImageFont.load_default(size)

    def outline(self, box: list[float], color: tuple[int, int, int]) -> None:
        """Draw the frame of a box: the colour, with a dark edge that shows on a ground of the same colour."""
        x1, y1, x2, y2 = _clipped(box, self.picture.size)
        if x2 <= x1 or y2 <= y1:
            return
        self.pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=(0, 0, 0), width=self.line + 2)
        self.pen.rectangle((x1, y1, x2, y2), outline=color, width=self.line)

    def write(self, text: str, box: list[float], color: tuple[int, int, int]) -> None:
        """Write a text at a box, in the first place that is free: above it, inside, below it."""
        left, top, right, bottom = self.pen.textbbox((0, 0), text, font=self.font)
        margin = max(1, self.line // 2)
        width, height = right - left + 2 * margin, bottom - top + 2 * margin
        x1, y1, x2, y2 = _clipped(box, self.picture.size)
        most = (self.picture.width - width, self.picture.height - height)
        wanted = [(x1, y1 - height), (x1, y1), (x1, y2), (x2 - width, y1 - height), (x2 - width, y2 - height), (x1, y1)]
        places = [(max(0, min(x, most[0])), max(0, min(y, most[1]))) for x, y in wanted]
        inside = [place for place, (_, y) in zip(places, wanted, strict=True) if 0 <= y <= most[1]]
        x, y = next((place for place in inside if self._is_free(place, width, height)), places[-1])
        ground = (x, y, x + width, y + height)
        self._written.append(ground)
        self.pen.rectangle(ground, fill=color)
        self.pen.text((x + margin - left, y + margin - top), text, fill=_ink_on(color), font=self.font)

    def _is_free(self, place: tuple[float, float], width: float, height: float) -> bool:
        x, y = place
        return all(
            x >= right or x + width <= left or y >= bottom or y + height <= top
            for left, top, right, bottom in self._written
        )


def _picture(image: Image.Image | Tensor) -> Image.Image:
    """Return a copy as an RGB image of Pillow's."""
    if isinstance(image, Image.Image):
        return image.convert("RGB") if image.mode != "RGB" else image.copy()
    pixels = image.detach().cpu()
    if pixels.is_floating_point():
        pixels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def _text(label: int, score: float | None, classes: Sequence[str]) -> str:
    """Return what is written at a box.

    >>> _text(2, 0.914, ["cat", "dog"]), _text(3, None, ["cat", "dog"])
    ('dog 91', '3')
    """
    name = printable(classes[label - 1]) if 1 <= label <= len(classes) else str(label)
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}\u2026"
    return short if score is None else f"{short} {100 * score:.0f}"


def _clipped(box: list[float], size: tuple[int, int]) -> _Corners:
    """Return a box inside a picture of width and height, in whole pixels; the last ones belong to it."""
    x1, y1, x2, y2 = box
    width, height = size
    right, bottom = min(round(x2), width) - 1, min(round(y2), height) - 1
    return max(0, round(x1)), max(0, round(y1)), right, bottom


def _ink_on(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black or white, whichever is read on a colour (luma of Rec. 601)."""
    red, green, blue = color
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
