"""A split of YOLO data to a dataset."""

from __future__ import annotations

from raydistill.config.data import YoloData
from raydistill.data.checks import listed
from raydistill.data.dataset import DetectionDataset
from raydistill.data.fetching import read_each
from raydistill.data.formats.assembled import FoundObject, Source
from raydistill.data.formats.base import SplitName
from raydistill.data.formats.yolo_files import images_of, label_names
from raydistill.data.formats.yolo_lines import Labels, ambiguity, found_in, parse_labels
from raydistill.data.image_folder import Header
from raydistill.data.notes import warn_read_as
from raydistill.errors import UserError
from raydistill.storage.regular import LIST_BYTES, read_bytes
from raydistill.storage.remote_path import Place

REPEATS = "lines that stand in a file twice, read once"


def read_split(data: YoloData, root: Place, split: SplitName, train: DetectionDataset | None) -> DetectionDataset:
    """Read a split that ``data`` names; class 0 of the files is label 1.

    Raises:
        UserError: naming everything that is wrong with it, and where numbers may mean one thing or another.
    """
    del train  # the settings name the classes
    entries = data.named(split)
    images = images_of(root, entries or ())
    read = read_each(lambda place: _labels_of(root, place), [root / image for image in images], "labels")
    files = [file for file, _ in read]
    lines = [line for _, labels in read for line in labels.lines]
    doubt = ambiguity(lines) if data.lines is None else ""
    if doubt:
        raise UserError(f"{root} ({entries}): must have one meaning for each number, got several: {doubt}")
    place = root / entries if isinstance(entries, str) else root
    source = Source(place, root, images, [image for image, file in zip(images, files, strict=True) if file is None])
    repeats = [str(file) for file, labels in read if labels.repeats]

    def objects_of(number: int, header: Header) -> list[FoundObject]:
        file, labels = read[number]
        source.problems += [f"{file}, {problem}" for problem in labels.problems]
        return _objects(data, labels, f"{file}", header, source.problems)

    found = source.dataset(data, source.headers(data), data.classes, objects_of)
    warn_read_as(place, REPEATS, repeats)
    return found


def _labels_of(root: Place, image: Place) -> tuple[Place | None, Labels]:
    """Return the file of an image's labels and what it holds; None where it has none."""
    start = len(str(root).rstrip("/")) + 1
    for name in label_names(str(image)[start:]):
        file = root / name
        try:
            return file, parse_labels(read_bytes(file, LIST_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return file, Labels(problems=(f"must be readable, got: {error.strerror or error}; check it",))
    return None, Labels()


def _objects(data: YoloData, labels: Labels, file: str, header: Header, problems: list[str]) -> list[FoundObject]:
    objects = []
    for line in labels.lines:
        where = f"{file}, line {line.number}"
        if line.label >= len(data.classes):
            problems.append(
                f"{where}: must have a class of 0 to {len(data.classes) - 1} ({listed(data.classes)}), got "
                f"{line.label}; correct it or data.classes"
            )
            continue
        found = found_in(line, data.lines)
        if isinstance(found, str):
            problems.append(f"{where}: {found}")
            continue
        x, y, width, height = found.box
        box = (x * header.width, y * header.height, width * header.width, height * header.height)
        area = None if found.area is None else found.area * header.width * header.height
        objects.append(FoundObject(line.label + 1, box, area, where))
    return objects
