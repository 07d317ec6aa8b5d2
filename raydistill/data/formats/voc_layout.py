"""Where the files of a PASCAL VOC folder are: the lists of its splits, the annotation and the image of each name."""

from __future__ import annotations

import posixpath

from raydistill.config.data import OnBadImage
from raydistill.data.checks import listed
from raydistill.errors import UserError
from raydistill.storage.remote_path import Place

_SUFFIXES = (".jpg", ".jpeg", ".png")


def list_of(root: Place, split: str) -> Place:
    """Return the file that lists the images of a split."""
    return root / "ImageSets" / "Main" / f"{split}.txt"


def read_list(root: Place, split: str) -> list[str]:
    """Names of the images of a split: the first column; lines of class lists with -1 (class absent) are left out.

    Raises:
        UserError: where the folder, the list or its names are not as they must be.
    """
    missing = [name for name in ("JPEGImages", "Annotations", "ImageSets/Main") if not (root / name).is_dir()]
    if missing:
        raise UserError(
            f"{root}: must be a PASCAL VOC folder with JPEGImages, Annotations and ImageSets/Main, "
            f"got none of {', '.join(missing)}; correct the path or add the folders"
        )
    path = list_of(root, split)
    if not path.is_file():
        splits = listed(sorted(found.stem for found in path.parent.glob("*.txt")))
        raise UserError(f"{path}: the list of the split must exist; splits there: {splits}")
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"{path}: must be readable, got: {error.strerror}; check the file's permissions") from error
    lines = [line.split() for line in text.splitlines()]
    stems = [posixpath.normpath(columns[0]) for columns in lines if columns and columns[1:] != ["-1"]]
    if not stems:
        raise UserError(f"{path}: must list at least one image, got none; add the names of the images")
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1}) if len(set(stems)) < len(stems) else []
    if repeated:
        raise UserError(f"{path}: must list each image once, got {listed(repeated)} more often; remove the repeats")
    return stems


def find_files(
    root: Place, stems: list[str], source: Place, on_bad_image: OnBadImage, problems: list[str]
) -> list[tuple[Place, str]]:
    """Find the annotation of each name, and the file of its image below ``JPEGImages``, folders of the name included.

    Names of which one is missing are left out and told in ``problems``; skipped images count as there.
    """
    pairs, folder = [], root / "JPEGImages"
    for stem in stems:
        annotation = root / "Annotations" / f"{stem}.xml"
        candidates = [f"{stem}{suffix}" for suffix in _SUFFIXES]
        image = next((name for name in candidates if (folder / name).is_file()), None)
        if image is None and on_bad_image == "skip":
            image = candidates[0]
        if not annotation.is_file():
            problems.append(f"{source}: '{stem}' must have its annotation {annotation}, got none; add or unlist it")
        if image is None:
            problems.append(
                f"{source}: '{stem}' must have its image {folder / candidates[0]} (or .jpeg, .png), got none; add or "
                "unlist it"
            )
        elif annotation.is_file():
            pairs.append((annotation, image))
    return pairs
