"""Where the shapes of a generated image lie: everything that boxes follow from, without painting a pixel.

Points are [V, 2] x, y in pixels of the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from raydistill.config import ShapesData

Points = NDArray[np.float64]

_LEAST_VISIBLE = 0.45  # share of an object that stays visible at difficulty 1
_RASTER = 96  # side of the coarse picture in which occlusion is measured
_TRIES = 20  # places tried for an object before the image goes without it


def _corners(count: int, radius: float = 1.0, first: float = 0.0) -> Points:
    angles = first + np.arange(count) * (2 * math.pi / count)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> Points:
    outer, inner = _corners(5), _corners(5, 0.45, math.pi / 5)
    return np.stack([outer, inner], axis=1).reshape(-1, 2)


def _cross() -> Points:
    arm = 0.3
    quarter = np.array([(arm, arm), (arm, 0.95), (-arm, 0.95)])
    turns = [np.array([(math.cos(a), math.sin(a)), (-math.sin(a), math.cos(a))]) for a in np.arange(4) * math.pi / 2]
    return np.concatenate([quarter @ turn for turn in turns])


# Class -> its outline in the unit circle; of two outlines the second is a hole.
OUTLINES: dict[str, tuple[Points, ...]] = {
    "circle": (_corners(48),),
    "cross": (_cross(),),
    "ring": (_corners(48), _corners(48, 0.55)),
    "square": (_corners(4),),
    "star": (_star(),),
    "triangle": (_corners(3),),
}
CLASSES = tuple(OUTLINES)


@dataclass(frozen=True)
class Shape:
    """One object: its label (1 to K) and where it lies."""

    label: int
    x: float  # centre
    y: float
    radius: float
    squeeze: float  # height relative to width before turning
    angle: float  # in radians

    @property
    def outlines(self) -> list[Points]:
        """Outline, and hole where the class has one."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        turn = np.array([(cos, sin), (-sin, cos)])
        scale = np.array([self.radius, self.radius * self.squeeze])
        return [outline * scale @ turn + (self.x, self.y) for outline in OUTLINES[CLASSES[self.label - 1]]]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Tight x, y, width, height of the whole shape, hidden parts included."""
        points = self.outlines[0]
        (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        return left, top, right - left, bottom - top


@dataclass(frozen=True)
class Layout:
    """The objects of an image from back to front, and the clutter that lies over them."""

    objects: tuple[Shape, ...]
    covers: tuple[Points, ...]


def draw_layout(data: ShapesData, rng: np.random.Generator) -> Layout:
    """Draw where 1 to ``max_objects`` objects lie, each visible for at least the share that ``difficulty`` allows.

    An object without a place after some tries is left out; the first one always has one.
    """
    visible = _Visibility(1 - (1 - _LEAST_VISIBLE) * data.difficulty, _RASTER / data.size)
    objects: list[Shape] = []
    for _ in range(int(rng.integers(1, data.max_objects + 1))):
        for _ in range(_TRIES):
            shape = _draw_shape(data, rng, objects)
            if visible.put(shape.outlines, is_object=True):
                objects.append(shape)
                break
    strokes = [draw_stroke(data.size, rng) for _ in range(round(3 * data.difficulty * rng.random()))]
    covers = [stroke for stroke in strokes if visible.put([stroke], is_object=False)]
    return Layout(tuple(objects), tuple(covers))


def draw_stroke(size: int, rng: np.random.Generator) -> Points:
    """Draw a thin bar anywhere in the image."""
    length, thickness = size * rng.uniform(0.2, 0.8), size * rng.uniform(0.01, 0.025)
    angle, center = rng.uniform(0, math.pi), rng.uniform(0, size, 2)
    along = np.array([math.cos(angle), math.sin(angle)]) * length / 2
    across = np.array([-math.sin(angle), math.cos(angle)]) * thickness / 2
    corners: Points = center + np.array([along + across, along - across, -along - across, -along + across])
    return corners


def draw_blob(size: int, rng: np.random.Generator) -> Points:
    """Draw an irregular outline that is none of the classes."""
    radii = size * rng.uniform(0.03, 0.1) * rng.uniform(0.35, 1.0, 11)
    return rng.uniform(0, size, 2) + _corners(11, first=rng.uniform(0, math.pi)) * radii[:, None]


def _draw_shape(data: ShapesData, rng: np.random.Generator, others: list[Shape]) -> Shape:
    smallest, largest = data.object_sizes
    radius = data.size * math.exp(rng.uniform(math.log(smallest), math.log(largest))) / 2
    low, high = radius + 1, data.size - radius - 1
    x, y = rng.uniform(low, high, 2).tolist()
    if others and rng.random() < 0.5 * data.difficulty:  # close to another, so that one hides part of the other
        other = others[int(rng.integers(len(others)))]
        direction, distance = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.0) * (radius + other.radius)
        x = min(max(other.x + distance * math.cos(direction), low), high)
        y = min(max(other.y + distance * math.sin(direction), low), high)
    label = int(rng.integers(1, len(CLASSES) + 1))
    return Shape(label, x, y, radius, rng.uniform(0.8, 1.0), rng.uniform(0, 2 * math.pi))


class _Visibility:
    """Keeps account, in a coarse picture, of how much of each object is still to be seen."""

    def __init__(self, least: float, scale: float) -> None:
        self.least, self.scale = least, scale
        self.wholes: list[int] = []  # area of each object
        self.rests: list[NDArray[np.bool_]] = []  # [_RASTER, _RASTER], what is visible of it

    def put(self, outlines: list[Points], is_object: bool) -> bool:
        """Lay a shape over the others; False, and nothing changed, where that would hide too much of one."""
        covered = self._raster(outlines)
        rests = [rest & ~covered for rest in self.rests]
        if any(rest.sum() < self.least * whole for rest, whole in zip(rests, self.wholes, strict=True)):
            return False
        self.rests = rests
        if is_object:
            self.rests.append(covered)
            self.wholes.append(int(covered.sum()))
        return True

    def _raster(self, outlines: list[Points]) -> NDArray[np.bool_]:
        picture = Image.new("L", (_RASTER, _RASTER))
        drawing = ImageDraw.Draw(picture)
        for outline, value in zip(outlines, (1, 0), strict=False):
            drawing.polygon((outline * self.scale - 0.5).ravel().tolist(), fill=value)
        return np.asarray(picture) > 0
