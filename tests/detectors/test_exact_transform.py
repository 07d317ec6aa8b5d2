"""The transform of exported nets: the size of torchvision's own to the pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from raydistill.detectors.exact_transform import ExactTransform

SETTINGS = (96, 128, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
SIZES = [(200, 70), (50, 60), (93, 93), *np.random.default_rng(0).integers(20, 300, (40, 2)).tolist()]


class Resized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transform = ExactTransform(*SETTINGS).eval()

    def forward(self, image):  # type: ignore[no-untyped-def]
        return self.transform.resize(image, None)[0]


@pytest.mark.parametrize("way", ["as it is", "scripted", "in onnxruntime"])
def test_images_have_the_size_that_torchvision_gives_them(way: str, tmp_path: Path) -> None:
    ours = Resized()
    run = ours
    if way == "scripted":
        run = torch.jit.script(ours)
    if way == "in onnxruntime":
        onnxruntime = pytest.importorskip("onnxruntime")
        file = str(tmp_path / "resized.onnx")
        axes = {"image": {1: "height", 2: "width"}}
        torch.onnx.export(
            ours,
            (torch.rand(3, 96, 128),),
            file,
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            dynamic_axes=axes,
        )
        session = onnxruntime.InferenceSession(file)

        def run(image: Tensor) -> Tensor:  # type: ignore[misc]
            return torch.from_numpy(session.run(None, {"image": image.numpy()})[0])

    theirs = GeneralizedRCNNTransform(*SETTINGS).eval()
    for height, width in SIZES:
        image = torch.rand(3, height, width)
        torch.testing.assert_close(run(image), theirs.resize(image, None)[0], atol=1e-3, rtol=0)
