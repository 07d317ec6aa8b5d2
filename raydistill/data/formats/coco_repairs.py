"""Entries of COCO files as tools write them: what is not as it should be and can have one meaning only is read as that.

A dictionary of repairs counts them: what was done -> the entries it was done to.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

IDS = "ids written as fractions, read as whole numbers"
REFERENCES = "ids written as text for a number or the other way, read as the one that is listed"
SIZES = "sizes that are no whole numbers of pixels, read as such or taken from the image files"
OUTLINES = "objects without a box, which was taken from their outline"
REPEATS = "annotations listed again with the same id and box, read once"

Repairs = dict[str, list[str]]
_MOST = 1e15  # no coordinate lies beyond


def repair(entry: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Return an entry of any list with what can be read otherwise in its place, and what was done."""
    repaired, done = dict(entry), set()
    for key in ("id", "image_id", "category_id"):
        value = entry.get(key)
        if isinstance(value, float) and value.is_integer():
            repaired[key] = int(value)
            done.add(IDS)
    for key in ("width", "height"):
        if key in entry and _is_odd_size(entry[key]):
            repaired[key] = int(float(entry[key])) or None
            done.add(SIZES)
    if not entry.get("bbox") and "segmentation" in entry:
        found = outline(entry["segmentation"])
        if found is not None:
            repaired["bbox"], area = found
            done.add(OUTLINES)
            if entry.get("area") is None:
                repaired["area"] = area
    return repaired, done


def outline(segmentation: Any) -> tuple[list[float], float] | None:
    """Return the box (x, y, width, height) and the area of polygons or of a mask in COCO's form; None of anything else.

    >>> outline([[1, 2, 5, 2, 5, 4, 1, 4]])
    ([1.0, 2.0, 4.0, 2.0], 8.0)
    """
    if isinstance(segmentation, Mapping):
        return _of_mask(segmentation)
    if not isinstance(segmentation, list) or not segmentation:
        return None
    polygons = segmentation if all(isinstance(polygon, list) for polygon in segmentation) else [segmentation]
    if not all(map(_is_polygon, polygons)):
        return None
    xs = [float(x) for polygon in polygons for x in polygon[::2]]
    ys = [float(y) for polygon in polygons for y in polygon[1::2]]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return box, sum(map(_area, polygons))


def by_number(ids: Collection[Any]) -> dict[int, Any]:
    """Return the ids that are whole numbers, written as numbers or as text, by that number, where only one is.

    >>> by_number(["1", 2, "2", "left"])
    {1: '1'}
    """
    numbers = [(_number(value), value) for value in ids]
    counts = Counter(number for number, _ in numbers)
    return {number: value for number, value in numbers if number is not None and counts[number] == 1}


@dataclass
class Meant:
    """What the ids of entries stand for that are written as text where a number is listed, or the other way."""

    listed: Mapping[str, Collection[Any]]  # key -> the ids there are
    repairs: Repairs
    _by_number: dict[str, dict[int, Any]] = field(default_factory=dict)

    def replace(self, entry: dict[str, Any], kind: str) -> None:
        """Put the listed id in the place of one that is none but stands for it, and count that."""
        for key, ids in self.listed.items():
            if key not in entry or entry[key] in ids:
                continue
            if key not in self._by_number:
                self._by_number[key] = by_number(ids)
            value = entry[key]
            number = None if isinstance(value, bool) else _number(value)
            if number in self._by_number[key]:
                entry[key] = self._by_number[key][number]
                name = f"{key} {value!r:.40} of {kind} {entry.get('id', '')}".strip()
                self.repairs.setdefault(REFERENCES, []).append(name)


def alike_id(value: int | str) -> int | str:
    """Return the number that an id stands for, as a number or as a text; any other text is itself."""
    number = _number(value)
    return value if number is None else number


def _number(value: Any) -> int | None:
    if isinstance(value, int):
        return value
    if not isinstance(value, str) or len(value) > 20:
        return None
    return int(value) if value.removeprefix("-").isdecimal() and str(int(value)) == value else None


def _is_odd_size(value: Any) -> bool:
    """Return whether a size is a whole number in another form, or one that stands for none."""
    if isinstance(value, str):
        return value.strip().isdecimal() and len(value) < 10
    return not isinstance(value, bool) and isinstance(value, int | float) and value in (0, -1, _whole(value))


def _whole(value: float) -> int | None:
    return int(value) if isinstance(value, float) and math.isfinite(value) and 0 < value.__trunc__() == value else None


def _is_polygon(polygon: Any) -> bool:
    """Return whether it is x, y, x, y, ... of at least three corners."""
    numbers = all(isinstance(c, int | float) and not isinstance(c, bool) and -_MOST < c < _MOST for c in polygon)
    return numbers and len(polygon) >= 6 and len(polygon) % 2 == 0


def _area(polygon: Sequence[float]) -> float:
    """Return the area of a polygon, by Gauss's formula."""
    xs, ys = polygon[::2], polygon[1::2]
    following = [*range(1, len(xs)), 0]
    return float(abs(sum(xs[a] * ys[b] - xs[b] * ys[a] for a, b in enumerate(following)))) / 2


def _of_mask(rle: Mapping[str, Any]) -> tuple[list[float], float] | None:
    """Return the box and the area of a mask: lengths of runs, column after column, outside first."""
    size, runs = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        return None
    if isinstance(runs, str):
        runs = _decompressed(runs)
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        return None
    height = size[0]
    ends = list(accumulate(runs))
    if not ends or ends[-1] != height * size[1]:
        return None
    inside = [(end - run, end - 1) for end, run in zip(ends[1::2], runs[1::2], strict=True) if run]
    if not inside:
        return None
    left, right = inside[0][0] // height, inside[-1][1] // height
    in_one_column = [(first % height, last % height) for first, last in inside if first // height == last // height]
    whole = len(in_one_column) < len(inside)  # a run that goes on in the next column has both ends of the first
    top = 0 if whole else min(first for first, _ in in_one_column)
    bottom = height - 1 if whole else max(last for _, last in in_one_column)
    box = [float(left), float(top), float(right - left + 1), float(bottom - top + 1)]
    return box, float(sum(last - first + 1 for first, last in inside))


def _decompressed(text: str) -> list[int] | None:
    """Return the runs of a mask written as text: five bits a letter, from the fourth on less the one before last."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs if not shift else None
