"""Weights -> a file that other programs run, if it finds what they find, and a report of how well and how fast."""

from __future__ import annotations

import functools
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

import torch

from raydistill import __version__
from raydistill.detectors.base import Deployable, Detector
from raydistill.detectors.predict import threshold_of
from raydistill.detectors.restore import restore_detector
from raydistill.errors import UserError
from raydistill.inference.export.deployed import deployed
from raydistill.inference.export.formats import FORMATS, FormatName, Made, check_packages, make_int8
from raydistill.inference.export.images import MeasuringData, Split, of_data, of_run
from raydistill.inference.export.parity import LEAST_PAIRED, MOST_AP_DIFFERENCE, compare
from raydistill.inference.export.runners import DetectorRunner, Images, Runner
from raydistill.inference.latency import time_in_turn
from raydistill.inference.on_data import DataPath, student_place, weights_here
from raydistill.runs.directory import RunDirectory
from raydistill.runs.weights_file import weights_file
from raydistill.storage.output import Output
from raydistill.structures import Target

REPORT = "export.json"
MOST_AT_ONCE = 64
_SECONDS, _LEAST_REPEATS, _MOST_REPEATS = 5.0, 5, 50
Told = Callable[[str], object]


@dataclass(frozen=True)
class Wanted:
    """What is to be exported, and how it is measured."""

    format: FormatName = "onnx"
    int8: bool = False
    """Quantize it as well, into a file of its own."""
    batch_size: int = 1
    threshold: float | None = None
    """None: the weights' own."""
    output: str | None = None
    """The file; None: beside the weights."""
    data: DataPath | None = None
    """To measure on; None: those of the run."""
    num_images: int = 100
    """At most so many are measured on ..."""
    num_calibration: int = 100
    """... and so many are looked at for the ranges of int8."""


@dataclass(frozen=True)
class Exported:
    """A file, and what was measured of it."""

    file: str
    format: FormatName
    precision: str
    batch_size: int
    threshold: float
    megabytes: float
    images: str
    """On which the numbers below were measured."""
    detections: int
    """Above the threshold, of torch and of the file together."""
    paired: float
    """Share of them that have their like on the other side."""
    ap: float
    """From 0 to 1, by our evaluator, from what the file finds; -1: no object."""
    torch_ap: float
    milliseconds: Mapping[str, Mapping[str, float]]
    """Number of threads -> ``torch`` and ``file``: the median time of a call on one batch."""
    repeats: int
    machine: Mapping[str, str]

    @property
    def faults(self) -> list[str]:
        """What must not be in a file that stands for the net."""
        found = []
        if self.paired < LEAST_PAIRED:
            found.append(f"{100 * self.paired:.1f}% of {self.detections} detections alike (at least 99.5%)")
        if abs(self.ap - self.torch_ap) > MOST_AP_DIFFERENCE:
            found.append(f"AP {100 * self.ap:.2f} instead of {100 * self.torch_ap:.2f}")
        return found


def export(weights: str, wanted: Wanted, told: Told) -> list[Exported]:
    """Export what ``weights`` means, as ``load_student`` takes it, measure it and write it with its report.

    Nothing is written unless the file finds what torch finds; with ``int8`` a second file is, as good as it is.

    Raises:
        UserError: where something is missing or wrong, or the file is not as good as it must be.
    """
    check_packages(wanted.format, wanted.int8)
    _check(wanted)
    found = weights_here(student_place(weights))
    detector = restore_detector(found).eval()
    if not isinstance(detector, Deployable):
        raise UserError(
            f"{weights}: a detector of one's own must say how it is deployed, got {type(detector).__name__} without "
            "`deployable()`; see raydistill.detectors.base.Deployable"
        )
    threshold = threshold_of(detector, wanted.threshold)
    run = RunDirectory(_folder_of(found))
    sizes = (wanted.num_images, wanted.num_calibration)
    data = of_run(run, detector, *sizes) if wanted.data is None else of_data(wanted.data, detector, *sizes)
    output = _output(student_place(weights), found, wanted)
    threads = torch.get_num_threads()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / output.folder.name
            return _export(detector, wanted, threshold, data, file, output, told)
    finally:
        torch.set_num_threads(threads)


def _check(wanted: Wanted) -> None:
    if not 1 <= wanted.batch_size <= MOST_AT_ONCE:
        raise UserError(f"--batch: must be 1 to {MOST_AT_ONCE}, got {wanted.batch_size}")
    if wanted.int8 and wanted.format != "onnx":
        raise UserError(f"--int8: is made of an ONNX file, got --format {wanted.format}; leave one of them out")
    for name, number in (("--num-images", wanted.num_images), ("--num-calibration", wanted.num_calibration)):
        if number < 1:
            raise UserError(f"{name}: must be at least 1, got {number}")
    suffix = FORMATS[wanted.format].suffix
    if wanted.output is not None and not wanted.output.endswith(suffix):
        raise UserError(f"--output: must end in {suffix} for --format {wanted.format}, got {wanted.output}")


def _output(place: str, found: Path, wanted: Wanted) -> Output:
    """Return the file to write: beside the weights, called after them, unless another is named.

    Args:
        place: of the weights, as their user calls it.
        found: their file or directory on this machine.
        wanted: says which.
    """
    if wanted.output is not None:
        return Output.to_read(wanted.output)
    batch = "" if wanted.batch_size == 1 else f"_batch{wanted.batch_size}"
    name = f"{weights_file(found).stem}{batch}{FORMATS[wanted.format].suffix}"
    return Output.to_read(place).part(_folder_of(found) / name)


def _folder_of(weights: Path) -> Path:
    return weights if weights.is_dir() else weights.parent


def _export(
    detector: Detector,
    wanted: Wanted,
    threshold: float,
    data: MeasuringData,
    file: Path,
    output: Output,
    told: Told,
) -> list[Exported]:
    if not isinstance(detector, Deployable):
        raise TypeError("asked before")
    batch_size, net = wanted.batch_size, detector.deployable()
    told(f"making {file.name} ...")
    notes = _notes(detector, threshold, batch_size)
    made = {"fp32": FORMATS[wanted.format].make(deployed(net, threshold, batch_size), batch_size, file, notes)}
    if wanted.int8:
        told(f"quantizing with {len(data.calibration.indices)} images of {data.calibration.name} ...")
        calibration = (images for _, images in data.calibration.batches(batch_size))
        made["int8"] = make_int8(file, batch_size, file.with_name(f"{file.stem}_int8.onnx"), calibration)
    reference = DetectorRunner(detector, batch_size)
    told(f"comparing with torch on {len(data.validation.indices)} images of {data.validation.name} ...")
    runners: dict[str, Runner] = {"torch": reference, **{name: one.run_all(1) for name, one in made.items()}}
    image_ids, found = _detect(runners, data.validation, batch_size)
    aps = {name: data.validation.ap(detector, image_ids, own) for name, own in found.items()}
    told("timing ...")
    milliseconds, repeats = _latencies(reference, made, data.validation, batch_size)
    reports = []
    for name, one in made.items():
        parity = compare(found["torch"], found[name], threshold)
        reports.append(
            Exported(
                file=one.files[0].name,
                format=wanted.format,
                precision=name,
                batch_size=batch_size,
                threshold=threshold,
                megabytes=sum(part.stat().st_size for part in one.files) / 1e6,
                images=f"{len(image_ids)} of {data.validation.name}",
                detections=parity.detections,
                paired=parity.share,
                ap=aps[name],
                torch_ap=aps["torch"],
                milliseconds={
                    threads: {"torch": times["torch"], "file": times[name]} for threads, times in milliseconds.items()
                },
                repeats=repeats,
                machine=_machine(wanted.format),
            )
        )
    if reports[0].faults:
        raise UserError(
            f"{output.place}: must find what torch finds, got {' and '.join(reports[0].faults)} on "
            f"{reports[0].images}; nothing is written; a net that has hardly been trained has many equal scores: train "
            "it longer"
        )
    _write(output, made, reports)
    return reports


def _detect(runners: Mapping[str, Runner], split: Split, batch_size: int) -> tuple[list[int], dict[str, list[Target]]]:
    image_ids: list[int] = []
    found: dict[str, list[Target]] = {name: [] for name in runners}
    for ids, images in split.batches(batch_size):
        image_ids += ids
        for name, runner in runners.items():
            found[name] += runner(images)[: len(ids)]
    return image_ids, found


def _latencies(
    reference: Runner, made: Mapping[str, Made], split: Split, batch_size: int
) -> tuple[dict[str, dict[str, float]], int]:
    """Return the milliseconds of a call by number of threads, then by who is called, and how often each was."""
    _, images = next(split.batches(batch_size))
    found: dict[str, dict[str, float]] = {}
    repeats = _MOST_REPEATS
    for threads in _numbers_of_threads():
        torch.set_num_threads(threads)
        runners = {"torch": reference, **{name: one.run_all(threads) for name, one in made.items()}}
        calls = [_call(runner, images) for runner in runners.values()]
        timings = time_in_turn(calls, seconds=_SECONDS, least=_LEAST_REPEATS, most=_MOST_REPEATS)
        found[str(threads)] = {
            name: round(1000 * timing.seconds, 3) for name, timing in zip(runners, timings, strict=True)
        }
        repeats = min(repeats, timings[0].repeats)
    return found, repeats


def _numbers_of_threads() -> list[int]:
    return sorted({1, len(os.sched_getaffinity(0))})


def _call(runner: Runner, images: Images) -> Callable[[], object]:
    return lambda: runner(images)


def _notes(detector: Detector, threshold: float, batch_size: int) -> dict[str, str]:
    """Return what a program must know that runs the file, beside what stands in its signature."""
    shape = "image: uint8 [height, width, 3]" if batch_size == 1 else f"images: uint8 [{batch_size}, height, width, 3]"
    return {
        "classes": json.dumps(detector.classes, ensure_ascii=False),
        "threshold": repr(threshold),
        "input": f"{shape}, RGB, of any size, upright",
        "outputs": "boxes: float32 [M, 4], x1, y1, x2, y2 in pixels of the image; class_ids: int64 [M], from 0 on, "
        f"into classes; scores: float32 [M]{'; image_ids: int64 [M], from 0 on' if batch_size > 1 else ''}",
        "input_size": json.dumps(detector.sides and {"min_size": detector.sides[0], "max_size": detector.sides[1]}),
        "normalization": json.dumps(asdict(detector.normalization)),
        "inside": "resizing, normalization, padding, non-maximum suppression, threshold",
        "made_by": f"raydistill {__version__}",
    }


def _machine(name: FormatName) -> dict[str, str]:
    packages = {"onnx": ("torch", "onnxruntime"), "torchscript": ("torch",), "openvino": ("torch", "openvino")}[name]
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return {"processor": (models or [platform.machine()])[0], **{package: version(package) for package in packages}}


def _write(output: Output, made: Mapping[str, Made], reports: Sequence[Exported]) -> None:
    """Write the files beside each other, and their reports among those that are there."""
    folder = output.folder.parent
    for one in made.values():
        for part in one.files:
            content = part.read_bytes()
            output.write(folder / part.name, functools.partial(_put, content))
    path = output.fetched(folder / REPORT)
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    new = {report.file: asdict(report) for report in reports}
    output.write_json(path, {**(known if isinstance(known, dict) else {}), **new})


def _put(content: bytes, file: IO[bytes]) -> None:
    file.write(content)
