"""The lines of YOLO's text files: a class and numbers, which are boxes, outlines or key points."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from raydistill.config.data import Lines
from raydistill.data.checks import Box
from raydistill.data.formats.coco_repairs import outline

_BOX = 4  # numbers
_CORNERS = 8  # numbers of an oriented box, and of a polygon of four corners
_FAR_OUT = 1.5  # no share of an image; pixels, in all likelihood
_SLACK = 0.02  # of an image, that a key point may lie beside its box
ADVICE = "data.lines=polygons, data.lines=oriented (boxes that are turned) or data.lines=poses says which"


class Line(NamedTuple):
    """One object as a file has it."""

    label: int  # 0 to K - 1
    numbers: tuple[float, ...]  # shares of the image
    number: int  # of the line, from 1 on


class Found(NamedTuple):
    """One object as a box."""

    label: int  # 0 to K - 1
    box: Box  # x, y, width, height as shares of the image
    area: float | None  # of the outline, as a share of the image's; None: that of the box


@dataclass(frozen=True)
class Labels:
    """What a file holds, and what is wrong with it."""

    lines: tuple[Line, ...] = ()
    problems: tuple[str, ...] = ()  # a sentence each, that begins with the line
    repeats: int = 0  # lines that stood there before


def parse_labels(raw: bytes) -> Labels:
    """Read one file: a line per object, numbers with blanks between them; lines that are repeated count once."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Labels(problems=("must be text in UTF-8, got other bytes; export it again",))
    lines: list[Line] = []
    problems: list[str] = []
    seen: set[tuple[str, ...]] = set()
    repeats = 0
    for number, written in enumerate(text.splitlines(), 1):
        words = (
            tuple(written.replace(",", " ").split())
            if "," in written and " " not in written
            else tuple(written.split())
        )
        if not words:
            continue
        if words in seen:
            repeats += 1
            continue
        seen.add(words)
        line = _parse(words, number)
        if isinstance(line, str):
            problems.append(f"line {number}: {line}")
        else:
            lines.append(line)
    return Labels(tuple(lines), tuple(problems), repeats)


def _parse(words: tuple[str, ...], number: int) -> Line | str:
    try:
        values = tuple(math.nan if "_" in word else float(word) for word in words)
    except ValueError:
        return f"must hold numbers, got {' '.join(words)[:60]!r}; correct it"
    if not all(map(math.isfinite, values)):
        return f"must hold finite numbers, got {' '.join(words)[:60]!r}; correct it"
    if values[0] < 0 or not values[0].is_integer():
        return f"must begin with the number of a class, 0, 1, ..., got {words[0][:20]}; correct it"
    return Line(int(values[0]), values[1:], number)


def ambiguity(lines: Sequence[Line]) -> str:
    """Say that numbers may mean one thing or another, and how to say which; empty where they cannot.

    Eight numbers are an oriented box or a polygon of four corners. As many in every line, with a box first that all
    others lie in, may be a box and its key points.
    """
    longer = [line for line in lines if len(line.numbers) > _BOX]
    lengths = Counter(len(line.numbers) for line in longer)
    if not longer or len(lengths) > 1:
        return ""
    (length,) = lengths
    if length == _CORNERS:
        return f"the lines have 9 numbers: a class and 4 corners of a polygon or of an oriented box; {ADVICE}"
    if length % 2 or len(longer) < len(lines) or not (_may_be_poses(longer, 2) or _may_be_poses(longer, 3)):
        return ""
    either = "the corners of a polygon, or a box and its key points"
    return f"all lines have {length + 1} numbers: a class and {either}; {ADVICE}"


def found_in(line: Line, lines: Lines | None) -> Found | str:
    """Return the box of a line, or what is wrong with it.

    Args:
        line: of a file.
        lines: what it is to hold; None: a box or a polygon, told by its length.
    """
    numbers, length = line.numbers, len(line.numbers)
    far = next((value for value in numbers if abs(value) > _FAR_OUT), None)
    if lines == "poses":
        numbers, far = numbers[:_BOX], next((value for value in numbers[:_BOX] if abs(value) > _FAR_OUT), None)
    if far is not None:
        return f"must hold shares of the image, 0 to 1, got {far:g} (pixels?); export it normalised"
    if len(numbers) == _BOX and lines != "oriented":
        x, y, width, height = numbers
        return Found(line.label, (x - width / 2, y - height / 2, width, height), None)
    wanted = {"boxes": "4 numbers", "oriented": "8 numbers", "poses": "at least 4 numbers"}
    fits = length == _CORNERS if lines == "oriented" else lines not in wanted and length >= 6 and length % 2 == 0
    made = outline([list(numbers)]) if fits else None
    if made is None:
        needs = wanted.get(lines or "", "4 numbers or the corners of a polygon")
        hint = " (a score behind the box? these are detections)" if length == _BOX + 1 else ""
        return f"must hold a class and {needs}, got {length}{hint}; correct it or data.lines"
    box, area = made
    return Found(line.label, (box[0], box[1], box[2], box[3]), area)


def _may_be_poses(lines: Sequence[Line], values: int) -> bool:
    """Return whether lines may be boxes with key points of so many values each: all of these lie in their boxes."""
    if any((len(line.numbers) - _BOX) % values or len(line.numbers) <= _BOX for line in lines):
        return False
    return all(_holds_points(line.numbers, values) for line in lines)


def _holds_points(numbers: Sequence[float], values: int) -> bool:
    x, y, width, height = numbers[:_BOX]
    points = zip(numbers[_BOX::values], numbers[_BOX + 1 :: values], strict=True)
    return all(
        (px, py) == (0, 0) or (abs(px - x) <= width / 2 + _SLACK and abs(py - y) <= height / 2 + _SLACK)
        for px, py in points
    )
