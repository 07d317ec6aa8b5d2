"""A detector of the user's own: by class, by function, by object, and what is said where it is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import raydistill as rd
from raydistill.config.detector import OwnDetector, described
from raydistill.config.from_python import plain
from raydistill.config.sections import Input
from raydistill.detectors.base import Detector
from raydistill.detectors.build import build_detector
from raydistill.detectors.restore import restore_detector
from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector
from raydistill.errors import UserError
from raydistill.runs.weights_file import save_weights
from tests.nets import CLASSES, small_config, small_detector

CONFIG = small_config()
HERE = __name__


class Net(FasterRCNNDetector):
    """One of ours with another name."""

    def __init__(self, settings: dict[str, Any], image: Input, classes: tuple[str, ...]) -> None:
        super().__init__(small_detector(CONFIG.student, CONFIG).model, classes[: settings.get("most", 99)])
        self.sides = (image.min_size, image.max_size)


def build(settings: dict[str, Any], image: Input, classes: tuple[str, ...]) -> Net:
    return Net(settings, image, classes)


def unsigned(settings, image, classes):  # type: ignore[no-untyped-def]
    raise AssertionError("it must not be called")


def liar(settings: dict[str, Any], image: Input, classes: tuple[str, ...]) -> Detector:
    return nn.Identity()  # type: ignore[return-value]


def own(detector: Any, **settings: Any) -> OwnDetector:
    return OwnDetector(detector=plain(detector), settings=settings)


@pytest.mark.parametrize("given", [Net, build, f"{HERE}:Net", f"{HERE}:build"])
def test_it_is_built_with_settings_sizes_and_classes(given: Any) -> None:
    made = build_detector(own(given), CONFIG.input, CLASSES)
    assert isinstance(made, Net)
    assert made.classes == CLASSES
    assert made.sides == (CONFIG.input.min_size, CONFIG.input.max_size)


def test_an_object_is_copied_for_every_stage() -> None:
    net = small_detector(CONFIG.student, CONFIG)
    first, second = (build_detector(own(net), CONFIG.input, CLASSES) for _ in range(2))
    assert first is not net
    assert first is not second
    ours, theirs = net.state_dict(), first.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("given", "settings", "said"),
    [
        (unsigned, {}, "must be a raydistill Detector, or a function whose signature says that it returns one"),
        ("os:system", {}, "must be a raydistill Detector, or a function whose signature"),
        ("torch.nn:Identity", {}, "must be a raydistill Detector, or a function whose signature"),
        (liar, {}, "must give a raydistill Detector, got tests.detectors.test_own:liar, a Identity"),
        (Net, {"most": 2}, "must detect the data's classes in their order, disc, square, star, got disc, square of"),
    ],
)
def test_what_is_no_detector_for_these_data_is_refused(given: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"^detector: {said}"):
        build_detector(own(given, **settings), CONFIG.input, CLASSES)


def _saved(path: Path, detector: dict[str, Any]) -> Path:
    net = small_detector(CONFIG.student, CONFIG)
    save_weights(path, net.exported().state_dict(), CLASSES, detector, CONFIG.input.model_dump(mode="json"), 1)
    return path


def test_its_weights_file_is_loaded_again(tmp_path: Path) -> None:
    path = _saved(tmp_path / "best.pt", described(own(Net)))
    found = restore_detector(path)
    assert isinstance(found, Net)
    assert isinstance(rd.load(path), Net)


@pytest.mark.parametrize("name", ["os:system", "subprocess:call", f"{HERE}:unsigned", "builtins:exec"])
def test_a_weights_file_calls_nothing_but_detectors(name: str, tmp_path: Path) -> None:
    path = _saved(tmp_path / "best.pt", {"detector": name, "weights": "random", "settings": {"touch": 1}})
    with pytest.raises(UserError, match=r"best\.pt: detector: must be a raydistill Detector, or a function whose"):
        restore_detector(path)
