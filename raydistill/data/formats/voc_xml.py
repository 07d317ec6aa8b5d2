"""One XML file of PASCAL VOC: what it says of its image, and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from xml.etree import ElementTree
from xml.parsers import expat

from raydistill.data.checks import Box
from raydistill.data.formats.json_text import is_text
from raydistill.storage.regular import XML_BYTES, read_bytes
from raydistill.storage.remote_path import Place

_DIFFICULT = {
    **dict.fromkeys(("", "0", "false", "no", "unspecified", "0.0"), False),
    **dict.fromkeys(("1", "true", "yes", "1.0"), True),
}
"""What tools write for 0 and 1, in small letters."""


@dataclass(frozen=True)
class VocObject:
    """One object as the file has it."""

    name: str
    corners: Box  # xmin, ymin, xmax, ymax as the file has them
    difficult: bool


@dataclass(frozen=True)
class VocContent:
    """What one XML file says."""

    size: tuple[int, int] | None = None  # width, height; None where it does not say
    objects: tuple[VocObject, ...] = ()

    def renamed(self, names: Mapping[str, str]) -> VocContent:
        """Return the same with other names of its objects, where ``names`` has one."""
        return replace(self, objects=tuple(replace(o, name=names.get(o.name, o.name)) for o in self.objects))


def parse_annotation(path: Place) -> tuple[VocContent | None, list[str]]:
    """Return what can be read of an annotation, None of an empty file, and what is wrong with it."""
    problems: list[str] = []
    return _parse(path, problems), problems


def _parse(path: Place, problems: list[str]) -> VocContent | None:
    try:
        raw = read_bytes(path, XML_BYTES)
        if not raw.strip():
            return None
        _refuse_doctype(raw)
        root = ElementTree.fromstring(raw)
    except (ElementTree.ParseError, expat.ExpatError) as error:
        problems.append(f"{path}: must be well-formed XML, got: {error}; correct or export it again")
        return VocContent()
    except OSError as error:
        problems.append(f"{path}: must be plain XML, got {error.strerror or error}; correct or export it again")
        return VocContent()
    except (_DoctypeError, LookupError, ValueError) as error:
        problems.append(f"{path}: must be plain XML, got {error}; correct or export it again")
        return VocContent()
    if root.tag != "annotation":
        problems.append(
            f"{path}: must be an <annotation>, got <{root.tag}>; export it in PASCAL VOC's form, without namespace"
        )
        return VocContent()
    objects = []
    for place, element in enumerate(root.findall("object"), 1):
        found = _parse_object(element, f"{path}, object {place}", problems)
        if found is not None:
            objects.append(found)
    size = _number(root, "size/width"), _number(root, "size/height")
    # Some tools write 0 where they do not know the size.
    stated = None if size[0] is None or size[1] is None or 0 in size else (int(size[0]), int(size[1]))
    return VocContent(stated, tuple(objects))


def _parse_object(element: ElementTree.Element, where: str, problems: list[str]) -> VocObject | None:
    name = (element.findtext("name") or "").strip()
    corners = [_number(element, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    difficult = (element.findtext("difficult") or "0").strip().lower()
    known = [corner for corner in corners if corner is not None]
    if not name:
        problems.append(f"{where}: must have a name, got none; add it")
    elif not is_text(name):
        problems.append(f"{where}: name must be a text that can be printed, got {name!r:.80}; correct it")
    if len(element.findall("bndbox")) > 1:
        problems.append(f"{where}: must have one bndbox, got {len(element.findall('bndbox'))}; make objects of them")
    if len(known) < 4:
        problems.append(f"{where}: bndbox must hold the numbers xmin, ymin, xmax, ymax, got {corners}; correct it")
    if difficult not in _DIFFICULT:
        problems.append(f"{where}: difficult must be 0 or 1, got {difficult!r:.80}; correct it")
    if not name or len(known) < 4:
        return None
    return VocObject(name, (known[0], known[1], known[2], known[3]), _DIFFICULT.get(difficult, False))


def _number(element: ElementTree.Element, path: str) -> float | None:
    try:
        text = element.findtext(path) or ""
        value = math.nan if "_" in text else float(text)  # Python would read 1_0 as 10
    except ValueError:
        return None
    return value if math.isfinite(value) else None


class _DoctypeError(Exception):
    """The XML declares a document type, through which a small file can grow without bound."""


def _refuse_doctype(raw: bytes) -> None:
    def refuse(name: str, *_identifiers: object) -> None:
        raise _DoctypeError(f"a document type declaration ({name}), which annotations do not need")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(raw, True)
