"""Images and the XML files of PASCAL VOC in folders of any name: which belong together."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from raydistill.config.data import OnBadImage
from raydistill.data.checks import listed
from raydistill.data.formats.base import Folder
from raydistill.data.formats.voc_layout import VocImage, VocSplit, find_split
from raydistill.data.formats.voc_list import list_of
from raydistill.storage.remote_path import Place


def find_files(root: Place, split: str, on_bad_image: OnBadImage) -> VocSplit:
    """Find the files of a split: those of a list in ``ImageSets/Main``, else those of a folder below ``root``.

    Raises:
        UserError: where there is neither.
    """
    if (root / "ImageSets").is_dir() or list_of(root, split).is_file():
        return find_split(root, split, on_bad_image)
    place = root / split
    if split == "." or (place.is_dir() and not (root / "JPEGImages").is_dir()):
        folder = Folder.of(place)
        if folder.images or any(name.lower().endswith(".xml") for name in folder.files):
            return _in_folder(folder, on_bad_image)
    return find_split(root, split, on_bad_image)  # says what is missing


def _in_folder(folder: Folder, on_bad_image: OnBadImage) -> VocSplit:
    """Return the images of a folder, each with its XML file; what is wrong with these goes to the problems."""
    pairs = _Pairs(folder)
    images = [VocImage(image, pairs.annotation(image)) for image in folder.images]
    alone = pairs.left_over()
    if on_bad_image == "skip":
        images += [VocImage(f"{stem}.jpg", folder.place / name) for stem, name in alone.items()]
        alone = {}
    problems = [
        f"{folder.place / name}: must have its image, {posixpath.basename(stem)}.jpg (or .png, .bmp, .tif ...), beside "
        "it or in another folder, got none; put it there or remove the annotation"
        for stem, name in alone.items()
    ]
    return VocSplit(folder.place, folder.place, images, [*pairs.problems, *problems])


@dataclass
class _Pairs:
    """The images of a folder and their XML files: side by side, or in folders of their own under the same name."""

    folder: Folder
    problems: list[str] = field(default_factory=list)
    _by_path: dict[str, str] = field(default_factory=dict)
    _by_stem: Mapping[str, list[str]] = field(default_factory=dict)
    _taken: dict[str, str] = field(default_factory=dict)
    _beside: set[str] = field(default_factory=set)  # paths without suffix of images that have an XML file beside them

    def __post_init__(self) -> None:
        by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.folder.files:
            stem, suffix = posixpath.splitext(name)
            if suffix.lower() == ".xml":
                self._by_path[stem] = name
                by_stem[posixpath.basename(stem)].append(name)
        self._by_stem = by_stem
        self._beside = {posixpath.splitext(image)[0] for image in self.folder.images} & self._by_path.keys()

    def annotation(self, image: str) -> Place | None:
        """Return the XML file of an image; None where it has none."""
        stem = posixpath.splitext(image)[0]
        name = self._by_path.get(stem) or self._elsewhere(image, posixpath.basename(stem))
        if name is None:
            return None
        other = self._taken.setdefault(name, image)
        if other != image:
            self.problems.append(
                f"{self.folder.place / name}: must be of one image, got {other} and {image}; rename one"
            )
        return self.folder.place / name

    def _elsewhere(self, image: str, stem: str) -> str | None:
        """Return the file of that name in another folder, whose path has the most in common with the image's."""
        alone = [name for name in self._by_stem.get(stem, ()) if posixpath.splitext(name)[0] not in self._beside]
        if not alone:
            return None
        common = [len(set(posixpath.dirname(name).split("/")) & set(image.split("/"))) for name in alone]
        best = [name for name, number in zip(alone, common, strict=True) if number == max(common)]
        if len(best) > 1:
            self.problems.append(
                f"{self.folder.place / image}: must have one annotation, got {listed(best)}; remove or rename others"
            )
        return best[0]

    def left_over(self) -> dict[str, str]:
        """Return the XML files that have no image, by their paths without suffix, once all images were asked for."""
        return {stem: name for stem, name in self._by_path.items() if name not in self._taken}
