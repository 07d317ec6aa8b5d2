"""Weights files as other tools write them, through ``load_file``: tensors are taken out, or it is said how."""

# ruff: noqa: E501  (a row of a table is a line)
from __future__ import annotations

import argparse
import collections
import functools
import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raydistill.detectors.two_stage.build import build_faster_rcnn
from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector
from raydistill.detectors.weights import load_file

from .cases import Case, right
from .weights import BIAS, CLASSES, RunsCode, _config, _detector

Make = Callable[[dict[str, torch.Tensor]], Any]


@functools.cache
def _target() -> FasterRCNNDetector:
    return build_faster_rcnn(_config().student, _config().input, CLASSES)


def _tensors() -> dict[str, torch.Tensor]:
    """Tensors whose values nobody else has."""
    return {name: value.clone() for name, value in _detector().model.state_dict().items()} | {
        BIAS: torch.tensor([1.5, 2.5, 3.5])
    }


def read(path: Path) -> list[float]:
    """Load a file into a net; return the values that only the file has."""
    detector = _target()
    with torch.no_grad():
        detector.model.state_dict()[BIAS].zero_()
    load_file(detector, path, "teacher.weights")
    values: list[float] = detector.model.state_dict()[BIAS].tolist()
    return values


def saved(make: Make, **how: Any) -> Callable[[Path], Any]:
    def run(folder: Path) -> Any:
        torch.save(make(_tensors()), folder / "net.pt", **how)
        return read(folder / "net.pt")

    return run


def started(start: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{start}{name}": value for name, value in tensors.items()}


def _as_in_0_12(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the names of torchvision before 0.13."""
    changed = {}
    for name, value in tensors.items():
        if "fpn.inner_blocks" in name or "fpn.layer_blocks" in name:
            name = name.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        changed[name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")] = value
    return changed


def _script(folder: Path) -> Any:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), folder / "net.pt")
    return read(folder / "net.pt")


def _safetensors(folder: Path) -> Any:
    (folder / "net.pt").write_bytes(
        b"\x40\0\0\0\0\0\0\0" + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(64) + bytes(4)
    )
    return read(folder / "net.pt")


OF_SCRIPT = {"optimizer": {"state": {}}, "lr_scheduler": {"milestones": collections.Counter([16, 22])}, "epoch": 25}
ARGS = argparse.Namespace(data_path="/data/coco", device="cuda", lr=0.02, path=pathlib.PurePosixPath("x"))
VALUES = [1.5, 2.5, 3.5]
CASES = [
    right("torchvision's reference script", saved(lambda t: {"model": t, **OF_SCRIPT, "args": ARGS, "scaler": {}}), VALUES),
    right("the same from DDP", saved(lambda t: {"model": started("module.", t), "args": ARGS}), VALUES),
    right("DDP's names alone", saved(lambda t: started("module.", t)), VALUES),
    right("torch.compile's names", saved(lambda t: {"model": started("_orig_mod.", t)}), VALUES),
    right("both around each other", saved(lambda t: started("module._orig_mod.", t)), VALUES),
    right("Lightning", saved(lambda t: {"state_dict": started("model.", t), "pytorch-lightning_version": "2.4", "hyper_parameters": ARGS, "loops": {}}), VALUES),
    right("Lightning with a criterion", saved(lambda t: {"state_dict": {**started("net.", t), "criterion.weight": torch.ones(3)}}), VALUES),
    right("model_state_dict", saved(lambda t: {"epoch": 3, "model_state_dict": t, "optimizer_state_dict": {}, "loss": np.float64(0.5)}), VALUES),
    right("a path and an array beside it", saved(lambda t: {"model": t, "path": pathlib.PurePosixPath("x"), "curve": np.zeros(3)}), VALUES),
    right("an ordered dictionary of parameters", saved(lambda t: collections.OrderedDict((k, nn.Parameter(v, requires_grad=False)) for k, v in t.items())), VALUES),
    right("the names of torchvision 0.12", saved(_as_in_0_12), VALUES),
    right("torch's format before 1.6", saved(lambda t: {"model": t}, _use_new_zipfile_serialization=False), VALUES),
    Case("two nets in a file", saved(lambda t: {"state_dict": {**started("model.", t), **started("ema.", t)}}), "must hold one net, got several, called model., ema."),
    Case("a whole module", saved(lambda t: {"model": nn.Linear(2, 2)}), r"got an object under 'model'; convert it where it was made: torch.save\(torch.load\(FILE"),
    Case("a module and nothing else", saved(lambda t: nn.Linear(2, 2)), r"got an object; convert it where it was made: torch.save\(torch.load\(FILE\).state_dict"),
    Case("an archive of TorchScript", _script, r"a TorchScript archive; save its tensors: torch.save\(torch.jit.load"),
    Case("a file of safetensors", _safetensors, r"a file of safetensors; .*torch.save\(safetensors.torch.load_file"),
    Case("code beside the tensors", saved(lambda t: {"model": t, "args": RunsCode()}), "more in it than tensors and plain values; where it was made"),
    Case("a backbone alone", saved(lambda t: {k.removeprefix("backbone.body."): v for k, v in t.items() if k.startswith("backbone.body.")}), r"got tensors \d+ missing"),
    Case("one tensor less under a start", saved(lambda t: started("module.", {k: v for k, v in t.items() if k != BIAS})), r"got tensors \d+ missing"),
]  # fmt: skip
