"""A format of annotations is added in two files: its settings, and what recognises and reads it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import pytest

from raydistill.config.data import AutoData, FilesData
from raydistill.data import recognise as module
from raydistill.data.build import AS_USUAL, build_splits
from raydistill.data.counting import sources_of
from raydistill.data.dataset import DetectionDataset
from raydistill.data.fingerprint import fingerprint
from raydistill.data.formats.assembled import FoundObject, Source
from raydistill.data.formats.base import Finding, Folder, Format, SplitName
from raydistill.data.readable import check_readable
from raydistill.data.recognise import recognise
from raydistill.data.split_checks import doubts_of_splits
from raydistill.storage.remote_path import Place

from .exports import SCENES, paint, xywh


class DotsData(FilesData):
    """The settings of a made-up format."""

    implementation: ClassVar[str] = f"{__name__}:DOTS"

    format: Literal["dots"]
    train: str
    val: str | None = None
    test: str | None = None


def _recognise(folder: Folder) -> list[Finding]:
    if "boxes.dots" not in folder.known:
        return []
    return [Finding("dots", "Dots", {"format": "dots", "train": ".", "val": None}, {"train": len(folder.images)})]


def _read(data: DotsData, root: Place, split: SplitName, train: DetectionDataset | None) -> DetectionDataset:
    assert (split, train) == ("train", None)
    images = list(Folder.of(root).images)
    rows = [line.split() for line in (root / "boxes.dots").read_text().splitlines()]
    found = {name: [row[1:] for row in rows if row[0] == name] for name in images}
    source = Source(root, root, images, [])
    return source.dataset(
        data,
        source.headers(data),
        ("cat", "dog"),
        lambda place, _: [
            FoundObject(("cat", "dog").index(label) + 1, (float(x), float(y), float(w), float(h)), None, images[place])
            for label, x, y, w, h in found[images[place]]
        ],
    )


DOTS = Format(_recognise, _read)


def test_a_made_up_format_goes_all_the_way_without_another_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILES_KINDS", (*module.FILES_KINDS, DotsData))
    lines = []
    for number, things in enumerate(SCENES):
        paint(tmp_path / f"{number}.png", things)
        lines += [f"{number}.png {name} {' '.join(map(str, xywh(corners)))}" for name, corners in things]
    (tmp_path / "boxes.dots").write_text("\n".join(lines))
    data = AutoData(format="auto", root=str(tmp_path))
    found = recognise(data, AS_USUAL.cache)
    assert str(found) == f"{tmp_path}: Dots: 3 training images, no validation split"
    assert found.overrides == f"data.format=dots data.train=. data.val=null data.root={tmp_path}"
    check_readable(data, AS_USUAL)
    splits = build_splits(data)
    assert [len(splits.train), len(splits.val), splits.train.num_counted + splits.val.num_counted] == [2, 1, 3]
    assert fingerprint(splits)["train"].looked_at == "checksums"
    assert sources_of(found.data)[1][0] == "data.val"  # type: ignore[arg-type]
    assert all("no object of" in doubt for doubt in doubts_of_splits(found.data, splits))  # type: ignore[arg-type]
