"""Nets as files of other programs: what is in them, that they find the same, and what is said where they do not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import raydistill as rd
from raydistill.export import main
from raydistill.inference.export import export as exporting
from raydistill.inference.export import formats
from raydistill.inference.export.formats import FORMATS
from raydistill.inference.export.parity import Parity, compare
from raydistill.inference.export.runners import OnnxRunner
from raydistill.runs.weights_file import load, save
from raydistill.structures import Target
from tests.drawn import draw

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


LEAST = 0.9
"""Share that must be alike: new nets have more scores and boxes that are nearly equal than trained ones."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with annotations, and weights that find something in them."""
    folder = tmp_path_factory.mktemp("drawn")
    draw(folder)
    file = folder / "weights/best.pt"
    content = load(file)
    for name, values in content["model"].items():  # livelier than new nets, which say the same of everything
        if "cls_score" in name or "cls_logits" in name:
            values.mul_(30)
    save(file, {**content, "threshold": 0.4})
    return folder


@pytest.fixture(autouse=True)
def _few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_SECONDS", 0.0)
    monkeypatch.setattr(exporting, "_LEAST_REPEATS", 1)
    monkeypatch.setattr(exporting, "_numbers_of_threads", lambda: [1])
    monkeypatch.setattr(exporting, "LEAST_PAIRED", LEAST)  # of nets that were not trained


def export(drawn: Path, *arguments: str) -> int:
    return main([str(drawn / "weights"), "--data", str(drawn), "--num-images", "4", *arguments])


def pixels(file: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(file).convert("RGB"))


def check_alike(outputs: list[torch.Tensor], detector: rd.Detector, image: np.ndarray) -> None:
    """Make sure that a file gives what ``predict`` gives: from the threshold on, class ids from 0 on."""
    boxes, class_ids, scores = outputs
    assert (scores >= 0.4).all()
    expected = detector.predict(image)[0]
    parity = compare([expected.to_torchvision()], [Target(boxes=boxes, labels=class_ids + 1, scores=scores)], 0.4)
    assert parity.detections > 2
    assert parity.share >= LEAST


# The command ----------------------------------------------------------------------------------------------------------
def test_an_onnx_file_takes_bytes_and_finds_what_predict_finds(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    assert export(drawn, "--output", str(tmp_path / "net.onnx")) == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    notes = session.get_modelmeta().custom_metadata_map
    detector = rd.load(drawn / "weights")
    assert json.loads(notes["classes"]) == list(detector.classes)
    assert float(notes["threshold"]) == 0.4
    assert json.loads(notes["input_size"]) == {"min_size": 64, "max_size": 64}
    large = np.asarray(np.kron(pixels(drawn / "val/2.png"), np.ones((2, 3, 1))), np.uint8)  # another size and shape
    for image in (pixels(drawn / "val/1.png"), large):
        check_alike([torch.from_numpy(values) for values in session.run(None, {"image": image})], detector, image)
    report = json.loads((tmp_path / "export.json").read_text())["net.onnx"]
    assert report["paired"] >= LEAST
    assert report["ap"] == pytest.approx(report["torch_ap"], abs=1e-3)
    assert all(set(times) == {"torch", "file"} and min(times.values()) > 0 for times in report["milliseconds"].values())
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].split()[:2] == ["AP", "alike"]
    assert "net.onnx: threshold 0.400, batch 1; on 4 of " in captured.out


def test_int8_is_a_file_of_its_own_beside_the_first_with_its_numbers(drawn: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "best.pt").write_bytes((drawn / "weights/best.pt").read_bytes())
    assert (
        main(
            [
                str(weights),
                "--data",
                str(drawn),
                "--num-images",
                "2",
                "--num-calibration",
                "2",
                "--int8",
                "--threshold",
                "0.5",
            ]
        )
        == 0
    )
    reports = json.loads((weights / "export.json").read_text())
    assert {name: report["precision"] for name, report in reports.items()} == {
        "best.onnx": "fp32",
        "best_int8.onnx": "int8",
    }
    assert (weights / "best_int8.onnx").stat().st_size < 0.6 * (weights / "best.onnx").stat().st_size
    (found,) = OnnxRunner.of(weights / "best_int8.onnx", 1, 1)(pixels(drawn / "val/1.png")[None])
    assert (found["scores"] >= 0.5).all()
    assert main([str(weights), "--data", str(drawn), "--num-images", "2", "--format", "torchscript"]) == 0
    assert len(json.loads((weights / "export.json").read_text())) == 3


@pytest.mark.parametrize("name", ["torchscript", "openvino"])
def test_the_other_formats_find_the_same_with_their_threshold_and_notes(name: str, drawn: Path, tmp_path: Path) -> None:
    file = tmp_path / f"net{FORMATS[name].suffix}"  # type: ignore[index]
    if name == "openvino":
        openvino = pytest.importorskip("openvino")
    assert export(drawn, "--format", name, "--output", str(file)) == 0
    image = pixels(drawn / "val/1.png")
    if name == "torchscript":
        extra = {formats.NOTES: ""}
        net = torch.jit.load(str(file), _extra_files=extra)  # type: ignore[no-untyped-call]
        boxes, class_ids, scores = net(torch.from_numpy(image.copy()))
        notes = json.loads(extra[formats.NOTES])
    else:
        model = openvino.Core().read_model(str(file))
        outputs = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)
        boxes, class_ids, scores = (torch.from_numpy(outputs[place]) for place in range(3))
        notes = {key: model.get_rt_info(["raydistill", key]).astype(str) for key in ("classes", "threshold")}
    assert float(notes["threshold"]) == 0.4
    check_alike([boxes, class_ids, scores], rd.load(drawn / "weights"), image)


def test_several_images_at_once_are_told_apart(drawn: Path, tmp_path: Path) -> None:
    assert (
        export(drawn, "--batch", "3", "--output", str(tmp_path / "net.onnx")) == 0
    )  # 4 images: the last batch is filled up
    images = np.stack([pixels(drawn / f"val/{number}.png") for number in (1, 2, 3)])
    found = OnnxRunner.of(tmp_path / "net.onnx", 3, 1)(images)
    expected = rd.load(drawn / "weights").predict(list(images), batch_size=3)
    parity = compare(expected.to_torchvision(), found, 0.4)
    assert parity.detections > 6
    assert parity.share >= LEAST


def test_a_file_that_finds_something_else_is_not_written(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = OnnxRunner.__call__

    def shifted(self: OnnxRunner, images: Any) -> list[Target]:
        return [Target(**{**found, "boxes": found["boxes"] + 1}) for found in run(self, images)]

    monkeypatch.setattr(OnnxRunner, "__call__", shifted)
    assert export(drawn, "--output", str(tmp_path / "net.onnx")) == 2
    assert list(tmp_path.iterdir()) == []
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "must" in line]
    assert line.startswith(f"{tmp_path}/net.onnx: must find what torch finds, got 0.0% of ")
    assert "; nothing is written" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--batch", "0"], "--batch: must be 1 to 64, got 0"),
        (["--int8", "--format", "torchscript"], "--int8: is made of an ONNX file, got --format torchscript"),
        (["--output", "net.pt"], "--output: must end in .onnx for --format onnx, got net.pt"),
        (["--num-images", "0"], "--num-images: must be at least 1, got 0"),
        (["--threshold", "7"], "threshold: must be a score from 0 to 1, got 7"),
        (["--data", "nowhere"], "nowhere: "),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], said: str, drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(drawn, *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert err.count("\n") == 1


def test_weights_without_their_run_need_data_to_measure_on(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(drawn / "weights")]) == 2
    assert "must lie with the settings of its training (config.yaml)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "name", "extra"), [("onnxruntime", "onnx", "export"), ("openvino", "openvino", "openvino")]
)
def test_what_is_not_installed_is_said_with_the_line_that_installs_it(
    package: str,
    name: str,
    extra: str,
    drawn: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert export(drawn, "--format", name) == 2
    assert f"--format {name}: {package} must be installed" in (said := capsys.readouterr().err)
    assert f"pip install 'raydistill[{extra}]'" in said


# Parity ---------------------------------------------------------------------------------------------------------------
BOX = [0.0, 0, 100, 100]


def found(*rows: tuple[list[float], int, float]) -> Target:
    boxes, labels, scores = ([row[place] for row in rows] for place in range(3))
    return Target(
        boxes=torch.tensor(boxes).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        scores=torch.tensor(scores),
    )


@pytest.mark.parametrize(
    ("other", "paired"),
    [
        (([0.0, 0, 100, 100.5], 1, 0.9005), 2),
        (([0.0, 0, 100, 102], 1, 0.9), 0),  # another box
        ((BOX, 2, 0.9), 0),  # another class
        ((BOX, 1, 0.902), 0),  # another score
    ],
)
def test_detections_pair_by_class_box_and_score(other: Any, paired: int) -> None:
    assert compare([found((BOX, 1, 0.9))], [found(other)], 0.5) == Parity(2, paired)


def test_each_detection_is_in_one_pair() -> None:
    assert compare([found((BOX, 1, 0.9), (BOX, 1, 0.9))], [found((BOX, 1, 0.9))], 0.5) == Parity(3, 2)


def test_what_lies_on_either_side_of_the_threshold_pairs_all_the_same() -> None:
    own, theirs = found((BOX, 1, 0.5001)), found((BOX, 1, 0.4999), (BOX, 2, 0.1))
    assert compare([own], [theirs], 0.5) == Parity(1, 1)


def test_without_detections_nothing_differs() -> None:
    assert compare([found()], [found()], 0.5).share == 1
    assert compare([found((BOX, 1, 0.9))], [found()], 0.5).share == 0


# Detectors of one's own -----------------------------------------------------------------------------------------------
def test_a_detector_that_does_not_say_how_it_is_deployed_is_refused(
    drawn: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = rd.load(drawn / "weights")

    class Own(type(detector)):  # type: ignore[misc]
        deployable = None

    detector.__class__ = Own
    monkeypatch.setattr(exporting, "restore_detector", lambda path: detector)
    assert export(drawn) == 2
    assert "a detector of one's own must say how it is deployed" in capsys.readouterr().err
