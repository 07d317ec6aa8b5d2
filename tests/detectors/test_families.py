"""What every family promises to those who deploy its nets; the user's own detectors may, and need not."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from raydistill.config.data import Pixels
from raydistill.config.detector import AnyDetector, OwnDetector, described
from raydistill.config.sections import Input
from raydistill.detectors.base import Deployable
from raydistill.detectors.build import FAMILIES, build_detector, plain_program
from raydistill.detectors.restore import restore_detector
from raydistill.inference.export.deployed import deployed
from raydistill.inference.export.formats import FORMATS
from raydistill.inference.export.parity import compare
from raydistill.inference.export.runners import DetectorRunner
from raydistill.runs.weights_file import save_weights
from tests.detectors.families import CASES, SETTINGS
from tests.nets import CLASSES

SIZES = Input(min_size=96, max_size=128)
PIXELS = Pixels(pixel_range=(0, 4095))


def save(settings: AnyDetector, folder: Path, threshold: float | None = 0.3) -> Path:
    """Write a net's weights, and the program beside them."""
    torch.manual_seed(0)
    net = build_detector(settings, SIZES, CLASSES).exported()
    with torch.no_grad():  # livelier than new nets, which say the same of everything
        for name, parameter in net.named_parameters():
            if parameter.ndim > 1 and re.search("cls_score|cls_logits", name):
                parameter.mul_(50)
    file = folder / "best.pt"
    pixels = PIXELS.model_dump(mode="json")
    sizes = SIZES.model_dump(mode="json")
    save_weights(file, net.state_dict(), CLASSES, described(settings), sizes, pixels=pixels, threshold=threshold)
    program = plain_program(settings, SIZES, file.name)
    assert program is not None
    (folder / "use.py").write_text(program)
    return file


def pictures(folder: Path) -> list[Path]:
    """Write pictures of every kind that a program beside weights reads."""
    noise = torch.randint(0, 256, (90, 120, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)).numpy()
    exif = Image.Exif()
    exif[0x0112] = 6
    images = {
        "rgb.jpg": Image.fromarray(noise[..., :3]),
        "grey.png": Image.fromarray(noise[..., 0]),
        "rgba.png": Image.fromarray(noise),
        "palette.png": Image.fromarray(noise[..., :3]).convert("P"),
        "deep.png": Image.fromarray(noise[..., 0].astype("uint16") * 17),
        "turned.jpg": Image.fromarray(noise[..., :3]),
    }
    for name, image in images.items():
        image.save(folder / name, **({"exif": exif} if name == "turned.jpg" else {}))
    return [folder / name for name in images]


def test_every_family_has_nets_for_these_tests() -> None:
    assert SETTINGS.keys() == FAMILIES.keys() - {OwnDetector}


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_the_program_beside_weights_detects_what_the_loaded_net_does(
    kind: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = restore_detector(save(SETTINGS[kind][name], tmp_path))
    detector.fast_roi_align = False  # of a new net, detections are equally sure up to rounding
    files = pictures(tmp_path)
    expected = detector.predict(files)
    assert sum(map(len, expected)) > 5
    monkeypatch.setattr(sys, "argv", ["use.py", *map(str, files)])
    names = runpy.run_path(str(tmp_path / "use.py"), run_name="__main__")
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    rows = expected.to_pandas()
    assert [(row[0], row[1]) for row in printed] == list(zip(rows["image"], rows["class"], strict=True))
    numbers = torch.tensor([[float(value) for value in row[2:]] for row in printed])
    torch.testing.assert_close(
        numbers, torch.tensor(rows[["score", "x1", "y1", "x2", "y2"]].to_numpy()).float(), atol=6e-3, rtol=0
    )
    for file, one in zip(files, expected, strict=True):
        torch.testing.assert_close(names["detect"](names["net"], names["read"](str(file))), dict(one.to_torchvision()))


def test_the_program_needs_no_raydistill(tmp_path: Path) -> None:
    save(SETTINGS[CASES[0][0]][CASES[0][1]], tmp_path)
    code = (tmp_path / "use.py").read_text()
    assert not re.search(r"^\s*(import|from) raydistill", code, flags=re.MULTILINE)


def test_without_an_image_it_says_how_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(SETTINGS[CASES[0][0]][CASES[0][1]], tmp_path)
    monkeypatch.setattr(sys, "argv", ["use.py"])
    with pytest.raises(SystemExit, match=r"python use\.py IMAGE"):
        runpy.run_path(str(tmp_path / "use.py"), run_name="__main__")


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_net_becomes_files_that_find_the_same_in_images_of_any_size(kind: Any, name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    detector = restore_detector(save(SETTINGS[kind][name], tmp_path))
    assert isinstance(detector, Deployable)
    net = detector.deployable()
    generator = torch.Generator().manual_seed(3)
    for format_name in ("onnx", "torchscript") if name == CASES[0][1] else ("onnx",):
        made = FORMATS[format_name].make(deployed(net, 0.3, 1), 1, tmp_path / f"net{FORMATS[format_name].suffix}", {})
        theirs, ours = made.run_all(1), DetectorRunner(detector.eval(), 1)
        for size in ((90, 120), (200, 70)):
            image = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8, generator=generator).numpy()
            parity = compare(ours(image), theirs(image), 0.3)
            assert parity.detections > 2
            assert parity.share >= 0.9  # a new net has more that is nearly equal than a trained one


def test_a_detector_of_ones_own_has_no_program() -> None:
    assert plain_program(OwnDetector(detector="mine:Net"), SIZES, "best.pt") is None
