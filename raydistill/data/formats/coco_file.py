"""What a COCO file of annotations must hold, whoever reads it: the rules, their limits and their words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypedDict

from raydistill.data.checks import listed, raise_problems, warn_dropped, warn_shared_ids
from raydistill.data.formats.coco_repairs import OUTLINES, REPEATS, Meant, Repairs, outline, repair
from raydistill.data.formats.json_text import is_text, read_json, shown, without_collections
from raydistill.data.notes import warn_read_as
from raydistill.errors import UserError
from raydistill.storage.remote_path import Place


def _printable(value: str) -> str:
    if not is_text(value):
        raise ValueError("no text that can be printed")
    return value


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_Text = Annotated[StrictStr, AfterValidator(_printable)]
_Limited = Field(strict=True, gt=-1e15, lt=1e15, allow_inf_nan=False)  # no coordinate and no area lies beyond
Id = StrictInt | _Text
Number = Annotated[float, _Limited]
Box = Annotated[list[Number], Field(min_length=4, max_length=4)]
_Side = Annotated[int, Field(strict=True, gt=0, lt=2**31)]


class CocoImage(TypedDict):
    """An image; without ``width`` and ``height`` where the file does not say."""

    id: Id
    file_name: NotRequired[Any]  # checked by whoever opens the images: scoring detections needs none
    width: NotRequired[_Side | None]
    height: NotRequired[_Side | None]


class CocoCategory(TypedDict):
    """A class."""

    id: Id
    name: Annotated[_Text, BeforeValidator(_number_as_text)]
    supercategory: NotRequired[Any]  # goes by nothing but `coco.dataset_from`


class CocoAnnotation(TypedDict):
    """An object; its ``bbox`` has an extent, and may stick out of its image."""

    id: NotRequired[Id | None]
    image_id: Id
    category_id: Id
    bbox: Box
    area: NotRequired[Annotated[float, _Limited, Field(ge=0)] | None]
    iscrowd: NotRequired[Literal[0, 1] | StrictBool | None]
    ignore: NotRequired[Any]  # without effect


MEANINGS = {
    **dict.fromkeys(("id", "image_id", "category_id"), "a whole number or a text that can be printed"),
    **dict.fromkeys(("width", "height"), "a whole number of pixels"),
    "name": "a text that can be printed",
    "bbox": "[x, y, width, height] in finite numbers",
    "area": "a number from 0 on",
    "iscrowd": "0 or 1",
    "score": "a number",
}
"""What each key must be, in the words of the errors."""

_SECTIONS = ("images", "annotations", "categories")
_T = TypeVar("_T")


class Entries(Generic[_T]):
    """What the entries of a list must hold, and what they are called."""

    def __init__(self, kind: str, model: type[_T], needs: str) -> None:
        """Take the TypedDict of an entry; ``needs`` names the keys that each must have."""
        self.kind, self.needs, self.keys = kind, needs, frozenset(model.__annotations__)
        self._adapter = TypeAdapter(list[model])  # type: ignore[valid-type]

    def sound(
        self,
        entries: Sequence[Any],
        problems: list[str],
        faults_beside: Callable[[Any], list[str]],
        repairs: Repairs | None = None,
    ) -> Iterator[tuple[int, _T]]:
        """Yield the sound entries with their places, from 1 on; what is wrong with the others goes to ``problems``.

        Args:
            entries: as they were read.
            problems: a sentence is added for each fault.
            faults_beside: says what is wrong with an entry beside the others; of a faulty one it sees the sound keys.
            repairs: what is read otherwise than it stands is added; None takes everything as it stands.
        """
        for number, (entry, faults, done) in enumerate(self._each_alone(entries, repairs is not None), start=1):
            faults_here = faults_beside(entry)
            if faults or faults_here:
                problems += [f"{self.name(entry, number)}: {fault}" for fault in (*faults, *faults_here)]
            else:
                if repairs is not None:
                    for what in sorted(done):
                        repairs.setdefault(what, []).append(self.name(entry, number))
                yield number, entry

    def name(self, entry: Any, number: int) -> str:
        """Return what messages call the entry of this number."""
        own_id = entry.get("id")
        return f"{self.kind} number {number}" if own_id is None else f"{self.kind} {shown(own_id)}"

    def _each_alone(self, entries: Sequence[Any], repairing: bool) -> Iterator[tuple[Any, Sequence[str], set[str]]]:
        """Yield each entry with what is wrong with it by itself, a faulty one with its sound keys only, and repairs."""
        try:
            sound = self._adapter.validate_python(entries)
        except ValidationError:
            for entry in entries:
                found, faults = self._one_alone(entry)
                repaired, done = repair(entry) if faults and repairing and isinstance(entry, dict) else ({}, set())
                if done:
                    found, faults = self._one_alone(repaired)
                yield found, faults, done
        else:
            yield from ((entry, (), set()) for entry in sound)

    def _one_alone(self, entry: Any) -> tuple[Any, Sequence[str]]:
        try:
            return self._adapter.validate_python([entry])[0], ()
        except ValidationError as error:
            places = [problem["loc"] for problem in error.errors(include_url=False, include_context=False)]
        if not isinstance(entry, dict):
            return {}, [f"must be an object with {self.needs}, got {shown(entry)}; correct it"]
        keys = list(dict.fromkeys(str(place[1]) for place in places))
        return {key: entry[key] for key in self.keys.intersection(entry).difference(keys)}, [
            f"{key} must be {MEANINGS[key]}, got {shown(entry[key])}; correct it"
            if key in entry
            else f"{key} must be given, got none; add it"
            for key in keys
        ]


_IMAGES = Entries("image", CocoImage, "id")
_CATEGORIES = Entries("category", CocoCategory, "id and name")
_ANNOTATIONS = Entries("annotation", CocoAnnotation, "image_id, category_id and bbox")


@dataclass
class CocoFile:
    """A COCO file of annotations: what is sound in it, what is wrong with it, what is left out of it.

    Whoever reads on adds to ``problems`` and ``dropped`` and has all told at once, by `raise_problems` and `warn`.
    """

    source: Place
    images: list[CocoImage] = field(default_factory=list)
    categories: list[CocoCategory] = field(default_factory=list)
    annotations: list[CocoAnnotation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)  # boxes of which nothing is left
    without_own_id: list[str] = field(default_factory=list)  # annotations that count all the same
    repairs: Repairs = field(default_factory=dict)  # what was read otherwise than it stands

    def raise_problems(self) -> None:
        """Raise one error that tells what is wrong; nothing where all is sound.

        Raises:
            UserError: naming the first of the problems and counting the others.
        """
        raise_problems(self.problems, f"{self.source}: the annotations must be sound")

    def warn(self) -> None:
        """Log what is left out and what was read in spite of a flaw, one warning of each kind."""
        warn_dropped(self.source, self.dropped)
        warn_shared_ids(self.source, self.without_own_id)
        for what, names in self.repairs.items():
            warn_read_as(self.source, what, names)


@without_collections()
def read_coco_file(path: Place) -> CocoFile:
    """Read a COCO file of annotations and check each of its entries.

    Raises:
        UserError: where the file is missing, no JSON, or without COCO's three lists. What is wrong with the entries is
            in ``problems`` of what comes back.
    """
    raw = read_json(path, "annotations")
    if not isinstance(raw, dict):
        raise _no_coco_file(path, f"a {type(raw).__name__}")
    missing = [key for key in _SECTIONS if not isinstance(raw.get(key), list)]
    if missing:
        raise _no_coco_file(path, f"none of {', '.join(missing)}")
    file = CocoFile(path)
    image_ids = _read_images(file, raw["images"])
    category_ids = _read_categories(file, raw["categories"])
    _read_annotations(file, raw["annotations"], image_ids, category_ids)
    return file


def in_order(ids: Iterable[Id]) -> list[Id]:
    """Return ids in the order of COCO's labels: whole numbers before texts."""
    return sorted(ids, key=lambda value: (isinstance(value, str), value))


def _no_coco_file(path: Place, got: str) -> UserError:
    return UserError(
        f"{path}: must be a COCO file with the lists images, annotations and categories, got {got}; "
        "export the data in COCO detection format"
    )


def _read_images(file: CocoFile, entries: list[Any]) -> set[Id]:
    """Read the images and return the ids of all, faulty ones too."""
    ids: set[Id] = set()
    found = _IMAGES.sound(
        entries, file.problems, lambda entry: _repeats(entry, "id", ids, "renumber the images"), file.repairs
    )
    file.images = [image for _, image in found]
    if not entries:
        file.problems.append("images: must list at least one image, got none; add them")
    return ids


def _read_categories(file: CocoFile, entries: list[Any]) -> set[Id]:
    """Read the categories and return the ids of all, faulty ones too."""
    ids: set[Id] = set()
    names: set[Id] = set()

    def repeats(entry: Any) -> list[str]:
        by_id = _repeats(entry, "id", ids, "renumber the categories")
        return by_id or _repeats(entry, "name", names, "rename or merge the categories")

    file.categories = [category for _, category in _CATEGORIES.sound(entries, file.problems, repeats, file.repairs)]
    if not entries:
        file.problems.append("categories: must name at least one class, got none; add them")
    return ids


def _read_annotations(file: CocoFile, entries: list[Any], image_ids: set[Id], category_ids: set[Id]) -> None:
    names = {category["id"]: category["name"] for category in file.categories}
    known = listed([f"{shown(number)} {names[number]}" for number in in_order(names)])
    seen: dict[Id, CocoAnnotation] = {}

    meant = Meant({"image_id": image_ids, "category_id": category_ids}, file.repairs)

    def faults(entry: Any) -> list[str]:
        found = []
        meant.replace(entry, "annotation")
        if "image_id" in entry and entry["image_id"] not in image_ids:
            got = shown(entry["image_id"])
            found.append(f"image_id must be that of an image, got {got}; add the image or remove this")
        if "category_id" in entry and entry["category_id"] not in category_ids:
            found.append(f"category_id must be one of {known}, got {shown(entry['category_id'])}; correct or add it")
        return found

    without_extent = []
    for number, annotation in _ANNOTATIONS.sound(entries, file.problems, faults, file.repairs):
        own_id = annotation.get("id")
        twin = None if own_id is None else seen.get(own_id)
        if twin is not None and all(annotation[key] == twin[key] for key in ("image_id", "category_id", "bbox")):
            file.repairs.setdefault(REPEATS, []).append(f"annotation {shown(own_id)}")
            continue
        if own_id is None or twin is not None:
            file.without_own_id.append(f"number {number}" if own_id is None else shown(own_id))
        else:
            seen[own_id] = annotation
        if not any(annotation["bbox"]) and _take_outline(annotation, entries[number - 1]):
            file.repairs.setdefault(OUTLINES, []).append(_ANNOTATIONS.name(annotation, number))
        if min(annotation["bbox"][2:]) > 0:
            file.annotations.append(annotation)
        else:
            without_extent.append(annotation)
    image_names = {image["id"]: image.get("file_name") for image in file.images} if without_extent else {}
    for annotation in without_extent:
        name = image_names.get(annotation["image_id"])
        image = str(name) if is_text(name) else f"image {shown(annotation['image_id'])}"
        file.dropped.append(described(annotation, image))


def _take_outline(annotation: CocoAnnotation, raw: Any) -> bool:
    """Give an annotation whose box is all zeros that of its outline; return whether it has one."""
    found = outline(raw.get("segmentation"))
    if found is not None:
        annotation["bbox"], area = found
        annotation["area"] = annotation.get("area") or area
    return found is not None


def described(annotation: CocoAnnotation, image: str) -> str:
    """Name an annotation and its box, for a message; ``image`` is what its image is called."""
    own_id = annotation.get("id")
    name = "annotation" if own_id is None else f"annotation {shown(own_id)}"
    return f"{name} of {image} [{', '.join(f'{value:g}' for value in annotation['bbox'])}]"


def _repeats(entry: Any, key: str, seen: set[Id], remedy: str) -> list[str]:
    """Say that the value of ``key`` was there before, and note it."""
    if key not in entry:
        return []
    value = entry[key]
    if value in seen:
        return [f"{key} must be unique, got {shown(value)} again; {remedy}"]
    seen.add(value)
    return []
