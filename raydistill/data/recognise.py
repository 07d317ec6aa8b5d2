"""From a folder as a tool has exported it to the settings that read it; without torch."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from raydistill.config.data import FILES_KINDS, AutoData, FilesData
from raydistill.config.sections import Config, Downloads
from raydistill.data.checks import listed, system_errors_in_words
from raydistill.data.formats.base import DESCRIBING, Finding, Folder, as_overrides, format_of, split_named
from raydistill.errors import UserError
from raydistill.storage.cache import ObjectCache
from raydistill.storage.remote_path import Place, place_at
from raydistill.storage.store import is_remote

_GIVEN = ("classes", "difficult", "coordinates", "lines")
"""Settings of data to be recognised that belong to some formats only."""
_MOST_CLASSES = 10  # that are named in a line
_MOST_TOPS = 50  # folders that are looked into, each as if it were a data set
_WORDS = ("readme", "license", "licence")  # files about data
_NAMES = {"train": "training", "val": "validation", "test": "test"}
_KINDS = "COCO, YOLO, PASCAL VOC or LabelMe data"


@dataclass(frozen=True)
class Recognised:
    """Data with a format, and what was found, in words."""

    data: FilesData
    finding: Finding
    place: Place
    """The root."""

    @property
    def overrides(self) -> str:
        """The settings that it stands for, as they are written on the command line."""
        return as_overrides({**self.finding.settings, "root": self.data.root})

    def __str__(self) -> str:
        """Return what was found, in one line."""
        images = ", ".join(f"{number:,} {_NAMES[split]}" for split, number in self.finding.images.items())
        classes, names = self.finding.classes, list(self.finding.classes[:_MOST_CLASSES])
        more = f" and {len(classes) - len(names)} more" if len(classes) > len(names) else ""
        parts = [
            f"{images} images" if images else "",
            f"{len(classes)} classes ({listed(names)}{more})" if classes else "",
            "no validation split" if self.data.named("val") is None else "",
            *self.finding.notes,
        ]
        said = ", ".join(filter(None, parts))
        return f"{self.data.root}: {self.finding.what}{f': {said}' if said else ''}"


def with_known_data(config: Config) -> tuple[Config, str]:
    """Return settings whose data have a format, and what was found in one line; empty where they said so themselves.

    Data that this machine does not see stay as they are: who reads them recognises them there.

    Raises:
        UserError: as ``recognise``.
    """
    if not isinstance(config.data, AutoData) or not (is_remote(config.data.root) or Path(config.data.root).exists()):
        return config, ""
    found = recognise(config.data, config.downloads.cache)
    return config.model_copy(update={"data": found.data}), f"data: {found}; stands for {found.overrides}"


def recognised(data: FilesData, downloads: Downloads) -> FilesData:
    """Return data with a format: those that are to be recognised as what they are, others as they stand.

    Raises:
        UserError: as ``recognise``.
    """
    return recognise(data, downloads.cache).data if isinstance(data, AutoData) else data


def recognise(data: AutoData, cache: ObjectCache) -> Recognised:
    """Say what lies in a folder, or in the only folder that it holds.

    Raises:
        UserError: where that is nothing that is known, or it can be read in several ways: with the settings that say
            in which.
    """
    with system_errors_in_words():
        return recognise_in(data, place_at(data.root, cache))


def recognise_in(data: AutoData, place: Place) -> Recognised:
    """Do the same, given the place of the root."""
    given = {key: value for key in _GIVEN if (value := getattr(data, key)) is not None}
    root = data.root.rstrip("/") or "/"
    if place.is_file() and place.name.lower().endswith(DESCRIBING):
        root, folder = root.rpartition("/")[0] or ".", Folder.of(place.parent, given, place.name)
    elif place.is_dir():
        folder = Folder.of(place, given)
        while top := _only_folder(folder):
            root, folder = f"{root}/{top}", folder.inside(top)
    else:
        got = "another file" if place.is_file() else "nothing"
        raise UserError(
            f"data.root: must be a folder with {_KINDS}, or a COCO JSON or YOLO's data.yaml, got {got} at {data.root}; "
            "correct the path"
        )
    finding = _one(root, folder, _findings(folder, data.only))
    return Recognised(_with_format(data, root, finding, given), finding, folder.place)


def _findings(folder: Folder, only: str | None) -> list[Finding]:
    of_file = {"": None, ".json": "coco"}.get(posixpath.splitext(folder.described)[1].lower(), "yolo")
    kinds = [kind for kind in FILES_KINDS if {only, of_file} <= {None, tag_of(kind)}]
    return [finding for kind in kinds for finding in format_of(kind).recognise(folder)]


def tag_of(kind: type[FilesData]) -> str:
    """Return what ``data.format`` calls a format."""
    (tag,) = get_args(kind.model_fields["format"].annotation)
    return str(tag)


def _only_folder(folder: Folder) -> str:
    """Return the folder that all there is lies in, as in what was packed as a whole; empty where there is none."""
    tops = {name.partition("/")[0] for name in folder.files if "/" in name or not name.lower().startswith(_WORDS)}
    top = tops.pop() if len(tops) == 1 else ""
    return top if top in folder.folders and split_named(top) is None else ""


def _one(root: str, folder: Folder, found: Sequence[Finding]) -> Finding:
    """Return the one data set that was found.

    Raises:
        UserError: where there is none, there are several, or it leaves a question open.
    """
    if not found:
        raise _nothing(root, folder)
    if len(found) == 1 and not found[0].question:
        return found[0]
    inside = _data_sets(folder)
    if len(inside) > 1:
        answers = " or ".join(as_overrides({"root": f"{root}/{name}"}) for name in inside[:4])
        raise UserError(f"data.root: must hold one data set, got {listed(inside)} in {root}; name one: {answers}")
    if len(found) == 1:
        raise UserError(f"data.root: {found[0].what} in {root} {found[0].question}")
    formats = list(dict.fromkeys(finding.form for finding in found))
    if len(formats) > 1:
        answers = " or ".join(as_overrides({"only": form}) for form in formats)
    else:
        answers = " or ".join(as_overrides(finding.settings) for finding in found if finding.settings)
    raise UserError(
        f"data.root: must hold one data set, got {listed([finding.what for finding in found])} in {root}; say which: "
        f"{answers or 'data.format=... and its files'}"
    )


def _data_sets(folder: Folder) -> list[str]:
    """Return the folders in a folder that are data sets by themselves."""
    tops = sorted({name.partition("/")[0] for name in folder.files if "/" in name})
    whole = [(top, folder.inside(top)) for top in tops[:_MOST_TOPS] if split_named(top) is None]
    return [top for top, inner in whole if inner.images and any(f.settings for f in _findings(inner, None))]


def _with_format(data: AutoData, root: str, finding: Finding, given: Mapping[str, Any]) -> FilesData:
    """Return the settings of the format that was found, with what was given."""
    (kind,) = (kind for kind in FILES_KINDS if tag_of(kind) == finding.form)
    idle = [key for key in given if key not in kind.model_fields]
    if idle:
        raise UserError(f"data.{idle[0]}: has no effect on {finding.what} ({root}); remove it")
    common = {key: value for key, value in data if key in FilesData.model_fields and key in data.model_fields_set}
    settings = {**common, **finding.settings, **given, "root": root}
    if data.val_fraction is not None and settings.get(kind.setting("val")) is not None:
        raise UserError(
            f"data.val_fraction: has no effect where there is a validation split, {settings[kind.setting('val')]}; "
            f"remove it, or leave that out: {as_overrides({**finding.settings, kind.setting('val'): None})}"
        )
    return kind.model_validate(settings)


def _nothing(root: str, folder: Folder) -> UserError:
    """Say that nothing is known of what lies in a folder."""
    if not folder.files:
        return UserError(f"data.root: must be a folder with {_KINDS}, got an empty one at {root}; correct the path")
    suffixes = sorted({name.rpartition(".")[2].lower() for name in folder.files if "." in name})
    got = f"{len(folder.images)} images and no annotations that are known" if folder.images else "no image"
    return UserError(
        f"data.root: must be a folder with {_KINDS}, got {got} in {root} (files: {listed(suffixes)}); export it from "
        "your tool in one of these forms, or read it yourself (data.format=own, data.dataset=module:name)"
    )
