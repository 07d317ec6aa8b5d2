"""Weights files that are broken, through ``load_file`` and ``restore_detector``."""

# ruff: noqa: E501  (a row of a table is a line)
from __future__ import annotations

import functools
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from raydistill.config import Config, load_config
from raydistill.detectors.restore import restore_detector
from raydistill.detectors.two_stage.build import build_faster_rcnn
from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector
from raydistill.detectors.weights import load_file
from tests.small import SMALL_RUN

from .cases import Case, right

Run = Callable[[Path], Any]
Content = dict[str, Any]
CLASSES = ("disc", "square")
BIAS = "roi_heads.box_predictor.cls_score.bias"


@functools.cache
def _config() -> Config:
    return load_config("quickstart", SMALL_RUN)


@functools.cache
def _detector() -> FasterRCNNDetector:
    return build_faster_rcnn(_config().student, _config().input, CLASSES)


def sound() -> Content:
    return {
        "model": {key: value.clone() for key, value in _detector().model.state_dict().items()},
        "classes": list(CLASSES),
        "detector": _config().student.model_dump(mode="json"),
        "input": _config().input.model_dump(mode="json"),
    }


def read(path: Path) -> Any:
    """Read a file in both ways; their errors must be the same where the first lets it pass."""
    load_file(build_faster_rcnn(_config().student, _config().input, CLASSES), path, "student.weights")
    return restore_detector(path).classes


def saved(change: Callable[[Content], Any], reader: Callable[[Path], Any] = read) -> Run:
    def run(folder: Path) -> Any:
        content = sound()
        changed = change(content)
        torch.save(content if changed is None else changed, folder / "net.pt")
        return reader(folder / "net.pt")

    return run


def lacking(*keys: str, reader: Callable[[Path], Any] = read) -> Run:
    """Leave out an entry of the file, or of a mapping in it."""

    def leave_out(content: Content) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return saved(leave_out, reader)


def tensor(key: str, make: Callable[[torch.Tensor], Any]) -> Run:
    """Replace one tensor of the net."""
    return saved(lambda content: content["model"].update({key: make(content["model"][key])}))


def settings(**values: Any) -> Run:
    return saved(lambda content: content["detector"].update(values), restore_detector)


def raw(content: bytes) -> Run:
    def run(folder: Path) -> Any:
        (folder / "net.pt").write_bytes(content)
        return read(folder / "net.pt")

    return run


class RunsCode:
    """A pickle that makes a folder when it is loaded as such."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("the-code-ran",)


def _cut(folder: Path) -> Any:
    torch.save(sound(), folder / "net.pt")
    content = (folder / "net.pt").read_bytes()
    return raw(content[: len(content) // 2])(folder)


def _empty_folder(folder: Path) -> Any:
    return read(folder)


NO_CHECKPOINT = r"net\.pt: must be a checkpoint of tensors, cannot be read"
NO_STATE = "must hold a state dict .tensors by name., alone or under 'model'"
NOT_FINITE = f"must hold finite numbers, got 1 tensors with NaN, infinity or of another kind .{BIAS}.; use an earlier"


def _fifo(folder: Path) -> Any:
    os.mkfifo(folder / "net.pt")
    return read(folder / "net.pt")


def _run_of_a_fifo(folder: Path) -> Any:
    os.mkfifo(folder / "best.pt")
    return read(folder)


def _sparse(folder: Path) -> Any:
    (folder / "net.pt").touch()
    os.truncate(folder / "net.pt", 70 * 10**9)
    return read(folder / "net.pt")


def _bomb(folder: Path) -> Any:
    with zipfile.ZipFile(folder / "net.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", bytes(5 * 10**7))
    return read(folder / "net.pt")


CASES = [
    Case("no file", lambda folder: read(folder / "net.pt"), "must be a weights file or a run directory, there is no"),
    Case("an empty folder", _empty_folder, "must hold best.pt or last.pt, got neither"),
    Case("a FIFO", _fifo, "must be a weights file or a run directory, got a named pipe .FIFO. where a regular file must be"),
    Case("a FIFO in a run directory", _run_of_a_fifo, "must hold best.pt or last.pt, got neither"),
    Case("a device", lambda _: read(Path("/dev/zero")), "/dev/zero: must be a weights file .* got a device where a regular"),
    Case("70 GB", _sparse, r"got 70\.0 GB, more than the 64\.0 GB that such a file may have"),
    Case("a bomb", _bomb, r"must be a checkpoint of tensors, cannot be read \(its \d+ kB would unpack to 50 MB\)"),
    Case("an empty file", raw(b""), NO_CHECKPOINT),
    Case("a text", raw(b"weights"), NO_CHECKPOINT),
    Case("an image", raw(b"\x89PNG\r\n\x1a\n"), NO_CHECKPOINT),
    Case("a file cut off", _cut, NO_CHECKPOINT),
    Case("a pickle with code", raw(pickle.dumps({"model": RunsCode()})), NO_CHECKPOINT),
    Case("a checkpoint with code", saved(lambda c: c.update(model=RunsCode())), NO_CHECKPOINT),
    Case("a list", saved(lambda c: [1]), "must hold a dictionary, got list"),
    Case("nothing in it", saved(lambda c: {}), NO_STATE),
    Case("a model without tensors", saved(lambda c: c.update(model={"a": 1})), NO_STATE),
    Case("a model that is a list", saved(lambda c: c.update(model=[1])), NO_STATE),
    Case("tensors without names", saved(lambda c: c.update(model={1: torch.zeros(1)})), "must name its tensors by texts, got 1"),
    Case("another net", saved(lambda c: {"weight": torch.zeros(3)}), r"must fit the net .* got tensors \d+ missing .*; 1 unex"),
    Case("a tensor missing", lacking("model", BIAS), f"got tensors 1 missing .{BIAS}"),
    Case("a tensor of another shape", tensor(BIAS, lambda t: t[:1]), rf"1 of another shape .{BIAS} \[1\] instead of \[3\]"),
    Case("more classes", saved(lambda c: c.update(classes=["disc", "square", "star"])), "must have the data's 2 classes, got 3"),
    Case("other classes", saved(lambda c: c.update(classes=["cat", "dog"])), "not in the data: cat, dog; not in the file: disc"),
    Case("classes in another order", saved(lambda c: c.update(classes=["square", "disc"])), "in the same order, got 'square'"),
    Case("classes that are numbers", saved(lambda c: c.update(classes=[1, 2])), "must name its classes by texts"),
    Case("a class twice", saved(lambda c: c.update(classes=["disc", "disc"])), "must name each class once"),
    Case("NaN in a tensor", tensor(BIAS, lambda t: t * float("nan")), NOT_FINITE),
    Case("infinity in a tensor", tensor(BIAS, lambda t: t + float("inf")), NOT_FINITE),
    Case("whole numbers for fractions", tensor(BIAS, lambda t: t.to(torch.int8)), NOT_FINITE),
    Case("complex numbers", tensor(BIAS, lambda t: t.to(torch.complex64)), NOT_FINITE),
    Case("a sparse tensor", tensor(BIAS, lambda t: t.to_sparse()), NOT_FINITE),
    Case("a tensor without content", tensor(BIAS, lambda t: t.to("meta")), NOT_FINITE),
    Case("an 8-bit fraction", tensor(BIAS, lambda t: t.to(torch.float8_e4m3fn)), NOT_FINITE),
    Case("a nested tensor", tensor(BIAS, lambda t: torch.nested.nested_tensor([t, t[:1]])), NOT_FINITE),
    Case("no anchors", lacking("detector", "anchor_sizes"), "was trained with anchor_sizes that it does not name, got"),
    Case("an image size beyond all", saved(lambda c: c["input"].update(min_size=10**9, max_size=10**9), restore_detector), "its net's settings are not this version's .min_size"),
    Case("other anchors", saved(lambda c: c["detector"].update(anchor_sizes=[[9.0]] * 5)), "was trained with anchor_sizes"),
    Case("settings that are a list", saved(lambda c: c.update(detector=[1])), "must describe its net by settings, got list"),
    Case("no settings", lacking("detector", reader=restore_detector), "must say how its net is built"),
    Case("an unknown setting", settings(wings=2), "its net's settings are not this version's .wings: Extra"),
    Case("a setting out of range", settings(fpn_channels=-1), "its net's settings are not this version's .fpn_channels"),
    Case("a true setting", settings(fpn_channels=True), "its net's settings are not this version's .fpn_channels"),
    Case("a net beyond all memory", settings(box_head_size=65_536, fpn_channels=65_536), "must describe a net that fits into memory, got: "),
    right("a class in another form of Unicode", saved(lambda c: c.update(classes=["di\u200bsc", "square"])), ("di\u200bsc", "square")),
    right("half precision", tensor(BIAS, lambda t: t.half()), CLASSES),
    right("a count of batches too many", saved(lambda c: c["model"].update({"a.num_batches_tracked": torch.tensor(1)})), CLASSES),
    right("a bare state dict", saved(lambda c: c["model"], lambda path: load_file(_detector(), path, "x").fresh), ()),
]  # fmt: skip
