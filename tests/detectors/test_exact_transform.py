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


@pytest.mark.parametrize("way", ["as it is", "scripted", "in onnxruntime", "in OpenVINO"])
def test_images_have_the_size_that_torchvision_gives_them(way: str, tmp_path: Path) -> None:
    ours = Resized()
    run = ours
    if way == "scripted":
        run = torch.jit.script(ours)
    if way.startswith("in "):
        package = pytest.importorskip(way.removeprefix("in ").lower())
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
        if package.__name__ == "openvino":
            net = package.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        else:
            session = package.InferenceSession(file)

        def run(image: Tensor) -> Tensor:  # type: ignore[misc]
            given = image.numpy()
            found = net(given)[0] if way == "in OpenVINO" else session.run(None, {"image": given})[0]
            return torch.from_numpy(np.array(found))

    theirs = GeneralizedRCNNTransform(*SETTINGS).eval()
    for height, width in SIZES:
        image = torch.rand(3, height, width)
        found, expected = run(image), theirs.resize(image, None)[0]
        if way == "in OpenVINO":  # which computes it in single precision
            assert max(abs(side - other) for side, other in zip(found.shape, expected.shape, strict=True)) <= 1
        else:
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
